//! Keys and values of past positions, in pages with reference counts under a byte budget.
//!
//! A page holds [`PAGE_POSITIONS`] consecutive positions, begun at a multiple of that, over all
//! layers of the slice. Per layer: keys as `[kv head][half of 16 positions][head dim][16]`, so that
//! sixteen positions are vector lanes of a score; values as `[kv head][position][head dim]`, the
//! head padded to a multiple of sixteen; as bytes, then `[kv head][keys, values][position]` scales.

mod memory;
mod table;

use skein_weights::{Profile, Slice};

use self::memory::PageMemory;
pub use self::table::{PageCopy, PageTable, Sequence};
use crate::lanes::LANES;

/// Positions in one page; also the tile of attention, at absolute positions.
pub const PAGE_POSITIONS: usize = 32;

/// How keys and values are held. It changes the answers, so it is part of the numerics id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvFormat {
    /// As they were computed.
    #[default]
    F32,
    /// Rounded to signed bytes when they are written, with a scale for each position and head: about a quarter of
    /// the memory.
    Int8,
}

impl KvFormat {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::F32, Self::Int8];

    fn value_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Int8 => 1,
        }
    }

    /// Bytes of scales of one position and head.
    fn scale_bytes(self) -> usize {
        match self {
            Self::F32 => 0,
            Self::Int8 => 2 * size_of::<f32>(),
        }
    }

    /// Its name in settings and digests.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Int8 => "int8",
        }
    }
}

/// There is no room: release sequences, then try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{needed} more KV pages are needed, {free} are free")]
pub struct KvFull {
    /// Pages that the call needs.
    pub needed: usize,
    /// Pages that are free.
    pub free: usize,
}

/// Where things lie in a page, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageLayout {
    pub(crate) layers: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    /// `head_dim`, rounded up to whole lanes.
    pub(crate) padded_dim: usize,
    pub(crate) format: KvFormat,
}

impl PageLayout {
    pub(crate) fn new(profile: &Profile, slice: &Slice, format: KvFormat) -> Self {
        let head_dim = profile.head_dim as usize;
        Self {
            layers: slice.layers.len(),
            kv_heads: profile.kv_heads as usize,
            head_dim,
            padded_dim: head_dim.next_multiple_of(LANES),
            format,
        }
    }

    /// Bytes of `width` values of one head at all positions of a page.
    fn head_bytes(&self, width: usize) -> usize {
        PAGE_POSITIONS * width * self.format.value_bytes()
    }

    fn layer_bytes(&self) -> usize {
        let values = self.head_bytes(self.head_dim + self.padded_dim);
        self.kv_heads * (values + PAGE_POSITIONS * self.format.scale_bytes())
    }

    pub(crate) fn page_bytes(&self) -> usize {
        self.layers * self.layer_bytes()
    }

    /// Where the keys of a head begin.
    pub(crate) fn keys(&self, layer: usize, head: usize) -> usize {
        layer * self.layer_bytes() + head * self.head_bytes(self.head_dim)
    }

    /// Where the values of a head begin.
    pub(crate) fn values(&self, layer: usize, head: usize) -> usize {
        self.keys(layer, self.kv_heads) + head * self.head_bytes(self.padded_dim)
    }

    /// Where the scales of a head's keys begin, one for each position; those of its values follow.
    pub(crate) fn scales(&self, layer: usize, head: usize) -> usize {
        self.values(layer, self.kv_heads) + head * PAGE_POSITIONS * self.format.scale_bytes()
    }
}

/// All KV of one slice: pages of [`PAGE_POSITIONS`] positions over all layers of the slice.
#[derive(Debug)]
pub struct KvPages {
    layout: PageLayout,
    table: PageTable,
    memory: PageMemory,
}

impl KvPages {
    /// As many pages as fit in `budget` bytes; memory is taken as pages are first used.
    pub fn new(profile: &Profile, slice: &Slice, format: KvFormat, budget: u64) -> Self {
        let layout = PageLayout::new(profile, slice, format);
        let count = budget / layout.page_bytes() as u64;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            layout,
            table: PageTable::new(count),
            memory: PageMemory::new(layout.page_bytes(), count),
        }
    }

    /// Bytes of one page.
    pub fn page_bytes(&self) -> u64 {
        self.layout.page_bytes() as u64
    }

    /// How keys and values are held.
    pub fn format(&self) -> KvFormat {
        self.layout.format
    }

    /// Pages in the budget.
    pub fn total_pages(&self) -> usize {
        self.table.total_pages()
    }

    /// Pages free.
    pub fn free_pages(&self) -> usize {
        self.table.free_pages()
    }

    /// Bytes of one page for a slice of a profile, without making a store.
    pub fn page_bytes_of(profile: &Profile, slice: &Slice, format: KvFormat) -> u64 {
        PageLayout::new(profile, slice, format).page_bytes() as u64
    }

    pub(crate) fn layout(&self) -> PageLayout {
        self.layout
    }

    /// See [`PageTable::sequence`].
    pub fn sequence(&mut self) -> Sequence {
        self.table.sequence()
    }

    /// See [`PageTable::fork`].
    ///
    /// # Panics
    /// As there.
    pub fn fork(&mut self, of: &Sequence, len: usize) -> Sequence {
        self.table.fork(of, len)
    }

    /// See [`PageTable::pages_needed`].
    pub fn pages_needed(&self, sequence: &Sequence, len: usize) -> usize {
        self.table.pages_needed(sequence, len)
    }

    /// See [`PageTable::reserve`]; what is shared is copied here.
    ///
    /// # Panics
    /// As there.
    pub fn reserve(&mut self, sequence: &mut Sequence, len: usize) -> Result<(), KvFull> {
        for (from, to) in self.table.reserve(sequence, len)? {
            self.copy(from, to);
        }
        Ok(())
    }

    /// See [`PageTable::truncate`].
    ///
    /// # Panics
    /// As there.
    pub fn truncate(&mut self, sequence: &mut Sequence, len: usize) {
        let freed = self.table.truncate(sequence, len);
        self.spoil(&freed);
    }

    /// See [`PageTable::release`].
    ///
    /// # Panics
    /// As there.
    pub fn release(&mut self, sequence: Sequence) {
        let freed = self.table.release(sequence);
        self.spoil(&freed);
    }

    /// The bytes of page `index` of a sequence: its filled positions, and whatever lies behind them. `None` beyond
    /// what is filled.
    ///
    /// # Panics
    /// If the sequence belongs to another store.
    pub fn page(&self, sequence: &Sequence, index: usize) -> Option<&[u8]> {
        self.table.check(sequence);
        let filled = sequence.len().div_ceil(PAGE_POSITIONS);
        let page = sequence.pages.get(index).filter(|_| index < filled)?;
        self.memory.bytes(*page)
    }

    /// Lets `read` write the page behind the filled ones of a sequence, whole, with the bytes that [`Self::page`] gave
    /// for the same tokens at the same positions; then `rows` more positions are filled. If `read` fails,
    /// none is.
    ///
    /// # Panics
    /// If the sequence belongs to another store, its filled positions are not whole pages, `rows` is more than a page,
    /// or room for them was not reserved.
    pub fn fill_page<E>(
        &mut self,
        sequence: &mut Sequence,
        rows: usize,
        read: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.table.check(sequence);
        let len = sequence.len();
        assert!(
            len.is_multiple_of(PAGE_POSITIONS) && rows <= PAGE_POSITIONS,
            "{rows} positions into a page, behind {len}"
        );
        assert!(
            rows > 0 && self.table.is_reserved(sequence, len + rows),
            "a page without room for {rows} positions behind {len}"
        );
        let page = sequence.pages[len / PAGE_POSITIONS];
        let result = read(self.memory.bytes_mut(page));
        match result {
            Ok(()) => self.table.advance(sequence, rows),
            Err(_) => self.spoil(&[page]),
        }
        result
    }

    fn copy(&mut self, from: u32, to: u32) {
        let (from, to) = (self.memory.pointer(from), self.memory.pointer(to));
        // SAFETY: both are whole pages, and two of them.
        unsafe { to.copy_from_nonoverlapping(from, self.layout.page_bytes()) };
    }

    /// A read of a page that was given up must show itself in tests: values and scales are NaN.
    fn spoil(&mut self, freed: &[u32]) {
        if cfg!(debug_assertions) {
            for page in freed {
                self.memory.bytes_mut(*page).fill(u8::MAX);
            }
        }
    }

    /// Puts the memory of a sequence's pages into `pointers`, for one batch: read-only where shared, written only from
    /// `sequence.len()` on, in pages that are its own.
    ///
    /// Pointers instead of references: threads write different positions of one page at once.
    pub(crate) fn page_pointers(&mut self, sequence: &Sequence, pointers: &mut Vec<*mut u8>) {
        self.table.check(sequence);
        let memory = &mut self.memory;
        pointers.clear();
        pointers.extend(sequence.pages.iter().map(|page| memory.pointer(*page)));
    }

    pub(crate) fn is_reserved(&self, sequence: &Sequence, len: usize) -> bool {
        self.table.is_reserved(sequence, len)
    }

    pub(crate) fn advance(&self, sequence: &mut Sequence, rows: usize) {
        self.table.advance(sequence, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::profile;
    use skein_weights::profile::Family;

    fn store(pages: u64) -> KvPages {
        let profile = profile(Family::Qwen2);
        let slice = Slice::whole(profile.layers);
        let format = KvFormat::F32;
        let budget = pages * KvPages::page_bytes_of(&profile, &slice, format);
        KvPages::new(&profile, &slice, format, budget + 1)
    }

    fn pointers(kv: &mut KvPages, sequence: &Sequence) -> Vec<*mut f32> {
        let mut pointers = Vec::new();
        kv.page_pointers(sequence, &mut pointers);
        pointers.into_iter().map(|page| page.cast()).collect()
    }

    fn fill(kv: &mut KvPages, sequence: &mut Sequence, rows: usize, value: f32) {
        kv.reserve(sequence, sequence.len() + rows).expect("room");
        let pointers = pointers(kv, sequence);
        for position in sequence.len()..sequence.len() + rows {
            // SAFETY: inside a page that this test holds alone.
            unsafe { *pointers[position / PAGE_POSITIONS].add(position % PAGE_POSITIONS) = value };
        }
        kv.advance(sequence, rows);
    }

    fn read(kv: &mut KvPages, sequence: &Sequence, position: usize) -> f32 {
        let pointers = pointers(kv, sequence);
        // SAFETY: inside a page that this test holds.
        unsafe { *pointers[position / PAGE_POSITIONS].add(position % PAGE_POSITIONS) }
    }

    #[test]
    fn budget_is_kept_and_refusal_takes_nothing() {
        let mut kv = store(3);
        assert_eq!((kv.total_pages(), kv.free_pages()), (3, 3));
        let mut a = kv.sequence();
        kv.reserve(&mut a, 64).expect("two pages");
        let mut b = kv.sequence();
        assert_eq!(kv.reserve(&mut b, 33), Err(KvFull { needed: 2, free: 1 }));
        assert_eq!(kv.free_pages(), 1);
        kv.release(a);
        assert_eq!(kv.free_pages(), 3);
        kv.reserve(&mut b, 96).expect("three pages");
        kv.release(b);
    }

    #[test]
    fn a_fork_shares_until_one_side_writes() {
        let mut kv = store(8);
        let mut a = kv.sequence();
        fill(&mut kv, &mut a, 40, 1.0);
        let mut b = kv.fork(&a, 36);
        assert_eq!((b.len(), kv.free_pages()), (36, 6));
        assert_eq!(
            kv.pages_needed(&b, 37),
            1,
            "the half-filled page must be copied"
        );
        assert!(!kv.is_reserved(&b, 37));
        fill(&mut kv, &mut b, 2, 2.0);
        assert_eq!(kv.free_pages(), 5);
        assert_eq!(read(&mut kv, &a, 36), 1.0, "the other keeps its own");
        assert_eq!(read(&mut kv, &b, 36), 2.0);
        assert_eq!(read(&mut kv, &b, 35), 1.0, "what was shared is still there");
        fill(&mut kv, &mut a, 1, 3.0);
        assert_eq!(kv.free_pages(), 5, "the last holder writes in place");
        kv.release(a);
        assert_eq!(read(&mut kv, &b, 0), 1.0);
        kv.release(b);
        assert_eq!(kv.free_pages(), 8);
    }

    #[test]
    fn truncate_gives_pages_back() {
        let mut kv = store(4);
        let mut a = kv.sequence();
        fill(&mut kv, &mut a, 100, 1.0);
        kv.truncate(&mut a, 32);
        assert_eq!((a.len(), kv.free_pages()), (32, 3));
        kv.truncate(&mut a, 50);
        assert_eq!(a.len(), 32);
        kv.release(a);
    }

    #[test]
    fn a_page_comes_back_as_it_went() {
        let mut kv = store(4);
        let mut a = kv.sequence();
        fill(&mut kv, &mut a, 40, 1.5);
        let page = |kv: &KvPages, of: &Sequence, index| kv.page(of, index).map(<[u8]>::to_vec);
        let saved: Vec<_> = (0..2)
            .map(|index| page(&kv, &a, index).expect("filled"))
            .collect();
        assert_eq!(saved[0].len() as u64, kv.page_bytes());
        kv.reserve(&mut a, 96).expect("three pages");
        assert_eq!(page(&kv, &a, 2), None, "reserved and not filled");
        kv.release(a);
        let mut b = kv.sequence();
        kv.reserve(&mut b, 40).expect("room");
        for (bytes, rows) in saved.iter().zip([32, 8]) {
            let read = |memory: &mut [u8]| {
                memory.copy_from_slice(bytes);
                Ok::<_, ()>(())
            };
            kv.fill_page(&mut b, rows, read).expect("copied");
        }
        assert_eq!((b.len(), kv.free_pages()), (40, 2));
        assert_eq!(page(&kv, &b, 0).as_ref(), Some(&saved[0]));
        assert_eq!(page(&kv, &b, 1).as_ref(), Some(&saved[1]));
        assert_eq!(read(&mut kv, &b, 39), 1.5);
        kv.release(b);
    }

    #[test]
    fn a_page_that_cannot_be_read_fills_nothing() {
        let mut kv = store(2);
        let mut a = kv.sequence();
        kv.reserve(&mut a, 33).expect("room");
        let failed = kv.fill_page(&mut a, 32, |memory| {
            memory[..4].fill(0);
            Err("gone")
        });
        assert_eq!((failed, a.len()), (Err("gone"), 0));
        let spoilt = read(&mut kv, &a, 0).is_nan();
        assert_eq!(spoilt, cfg!(debug_assertions), "what was half read shows");
        for rows in [0, 33] {
            let fill =
                std::panic::AssertUnwindSafe(|| kv.fill_page(&mut a, rows, |_| Ok::<_, ()>(())));
            assert!(std::panic::catch_unwind(fill).is_err(), "{rows} rows");
        }
        // Positions that begin inside a page, and pages that somebody else reads.
        fill(&mut kv, &mut a, 5, 1.0);
        let fill = std::panic::AssertUnwindSafe(|| kv.fill_page(&mut a, 1, |_| Ok::<_, ()>(())));
        assert!(std::panic::catch_unwind(fill).is_err());
        kv.release(a);
    }

    #[test]
    fn sequences_of_another_store_are_refused() {
        let (mut one, mut other) = (store(1), store(1));
        let sequence = one.sequence();
        let release = std::panic::AssertUnwindSafe(|| other.release(sequence));
        assert!(std::panic::catch_unwind(release).is_err());
    }

    #[test]
    fn bytes_take_about_a_quarter() {
        let profile = profile(Family::Qwen2);
        let slice = Slice::whole(profile.layers);
        let of = |format| KvPages::page_bytes_of(&profile, &slice, format);
        let (floats, bytes) = (of(KvFormat::F32), of(KvFormat::Int8));
        assert!(
            bytes > floats / 4 && bytes < floats / 2,
            "{floats} and {bytes}"
        );
        let layout = PageLayout::new(&profile, &slice, KvFormat::Int8);
        let last = layout.scales(layout.layers - 1, layout.kv_heads);
        assert_eq!(last, layout.page_bytes(), "scales are the end of a layer");
    }
}
