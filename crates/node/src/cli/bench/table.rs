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
