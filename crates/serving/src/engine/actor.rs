//! The loop of the engine's thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skein_runtime::channel::Sender;
use skein_runtime::{Clock, Instant};

use super::lately::Lately;
use super::{Incoming, Phase, Shared};
use crate::metrics;
use crate::request::Event;
use crate::scheduler::{Scheduler, SessionId};
use crate::stage::Executor;

pub(super) struct Actor<E: Executor> {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    scheduler: Scheduler<E>,
    stage: E,
    readers: BTreeMap<SessionId, Sender<Event>>,
    drain_until: Option<Instant>,
    /// Sessions that ended since the desk was last told.
    ended: usize,
    lately: Lately,
}

/// A token and the last event must have room before a session runs.
const ROOM_TO_RUN: usize = 2;

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

    /// Runs until stopped or drained.
    pub(super) fn run(mut self) {
        // Also if the stage panics: nobody may wait for an engine that is gone.
        let closing = Closing(Arc::clone(&self.shared));
        self.stage.wake(std::thread::current());
        while self.turn() {}
        self.scheduler.stop_all(&mut self.stage);
        self.deliver();
        self.publish(self.clock.now());
        drop(closing);
    }

    /// One step, or a wait for something to do. False at the end.
    fn turn(&mut self) -> bool {
        let now = self.clock.now();
        if !self.take_in(now) {
            return false;
        }
        self.watch_readers(now);
        let mut busy = self.scheduler.drain(now, &mut self.stage);
        self.scheduler.expire(now, &mut self.stage);
        if !self.stage.is_open() {
            self.publish(now);
        }
        while self.stage.is_open() {
            let plan = self.scheduler.plan(now, &mut self.stage);
            // Told before it runs, since a stage of this process computes right here.
            self.deliver();
            self.publish(now);
            if plan.is_empty() {
                break;
            }
            let span = tracing::debug_span!("engine.step", rows = plan.rows(), n = plan.sessions());
            let _entered = span.enter();
            // What was done since the beginning of the turn is not the batch's.
            let now = self.clock.now();
            self.scheduler.begin(now, plan, &mut self.stage);
            busy = true;
        }
        busy |= self.scheduler.drain(self.clock.now(), &mut self.stage);
        self.deliver();
        busy || self.rest(now)
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
            events,
        } in incoming
        {
            let id = self.scheduler.enter(at, request);
            self.readers.insert(id, events);
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
        self.readers.retain(|&id, events| {
            if events.is_closed() {
                scheduler.cancel(id, stage);
                *ended += 1;
                return false;
            }
            // Paused sessions go on when half is free: one that ran for each single event read
            // would be replayed as often where memory is short.
            let half = events.max_capacity() / 2;
            let paused = scheduler.is_paused(id);
            let needed = if paused {
                half.max(ROOM_TO_RUN)
            } else {
                ROOM_TO_RUN
            };
            scheduler.set_room(id, events.capacity() >= needed, now);
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
            if let Err(error) = reader.try_send(event) {
                // A reader that left meanwhile; it is cancelled before the next step.
                tracing::debug!(session = %id, %error, "event not delivered");
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
        self.lately.count(&stats);
        let view = self.lately.is_due(now).then(|| {
            let page = (self.shared.limits.page_positions, self.stage.view());
            self.lately.view(now, (load, used, total), page)
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
    }

    /// Sleeps until a handle wakes the thread or something ends by time.
    fn rest(&self, now: Instant) -> bool {
        let timeouts = [
            self.scheduler.next_timeout(),
            self.stage.next_timeout(),
            self.drain_until,
            self.lately.next(),
        ];
        match timeouts.into_iter().flatten().min() {
            // A little late rather than early, which would be a turn for nothing.
            Some(at) => std::thread::park_timeout(at.since(now) + Duration::from_millis(1)),
            None => std::thread::park(),
        }
        true
    }
}

/// Closes the desk when the thread ends, however it does.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        // A panic elsewhere may have poisoned the lock; there is nothing to protect any more.
        let mut state = match self.0.state.lock() {
            Ok(state) => state,
            Err(poisoned) => poisoned.into_inner(),
        };
        state.phase = Phase::Stopping;
        // Their readers see that no event will come.
        state.inbox.clear();
    }
}
