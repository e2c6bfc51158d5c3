//! `GET /v1/network`: every model on offer, how busy it is, and the way that answers take through it.
//!
//! The types are the whole interface: the server writes them and a client reads them, so that no name
//! is written twice. Times are in seconds, a range of layers ends before `end`. Fields may be added;
//! readers skip those that they do not know. What a stage reports of itself is its claim, not a fact.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use skein_serving::view::{self, CircuitView, StageView, StoreView, View};

use crate::backend::Model;

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// What this object is.
    pub object: NetworkTag,
    /// Every model on offer, in the order of `GET /v1/models`.
    pub models: Vec<ModelStatus>,
}

/// The one value of [`Network::object`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkTag {
    /// `"network"`.
    Network,
}

/// A model on offer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// The name by which clients ask for it.
    pub id: String,
    /// Whether there is a way through it.
    pub circuit: Circuit,
    /// Layers of the model; 0 if the executor does not say.
    pub layers: u32,
    /// Requests.
    pub sessions: Sessions,
    /// Memory for keys and values.
    pub kv: Kv,
    /// Tokens given out since the start.
    pub tokens: u64,
    /// Tokens a second over the last seconds.
    pub tokens_per_second: f64,
    /// Means over the latest batches.
    pub batch: Batch,
    /// From a batch's begin to its result.
    pub step_seconds: Spread,
    /// One leg of a batch's way beyond what the stages computed and let wait; absent without legs.
    pub hop_seconds: Option<Spread>,
    /// Known stages; empty if the whole model is in the server's process.
    pub stages: Vec<Stage>,
}

/// The way through a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Circuit {
    /// Whether there is one.
    pub state: CircuitState,
    /// How many circuits were left before this one.
    pub generation: u32,
    /// For how long there has been none, if the state is `down`.
    pub down_seconds: Option<f64>,
}

/// Whether there is a way through a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CircuitState {
    /// The whole model is in the server's process.
    Local,
    /// Batches go through the stages marked as serving.
    Open,
    /// Being set up.
    Opening,
    /// There is none.
    Down,
}

/// Requests by what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// Hold keys and values.
    pub running: usize,
    /// Wait to be admitted.
    pub waiting: usize,
    /// Finished, their keys and values retained for requests that begin alike.
    pub retained: usize,
}

/// Memory for keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kv {
    /// Pages in use.
    pub pages_used: usize,
    /// Pages in the budget.
    pub pages_total: usize,
    /// Positions in a page.
    pub page_positions: usize,
    /// What gave way in memory and is kept on disk; `None` if nothing is.
    #[serde(default)]
    pub store: Option<Store>,
}

/// Disk for keys and values that gave way in memory. Counts are since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// Pages on disk.
    pub pages_used: usize,
    /// Pages that there is room for; 0 if the disk failed too often to be used on.
    pub pages_total: usize,
    /// Bytes of a page.
    pub page_bytes: usize,
    /// Finished requests whose keys and values are there for requests that begin alike.
    pub prefixes: usize,
    /// Requests whose keys and values were read back whole.
    pub restored: u64,
    /// Finished requests that had to go for others.
    pub dropped: u64,
    /// Pages that could not be written, or did not come back as they were.
    pub failures: u64,
}

/// Mean size of the latest batches.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// Requests in a batch.
    pub sessions: f64,
    /// Rows in a batch.
    pub rows: f64,
}

/// Middle and tail of times measured lately, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half were at most this.
    pub median: f64,
    /// 99 of 100 were at most this.
    pub p99: f64,
}

/// A stage as its entry knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// The node's id: 64 hexadecimal digits.
    pub node: String,
    /// Its layers.
    pub layers: Layers,
    /// Whether it is on the circuit in use.
    pub serving: bool,
    /// Whether it answers.
    pub standing: Standing,
    /// How long it took to answer when last asked.
    pub answer_seconds: Option<f64>,
    /// Rows a second, by its last two reports.
    pub rows_per_second: f64,
    /// Mean rows of a pass over the weights, by its last two reports.
    pub rows_per_pass: f64,
    /// Share of the time in which it computed, from 0 to 1, by its last two reports.
    pub busy: f64,
    /// What it last said of itself.
    pub report: Option<Report>,
}

/// A range of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// The first.
    pub start: u32,
    /// The one after the last.
    pub end: u32,
}

/// How an entry thinks of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Not heard yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not answer.
    Silent,
    /// It failed, and is left alone for a while.
    Shunned,
}

/// What a stage says of itself. Counts are since its start.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Report {
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
    /// Time spent computing.
    pub computing_seconds: f64,
}

impl Network {
    /// Asks the backends of `models` how they are.
    pub(crate) fn of<'a>(models: impl IntoIterator<Item = &'a Model>) -> Self {
        let models = models.into_iter();
        Self {
            object: NetworkTag::Network,
            models: models
                .map(|model| ModelStatus::new(&model.id, &model.backend.view()))
                .collect(),
        }
    }
}

impl ModelStatus {
    fn new(id: &str, view: &View) -> Self {
        let executor = &view.executor;
        Self {
            id: id.to_owned(),
            circuit: Circuit::new(executor.circuit, executor.generation),
            layers: executor.layers,
            sessions: Sessions {
                running: view.load.running,
                waiting: view.load.waiting,
                retained: view.load.retained,
            },
            kv: Kv {
                pages_used: view.pages_used,
                pages_total: view.pages_total,
                page_positions: view.page_positions,
                store: (view.store != StoreView::default()).then(|| view.store.into()),
            },
            tokens: view.tokens,
            tokens_per_second: finite(view.tokens_per_second),
            batch: Batch {
                sessions: finite(view.batch_sessions),
                rows: finite(view.batch_rows),
            },
            step_seconds: view.step.into(),
            hop_seconds: executor.hop.map(Spread::from),
            stages: executor.stages.iter().map(Stage::from).collect(),
        }
    }
}

impl From<StoreView> for Store {
    fn from(view: StoreView) -> Self {
        Self {
            pages_used: view.pages_used,
            pages_total: view.pages_total,
            page_bytes: view.page_bytes,
            prefixes: view.prefixes,
            restored: view.restored,
            dropped: view.dropped,
            failures: view.failures,
        }
    }
}

impl Circuit {
    fn new(circuit: CircuitView, generation: u32) -> Self {
        let (state, down) = match circuit {
            CircuitView::Local => (CircuitState::Local, None),
            CircuitView::Open => (CircuitState::Open, None),
            CircuitView::Opening => (CircuitState::Opening, None),
            CircuitView::Down { since } => (CircuitState::Down, Some(since)),
        };
        Self {
            state,
            generation,
            down_seconds: down.map(|since| since.as_secs_f64()),
        }
    }
}

impl From<view::Spread> for Spread {
    fn from(spread: view::Spread) -> Self {
        Self {
            median: spread.median.as_secs_f64(),
            p99: spread.p99.as_secs_f64(),
        }
    }
}

impl From<&StageView> for Stage {
    fn from(stage: &StageView) -> Self {
        Self {
            node: stage.node.to_string(),
            layers: Layers {
                start: stage.layers.start,
                end: stage.layers.end,
            },
            serving: stage.serving,
            standing: match stage.standing {
                view::Standing::Unknown => Standing::Unknown,
                view::Standing::Up => Standing::Up,
                view::Standing::Silent => Standing::Silent,
                view::Standing::Shunned => Standing::Shunned,
            },
            answer_seconds: stage.answer.map(|time| time.as_secs_f64()),
            rows_per_second: finite(stage.rows_per_second),
            rows_per_pass: finite(stage.rows_per_pass),
            busy: finite(stage.busy),
            report: stage.report.as_ref().map(Report::from),
        }
    }
}

impl From<&view::StageReport> for Report {
    fn from(report: &view::StageReport) -> Self {
        Self {
            circuits: report.circuits,
            pages_granted: report.pages_granted,
            pages_used: report.pages_used,
            pages_total: report.pages_total,
            page_bytes: report.page_bytes,
            waiting: report.waiting,
            rows: report.rows,
            passes: report.passes,
            failures: report.failures,
            computing_seconds: Duration::from_micros(report.computing_us).as_secs_f64(),
        }
    }
}

/// JSON has no number for a rate that is none, such as one over no time at all.
fn finite(rate: f64) -> f64 {
    if rate.is_finite() { rate } else { 0.0 }
}
