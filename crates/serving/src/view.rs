//! What an engine and its executor tell about themselves, for people and scripts.

use std::ops::Range;
use std::time::Duration;

use skein_base::NodeId;

use crate::scheduler::Load;

/// Middle and tail of something measured lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spread {
    /// Half were at most this.
    pub median: Duration,
    /// 99 of 100 were at most this.
    pub p99: Duration,
}

impl Spread {
    /// Of some times; `None` of none.
    pub fn of(times: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut sorted: Vec<_> = times.into_iter().collect();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        Some(Self {
            median: sorted[last / 2],
            p99: sorted[last * 99 / 100],
        })
    }
}

/// What gave way in memory and is kept beside it. All zero where there is no such place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreView {
    /// Pages in it.
    pub pages_used: usize,
    /// Pages that it may hold; 0 also if it failed too often.
    pub pages_total: usize,
    /// Bytes of a page.
    pub page_bytes: usize,
    /// Prefixes of ended sessions in it.
    pub prefixes: usize,
    /// Sequences read back whole since the start.
    pub restored: u64,
    /// Prefixes dropped for others since the start.
    pub dropped: u64,
    /// Pages that could not be written, or did not come back as they were, since the start.
    pub failures: u64,
}

/// An engine lately.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct View {
    /// Sessions.
    pub load: Load,
    /// KV pages in use.
    pub pages_used: usize,
    /// KV pages in the budget.
    pub pages_total: usize,
    /// Positions in a page.
    pub page_positions: usize,
    /// What gave way in memory.
    pub store: StoreView,
    /// Tokens given out since the start.
    pub tokens: u64,
    /// Tokens a second over the last seconds.
    pub tokens_per_second: f64,
    /// Mean sessions of the latest batches.
    pub batch_sessions: f64,
    /// Mean rows of the latest batches.
    pub batch_rows: f64,
    /// From a batch's begin to its result.
    pub step: Spread,
    /// Who computes.
    pub executor: ExecutorView,
}

/// Whether there is a way through the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CircuitView {
    /// The whole model is in this process.
    #[default]
    Local,
    /// Batches go through the stages marked as serving.
    Open,
    /// Being set up.
    Opening,
    /// There is none.
    Down {
        /// For how long.
        since: Duration,
    },
}

/// Who computes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ExecutorView {
    /// The way through the model.
    pub circuit: CircuitView,
    /// How many circuits were left.
    pub generation: u32,
    /// Layers of the model.
    pub layers: u32,
    /// Time of one leg of a batch's way: what a step took beyond what its stages say that they
    /// computed and let wait, over the number of legs; of batches that were alone on the way. `None`
    /// before there was one.
    pub hop: Option<Spread>,
    /// Known stages; empty if the whole model is in this process.
    pub stages: Vec<StageView>,
}

/// How an entry thinks of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// Not heard yet.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It does not answer.
    Silent,
    /// It failed, and is left alone for a while.
    Shunned,
}

/// A stage as its entry knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct StageView {
    /// Who.
    pub node: NodeId,
    /// Its layers.
    pub layers: Range<u32>,
    /// Whether it is on the circuit in use.
    pub serving: bool,
    /// Whether it answers.
    pub standing: Standing,
    /// How long it took to answer when last asked.
    pub answer: Option<Duration>,
    /// What it said of itself then; claims, not facts.
    pub report: Option<StageReport>,
    /// Rows a second, by its last two reports.
    pub rows_per_second: f64,
    /// Mean rows of a pass over the weights, by its last two reports.
    pub rows_per_pass: f64,
    /// Share of the time in which it computed, by its last two reports.
    pub busy: f64,
}

/// What a stage says of itself. Counts are since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StageReport {
    /// Circuits that it serves.
    pub circuits: u32,
    /// KV pages granted to circuits.
    pub pages_granted: u32,
    /// KV pages that hold something.
    pub pages_used: u32,
    /// KV pages that it has.
    pub pages_total: u32,
    /// Bytes of a page.
    pub page_bytes: u32,
    /// Batches that wait.
    pub waiting: u32,
    /// Rows computed.
    pub rows: u64,
    /// Passes over the weights.
    pub passes: u64,
    /// Circuits that ended with a failure.
    pub failures: u64,
    /// Microseconds spent computing.
    pub computing_us: u64,
}
