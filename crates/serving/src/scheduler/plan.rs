//! Who runs in the next step.

use std::collections::BTreeMap;

use skein_runtime::Instant;

use super::stow::Freed;
use super::{Scheduler, Session, SessionId, Turns};
use crate::request::ClientId;
use crate::stage::Executor;

/// The batch of one step, oldest session first. Room for it is reserved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    pub(crate) entries: Vec<PlanEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlanEntry {
    pub(crate) session: SessionId,
    /// Positions filled before the step.
    pub(crate) from: usize,
    pub(crate) rows: usize,
    /// Whether the rows end the history, so that the next token can be chosen.
    pub(crate) scored: bool,
    /// Ids to score beside the best.
    pub(crate) asked: Vec<u32>,
}

/// Sessions that are not spread over several batches: as many as cost hardly more than one.
const TOGETHER: usize = 8;

/// What orders the sessions of one client.
type WithinClient = (u64, SessionId);

impl Plan {
    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sessions in the batch.
    pub fn sessions(&self) -> usize {
        self.entries.len()
    }

    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.entries.iter().map(|entry| entry.rows).sum()
    }
}

impl<E: Executor> Scheduler<E> {
    /// Decides the next step: ends what is late, admits what fits, and reserves room for the rows
    /// of the batch. Empty if nothing can run before something else happens, which may be another step while
    /// [`Self::is_unsettled`]. Call it only while the executor is open.
    pub fn plan(&mut self, now: Instant, stage: &mut E) -> Plan {
        self.begin_moves(stage);
        self.expire(now, stage);
        self.admit(stage);
        self.tick += 1;
        let mut chosen = self.choose(stage);
        // In order of age: so whoever is preempted for room has none reserved in this step yet.
        chosen.sort_by_key(|entry| entry.session);
        let mut plan = Plan::default();
        for entry in chosen {
            if self.make_room(&entry, stage) {
                plan.entries.push(entry);
            }
        }
        for entry in &plan.entries {
            self.count_turn(entry);
        }
        self.finish_moves(stage);
        plan
    }

    fn choose(&self, stage: &E) -> Vec<PlanEntry> {
        let mut decode = BTreeMap::new();
        let mut prefill = BTreeMap::new();
        for (&id, session) in &self.sessions {
            let Some(kv) = session
                .kv
                .as_ref()
                .filter(|_| session.paused_since.is_none())
            else {
                continue;
            };
            let from = stage.filled(kv);
            let pending = session.history.len() - from;
            if session.awaited || pending == 0 || session.restoring.is_some() {
                continue;
            }
            let (list, key) = match pending {
                1 => (&mut decode, (session.last_run, id)),
                // The oldest prompt of a client first: two half-read ones help nobody.
                _ => (&mut prefill, (0, id)),
            };
            let asked = session.sampler.asked();
            let entry = PlanEntry {
                session: id,
                from,
                rows: pending,
                scored: true,
                asked,
            };
            list.entry(&session.client)
                .or_insert_with(Vec::new)
                .push((key, entry));
        }
        let mut chosen = self.in_turn(decode, |turns| turns.decoded);
        chosen.truncate(self.decode_rows(stage));
        let mut budget = self.config.prefill_rows_max;
        for mut entry in self.in_turn(prefill, |turns| turns.prefilled) {
            if budget == 0 {
                break;
            }
            if entry.rows > budget {
                entry.rows = budget;
                entry.scored = false;
                entry.asked.clear();
            }
            budget -= entry.rows;
            chosen.push(entry);
        }
        chosen
    }

    /// Most sessions that decode in the next batch; none if enough batches are on their way.
    ///
    /// Where stages follow each other, many sessions are spread over batches so that every stage has
    /// one. Few are not: reading the weights once for all of them is worth more. So those that come
    /// back early wait for the others, or small batches would stay small for ever.
    fn decode_rows(&self, stage: &E) -> usize {
        let decodes = |session: &&Session<_>| {
            let ready = |kv: &_| session.history.len() - stage.filled(kv) == 1;
            let kv = session
                .kv
                .as_ref()
                .filter(|_| session.paused_since.is_none());
            kv.is_some_and(|kv| session.awaited || ready(kv))
        };
        let all = self.sessions.values().filter(decodes).count();
        let most = stage.limits().depth.max(1);
        let batches = all.div_ceil(TOGETHER).clamp(1, most);
        let on_their_way = self.flights.values().filter(|flight| flight.decodes());
        if on_their_way.count() >= batches {
            return 0;
        }
        self.config
            .decode_rows_max
            .min(all.div_ceil(batches).max(TOGETHER))
    }

    /// The first of each client, then the second of each and so on; clients in the order of their
    /// last turn.
    fn in_turn(
        &self,
        lists: BTreeMap<&ClientId, Vec<(WithinClient, PlanEntry)>>,
        turn: impl Fn(&Turns) -> u64,
    ) -> Vec<PlanEntry> {
        let mut order = Vec::new();
        for (client, mut list) in lists {
            list.sort_by_key(|&(key, _)| key);
            let last = self.clients.get(client).map_or(0, &turn);
            let ranked = list.into_iter().enumerate();
            order.extend(ranked.map(|(rank, (_, entry))| ((rank, last, entry.session), entry)));
        }
        order.sort_by_key(|&(key, _)| key);
        order.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Reserves room for one entry, taking it from retained prefixes, paused sessions and younger
    /// ones, in this order. Without success the session itself is preempted. It stays out of this step if the room
    /// comes in the next one.
    fn make_room(&mut self, entry: &PlanEntry, stage: &mut E) -> bool {
        let id = entry.session;
        loop {
            let kv = self
                .sessions
                .get_mut(&id)
                .and_then(|session| session.kv.as_mut());
            let Some(kv) = kv else { return false };
            if stage.reserve(kv, entry.from + entry.rows).is_ok() {
                return true;
            }
            match self.free_some(stage) {
                Freed::Some => continue,
                Freed::Later => return false,
                Freed::Nothing => {}
            }
            let victim = self.youngest_paused().or_else(|| self.youngest_running());
            let victim = victim.unwrap_or(id);
            self.preempt(victim, stage);
        }
    }

    /// Not older than the session that asks, since that one runs itself.
    fn youngest_running(&self) -> Option<SessionId> {
        let running = |session: &Session<_>| session.kv.is_some();
        self.sessions
            .iter()
            .rev()
            .find(|(_, session)| running(session))
            .map(|(&id, _)| id)
    }

    fn count_turn(&mut self, entry: &PlanEntry) {
        let Some(session) = self.sessions.get_mut(&entry.session) else {
            return;
        };
        session.last_run = self.tick;
        let decode = session.history.len() - entry.from == 1;
        if let Some(turns) = self.clients.get_mut(&session.client) {
            let turn = if decode {
                &mut turns.decoded
            } else {
                &mut turns.prefilled
            };
            *turn = self.tick;
        }
        if !decode {
            self.stats.prefill_rows += entry.rows as u64;
        }
    }
}
