//! What happens when something goes wrong, and who pays for it.

use std::time::Duration;

use skein_base::NodeId;
use skein_model::kv::PageTable;
use skein_runtime::Instant;
use skein_serving::Progress;
use skein_serving::view::Standing;
use skein_serving::wire::{Failure, Message};

use super::{Pipeline, Post, State};

/// What is held against a node until it answers again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Conduct {
    /// Faults in which it was named.
    named: u32,
    /// Faults on ways that it was part of, with nobody named.
    suspected: u32,
    shunned_until: Option<Instant>,
    /// It said itself that it cannot serve before.
    away_until: Option<Instant>,
}

/// Being named once is as bad as being suspected so often.
const NAMED: u64 = 4;
/// Not answering when asked is as bad as being suspected so often.
const SILENT: u64 = 8;
/// What a way through a shunned node costs beyond: taken only where there is no other.
const SHUNNED: u64 = 1 << 20;
/// The time for which a node is shunned doubles so often, and the time between two attempts.
const DOUBLINGS: u32 = 5;

impl Conduct {
    pub(super) fn is_shunned(&self, now: Instant) -> bool {
        self.shunned_until.is_some_and(|until| until > now)
    }

    /// What a way through it costs; `None` while it is away.
    fn cost(&self, now: Instant) -> Option<u64> {
        if self.away_until.is_some_and(|until| until > now) {
            return None;
        }
        let shunned = if self.is_shunned(now) { SHUNNED } else { 0 };
        Some(shunned + u64::from(self.named) * NAMED + u64::from(self.suspected))
    }

    fn name(&mut self, now: Instant, shun: Duration) {
        let times = 1 << self.named.min(DOUBLINGS);
        self.named = self.named.saturating_add(1);
        self.shunned_until = Some(now.after(shun * times));
    }
}

impl<P: Post> Pipeline<P> {
    /// What a way through a node costs; `None` leaves it out.
    pub(super) fn cost(&self, node: &NodeId) -> Option<u64> {
        let conduct = self.conduct.get(node).copied().unwrap_or_default();
        let silent = match self.watch.standing(node) {
            Standing::Silent => SILENT,
            _ => 0,
        };
        Some(conduct.cost(self.now)? + silent)
    }

    /// A stage says that it gives the circuit up.
    pub(super) fn gave_up(&mut self, stage: NodeId, failure: Failure) {
        let wait = match failure {
            Failure::Busy { retry_after } => Some(retry_after),
            Failure::Leaving => Some(self.config.shun),
            _ => None,
        };
        let why = failure.to_string();
        match wait {
            None => self.fault(Some(stage), &why),
            // It said so in time: no fault of its own. It cannot send us away for ever, though.
            Some(wait) => {
                let longest = self.config.shun * (1 << DOUBLINGS);
                let until = self.now.after(wait.clamp(self.config.retry, longest));
                self.conduct.entry(stage).or_default().away_until = Some(until);
                self.leave(Some(stage), &why);
            }
        }
    }

    /// Leaves the circuit, and holds it against whoever is at fault.
    pub(super) fn fault(&mut self, culprit: Option<NodeId>, why: &str) {
        let (now, shun) = (self.now, self.config.shun);
        match culprit {
            Some(node) => self.conduct.entry(node).or_default().name(now, shun),
            None => {
                for stage in &self.way {
                    let conduct = self.conduct.entry(stage.node).or_default();
                    conduct.suspected = conduct.suspected.saturating_add(1);
                }
            }
        }
        self.leave(culprit, why);
    }

    /// Leaves the circuit: everything held on it is void.
    fn leave(&mut self, because_of: Option<NodeId>, why: &str) {
        // Those who are left can free their KV at once; whoever is gone does not matter.
        for leg in &self.legs {
            let close = Message::Close { name: self.name };
            let _ = self.post.send(self.way[leg.first].node, close);
        }
        let was_open = matches!(self.state, State::Open { .. });
        self.name.generation += 1;
        skein_serving::metrics::circuits_left(self.name.generation);
        self.flights.clear();
        self.changes.clear();
        self.table = PageTable::new(self.config.pages);
        // The first new attempt at once, further ones ever later: the last resort is a node that
        // failed a moment ago.
        let pause = match was_open {
            true => Duration::ZERO,
            false => self.config.retry * (1 << self.attempts.min(DOUBLINGS)),
        };
        self.attempts = if was_open { 0 } else { self.attempts + 1 };
        let retry_at = self.now.after(pause);
        self.state = State::Down { retry_at };
        self.down_since.get_or_insert(self.now);
        let who = because_of.map_or_else(|| "a stage".to_owned(), |node| format!("stage {node}"));
        tracing::warn!(generation = self.name.generation, "{who}: {why}");
        if was_open {
            // Results that came before still count: they were told in order.
            let reason = format!("{who}: {why}");
            self.news.push_back(Progress::Lost { reason });
        }
    }
}
