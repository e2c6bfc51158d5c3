//! Keys and values of past positions, in pages with reference counts under a byte budget.

use skein_weights::{Profile, Slice};

/// Positions in one page; also the tile of attention, at absolute positions.
pub const PAGE_POSITIONS: usize = 32;

/// There is no room: release sequences, then try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{needed} more KV pages are needed, {free} are free")]
pub struct KvFull {
    /// Pages that the call needs.
    pub needed: usize,
    /// Pages that are free.
    pub free: usize,
}

/// All KV of one slice: pages of [`PAGE_POSITIONS`] positions over all layers of the slice.
#[derive(Debug)]
pub struct KvPages {
    _private: (),
}

/// The KV of one session: a table of pages and how many positions are filled.
///
/// Not `Clone`: sharing goes through [`KvPages::fork`], and a sequence is given back through
/// [`KvPages::release`]. One that is dropped instead keeps its pages: a leak inside the budget,
/// never a reuse.
#[derive(Debug)]
pub struct Sequence {
    _private: (),
}

impl Sequence {
    /// Positions filled.
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl KvPages {
    /// As many pages as fit in `budget` bytes; memory is taken as pages are first used.
    pub fn new(_profile: &Profile, _slice: &Slice, _budget: u64) -> Self {
        unimplemented!()
    }

    /// Bytes of one page.
    pub fn page_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Pages in the budget.
    pub fn total_pages(&self) -> usize {
        unimplemented!()
    }

    /// Pages free.
    pub fn free_pages(&self) -> usize {
        unimplemented!()
    }

    /// A sequence with nothing in it.
    pub fn sequence(&mut self) -> Sequence {
        unimplemented!()
    }

    /// A sequence that begins with the first `len` positions of another, sharing its pages; what
    /// is then written to either is its own (copy on write).
    ///
    /// # Panics
    /// If `len` exceeds the other's length.
    pub fn fork(&mut self, _of: &Sequence, _len: usize) -> Sequence {
        unimplemented!()
    }

    /// How many free pages [`Self::reserve`] would take.
    pub fn pages_needed(&self, _sequence: &Sequence, _len: usize) -> usize {
        unimplemented!()
    }

    /// Makes room for `len` positions in all, every page that will be written being the
    /// sequence's own. Takes all or nothing.
    pub fn reserve(&mut self, _sequence: &mut Sequence, _len: usize) -> Result<(), KvFull> {
        unimplemented!()
    }

    /// Forgets the positions from `len` on and gives their pages back.
    pub fn truncate(&mut self, _sequence: &mut Sequence, _len: usize) {
        unimplemented!()
    }

    /// Gives all pages back.
    pub fn release(&mut self, _sequence: Sequence) {
        unimplemented!()
    }
}
