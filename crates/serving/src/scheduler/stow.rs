//! What gives way in memory and is put aside in the executor's store, if it has one.
//!
//! ```text
//! retained prefix --(evicted)---+                        +--> stowed prefix --(a prompt begins alike)--+
//!                               +--> leaving, page by page                                              +--> restoring
//! running session -(preempted)--+                        +--> stowed session --(admitted again)--------+
//! ```
//!
//! A sequence leaves from its end, so that it stays a sequence, only shorter, and each page that was its own is free at
//! once for whoever waits for it. It is read back from its beginning, so that what is there can be computed on at any
//! time: every failure and everything that is given up in between costs computing and changes no token.
//!
//! **Bounds.** In a turn at most [`StoreRoom::per_turn`](crate::store::StoreRoom) pages move, first those that somebody
//! waits for, then those of sessions that come back, then the rest of what leaves. Whoever needs memory that does not
//! come in this turn waits for the next. When the store is full, stowed prefixes are dropped, least recently
//! used first; stowed sessions stay, because they will certainly be read, and the next one finds no place.
//!
//! **Worth it?** A page is as large as its positions are costly: both grow with layers and heads, and computing one takes
//! all weights besides. So whatever has a whole page is stowed, and read where that saves computing a page beyond what
//! a sequence in memory has.

use std::collections::VecDeque;

use super::{Scheduler, Session, SessionId};
use crate::prefix::{Namespace, PrefixIndex};
use crate::stage::{Executor, Paging};
use crate::store::{StoreError, StowedPage};

/// Most stowed prefixes: every admission looks at all of them.
const PREFIXES_MAX: usize = 1024;

/// KV in the store: of the first `len` positions of a history.
#[derive(Debug)]
pub(super) struct Stowed {
    pub(super) len: usize,
    pages: Vec<StowedPage>,
}

impl Stowed {
    fn discard<P: Paging>(self, stage: &mut P) {
        discard(self.pages, stage);
    }
}

/// Whose a sequence is that leaves memory.
#[derive(Debug)]
pub(super) enum Owner {
    Session(SessionId),
    Prefix {
        namespace: Namespace,
        tokens: Vec<u32>,
    },
}

/// A sequence on its way into the store.
#[derive(Debug)]
struct Leaving<Q> {
    owner: Owner,
    /// What is still in memory.
    sequence: Q,
    /// Positions that it had.
    len: usize,
    /// Its first pages, which were in the store before.
    head: Vec<StowedPage>,
    /// Its last pages, the last one first.
    tail: Vec<StowedPage>,
}

impl<Q> Leaving<Q> {
    /// Pages still to be put into the store.
    fn to_come<P: Paging<Sequence = Q>>(&self, stage: &P) -> usize {
        pages(stage.filled(&self.sequence), stage).saturating_sub(self.head.len())
    }
}

/// Everything that is stowed, or about to be.
#[derive(Debug)]
pub(super) struct Stows<Q> {
    /// The first one is moved.
    leaving: VecDeque<Leaving<Q>>,
    prefixes: PrefixIndex<Stowed>,
    /// Pages that may still move in this turn.
    left: usize,
    /// Whether another turn may find something to do.
    unsettled: bool,
}

impl<Q> Stows<Q> {
    pub(super) fn new() -> Self {
        Self {
            leaving: VecDeque::new(),
            prefixes: PrefixIndex::new(PREFIXES_MAX),
            left: 0,
            unsettled: false,
        }
    }

    /// Prefixes in the store.
    pub(super) fn prefixes(&self) -> usize {
        self.prefixes.len()
    }

    /// Whether the KV of a session is on its way into the store.
    pub(super) fn is_leaving(&self, id: SessionId) -> bool {
        let own = |leaving: &Leaving<Q>| matches!(leaving.owner, Owner::Session(of) if of == id);
        self.leaving.iter().any(own)
    }
}

/// Whether memory was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freed {
    /// There may be more than before.
    Some,
    /// There will be in a later turn.
    Later,
    /// Nothing leaves, and nothing is retained.
    Nothing,
}

impl<E: Executor> Scheduler<E> {
    /// Whether pages are on their way between memory and store, so that another step may find something to run
    /// although the last one did not.
    pub fn is_unsettled(&self) -> bool {
        self.stows.unsettled
    }

    /// Before anything is decided in a turn.
    pub(super) fn begin_moves(&mut self, stage: &E) {
        // At least one, also if the store was given up meanwhile: that it fails is found out by trying.
        self.stows.left = stage.store_room().per_turn.max(1);
        let restores = |session: &Session<_>| session.restores();
        self.stows.unsettled =
            !self.stows.leaving.is_empty() || self.sessions.values().any(restores);
    }

    /// After everything is decided in a turn.
    pub(super) fn finish_moves(&mut self, stage: &mut E) {
        let restores = |(&id, session): (&SessionId, &Session<_>)| session.restores().then_some(id);
        let ids: Vec<_> = self.sessions.iter().filter_map(restores).collect();
        for id in ids {
            if self.stows.left > 0 {
                self.restore(id, stage);
            }
        }
        while self.move_out(stage) {}
        self.forget_lost(stage);
    }

    /// Makes memory of what nobody runs on: pages of what leaves, or a retained prefix.
    pub(super) fn free_some(&mut self, stage: &mut E) -> Freed {
        if self.move_out(stage) {
            return Freed::Some;
        }
        if !self.stows.leaving.is_empty() {
            return Freed::Later;
        }
        match self.evict(stage) {
            true => Freed::Some,
            false => Freed::Nothing,
        }
    }

    /// Gives a sequence up: to the store if it is worth that and there is room, else for good.
    pub(super) fn give_up(&mut self, owner: Owner, sequence: E::Sequence, stage: &mut E) {
        let len = stage.filled(&sequence);
        let kept = stage.store_room().total == 0
            || len < stage.limits().page_positions
            || self.is_kept(&owner, stage);
        let head = (!kept).then(|| self.room_for(&owner, len, stage)).flatten();
        let Some(head) = head else {
            return stage.release(sequence);
        };
        self.stows.unsettled = true;
        self.stows.leaving.push_back(Leaving {
            owner,
            sequence,
            len,
            head,
            tail: Vec::new(),
        });
    }

    /// Whether what a prefix holds is in memory or in the store without it.
    fn is_kept(&mut self, owner: &Owner, stage: &E) -> bool {
        let Owner::Prefix { namespace, tokens } = owner else {
            return false;
        };
        if let Some(id) = self.stows.prefixes.covering(*namespace, tokens) {
            self.stows.prefixes.use_entry(id);
            return true;
        }
        let covers = |session: &Session<_>| {
            let filled = session.kv.as_ref().map_or(0, |kv| stage.filled(kv));
            session.namespace == *namespace && session.history[..filled].starts_with(tokens)
        };
        self.sessions.values().any(covers)
    }

    /// Makes room in the store for a sequence of `len` positions. Returns its first pages if they are in the store
    /// already, taken from the prefix that it makes needless; `None` if there is no room.
    fn room_for(&mut self, owner: &Owner, len: usize, stage: &mut E) -> Option<Vec<StowedPage>> {
        let coming = self.stows.leaving.iter();
        let promised: usize = coming.map(|leaving| leaving.to_come(stage)).sum();
        let free = |stage: &E| {
            let room = stage.store_room();
            room.total.saturating_sub(room.used + promised)
        };
        let stowed = self.stows.prefixes.sequences();
        let droppable: usize = stowed.map(|stowed| stowed.pages.len()).sum();
        // Pages that it shares with a stowed prefix are among those that can be dropped.
        if free(stage) + droppable < pages(len, stage) {
            return None;
        }
        let head = self.take_head(owner, stage);
        while free(stage) + head.len() < pages(len, stage) {
            let Some(dropped) = self.stows.prefixes.evict() else {
                discard(head, stage);
                return None;
            };
            self.stats.stowed_dropped += 1;
            dropped.sequence.discard(stage);
        }
        Some(head)
    }

    /// The whole pages of a stowed prefix with which another one begins.
    fn take_head(&mut self, owner: &Owner, stage: &mut E) -> Vec<StowedPage> {
        let Owner::Prefix { namespace, tokens } = owner else {
            return Vec::new();
        };
        let prefixes = &mut self.stows.prefixes;
        let covered = prefixes.covered(*namespace, tokens);
        let Some(mut stowed) = covered.and_then(|id| prefixes.remove(id)) else {
            return Vec::new();
        };
        let whole = stowed.len / stage.limits().page_positions;
        discard(stowed.pages.split_off(whole), stage);
        stowed.pages
    }

    /// Moves one page out of memory. False if none leaves, or enough have moved in this turn.
    fn move_out(&mut self, stage: &mut E) -> bool {
        if self.stows.left == 0 {
            return false;
        }
        let Some(mut leaving) = self.stows.leaving.pop_front() else {
            return false;
        };
        self.stows.left -= 1;
        match stage.stow(&mut leaving.sequence) {
            Ok(page) => leaving.tail.push(page),
            Err(error) => {
                self.store_failed(&error);
                abandon(leaving, stage);
                return true;
            }
        }
        self.stats.stowed_pages += 1;
        match leaving.to_come(stage) {
            0 => self.file(leaving, stage),
            _ => self.stows.leaving.push_front(leaving),
        }
        true
    }

    /// A sequence is in the store, whole.
    fn file(&mut self, leaving: Leaving<E::Sequence>, stage: &mut E) {
        stage.release(leaving.sequence);
        let mut pages = leaving.head;
        pages.extend(leaving.tail.into_iter().rev());
        let len = leaving.len;
        let stowed = Stowed { len, pages };
        match leaving.owner {
            Owner::Session(id) => {
                let needless = match self.sessions.get_mut(&id) {
                    Some(session) => session.stowed.replace(stowed),
                    None => Some(stowed),
                };
                if let Some(needless) = needless {
                    needless.discard(stage);
                }
            }
            Owner::Prefix { namespace, tokens } => {
                for needless in self.stows.prefixes.insert(namespace, tokens, stowed) {
                    needless.discard(stage);
                }
                while let Some(surplus) = self.stows.prefixes.surplus() {
                    self.stats.stowed_dropped += 1;
                    surplus.sequence.discard(stage);
                }
            }
        }
    }

    /// How many of the first positions of a session that waits are in the store, all but the last one at most.
    pub(super) fn stowed_len(&mut self, id: SessionId) -> usize {
        let Some(session) = self.sessions.get(&id) else {
            return 0;
        };
        let wanted = &session.history[..session.history.len() - 1];
        let own = session.stowed.as_ref().map_or(0, |stowed| stowed.len);
        let prefix = self.stows.prefixes.longest(session.namespace, wanted);
        let (entry, shared) = prefix.unwrap_or_default();
        if shared > own {
            self.stows.prefixes.use_entry(entry);
        }
        own.min(wanted.len()).max(shared)
    }

    /// A session was admitted whose first `target` positions shall be read, or none of them.
    pub(super) fn begin_restoring(&mut self, id: SessionId, target: Option<usize>, stage: &mut E) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.restoring = target;
        }
        match target {
            Some(_) => self.stows.unsettled = true,
            None => self.end_restoring(id, stage),
        }
    }

    /// Reads pages of a session back, as many as may move in this turn.
    fn restore(&mut self, id: SessionId, stage: &mut E) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let (Some(target), Some(kv)) = (session.restoring, session.kv.as_mut()) else {
            return;
        };
        let page_positions = stage.limits().page_positions;
        let own = session.stowed.as_ref().filter(|own| own.len >= target);
        // Looked for in every turn: it may have been dropped, and another one may do as well.
        let prefix = match own {
            Some(_) => None,
            None => {
                let wanted = &session.history[..target];
                let found = self.stows.prefixes.longest(session.namespace, wanted);
                found.filter(|&(_, len)| len == target).map(|(id, _)| id)
            }
        };
        let source = own.or_else(|| prefix.and_then(|id| self.stows.prefixes.get(id)));
        let mut result = Ok(());
        while self.stows.left > 0 && stage.filled(kv) < target {
            let from = stage.filled(kv);
            let page = source.and_then(|stowed| stowed.pages.get(from / page_positions));
            let rows = page_positions.min(target - from);
            self.stows.left -= 1;
            result = page.map_or(Err(None), |page| stage.unstow(kv, page, rows).map_err(Some));
            if result.is_err() {
                break;
            }
            self.stats.restored_pages += 1;
            if from + rows <= session.reused && session.stowed.is_none() {
                self.stats.reused_tokens += rows as u64;
            }
        }
        match result {
            Ok(()) if stage.filled(kv) < target => {}
            Ok(()) => {
                self.stats.restored += 1;
                self.end_restoring(id, stage);
            }
            Err(error) => {
                // What a session read back of its own says nothing of what it was spared at first.
                if session.stowed.is_none() {
                    session.reused = session.reused.min(stage.filled(kv));
                }
                if let Some(error) = error {
                    self.store_failed(&error);
                }
                // Nothing of it is tried again.
                if let Some(bad) = prefix.and_then(|id| self.stows.prefixes.remove(id)) {
                    bad.discard(stage);
                }
                self.end_restoring(id, stage);
            }
        }
    }

    /// What was not read is computed.
    fn end_restoring(&mut self, id: SessionId, stage: &mut E) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.restoring = None;
        if let Some(stowed) = session.stowed.take() {
            stowed.discard(stage);
        }
    }

    /// A session ends or loses everything: nothing of it stays in the store, or on its way there.
    pub(super) fn forget(&mut self, id: SessionId, stowed: Option<Stowed>, stage: &mut E) {
        if let Some(stowed) = stowed {
            stowed.discard(stage);
        }
        let own = |leaving: &Leaving<_>| matches!(leaving.owner, Owner::Session(of) if of == id);
        while let Some(at) = self.stows.leaving.iter().position(own) {
            if let Some(leaving) = self.stows.leaving.remove(at) {
                abandon(leaving, stage);
            }
        }
    }

    /// Gives up all that is on its way into the store.
    pub(super) fn abandon_moves(&mut self, stage: &mut E) {
        for leaving in std::mem::take(&mut self.stows.leaving) {
            abandon(leaving, stage);
        }
    }

    /// Gives up all stowed prefixes.
    pub(super) fn drop_stowed(&mut self, stage: &mut E) {
        while let Some(entry) = self.stows.prefixes.evict() {
            entry.sequence.discard(stage);
        }
    }

    /// Forgets what a store that was given up does not give back.
    fn forget_lost(&mut self, stage: &mut E) {
        if self.stows.prefixes.len() > 0 && stage.store_room().total == 0 {
            self.drop_stowed(stage);
        }
    }

    fn store_failed(&mut self, error: &StoreError) {
        self.stats.store_failures += 1;
        tracing::warn!(%error, "keys and values are computed again instead");
    }
}

/// Pages of `len` positions.
fn pages<P: Paging>(len: usize, stage: &P) -> usize {
    len.div_ceil(stage.limits().page_positions)
}

fn abandon<P: Paging>(leaving: Leaving<P::Sequence>, stage: &mut P) {
    stage.release(leaving.sequence);
    discard(leaving.head, stage);
    discard(leaving.tail, stage);
}

fn discard<P: Paging>(pages: Vec<StowedPage>, stage: &mut P) {
    for page in pages {
        stage.discard(page);
    }
}
