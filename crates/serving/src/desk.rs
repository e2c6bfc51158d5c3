//! Who may join the queue: answered at once, while the engine computes.

use std::collections::BTreeMap;
use std::time::Duration;

use skein_runtime::Instant;

use crate::config::EngineConfig;
use crate::request::{ClientId, SubmitError};

/// Counts who waits, and answers "busy" when too many do.
///
/// The engine tells it the truth once per step; between two steps it counts what came in itself.
#[derive(Debug)]
pub struct Desk {
    waiting_max: usize,
    waiting_per_client_max: usize,
    waiting: usize,
    by_client: BTreeMap<ClientId, usize>,
    /// Mean time between two sessions that end, smoothed.
    interval: Duration,
    last_end: Option<Instant>,
}

/// Bounds of the time after which a refused client is told to come again.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Weight of the past in the smoothed interval, of 8.
const SMOOTHING: u32 = 7;

impl Desk {
    /// A desk with nobody waiting.
    pub fn new(config: &EngineConfig) -> Self {
        Self {
            waiting_max: config.waiting_max,
            waiting_per_client_max: config.waiting_per_client_max,
            waiting: 0,
            by_client: BTreeMap::new(),
            interval: Duration::ZERO,
            last_end: None,
        }
    }

    /// Lets a request of `client` join the queue, or says when to try again.
    ///
    /// # Errors
    /// [`SubmitError::Busy`].
    pub fn join(&mut self, client: &ClientId) -> Result<(), SubmitError> {
        let own = self.by_client.get(client).copied().unwrap_or(0);
        if self.waiting >= self.waiting_max {
            return Err(self.busy(self.waiting));
        }
        if own >= self.waiting_per_client_max {
            return Err(self.busy(own));
        }
        self.waiting += 1;
        self.by_client.insert(client.clone(), own + 1);
        Ok(())
    }

    /// What the engine counted: those that wait, by client, and how many ended since.
    pub fn update(&mut self, now: Instant, by_client: BTreeMap<ClientId, usize>, ended: usize) {
        self.waiting = by_client.values().sum();
        self.by_client = by_client;
        let Some(ended) = u32::try_from(ended).ok().filter(|&ended| ended > 0) else {
            return;
        };
        if let Some(last) = self.last_end {
            let each = now.since(last) / ended;
            self.interval = (self.interval * SMOOTHING + each) / (SMOOTHING + 1);
        }
        self.last_end = Some(now);
    }

    /// Requests waiting.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    fn busy(&self, waiting: usize) -> SubmitError {
        // When half of those in front have had their turn there is room again.
        let turns = u32::try_from(waiting / 2).unwrap_or(u32::MAX);
        let estimate = self
            .interval
            .saturating_mul(turns)
            .clamp(RETRY_MIN, RETRY_MAX);
        let seconds = estimate.as_secs() + u64::from(estimate.subsec_nanos() > 0);
        SubmitError::Busy {
            waiting,
            retry_after: Duration::from_secs(seconds),
        }
    }
}
