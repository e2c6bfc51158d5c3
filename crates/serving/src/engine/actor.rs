//! What an engine does, one turn after another.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use skein_runtime::{Clock, Instant};

use super::generation::{Put, Reader};
use super::lately::Lately;
use super::{Incoming, Phase, Shared};
use crate::metrics;
use crate::request::Event;
use crate::scheduler::{Scheduler, SessionId};
use crate::stage::{Executor, Wake};

pub(super) struct Actor<E: Executor> {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    scheduler: Scheduler<E>,
    stage: E,
    readers: BTreeMap<SessionId, Reader>,
    drain_until: Option<Instant>,
    /// Sessions that ended since the desk was last told.
    ended: usize,
    lately: Lately,
}

/// What comes after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Another one at once.
    Turn,
    /// Nothing before this time, or before somebody calls.
    Rest(Option<Instant>),
    /// The end.
    End,
}

impl<E: Executor> Actor<E> {
    pub(super) fn new(
        shared: Arc<Shared>,
        clock: Arc<dyn Clock>,
        scheduler: Scheduler<E>,
        stage: E,
    ) -> Self {
        let readers = BTreeMap::new();
        Self {
            shared,
            clock,
            scheduler,
            stage,
            readers,
            drain_until: None,
            ended: 0,
            lately: Lately::default(),
        }
    }

    /// Whom the executor tells when there is progress.
    pub(super) fn tells(&mut self, whom: Weak<dyn Wake>) {
        self.stage.tell(whom);
    }

    /// Does what there is to do.
    pub(super) fn turn(&mut self) -> Next {
        let now = self.clock.now();
        if !self.take_in(now) {
            return Next::End;
        }
        self.scheduler.drain(now, &mut self.stage);
        // First: who has read on meanwhile has not stalled.
        self.watch_readers(now);
        self.scheduler.expire(now, &mut self.stage);
        while self.stage.is_open() {
            let plan = self.scheduler.plan(now, &mut self.stage);
            if E::COMPUTES {
                self.tell(now);
            }
            if plan.is_empty() {
                break;
            }
            let span = tracing::debug_span!("engine.step", rows = plan.rows(), n = plan.sessions());
            let _entered = span.enter();
            // What was done since the beginning of the turn is not the batch's.
            let now = self.clock.now();
            self.scheduler.begin(now, plan, &mut self.stage);
            // Of a batch that was refused, sessions run alone and may have their tokens already.
            self.watch_readers(now);
        }
        let now = self.clock.now();
        let more = self.scheduler.drain(now, &mut self.stage);
        // Batches that travel are on their way before anybody is told of the last ones.
        self.tell(now);
        let drained = self.drain_until.is_some() && self.scheduler.is_empty();
        match more || drained || self.scheduler.is_unsettled() {
            true => Next::Turn,
            false => Next::Rest(self.next_timeout()),
        }
    }

    /// Ends what there is.
    pub(super) fn end(&mut self) {
        self.scheduler.stop_all(&mut self.stage);
        self.tell(self.clock.now());
    }

    fn tell(&mut self, now: Instant) {
        self.deliver();
        self.publish(now);
    }

    /// Takes requests in and minds the phase. False if it is time to end.
    fn take_in(&mut self, now: Instant) -> bool {
        let mut state = self.shared.state();
        let incoming = std::mem::take(&mut state.inbox);
        let phase = state.phase;
        drop(state);
        for Incoming {
            request,
            at,
            reader,
        } in incoming
        {
            let id = self.scheduler.enter(at, request);
            self.readers.insert(id, reader);
        }
        match phase {
            Phase::Open => true,
            Phase::Stopping => false,
            Phase::Draining { allowed } => {
                let until = *self.drain_until.get_or_insert(now.after(allowed));
                now < until && !self.scheduler.is_empty()
            }
        }
    }

    fn watch_readers(&mut self, now: Instant) {
        let (scheduler, stage, ended) = (&mut self.scheduler, &mut self.stage, &mut self.ended);
        self.readers.retain(|&id, reader| {
            if reader.is_gone() {
                scheduler.cancel(id, stage);
                *ended += 1;
                return false;
            }
            let room = reader.has_room(scheduler.is_paused(id), scheduler.events_of(id));
            scheduler.set_room(id, room, now);
            true
        });
    }

    /// Hands events out. There is always room: a session runs only with room for what may come.
    fn deliver(&mut self) {
        for (id, event) in self.scheduler.take_events() {
            let last = matches!(event, Event::Finished { .. } | Event::Failed { .. });
            let Some(reader) = self.readers.get(&id) else {
                continue;
            };
            match reader.put(event) {
                Put::Done => {}
                // It is cancelled before the next step.
                Put::Gone => tracing::debug!(session = %id, "left before an event"),
                Put::Full => tracing::error!(session = %id, "no room for an event"),
            }
            if last {
                self.readers.remove(&id);
                self.ended += 1;
            }
        }
    }

    /// Tells handles and metrics how things are.
    fn publish(&mut self, now: Instant) {
        let load = self.scheduler.load();
        let mut waiting = self.scheduler.waiting_by_client();
        let ended = std::mem::take(&mut self.ended);
        let total = self.shared.limits.total_pages;
        let used = total - self.stage.free_pages();
        let stats = self.scheduler.take_stats();
        let store = self.stage.store_room();
        self.lately.count(&stats);
        let view = self.lately.is_due(now).then(|| {
            let page_positions = self.shared.limits.page_positions;
            let others = (page_positions, store, self.stage.view());
            self.lately.view(now, (load, used, total), others)
        });
        let mut state = self.shared.state();
        state.view = view.unwrap_or_else(|| std::mem::take(&mut state.view));
        for incoming in &state.inbox {
            *waiting.entry(incoming.request.client.clone()).or_default() += 1;
        }
        state.desk.update(now, waiting, ended);
        state.load = load;
        drop(state);
        metrics::state(&stats, load, used, total);
        metrics::store(&stats, load, store);
    }

    /// When something is to be done by time alone.
    fn next_timeout(&self) -> Option<Instant> {
        let timeouts = [
            self.scheduler.next_timeout(),
            self.stage.next_timeout(),
            self.drain_until,
            self.lately.next(),
        ];
        timeouts.into_iter().flatten().min()
    }
}
