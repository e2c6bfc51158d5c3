//! What `GET /v1/network` says, for people.

use console::measure_text_width;
use skein_base::ByteSize;
use skein_gateway::network::{
    Circuit, CircuitState, Kv, ModelStatus, Network, Spread, Stage, Standing, Store,
};

use crate::remote::words;

/// Characters of a full bar.
const BAR: usize = 20;
/// Digits of a node's id that are shown.
const NODE_DIGITS: usize = 8;
/// Above the stages.
const HEADS: [&str; 9] = [
    "LAYERS",
    "NODE",
    "SERVING",
    "STANDING",
    "ANSWER",
    "ROWS/S",
    "ROWS/PASS",
    "BUSY",
    "KV PAGES",
];

/// All models, and the stages of each.
pub(super) fn of(network: &Network) -> String {
    if network.models.is_empty() {
        return "no model is on offer\n".to_owned();
    }
    let models: Vec<String> = network.models.iter().map(model).collect();
    models.join("\n")
}

fn model(model: &ModelStatus) -> String {
    let mut lines = vec![format!("{}: {}", words(&model.id), circuit(&model.circuit))];
    let mut fact = |name: &str, value: String| lines.push(format!("  {name:<9}{value}"));
    if model.layers > 0 {
        fact("layers", model.layers.to_string());
    }
    let (speed, tokens) = (model.tokens_per_second, model.tokens);
    fact(
        "speed",
        format!("{} tok/s, {tokens} tokens since the start", number(speed)),
    );
    let sessions = &model.sessions;
    fact(
        "sessions",
        format!(
            "{} running, {} waiting, {} retained",
            sessions.running, sessions.waiting, sessions.retained
        ),
    );
    fact("KV", kv(&model.kv));
    if let Some(on_disk) = &model.kv.store {
        fact("on disk", store(on_disk));
    }
    let batch = &model.batch;
    fact(
        "batch",
        format!(
            "{} sessions, {} rows",
            number(batch.sessions),
            number(batch.rows)
        ),
    );
    fact("step", spread(&model.step_seconds));
    if let Some(hop) = &model.hop_seconds {
        fact("hop", spread(hop));
    }
    if !model.stages.is_empty() {
        lines.push(String::new());
        lines.extend(stages(&model.stages));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn circuit(circuit: &Circuit) -> String {
    let generation = circuit.generation;
    match (circuit.state, circuit.down_seconds) {
        (CircuitState::Local, _) => "in one process".to_owned(),
        (CircuitState::Open, _) => format!("circuit open, generation {generation}"),
        (CircuitState::Opening, _) => format!("circuit opening, generation {generation}"),
        (CircuitState::Down, None) => format!("circuit DOWN, generation {generation}"),
        (CircuitState::Down, Some(down)) => {
            format!("circuit DOWN for {}, generation {generation}", time(down))
        }
    }
}

fn kv(kv: &Kv) -> String {
    let share = share(kv.pages_used, kv.pages_total);
    let filled = (0..BAR)
        .filter(|&cell| share * BAR as f64 > cell as f64)
        .count();
    format!(
        "[{}{}] {:.0} %, {} of {} pages of {} positions",
        "#".repeat(filled),
        ".".repeat(BAR - filled),
        share * 100.0,
        kv.pages_used,
        kv.pages_total,
        kv.page_positions
    )
}

fn store(store: &Store) -> String {
    let bytes = |pages: usize| ByteSize((pages as u64).saturating_mul(store.page_bytes as u64));
    let (used, total) = (bytes(store.pages_used), bytes(store.pages_total));
    let (prefixes, restored, dropped) = (store.prefixes, store.restored, store.dropped);
    let mut text =
        format!("{used} of {total}, {prefixes} retained, {restored} read back, {dropped} dropped");
    if store.failures > 0 {
        text.push_str(&format!(", {} FAILED", store.failures));
    }
    text
}

/// From 0 to 1; 0 of nothing.
fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    (part as f64 / whole as f64).min(1.0)
}

fn spread(spread: &Spread) -> String {
    format!("{} median, {} p99", time(spread.median), time(spread.p99))
}

/// Seconds in the unit that suits them.
fn time(seconds: f64) -> String {
    match seconds.max(0.0) {
        s if s < 0.01 => format!("{:.2} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s => format!("{} min", number(s / 60.0)),
    }
}

/// With one digit after the point; what is larger than anything real is kept short.
fn number(value: f64) -> String {
    if value.abs() < 1e9 {
        format!("{value:.1}")
    } else {
        format!("{value:.1e}")
    }
}

/// One row for each stage, below their heads. Columns are as wide as what they hold.
fn stages(stages: &[Stage]) -> Vec<String> {
    let mut rows = vec![HEADS.map(str::to_owned)];
    rows.extend(stages.iter().map(cells));
    let width = |column: usize| {
        let widths = rows.iter().map(|row| measure_text_width(&row[column]));
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    let line = |row: &[String; HEADS.len()]| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let room = width - measure_text_width(cell);
            line.push_str(&format!("  {cell}{}", " ".repeat(room)));
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn cells(stage: &Stage) -> [String; HEADS.len()] {
    let none = || "-".to_owned();
    let layers = stage.layers;
    let report = stage.report.as_ref();
    [
        format!("{}-{}", layers.start, layers.end.saturating_sub(1)),
        words(&stage.node).chars().take(NODE_DIGITS).collect(),
        if stage.serving { "*" } else { "" }.to_owned(),
        standing(stage.standing).to_owned(),
        stage.answer_seconds.map_or_else(none, time),
        report.map_or_else(none, |_| number(stage.rows_per_second)),
        report.map_or_else(none, |_| number(stage.rows_per_pass)),
        report.map_or_else(none, |_| {
            format!("{:.0} %", stage.busy.clamp(0.0, 1.0) * 100.0)
        }),
        report.map_or_else(none, |report| {
            let (used, total) = (report.pages_used, report.pages_total);
            let share = share(used as usize, total as usize);
            format!("{used}/{total} ({:.0} %)", share * 100.0)
        }),
    ]
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Unknown => "unknown",
        Standing::Up => "up",
        Standing::Silent => "SILENT",
        Standing::Shunned => "SHUNNED",
    }
}

#[cfg(test)]
mod tests;
