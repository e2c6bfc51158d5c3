//! Decides which sessions run: a state machine without clock, thread or channel.
//!
//! ```text
//! submit -> waiting -> running (prefill in chunks, then decode) -> finished
//!              ^          |
//!              +----------+  preempted: KV given back, replayed later from the tokens or read back
//! ```
//!
//! One step is [`Scheduler::plan`] (who runs, with memory for it), [`Scheduler::begin`] (the batch is
//! given to the executor) and, when it is through, [`Scheduler::drain`] (tokens chosen, sessions
//! ended). Several batches may be on their way: a session has at most one whose scores give it a
//! token, and any number with chunks of its prompt. Time is passed in; events are drawn with
//! [`Scheduler::take_events`].
//!
//! **Memory.** A session is admitted when its prompt fits, with [`EngineConfig::growth_pages`] to
//! spare for each session that runs. Reserving what it might need at most (`max_tokens`) would leave
//! most of the memory idle, since answers are usually far shorter. When pages run out, in this
//! order: retained prefixes are evicted, least recently used first; paused sessions are preempted;
//! the youngest running session is. A preempted session is replayed from its tokens, which gives
//! the same bits, so that its reader sees a delay and nothing else. No session is ever preempted
//! for a younger one unless its reader made it pause, and what cannot fit alone is refused at
//! submission: so the oldest always advances, and every session ends. Where the executor has a store
//! beside its pages, what is given up for memory is put there, and read back instead of replayed (`stow`).
//!
//! **Fairness.** Decode rows come before prompt rows, which have a budget of their own per step.
//! Places, decode rows and prompt rows are each given to the client served least recently; within
//! a client the oldest is first. A large prompt at the head of the queue is waited for, not
//! overtaken. Preempted sessions are readmitted before new ones.

mod admit;
mod plan;
mod run;
mod session;
mod stow;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use skein_runtime::{Instant, Secret32};

pub use self::plan::Plan;
use self::run::Flight;
pub use self::session::SessionId;
use self::session::{Ends, Session};
use self::stow::{Owner, Stows};
use crate::config::EngineConfig;
use crate::prefix::{Entry, Namespace, PrefixIndex};
use crate::request::{ClientId, Event, FinishReason, GenerationError, Request, SubmitError};
use crate::stage::{Executor, Ticket};

/// The state machine. `E` is the executor whose sequences the sessions hold.
#[derive(Debug)]
pub struct Scheduler<E: Executor> {
    config: EngineConfig,
    secret: Secret32,
    sessions: BTreeMap<SessionId, Session<E::Sequence>>,
    clients: BTreeMap<ClientId, Turns>,
    retained: PrefixIndex<E::Sequence>,
    stows: Stows<E::Sequence>,
    flights: BTreeMap<Ticket, Flight>,
    next: u64,
    /// Counts events that order clients; has nothing to do with time.
    tick: u64,
    events: Vec<(SessionId, Event)>,
    stats: Stats,
}

/// When a client was last given something, in ticks. A client that comes new counts as served then:
/// otherwise an endless row of new clients would starve the old ones.
#[derive(Debug, Clone, Copy)]
struct Turns {
    admitted: u64,
    prefilled: u64,
    decoded: u64,
}

/// What happened since it was last asked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stats {
    /// Rows computed of prompts, replays included.
    pub prefill_rows: u64,
    /// Tokens chosen.
    pub tokens: u64,
    /// Prompt tokens taken from retained or running sequences at first admission.
    pub reused_tokens: u64,
    /// Sessions that lost their KV to others.
    pub preemptions: u64,
    /// Retained sequences given up for memory.
    pub evictions: u64,
    /// Pages put into the store.
    pub stowed_pages: u64,
    /// Pages read back from it.
    pub restored_pages: u64,
    /// Sequences read back whole.
    pub restored: u64,
    /// Stowed prefixes dropped for room in the store.
    pub stowed_dropped: u64,
    /// Pages that could not be put into the store or came back other than they went.
    pub store_failures: u64,
    /// Times from submission to the first token.
    pub first_token: Vec<Duration>,
    /// Sessions that failed.
    pub failures: u64,
    /// Batches that came back.
    pub steps: Vec<Step>,
}

/// A batch that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Sessions in it.
    pub sessions: usize,
    /// Its rows.
    pub rows: usize,
    /// From its begin to its result.
    pub took: Duration,
}

/// How full the scheduler is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Sessions that hold KV.
    pub running: usize,
    /// Sessions that wait for their first or next admission.
    pub waiting: usize,
    /// Sequences retained.
    pub retained: usize,
    /// Prefixes in the store.
    pub stowed: usize,
}

impl<E: Executor> Scheduler<E> {
    /// An empty scheduler. `secret` keys the namespaces of prefix reuse.
    pub fn new(config: EngineConfig, secret: Secret32) -> Self {
        let retained = PrefixIndex::new(config.retained_max);
        Self {
            config,
            secret,
            sessions: BTreeMap::new(),
            clients: BTreeMap::new(),
            retained,
            stows: Stows::new(),
            flights: BTreeMap::new(),
            next: 0,
            tick: 0,
            events: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// Takes a request in. How many may wait is the caller's to bound (`Desk` does): the scheduler
    /// itself refuses only what can never be served.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn submit(
        &mut self,
        now: Instant,
        request: Request,
        stage: &E,
    ) -> Result<SessionId, SubmitError> {
        request.check(&stage.limits())?;
        Ok(self.enter(now, request))
    }

    /// Takes a checked request in.
    pub(crate) fn enter(&mut self, now: Instant, request: Request) -> SessionId {
        let id = SessionId(self.next);
        self.next += 1;
        self.tick += 1;
        let tick = self.tick;
        let fresh = Turns {
            admitted: tick,
            prefilled: tick,
            decoded: tick,
        };
        self.clients.entry(request.client.clone()).or_insert(fresh);
        let namespace = Namespace::of(&self.secret, &request.client);
        self.sessions
            .insert(id, Session::new(request, namespace, now));
        id
    }

    /// Ends a session whose reader is gone, without events; its KV is free at once.
    pub fn cancel(&mut self, id: SessionId, stage: &mut E) {
        if let Some(mut session) = self.remove(id) {
            self.forget(id, session.stowed.take(), stage);
            session.release(stage);
        }
    }

    /// Says whether the session's reader has room for another token. Without, it pauses.
    pub fn set_room(&mut self, id: SessionId, room: bool, now: Instant) {
        if let Some(session) = self.sessions.get_mut(&id) {
            let since = session.paused_since.unwrap_or(now);
            session.paused_since = (!room).then_some(since);
        }
    }

    /// Whether the session waits for its reader.
    pub fn is_paused(&self, id: SessionId) -> bool {
        self.sessions
            .get(&id)
            .is_some_and(|session| session.paused_since.is_some())
    }

    /// Ends every session as it is and gives up what is retained.
    pub fn stop_all(&mut self, stage: &mut E) {
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for id in ids {
            self.finish(id, FinishReason::Shutdown, stage);
        }
        self.abandon_moves(stage);
        self.drop_retained(stage);
        self.drop_stowed(stage);
    }

    /// Takes the events since the last call, in order.
    pub fn take_events(&mut self) -> Vec<(SessionId, Event)> {
        std::mem::take(&mut self.events)
    }

    /// How many events of a session were not taken yet.
    pub(crate) fn events_of(&self, id: SessionId) -> usize {
        self.events.iter().filter(|(of, _)| *of == id).count()
    }

    /// Takes the counts since the last call.
    pub fn take_stats(&mut self) -> Stats {
        std::mem::take(&mut self.stats)
    }

    /// How full it is.
    pub fn load(&self) -> Load {
        let running = self
            .sessions
            .values()
            .filter(|session| session.kv.is_some())
            .count();
        let waiting = self.sessions.len() - running;
        Load {
            running,
            waiting,
            retained: self.retained.len(),
            stowed: self.stows.prefixes(),
        }
    }

    /// Sessions that wait, by client.
    pub fn waiting_by_client(&self) -> BTreeMap<ClientId, usize> {
        let mut counts = BTreeMap::new();
        for session in self
            .sessions
            .values()
            .filter(|session| session.kv.is_none())
        {
            *counts.entry(session.client.clone()).or_default() += 1;
        }
        counts
    }

    /// Whether no session is left.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// The earliest moment at which a session ends by time alone.
    pub fn next_timeout(&self) -> Option<Instant> {
        let timeout = |session: &Session<_>| {
            let stall = session
                .paused_since
                .map(|since| since.after(self.config.stall_max));
            [session.deadline, stall].into_iter().flatten().min()
        };
        self.sessions.values().filter_map(timeout).min()
    }

    fn remove(&mut self, id: SessionId) -> Option<Session<E::Sequence>> {
        let session = self.sessions.remove(&id)?;
        if !self
            .sessions
            .values()
            .any(|other| other.client == session.client)
        {
            self.clients.remove(&session.client);
        }
        Some(session)
    }

    /// Ends a session well: its sequence is retained.
    fn finish(&mut self, id: SessionId, reason: FinishReason, stage: &mut E) {
        let Some(mut session) = self.remove(id) else {
            return;
        };
        self.forget(id, session.stowed.take(), stage);
        let usage = session.usage();
        self.events.push((id, Event::Finished { reason, usage }));
        if let Some(Ends {
            tokens,
            sequence,
            namespace,
        }) = session.into_ends(stage)
        {
            for sequence in self.retained.insert(namespace, tokens, sequence) {
                stage.release(sequence);
            }
            while let Some(surplus) = self.retained.surplus() {
                self.stow_prefix(surplus, stage);
            }
        }
    }

    /// Ends a session badly: nothing of it is kept.
    fn fail(&mut self, id: SessionId, error: GenerationError, stage: &mut E) {
        let Some(mut session) = self.remove(id) else {
            return;
        };
        self.forget(id, session.stowed.take(), stage);
        session.release(stage);
        self.stats.failures += 1;
        self.events.push((id, Event::Failed { error }));
    }

    /// Gives up the retained sequence used least recently.
    fn evict(&mut self, stage: &mut E) -> bool {
        let Some(entry) = self.retained.evict() else {
            return false;
        };
        self.stats.evictions += 1;
        self.stow_prefix(entry, stage);
        true
    }

    fn stow_prefix(&mut self, entry: Entry<E::Sequence>, stage: &mut E) {
        let Entry {
            namespace,
            tokens,
            sequence,
        } = entry;
        self.give_up(Owner::Prefix { namespace, tokens }, sequence, stage);
    }

    /// Releases everything retained in memory.
    fn drop_retained(&mut self, stage: &mut E) {
        while let Some(entry) = self.retained.evict() {
            stage.release(entry.sequence);
        }
    }

    /// Takes the KV of a session away; it waits to be read back or replayed.
    fn preempt(&mut self, id: SessionId, stage: &mut E) {
        let restores = |session: &Session<_>| session.restoring.is_some();
        let restoring = self.sessions.get(&id).is_some_and(restores);
        match self.take_away(id) {
            // What it is being read from is still in the store.
            Some(sequence) if restoring => stage.release(sequence),
            Some(sequence) => self.give_up(Owner::Session(id), sequence, stage),
            None => {}
        }
    }

    fn take_away(&mut self, id: SessionId) -> Option<E::Sequence> {
        let session = self.sessions.get_mut(&id)?;
        session.restoring = None;
        let sequence = session.kv.take()?;
        self.stats.preemptions += 1;
        Some(sequence)
    }

    /// The youngest paused session that holds KV.
    fn youngest_paused(&self) -> Option<SessionId> {
        let paused = |session: &Session<_>| session.kv.is_some() && session.paused_since.is_some();
        self.sessions
            .iter()
            .rev()
            .find(|(_, session)| paused(session))
            .map(|(&id, _)| id)
    }
}
