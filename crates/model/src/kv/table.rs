//! Which page belongs to whom, without the memory: the same bookkeeping for the slice that holds
//! keys and values, and for whoever plans for several slices at once.

use std::sync::Arc;

use super::{KvFull, PAGE_POSITIONS};

/// Counts references to pages. Every operation is a function of those before it, so two tables of
/// one size that see the same operations agree on every page.
#[derive(Debug)]
pub struct PageTable {
    /// How many sequences hold each page.
    references: Vec<u32>,
    free: Vec<u32>,
    /// Tells sequences of this table from those of another.
    identity: Arc<()>,
}

/// The pages of one session, and how many positions are filled.
///
/// Not `Clone`: sharing goes through [`PageTable::fork`], and a sequence is given back through
/// [`PageTable::release`]. One that is dropped instead keeps its pages: a leak inside the budget,
/// never a reuse.
#[derive(Debug)]
pub struct Sequence {
    pub(super) pages: Vec<u32>,
    pub(super) len: usize,
    identity: Arc<()>,
}

impl Sequence {
    /// Positions filled.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Positions that pages are held for.
    pub fn reserved(&self) -> usize {
        self.pages.len() * PAGE_POSITIONS
    }
}

/// A page whose content must be copied to another before it is written: `(from, to)`.
pub type PageCopy = (u32, u32);

impl PageTable {
    /// A table of `count` free pages.
    pub fn new(count: u32) -> Self {
        Self {
            references: vec![0; count as usize],
            free: (0..count).rev().collect(),
            identity: Arc::new(()),
        }
    }

    /// Pages in all.
    pub fn total_pages(&self) -> usize {
        self.references.len()
    }

    /// Pages free.
    pub fn free_pages(&self) -> usize {
        self.free.len()
    }

    /// A sequence with nothing in it.
    pub fn sequence(&self) -> Sequence {
        Sequence {
            pages: Vec::new(),
            len: 0,
            identity: Arc::clone(&self.identity),
        }
    }

    /// A sequence that begins with the first `len` positions of another, sharing its pages; what
    /// is then written to either is its own (copy on write).
    ///
    /// # Panics
    /// If `len` exceeds the other's length, or the other belongs to another table.
    pub fn fork(&mut self, of: &Sequence, len: usize) -> Sequence {
        self.check(of);
        assert!(len <= of.len, "fork of {len} positions of {}", of.len);
        let pages = of.pages[..len.div_ceil(PAGE_POSITIONS)].to_vec();
        for page in &pages {
            self.references[*page as usize] += 1;
        }
        Sequence {
            pages,
            len,
            identity: Arc::clone(&self.identity),
        }
    }

    /// How many free pages [`Self::reserve`] would take.
    pub fn pages_needed(&self, sequence: &Sequence, len: usize) -> usize {
        let fresh = len
            .div_ceil(PAGE_POSITIONS)
            .saturating_sub(sequence.pages.len());
        let copied = if len > sequence.len {
            self.shared_tail(sequence).count()
        } else {
            0
        };
        fresh + copied
    }

    /// Indices into a sequence's pages that will be written but are held by others too.
    fn shared_tail<'a>(&'a self, sequence: &'a Sequence) -> impl Iterator<Item = usize> + 'a {
        (sequence.len / PAGE_POSITIONS..sequence.pages.len())
            .filter(|i| self.references[sequence.pages[*i] as usize] > 1)
    }

    /// Makes room for `len` positions in all, every page that will be written being the
    /// sequence's own. Takes all or nothing. What must be copied comes back: do it before the
    /// next call, which may give the source to somebody else.
    ///
    /// # Panics
    /// If the sequence belongs to another table.
    pub fn reserve(
        &mut self,
        sequence: &mut Sequence,
        len: usize,
    ) -> Result<Vec<PageCopy>, KvFull> {
        self.check(sequence);
        let needed = self.pages_needed(sequence, len);
        let free = self.free.len();
        if needed > free {
            return Err(KvFull { needed, free });
        }
        let mut copies = Vec::new();
        if len > sequence.len {
            let shared: Vec<usize> = self.shared_tail(sequence).collect();
            for index in shared {
                let (from, to) = (sequence.pages[index], self.take());
                // Held by another: it cannot become free by this.
                self.references[from as usize] -= 1;
                sequence.pages[index] = to;
                copies.push((from, to));
            }
        }
        while sequence.pages.len() < len.div_ceil(PAGE_POSITIONS) {
            let page = self.take();
            sequence.pages.push(page);
        }
        Ok(copies)
    }

    /// Forgets the positions from `len` on and gives their pages back, reserved ones included;
    /// those that nobody holds any more come back.
    ///
    /// # Panics
    /// If the sequence belongs to another table.
    pub fn truncate(&mut self, sequence: &mut Sequence, len: usize) -> Vec<u32> {
        self.check(sequence);
        sequence.len = sequence.len.min(len);
        let keep = sequence.len.div_ceil(PAGE_POSITIONS);
        let given = sequence.pages.split_off(keep.min(sequence.pages.len()));
        let freed: Vec<u32> = given
            .into_iter()
            .filter(|page| {
                self.references[*page as usize] -= 1;
                self.references[*page as usize] == 0
            })
            .collect();
        self.free.extend_from_slice(&freed);
        freed
    }

    /// Gives all pages back; those that nobody holds any more come back.
    ///
    /// # Panics
    /// If the sequence belongs to another table.
    pub fn release(&mut self, mut sequence: Sequence) -> Vec<u32> {
        self.truncate(&mut sequence, 0)
    }

    /// Records that `rows` more positions are filled; they are reserved.
    pub fn advance(&self, sequence: &mut Sequence, rows: usize) {
        sequence.len += rows;
        debug_assert!(sequence.len <= sequence.reserved());
    }

    /// Whether the positions `sequence.len()..len` may be written.
    pub fn is_reserved(&self, sequence: &Sequence, len: usize) -> bool {
        len <= sequence.reserved() && self.shared_tail(sequence).next().is_none()
    }

    pub(super) fn check(&self, sequence: &Sequence) {
        assert!(
            Arc::ptr_eq(&self.identity, &sequence.identity),
            "a sequence of another store"
        );
    }

    /// Takes a free page; the caller has checked that there is one.
    fn take(&mut self) -> u32 {
        let page = self.free.pop().expect("the caller counted free pages");
        self.references[page as usize] = 1;
        page
    }
}
