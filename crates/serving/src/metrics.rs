//! What the engine tells about itself.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::host::HostStats;
use crate::scheduler::{Load, Stats};
use crate::store::StoreRoom;
use crate::view::StageReport;

/// Kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// A metric with its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name, unit last.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// One sentence.
    pub meaning: &'static str,
}

macro_rules! metrics_list {
    ($($constant:ident = $name:literal, $kind:ident, $meaning:literal;)*) => {
        $(const $constant: &str = $name;)*
        /// Every metric of this crate.
        pub const METRICS: &[Metric] = &[
            $(Metric { name: $name, kind: Kind::$kind, meaning: $meaning },)*
        ];
    };
}

metrics_list! {
    PREFILL_ROWS = "skein_prefill_rows_total", Counter,
        "Rows of prompts computed, replays included.";
    TOKENS = "skein_generated_tokens_total", Counter,
        "Tokens generated.";
    REUSED = "skein_prefix_reused_tokens_total", Counter,
        "Prompt tokens whose KV was taken from an earlier sequence.";
    PREEMPTIONS = "skein_preemptions_total", Counter,
        "Sessions that lost their KV to others and are replayed, or read back.";
    EVICTIONS = "skein_prefix_evictions_total", Counter,
        "Retained sequences given up for memory.";
    FAILURES = "skein_session_failures_total", Counter,
        "Sessions that ended with an error.";
    REFUSED = "skein_requests_refused_total", Counter,
        "Requests not accepted: invalid, too long, or busy.";
    RUNNING = "skein_sessions_running", Gauge,
        "Sessions that hold KV.";
    WAITING = "skein_sessions_waiting", Gauge,
        "Requests that wait for KV, preempted ones included.";
    RETAINED = "skein_prefix_retained_sequences", Gauge,
        "Finished sequences kept for reuse.";
    STORE_WRITTEN = "skein_kv_store_pages_written_total", Counter,
        "KV pages that gave way in memory and were put into the store beside it.";
    STORE_READ = "skein_kv_store_pages_read_total", Counter,
        "KV pages read back from the store.";
    STORE_RESTORED = "skein_kv_store_restored_total", Counter,
        "Sequences read back whole from the store instead of computed.";
    STORE_DROPPED = "skein_kv_store_dropped_total", Counter,
        "Prefixes dropped from the store for others.";
    STORE_FAILURES = "skein_kv_store_failures_total", Counter,
        "KV pages that the store could not write, or that did not come back as they were; computed again.";
    STORE_PREFIXES = "skein_kv_store_prefixes", Gauge,
        "Finished sequences kept in the store for reuse.";
    STORE_USED = "skein_kv_store_bytes_used", Gauge,
        "Bytes of KV pages in the store.";
    STORE_TOTAL = "skein_kv_store_bytes_budget", Gauge,
        "Bytes of KV pages that the store may hold; 0 if there is none, or it failed too often.";
    KV_USED = "skein_kv_pages_used", Gauge,
        "KV pages in use, by sessions and by retained sequences.";
    KV_TOTAL = "skein_kv_pages_budget", Gauge,
        "KV pages in the budget.";
    BATCH_ROWS = "skein_batch_rows", Histogram,
        "Rows of a step.";
    BATCH_SESSIONS = "skein_batch_sessions", Histogram,
        "Sessions in a step.";
    STEP_SECONDS = "skein_step_seconds", Histogram,
        "Time of a step, from its begin to its result.";
    FIRST_TOKEN_SECONDS = "skein_first_token_seconds", Histogram,
        "Time from submission to the first token.";
    HOP_SECONDS = "skein_hop_seconds", Histogram,
        "Time of a leg between nodes: what a step took beyond what its stages say, over its legs.";
    CIRCUITS_LEFT = "skein_circuits_left", Gauge,
        "Circuits that were left for another, since the start.";
    STAGE_CIRCUITS = "skein_stage_circuits", Gauge,
        "Circuits that this stage serves.";
    STAGE_WAITING = "skein_stage_batches_waiting", Gauge,
        "Batches that wait at this stage.";
    STAGE_GRANTED = "skein_stage_kv_pages_granted", Gauge,
        "KV pages that this stage granted to circuits.";
    STAGE_USED = "skein_stage_kv_bytes_used", Gauge,
        "Bytes of KV pages in use at this stage.";
    STAGE_TOTAL = "skein_stage_kv_bytes_budget", Gauge,
        "Bytes of KV pages that this stage has.";
    STAGE_ROWS = "skein_stage_rows_total", Counter,
        "Rows that this stage computed.";
    STAGE_PASSES = "skein_stage_passes_total", Counter,
        "Passes over the weights of this stage.";
    STAGE_BATCHES = "skein_stage_batches_total", Counter,
        "Batches that this stage ran, several of which may share a pass.";
    STAGE_FAILURES = "skein_stage_circuit_failures_total", Counter,
        "Circuits that ended at this stage with a failure.";
    STAGE_DROPPED = "skein_stage_messages_dropped_total", Counter,
        "Messages that belonged to no circuit of this stage, or came from whoever may not send them.";
}

/// Gives names and meanings to the recorder that is installed.
pub fn describe() {
    for Metric {
        name,
        kind,
        meaning,
    } in METRICS.iter().copied()
    {
        match kind {
            Kind::Counter => metrics::describe_counter!(name, meaning),
            Kind::Gauge => metrics::describe_gauge!(name, meaning),
            Kind::Histogram => metrics::describe_histogram!(name, meaning),
        }
    }
}

/// What happened since the last time, and how full the engine is now.
pub(crate) fn state(stats: &Stats, load: Load, pages_used: usize, pages_total: usize) {
    counter!(PREFILL_ROWS).increment(stats.prefill_rows);
    counter!(TOKENS).increment(stats.tokens);
    counter!(REUSED).increment(stats.reused_tokens);
    counter!(PREEMPTIONS).increment(stats.preemptions);
    counter!(EVICTIONS).increment(stats.evictions);
    counter!(FAILURES).increment(stats.failures);
    for first in &stats.first_token {
        histogram!(FIRST_TOKEN_SECONDS).record(first.as_secs_f64());
    }
    for step in &stats.steps {
        histogram!(BATCH_ROWS).record(step.rows as f64);
        histogram!(BATCH_SESSIONS).record(step.sessions as f64);
        histogram!(STEP_SECONDS).record(step.took.as_secs_f64());
    }
    gauge!(RUNNING).set(load.running as f64);
    gauge!(WAITING).set(load.waiting as f64);
    gauge!(RETAINED).set(load.retained as f64);
    gauge!(KV_USED).set(pages_used as f64);
    gauge!(KV_TOTAL).set(pages_total as f64);
}

/// What went to the store and came back since the last time, and how full it is now.
pub(crate) fn store(stats: &Stats, load: Load, room: StoreRoom) {
    counter!(STORE_WRITTEN).increment(stats.stowed_pages);
    counter!(STORE_READ).increment(stats.restored_pages);
    counter!(STORE_RESTORED).increment(stats.restored);
    counter!(STORE_DROPPED).increment(stats.stowed_dropped);
    counter!(STORE_FAILURES).increment(stats.store_failures);
    let bytes = |pages: usize| pages as f64 * room.page_bytes as f64;
    gauge!(STORE_PREFIXES).set(load.stowed as f64);
    gauge!(STORE_USED).set(bytes(room.used));
    gauge!(STORE_TOTAL).set(bytes(room.total));
}

/// What a stage did since the last time, and how it is now.
pub fn stage(stats: &HostStats, report: &StageReport) {
    counter!(STAGE_ROWS).increment(stats.rows);
    counter!(STAGE_PASSES).increment(stats.passes);
    counter!(STAGE_BATCHES).increment(stats.batches);
    counter!(STAGE_FAILURES).increment(stats.failures);
    counter!(STAGE_DROPPED).increment(stats.dropped);
    let bytes = |pages: u32| f64::from(pages) * f64::from(report.page_bytes);
    gauge!(STAGE_CIRCUITS).set(f64::from(report.circuits));
    gauge!(STAGE_WAITING).set(f64::from(report.waiting));
    gauge!(STAGE_GRANTED).set(f64::from(report.pages_granted));
    gauge!(STAGE_USED).set(bytes(report.pages_used));
    gauge!(STAGE_TOTAL).set(bytes(report.pages_total));
}

/// How long the legs of a step took, each.
pub fn hop(leg: Duration) {
    histogram!(HOP_SECONDS).record(leg.as_secs_f64());
}

/// How many circuits an entry has left.
pub fn circuits_left(count: u32) {
    gauge!(CIRCUITS_LEFT).set(f64::from(count));
}

/// A request was not accepted.
pub(crate) fn refused() {
    counter!(REFUSED).increment(1);
}
