//! One circuit at one stage.

use std::collections::{BTreeMap, VecDeque};

use skein_base::{NodeId, TraceId};
use skein_runtime::Instant;

use super::LinkId;
use crate::wire::{BackHash, BackKey, CircuitName, Work};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The stages behind, or the way back, are not there yet.
    Opening,
    Open,
}

/// A sequence, and the request that it was last for.
#[derive(Debug)]
pub(super) struct Held<Q> {
    pub(super) sequence: Q,
    pub(super) trace: TraceId,
}

#[derive(Debug)]
pub(super) struct Circuit<Q> {
    pub(super) name: CircuitName,
    /// Hops before this stage.
    pub(super) hop: u8,
    back: BackHash,
    pub(super) from: LinkId,
    pub(super) next: Option<NodeId>,
    /// Where answers go, for the last stage.
    pub(super) answers: Option<LinkId>,
    pub(super) state: State,
    /// Pages granted.
    pub(super) pages: u32,
    /// Pages in use, shared ones counted once.
    pub(super) used: u32,
    pub(super) sequences: BTreeMap<u64, Held<Q>>,
    /// The next batch to run.
    pub(super) number: u64,
    /// Batches to run, with the time that they came.
    pub(super) waiting: VecDeque<(Instant, Work)>,
    pub(super) heard: Instant,
    /// When it was last served, in turns.
    pub(super) served: u64,
}

impl<Q> Circuit<Q> {
    pub(super) fn new(
        (name, hop, back): (CircuitName, u8, BackHash),
        from: LinkId,
        next: Option<NodeId>,
        pages: u32,
        now: Instant,
    ) -> Self {
        Self {
            name,
            hop,
            back,
            from,
            next,
            answers: None,
            state: State::Opening,
            pages,
            used: 0,
            sequences: BTreeMap::new(),
            number: 0,
            waiting: VecDeque::new(),
            heard: now,
            served: 0,
        }
    }

    /// Whether whoever shows `key` may have the answers.
    pub(super) fn may_attach(&self, generation: u32, key: BackKey) -> bool {
        self.next.is_none() && self.name.generation == generation && key.hash() == self.back
    }
}
