//! How the engine shares the machine.

use std::time::Duration;

/// All settings of the engine. There is no hidden default: who starts an engine says each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Most sessions that hold KV at a time. More wait. At least 1.
    pub sessions_max: usize,
    /// Most sessions that decode in one step; the others take turns. At least 1.
    pub decode_rows_max: usize,
    /// Most rows of prompts in one step, over all sessions: what a long prompt may add to the time
    /// between two tokens of the others. At least 1.
    pub prefill_rows_max: usize,
    /// Pages kept free for each running session when another one is admitted, so that they can
    /// grow for a while before one must be preempted.
    pub growth_pages: usize,
    /// Most requests that wait, preempted ones included; more are answered "busy". At least 1.
    pub waiting_max: usize,
    /// Most requests of one client that wait. At least 1, at most `waiting_max`.
    pub waiting_per_client_max: usize,
    /// Most finished sequences retained for the reuse of their prefix. 0 retains none.
    pub retained_max: usize,
    /// Events buffered for one reader. A session whose reader is that far behind pauses. At least 1.
    pub events_max: usize,
    /// How long a session may be paused before it is ended: a reader that never reads must not
    /// hold a place for ever.
    pub stall_max: Duration,
}

/// A setting without sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, it must be at least 1 and at most {max}")]
pub struct ConfigError {
    /// The setting.
    pub field: &'static str,
    /// Its value.
    pub value: usize,
    /// Its upper bound.
    pub max: usize,
}

/// Upper bound of every count: far beyond use, and far from overflow.
const COUNT_MAX: usize = 1 << 20;

impl EngineConfig {
    /// Checks each setting and the relations between them.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fields = [
            ("sessions_max", self.sessions_max, COUNT_MAX),
            ("decode_rows_max", self.decode_rows_max, COUNT_MAX),
            ("prefill_rows_max", self.prefill_rows_max, COUNT_MAX),
            // One more than it is, since 0 makes sense for these two.
            (
                "growth_pages + 1",
                self.growth_pages.saturating_add(1),
                COUNT_MAX,
            ),
            (
                "retained_max + 1",
                self.retained_max.saturating_add(1),
                COUNT_MAX,
            ),
            ("waiting_max", self.waiting_max, COUNT_MAX),
            (
                "waiting_per_client_max",
                self.waiting_per_client_max,
                self.waiting_max,
            ),
            ("events_max", self.events_max, COUNT_MAX),
        ];
        let wrong = fields
            .into_iter()
            .find(|&(_, value, max)| value < 1 || value > max);
        wrong.map_or(Ok(()), |(field, value, max)| {
            Err(ConfigError { field, value, max })
        })
    }
}
