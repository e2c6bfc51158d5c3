//! What `skein bench model` says on a terminal.

use serde_json::Value;
use skein_base::ByteSize;

/// A number of bytes, as people read it.
fn size(value: &Value) -> String {
    value
        .as_u64()
        .map_or_else(|| "unknown".to_owned(), |bytes| ByteSize(bytes).to_string())
}

pub(super) fn table(report: &Value) -> String {
    let number = |name: &str| report[name].as_f64().unwrap_or(f64::NAN);
    let text = |name: &str| report[name].as_str().unwrap_or_default().to_owned();
    let mut rows = vec![
        (
            "model".to_owned(),
            format!(
                "{}, {}, keys and values in {}",
                text("model"),
                text("format"),
                text("kv_format")
            ),
        ),
        (
            "threads".to_owned(),
            format!("{}, {}", report["threads"], text("instruction_set")),
        ),
        (
            "load".to_owned(),
            format!("{:.2} s", number("load_seconds")),
        ),
        ("weights".to_owned(), size(&report["weight_bytes"])),
        ("peak memory".to_owned(), size(&report["peak_bytes"])),
        (
            "stream".to_owned(),
            format!("{:.1} GB/s", number("stream_bytes_per_second") / 1e9),
        ),
        (
            "from core to core".to_owned(),
            report["line_nanoseconds"]
                .as_f64()
                .map_or("unknown".to_owned(), |time| format!("{time:.0} ns")),
        ),
        (
            format!("prefill {}", report["prompt"]),
            format!("{:.1} tok/s", number("prefill_tokens_per_second")),
        ),
        (
            "first token".to_owned(),
            format!("{:.3} s", number("first_token_seconds")),
        ),
        (
            format!("decode {0} after {0}", report["decode_after"]),
            format!(
                "{:.2} tok/s, {:.0} % of the floor of {:.2}",
                number("decode_tokens_per_second"),
                100.0 * number("share_of_floor"),
                number("floor_tokens_per_second"),
            ),
        ),
    ];
    rows.extend(batched_rows(&report["batched"], ""));
    for peer in report["peers"].as_array().into_iter().flatten() {
        peer_rows(peer, &mut rows);
    }
    rows.iter()
        .map(|(name, value)| format!("{name:<24}{value}\n"))
        .collect()
}

/// Sessions that decode together.
fn batched_rows(batched: &Value, indent: &str) -> Vec<(String, String)> {
    let several = batched.as_array().into_iter().flatten();
    let several = several.filter(|batch| batch["sessions"] != 1);
    let row = |batch: &Value| {
        let rate = batch["tokens_per_second"].as_f64().unwrap_or(f64::NAN);
        (
            format!("{indent}decode, {} sessions", batch["sessions"]),
            format!("{rate:.1} tok/s"),
        )
    };
    several.map(row).collect()
}

/// The lines of a peer.
fn peer_rows(peer: &Value, rows: &mut Vec<(String, String)>) {
    let rate = |name: &str| peer[name].as_f64().unwrap_or(f64::NAN);
    let text = |name: &str| peer[name].as_str().unwrap_or_default().to_owned();
    let (format, versions) = (text("format"), text("versions"));
    rows.push((text("name"), format!("{format}, {versions}")));
    rows.push((
        "  load".to_owned(),
        format!("{:.2} s", rate("load_seconds")),
    ));
    rows.push((
        "  prefill".to_owned(),
        format!(
            "{:.1} tok/s; Skein {:.2}x",
            rate("prefill_tokens_per_second"),
            rate("prefill_ratio")
        ),
    ));
    rows.push((
        "  decode".to_owned(),
        format!(
            "{:.2} tok/s; Skein {:.2}x",
            rate("decode_tokens_per_second"),
            rate("decode_ratio")
        ),
    ));
    rows.extend(batched_rows(&peer["batched"], "  "));
    rows.push(("  peak memory".to_owned(), size(&peer["peak_bytes"])));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shares_and_ratios_are_said() {
        let report = json!({
            "decode_after": 128,
            "decode_tokens_per_second": 79.5,
            "share_of_floor": 0.93,
            "floor_tokens_per_second": 85.0,
            "line_nanoseconds": 52.6,
            "batched": [
                { "sessions": 1, "tokens_per_second": 79.5 },
                { "sessions": 4, "tokens_per_second": 282.5 },
            ],
            "peers": [{
                "name": "another",
                "prefill_tokens_per_second": 362.5,
                "prefill_ratio": 3.56,
                "decode_tokens_per_second": 60.0,
                "decode_ratio": 1.39,
                "batched": [],
                "peak_bytes": 1 << 20,
            }],
        });
        let table = table(&report);
        for line in [
            "decode 128 after 128    79.50 tok/s, 93 % of the floor of 85.00",
            "from core to core       53 ns",
            "decode, 4 sessions      282.5 tok/s",
            "  prefill               362.5 tok/s; Skein 3.56x",
            "  decode                60.00 tok/s; Skein 1.39x",
            "  peak memory           1.0 MiB",
        ] {
            assert!(table.lines().any(|found| found == line), "{line}\n{table}");
        }
        assert!(!table.contains("1 sessions"), "{table}");
    }
}
