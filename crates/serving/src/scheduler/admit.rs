//! Who gets KV.

use skein_runtime::Instant;

use super::stow::Freed;
use super::{Scheduler, SessionId};
use crate::prefix::{Namespace, common_prefix};
use crate::request::{Event, FinishReason, GenerationError};
use crate::stage::Executor;

impl<E: Executor> Scheduler<E> {
    /// Ends sessions whose time is over.
    pub fn expire(&mut self, now: Instant, stage: &mut E) {
        let late = |(&id, session): (&SessionId, &super::Session<_>)| {
            session
                .deadline
                .is_some_and(|deadline| deadline <= now)
                .then_some(id)
        };
        let ids: Vec<_> = self.sessions.iter().filter_map(late).collect();
        for id in ids {
            self.finish(id, FinishReason::Deadline, stage);
        }
        let stalled = |(&id, session): (&SessionId, &super::Session<_>)| {
            let waited = now.since(session.paused_since?);
            (waited >= self.config.stall_max).then_some((id, waited.as_secs()))
        };
        let stalled: Vec<_> = self.sessions.iter().filter_map(stalled).collect();
        for (id, seconds) in stalled {
            self.fail(
                id,
                GenerationError::Stalled {
                    session: id.0,
                    seconds,
                },
                stage,
            );
        }
    }

    /// Gives KV to as many waiting sessions as there are places and pages for.
    pub(super) fn admit(&mut self, stage: &mut E) {
        while let Some(id) = self.next_to_admit() {
            if !self.has_place(stage) || !self.admit_one(id, stage) {
                return;
            }
        }
    }

    /// Preempted sessions by age, then the oldest of the client served least recently.
    fn next_to_admit(&self) -> Option<SessionId> {
        let waiting = || {
            let ready = self
                .sessions
                .iter()
                .filter(|(_, session)| session.kv.is_none());
            ready.filter(|(_, session)| session.paused_since.is_none())
        };
        let preempted = waiting().find(|(_, session)| session.started);
        let turn = |client| self.clients.get(client).map(|turns| turns.admitted);
        let fresh = || waiting().min_by_key(|(id, session)| (turn(&session.client), **id));
        preempted.or_else(fresh).map(|(&id, _)| id)
    }

    fn has_place(&mut self, stage: &mut E) -> bool {
        if self.load().running < self.config.sessions_max {
            return true;
        }
        let paused = self.youngest_paused();
        paused.inspect(|&id| self.preempt(id, stage)).is_some()
    }

    fn admit_one(&mut self, id: SessionId, stage: &mut E) -> bool {
        let Some(session) = self.sessions.get(&id) else {
            return false;
        };
        let (namespace, len) = (session.namespace, session.history.len());
        if self.stows.is_leaving(id) {
            return false;
        }
        let stowed = self.stowed_len(id);
        let (mut sequence, reused, restoring) = self.first_sequence(id, (namespace, stowed), stage);
        while !self.has_pages(&sequence, len, stage) {
            let paused = match self.free_some(stage) {
                Freed::Some => continue,
                Freed::Later => None,
                Freed::Nothing => self.youngest_paused(),
            };
            let Some(paused) = paused else {
                stage.release(sequence);
                return false;
            };
            self.preempt(paused, stage);
        }
        if stage.reserve(&mut sequence, len).is_err() {
            stage.release(sequence);
            return false;
        }
        self.tick += 1;
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        session.kv = Some(sequence);
        if !session.started {
            session.started = true;
            self.stats.reused_tokens += reused as u64;
            let reused = restoring.unwrap_or(reused);
            session.reused = reused;
            let prompt_tokens = session.prompt;
            self.events.push((
                id,
                Event::Started {
                    prompt_tokens,
                    reused_tokens: reused,
                },
            ));
            if let Some(turns) = self.clients.get_mut(&session.client) {
                turns.admitted = self.tick;
            }
        }
        self.begin_restoring(id, restoring, stage);
        true
    }

    /// A sequence that begins with the longest prefix in memory, but never with all tokens: the
    /// last one must be computed to be scored. Also, how long that is. If `stowed` positions in the store are at
    /// least a page more, it has whole pages alone, and is to be filled so far.
    fn first_sequence(
        &mut self,
        id: SessionId,
        (of, stowed): (Namespace, usize),
        stage: &mut E,
    ) -> (E::Sequence, usize, Option<usize>) {
        let Some(session) = self.sessions.get(&id) else {
            return (stage.sequence(), 0, None);
        };
        let page_positions = stage.limits().page_positions;
        let cut = |len: usize| match stowed >= len + page_positions {
            true => (len - len % page_positions, Some(stowed)),
            false => (len, None),
        };
        let wanted = &session.history[..session.history.len() - 1];
        let running = self.sessions.values().filter(|other| other.namespace == of);
        let running = running.filter_map(|other| {
            let kv = other.kv.as_ref()?;
            Some((
                kv,
                common_prefix(&other.history[..stage.filled(kv)], wanted),
            ))
        });
        let running = running
            .max_by_key(|&(_, len)| len)
            .filter(|&(_, len)| len > 0);
        match (self.retained.longest(of, wanted), running) {
            (Some((entry, len)), other) if other.is_none_or(|(_, running)| running <= len) => {
                let Some(kv) = self.retained.use_entry(entry) else {
                    return (stage.sequence(), 0, None);
                };
                let (len, restoring) = cut(len);
                (stage.fork(kv, len), len, restoring)
            }
            (_, Some((kv, len))) => {
                let (len, restoring) = cut(len);
                (stage.fork(kv, len), len, restoring)
            }
            _ => (stage.sequence(), 0, cut(0).1),
        }
    }

    /// Whether `len` positions fit, with room for the running sessions to grow. A session that runs
    /// alone needs no such room.
    fn has_pages(&self, sequence: &E::Sequence, len: usize, stage: &E) -> bool {
        let needed = stage.pages_needed(sequence, len);
        let growth = self.load().running.saturating_mul(self.config.growth_pages);
        needed.saturating_add(growth) <= stage.free_pages()
    }
}
