use serde_json::{Value, json};

use super::*;

fn shown(network: Value) -> String {
    of(&serde_json::from_value(network).expect("a network"))
}

fn model(id: &str, circuit: Value, stages: Value) -> Value {
    json!({
        "id": id, "circuit": circuit, "layers": 24,
        "sessions": {"running": 2, "waiting": 1, "retained": 4},
        "kv": {"pages_used": 12, "pages_total": 40, "page_positions": 32},
        "tokens": 5000, "tokens_per_second": 12.34, "batch": {"sessions": 1.5, "rows": 3.0},
        "step_seconds": {"median": 0.125, "p99": 1.5},
        "hop_seconds": {"median": 0.0015, "p99": 0.02}, "stages": stages,
    })
}

#[test]
fn a_cut_model_is_a_table_of_stages() {
    let report = json!({"circuits": 1, "pages_granted": 20, "pages_used": 12, "pages_total": 40,
        "page_bytes": 65536, "waiting": 2, "rows": 700, "passes": 350, "failures": 3,
        "computing_seconds": 1.25});
    let stages = json!([
        {"node": "abcdef0123456789", "layers": {"start": 0, "end": 12}, "serving": true,
            "standing": "up", "answer_seconds": 0.002, "rows_per_second": 40.5,
            "rows_per_pass": 2.0, "busy": 0.256, "report": report},
        {"node": "0123", "layers": {"start": 12, "end": 24}, "serving": false,
            "standing": "shunned", "answer_seconds": null, "rows_per_second": 0.0,
            "rows_per_pass": 0.0, "busy": 0.0, "report": null},
    ]);
    let circuit = json!({"state": "open", "generation": 3, "down_seconds": null});
    let expected = "\
tiny: circuit open, generation 3
  layers   24
  speed    12.3 tok/s, 5000 tokens since the start
  sessions 2 running, 1 waiting, 4 retained
  KV       [######..............] 30 %, 12 of 40 pages of 32 positions
  batch    1.5 sessions, 3.0 rows
  step     125 ms median, 1.5 s p99
  hop      1.50 ms median, 20 ms p99

  LAYERS  NODE      SERVING  STANDING  ANSWER   ROWS/S  ROWS/PASS  BUSY  KV PAGES
  0-11    abcdef01  *        up        2.00 ms  40.5    2.0        26 %  12/40 (30 %)
  12-23   0123               SHUNNED   -        -       -          -     -
";
    assert_eq!(
        shown(json!({"object": "network", "models": [model("tiny", circuit, stages)]})),
        expected
    );
}

#[test]
fn what_is_on_disk_has_a_line_of_its_own() {
    let circuit = json!({"state": "local", "generation": 0, "down_seconds": null});
    let most = u64::MAX;
    for (used, total, bytes, failures, expected) in [
        (
            7,
            100,
            1 << 20,
            0,
            "7.0 MiB of 100.0 MiB, 3 retained, 9 read back, 1 dropped\n",
        ),
        (
            7,
            0,
            1024,
            3,
            "7.0 KiB of 0 B, 3 retained, 9 read back, 1 dropped, 3 FAILED\n",
        ),
        (
            most,
            most,
            most,
            0,
            "16777216.0 TiB of 16777216.0 TiB, 3 retained",
        ),
    ] {
        let mut model = model("m", circuit.clone(), json!([]));
        model["kv"]["store"] = json!({"pages_used": used, "pages_total": total,
            "page_bytes": bytes, "prefixes": 3, "restored": 9, "dropped": 1, "failures": failures});
        let text = shown(json!({"object": "network", "models": [model]}));
        let line = format!("  on disk  {expected}");
        assert!(text.contains(&line), "{text}");
    }
    let without = shown(json!({"object": "network", "models": [model("m", circuit, json!([]))]}));
    assert!(!without.contains("on disk"), "{without}");
}

#[test]
fn circuits_in_words() {
    for (state, down, expected) in [
        ("local", json!(null), "in one process"),
        ("opening", json!(null), "circuit opening, generation 2"),
        ("down", json!(0.5), "circuit DOWN for 500 ms, generation 2"),
        (
            "down",
            json!(125.0),
            "circuit DOWN for 2.1 min, generation 2",
        ),
        ("down", json!(null), "circuit DOWN, generation 2"),
    ] {
        let circuit = json!({"state": state, "generation": 2, "down_seconds": down});
        let text = shown(json!({"object": "network", "models": [model("m", circuit, json!([]))]}));
        assert_eq!(text.lines().next(), Some(format!("m: {expected}").as_str()));
    }
}

/// What a server claims is shown as it is, or as little as it is worth, but never believed blindly.
#[test]
fn claims_without_sense_do_no_harm() {
    let most = u64::from(u32::MAX);
    let report = json!({"circuits": 0, "pages_granted": 0, "pages_used": most, "pages_total": 1,
        "page_bytes": 0, "waiting": 0, "rows": 0, "passes": 0, "failures": 0,
        "computing_seconds": 0.0});
    let circuit = json!({"state": "local", "generation": 0, "down_seconds": null});
    let mut odd = model(
        "a\u{1b}[2J\nb",
        circuit.clone(),
        json!([
            {"node": "\u{1b}[31m\u{4e16}\u{754c}", "layers": {"start": 5, "end": 0}, "serving": true,
                "standing": "up", "answer_seconds": -1.0, "rows_per_second": 1e300,
                "rows_per_pass": -0.0, "busy": 1e300, "report": report},
        ]),
    );
    odd["kv"] = json!({"pages_used": 99, "pages_total": 3, "page_positions": 0});
    odd["hop_seconds"] = json!(null);
    let mut empty = model("empty", circuit, json!([]));
    empty["kv"] = json!({"pages_used": 0, "pages_total": 0, "page_positions": 0});
    let text = shown(json!({"object": "network", "models": [odd, empty]}));
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert!(
        text.contains("[####################] 100 %, 99 of 3"),
        "{text}"
    );
    assert!(
        text.contains("[....................] 0 %, 0 of 0"),
        "{text}"
    );
    // The one without legs has no such line.
    assert_eq!(text.matches("  hop ").count(), 1, "{text}");
    assert!(text.lines().all(|line| line.len() < 120), "{text}");
    assert_eq!(
        shown(json!({"object": "network", "models": []})),
        "no model is on offer\n"
    );
}
