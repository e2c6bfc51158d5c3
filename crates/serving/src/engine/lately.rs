//! What an engine did in the last moments, for [`View`].

use std::collections::VecDeque;
use std::time::Duration;

use skein_runtime::Instant;

use crate::scheduler::{Load, Stats, Step};
use crate::store::StoreRoom;
use crate::view::{ExecutorView, Spread, StoreView, View};

/// Batches that are remembered.
const STEPS: usize = 256;
/// Over how long tokens are counted.
const WINDOW: Duration = Duration::from_secs(3);
/// How often a view is made.
const EVERY: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(super) struct Lately {
    tokens: u64,
    /// Times at which there were so many tokens, oldest first.
    marks: VecDeque<(Instant, u64)>,
    steps: VecDeque<Step>,
    made: Option<Instant>,
    /// What it holds is filled in for a view.
    store: StoreView,
}

impl Lately {
    pub(super) fn count(&mut self, stats: &Stats) {
        self.tokens += stats.tokens;
        self.store.restored += stats.restored;
        self.store.dropped += stats.stowed_dropped;
        self.store.failures += stats.store_failures;
        self.steps.extend(stats.steps.iter().copied());
        let extra = self.steps.len().saturating_sub(STEPS);
        self.steps.drain(..extra);
    }

    /// Whether it is time for another view.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.made.is_none_or(|made| now.since(made) >= EVERY)
    }

    /// When the view changes by time alone.
    pub(super) fn next(&self) -> Option<Instant> {
        let made = self.made?;
        let moving = self.marks.front().is_some_and(|(_, at)| *at < self.tokens);
        let never_shown = self.marks.back().is_some_and(|(_, at)| *at != self.tokens);
        (moving || never_shown).then(|| made.after(EVERY))
    }

    pub(super) fn view(
        &mut self,
        now: Instant,
        (load, pages_used, pages_total): (Load, usize, usize),
        (page_positions, store, executor): (usize, StoreRoom, ExecutorView),
    ) -> View {
        self.made = Some(now);
        self.marks.push_back((now, self.tokens));
        while self.marks.len() > 2 && now.since(self.marks[1].0) >= WINDOW {
            self.marks.pop_front();
        }
        let (since, before) = self.marks[0];
        let seconds = now.since(since).as_secs_f64();
        let fresh = (self.tokens - before) as f64;
        let mean = |of: fn(&Step) -> usize| {
            let sum: usize = self.steps.iter().map(of).sum();
            sum as f64 / self.steps.len().max(1) as f64
        };
        View {
            load,
            pages_used,
            pages_total,
            page_positions,
            store: StoreView {
                pages_used: store.used,
                pages_total: store.total,
                page_bytes: store.page_bytes,
                prefixes: load.stowed,
                ..self.store
            },
            tokens: self.tokens,
            tokens_per_second: if seconds > 0.0 { fresh / seconds } else { 0.0 },
            batch_sessions: mean(|step| step.sessions),
            batch_rows: mean(|step| step.rows),
            step: Spread::of(self.steps.iter().map(|step| step.took)).unwrap_or_default(),
            executor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_of_the_last_seconds_and_falls_to_nothing() {
        let mut lately = Lately::default();
        let at = |ms: u64| Instant::START.after(Duration::from_millis(ms));
        let nothing = || (1, StoreRoom::default(), ExecutorView::default());
        let load = (Load::default(), 0, 0);
        assert!(lately.is_due(at(0)));
        lately.view(at(0), load, nothing());
        assert_eq!(lately.next(), None);
        let stats = Stats {
            tokens: 20,
            steps: vec![Step {
                sessions: 2,
                rows: 4,
                took: Duration::from_millis(5),
            }],
            ..Stats::default()
        };
        lately.count(&stats);
        assert!(!lately.is_due(at(100)));
        assert_eq!(lately.next(), Some(at(250)));
        let view = lately.view(at(2000), load, nothing());
        assert_eq!((view.tokens, view.tokens_per_second), (20, 10.0));
        assert_eq!((view.batch_sessions, view.batch_rows), (2.0, 4.0));
        assert_eq!(view.step.p99, Duration::from_millis(5));
        assert!(lately.next().is_some());
        lately.view(at(4000), load, nothing());
        let later = lately.view(at(6000), load, nothing());
        assert_eq!(later.tokens_per_second, 0.0);
        assert_eq!(lately.next(), None);
    }
}
