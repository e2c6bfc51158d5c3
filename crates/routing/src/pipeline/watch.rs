//! How stages are, as they say themselves and as their answers show.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use skein_base::NodeId;
use skein_runtime::Instant;
use skein_serving::view::{CircuitView, ExecutorView, Spread, StageReport, StageView, Standing};
use skein_serving::wire::{Message, Spent};

use super::{Pipeline, Post, State};

/// Steps whose legs are remembered.
const STEPS: usize = 512;

/// What is known about stages.
#[derive(Debug, Default)]
pub(super) struct Watch {
    stages: BTreeMap<NodeId, Seen>,
    /// Time of a leg in the latest steps.
    hops: VecDeque<Duration>,
    next_nonce: u64,
    ask_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The question that waits for an answer.
    asked: Option<(Instant, u64)>,
    standing: Standing,
    answer: Option<Duration>,
    /// The last two reports, with the times that they came.
    reports: VecDeque<(Instant, StageReport)>,
}

impl Watch {
    pub(super) fn standing(&self, node: &NodeId) -> Standing {
        self.stages
            .get(node)
            .map_or(Standing::Unknown, |seen| seen.standing)
    }

    pub(super) fn closed(&mut self, node: NodeId) {
        if let Some(seen) = self.stages.get_mut(&node) {
            seen.standing = Standing::Silent;
            seen.asked = None;
        }
    }

    pub(super) fn told(&mut self, now: Instant, from: NodeId, nonce: u64, report: StageReport) {
        let Some(seen) = self.stages.get_mut(&from) else {
            return;
        };
        let Some((at, _)) = seen.asked.take_if(|(_, asked)| *asked == nonce) else {
            return;
        };
        seen.standing = Standing::Up;
        seen.answer = Some(now.since(at));
        seen.reports.push_back((now, report));
        while seen.reports.len() > 2 {
            seen.reports.pop_front();
        }
    }

    /// A step came back after `took`, over so many legs.
    pub(super) fn step(&mut self, took: Duration, spent: &[Spent], legs: usize) {
        let at_stages = spent.iter().map(|spent| {
            Duration::from_micros(u64::from(spent.waited_us) + u64::from(spent.computed_us))
        });
        let between = took.saturating_sub(at_stages.sum());
        if self.hops.len() == STEPS {
            self.hops.pop_front();
        }
        let legs = u32::try_from(legs.max(1)).unwrap_or(u32::MAX);
        skein_serving::metrics::hop(between / legs);
        self.hops.push_back(between / legs);
    }
}

impl Seen {
    /// Differences of the last two reports over the time between: rows a second, rows a pass,
    /// share of the time computed.
    fn rates(&self) -> (f64, f64, f64) {
        let (Some((before, old)), Some((after, new))) = (self.reports.front(), self.reports.back())
        else {
            return (0.0, 0.0, 0.0);
        };
        let seconds = after.since(*before).as_secs_f64();
        if seconds <= 0.0 {
            return (0.0, 0.0, 0.0);
        }
        // A stage that began anew counts from 0 again.
        let rows = new.rows.saturating_sub(old.rows) as f64;
        let passes = new.passes.saturating_sub(old.passes) as f64;
        let computing = new.computing_us.saturating_sub(old.computing_us) as f64 / 1e6;
        let per_pass = if passes > 0.0 { rows / passes } else { 0.0 };
        (rows / seconds, per_pass, (computing / seconds).min(1.0))
    }
}

impl<P: Post> Pipeline<P> {
    /// Asks every stage how it is, if it is time to.
    pub(super) fn ask(&mut self) {
        let (now, timeout) = (self.now, self.config.ask_timeout);
        if self.watch.ask_at.is_some_and(|at| now < at) {
            return;
        }
        self.watch.ask_at = Some(now.after(self.config.ask_every));
        let stages = self.directory.stages();
        self.watch
            .stages
            .retain(|node, _| stages.iter().any(|stage| stage.node == *node));
        for stage in stages {
            let seen = self.watch.stages.entry(stage.node).or_default();
            match seen.asked {
                Some((at, _)) if now.since(at) < timeout => continue,
                Some(_) => seen.standing = Standing::Silent,
                None => {}
            }
            let nonce = self.watch.next_nonce;
            self.watch.next_nonce += 1;
            seen.asked = Some((now, nonce));
            if self.post.send(stage.node, Message::Ask { nonce }).is_err() {
                self.watch.closed(stage.node);
            }
        }
    }

    pub(super) fn next_ask(&self) -> Option<Instant> {
        self.watch.ask_at
    }

    /// For people.
    pub(super) fn describe(&self) -> ExecutorView {
        let circuit = match self.state {
            State::Open { .. } => CircuitView::Open,
            State::Opening { .. } => CircuitView::Opening,
            State::Down { .. } => CircuitView::Down {
                since: self
                    .down_since
                    .map_or(Duration::ZERO, |since| self.now.since(since)),
            },
        };
        let known = self.known().into_iter();
        ExecutorView {
            circuit,
            generation: self.name.generation,
            layers: self.spec.layers,
            hop: Spread::of(self.watch.hops.iter().copied()),
            stages: known
                .map(|(stage, serving)| self.stage(stage, serving))
                .collect(),
        }
    }

    fn stage(&self, stage: crate::StageRecord, serving: bool) -> StageView {
        let nothing = Seen::default();
        let seen = self.watch.stages.get(&stage.node).unwrap_or(&nothing);
        let shunned = self.conduct.get(&stage.node);
        let shunned = shunned.is_some_and(|conduct| conduct.is_shunned(self.now));
        let (rows_per_second, rows_per_pass, busy) = seen.rates();
        StageView {
            node: stage.node,
            layers: stage.layers,
            serving,
            standing: match shunned {
                true => Standing::Shunned,
                false => seen.standing,
            },
            answer: seen.answer,
            report: seen.reports.back().map(|(_, report)| *report),
            rows_per_second,
            rows_per_pass,
            busy,
        }
    }
}
