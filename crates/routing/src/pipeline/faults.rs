//! What happens when something goes wrong, and who pays for it.

use std::time::Duration;

use skein_base::NodeId;
use skein_model::kv::PageTable;
use skein_runtime::Instant;
use skein_serving::Progress;
use skein_serving::wire::Message;

use super::{Pipeline, Post, State};

/// What is held against a node until it answers again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Standing {
    /// Faults in which it was named.
    named: u32,
    /// Faults on ways that it was part of, with nobody named.
    suspected: u32,
    shunned_until: Option<Instant>,
}

/// Being named once is as bad as being suspected so often.
const NAMED: u64 = 4;
/// The time for which a node is shunned doubles so often.
const DOUBLINGS: u32 = 5;

impl Standing {
    /// What a way through it costs; `None` while it is shunned.
    pub(super) fn cost(&self, now: Instant) -> Option<u64> {
        let free = self.shunned_until.is_none_or(|until| until <= now);
        free.then_some(u64::from(self.named) * NAMED + u64::from(self.suspected))
    }

    fn name(&mut self, now: Instant, shun: Duration) {
        let times = 1 << self.named.min(DOUBLINGS);
        self.named = self.named.saturating_add(1);
        self.shunned_until = Some(now.after(shun * times));
    }
}

impl<P: Post> Pipeline<P> {
    /// Leaves the circuit: everything held on it is void.
    pub(super) fn fault(&mut self, culprit: Option<NodeId>, why: &str) {
        let (now, shun) = (self.now, self.config.shun);
        match culprit {
            Some(node) => self.standing.entry(node).or_default().name(now, shun),
            None => {
                for stage in &self.way {
                    let standing = self.standing.entry(stage.node).or_default();
                    standing.suspected = standing.suspected.saturating_add(1);
                }
            }
        }
        // Those who are left can free their KV at once; whoever is gone does not matter.
        if let Some(stage) = self.way.first() {
            let close = Message::Close { name: self.name };
            let _ = self.post.send(stage.node, close);
        }
        let was_open = matches!(self.state, State::Open { .. });
        self.name.generation += 1;
        self.flights.clear();
        self.changes.clear();
        self.table = PageTable::new(self.config.pages);
        self.state = State::Down { retry_at: now };
        self.down_since.get_or_insert(now);
        let who = culprit.map_or_else(|| "a stage".to_owned(), |node| format!("stage {node}"));
        tracing::warn!(generation = self.name.generation, "{who}: {why}");
        if was_open {
            // Results that came before still count: they were told in order.
            let reason = format!("{who}: {why}");
            self.news.push_back(Progress::Lost { reason });
        }
    }
}
