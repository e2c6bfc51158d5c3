//! Pages of KV outside memory: slots of one size in a [`Spill`], each with a digest of what went in.
//!
//! A page comes back as it went, bit for bit, or not at all: whoever put it there computes it again then, which gives
//! the same bits. What fails again and again is given up for good, so that a broken disk costs a few attempts.
//!
//! **Time.** Pages are written and read while the engine waits, a few of them in each of its turns
//! ([`StoreRoom::per_turn`]). A thread for it would spare the engine most of a write, which a copy in memory would replace,
//! and nothing of a read, for which a session waits anyway. But what moves when would then depend on the time that a
//! disk takes, and a scheduler that is replayed from a seed would not. The bound keeps a turn below a tenth of a second
//! where the system's page cache takes what is written (docs/performance.md), and computing the same positions takes
//! far longer on any machine.

use std::fmt;
use std::io;

use skein_base::Blake3;
use skein_runtime::ScratchFile;

/// Bytes moved in one turn of the engine, if pages are not larger: measured, at most 90 ms of writing or 5 ms of
/// reading.
const TURN_BYTES: usize = 32 << 20;

/// After so many failures in a row a store is given up.
const FAILURES_MAX: u32 = 3;

/// Bytes at any offset, outside memory.
pub trait Spill: fmt::Debug + Send {
    /// Writes all of `bytes`, growing if it must.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Fills `out`, or fails.
    fn read_at(&mut self, offset: u64, out: &mut [u8]) -> io::Result<()>;
}

impl Spill for ScratchFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        Self::write_at(self, offset, bytes)
    }

    fn read_at(&mut self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        Self::read_at(self, offset, out)
    }
}

/// How much a store takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreRoom {
    /// Pages that it may hold. 0: there is no store, or it was given up.
    pub total: usize,
    /// Pages that it holds.
    pub used: usize,
    /// Most pages to move, in either direction, before something else is done.
    pub per_turn: usize,
    /// Bytes of a page.
    pub page_bytes: usize,
}

/// A page was not put into a store, or did not come back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is none.
    #[error("there is no place beside memory for keys and values")]
    Absent,
    /// All slots are taken.
    #[error("all {total} pages beside memory are taken")]
    Full {
        /// Pages that it may hold.
        total: usize,
    },
    /// It failed too often.
    #[error(
        "the place beside memory for keys and values failed {FAILURES_MAX} times in a row and is not used any more"
    )]
    GivenUp,
    /// The disk is full, or fails.
    #[error("page {slot} beside memory cannot be {what}: {source}")]
    Io {
        /// Its slot.
        slot: u32,
        /// `written` or `read`.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What came back is not what went in.
    #[error(
        "page {slot} beside memory is not what was written there: the disk or its file system is broken"
    )]
    Changed {
        /// Its slot.
        slot: u32,
    },
}

/// A page in a store. Not `Clone`: it is given back through [`PageStore::discard`]; one that is dropped
/// keeps its slot, a leak inside the bound.
#[derive(Debug)]
pub struct StowedPage {
    slot: u32,
    digest: Blake3,
}

/// See the module.
#[derive(Debug)]
pub struct PageStore {
    spill: Box<dyn Spill>,
    page_bytes: usize,
    total: u32,
    per_turn: usize,
    /// Slots below this were used once.
    fresh: u32,
    free: Vec<u32>,
    /// Writes that failed in a row, and reads: a disk that takes everything and gives nothing back is broken as well.
    failures: [u32; 2],
}

/// Indices of failures.
const WRITES: usize = 0;
const READS: usize = 1;

impl PageStore {
    /// As many pages of `page_bytes` bytes in `spill` as fit in `budget` bytes.
    pub fn new(spill: Box<dyn Spill>, page_bytes: usize, budget: u64) -> Self {
        let total = budget / page_bytes.max(1) as u64;
        Self {
            spill,
            page_bytes,
            total: u32::try_from(total).unwrap_or(u32::MAX),
            per_turn: (TURN_BYTES / page_bytes.max(1)).max(1),
            fresh: 0,
            free: Vec::new(),
            failures: [0; 2],
        }
    }

    /// The same, with so many pages moved in a turn.
    #[cfg(test)]
    pub(crate) fn moving(self, per_turn: usize) -> Self {
        Self { per_turn, ..self }
    }

    /// How much it takes.
    pub fn room(&self) -> StoreRoom {
        let total = match self.usable() {
            Ok(()) => self.total as usize,
            Err(_) => 0,
        };
        StoreRoom {
            total,
            used: self.fresh as usize - self.free.len(),
            per_turn: self.per_turn,
            page_bytes: self.page_bytes,
        }
    }

    /// Puts a page in, `page_bytes` long.
    ///
    /// # Errors
    /// See [`StoreError`]; nothing is kept then.
    pub fn put(&mut self, bytes: &[u8]) -> Result<StowedPage, StoreError> {
        self.usable()?;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.fresh < self.total => {
                self.fresh += 1;
                self.fresh - 1
            }
            None => {
                let total = self.total as usize;
                return Err(StoreError::Full { total });
            }
        };
        let digest = Blake3::of(bytes);
        let written = self.spill.write_at(self.offset(slot), bytes);
        if let Err(source) = self.note(WRITES, written) {
            self.free.push(slot);
            let what = "written";
            return Err(StoreError::Io { slot, what, source });
        }
        Ok(StowedPage { slot, digest })
    }

    /// Fills `out`, `page_bytes` long, with a page.
    ///
    /// # Errors
    /// See [`StoreError`]; `out` may hold anything then.
    pub fn get(&mut self, page: &StowedPage, out: &mut [u8]) -> Result<(), StoreError> {
        self.usable()?;
        let slot = page.slot;
        let read = self.spill.read_at(self.offset(slot), out);
        let same = read.map(|()| Blake3::of(out) == page.digest);
        let changed = matches!(same, Ok(false));
        let counted = match changed {
            true => Err(io::ErrorKind::InvalidData.into()),
            false => same.map(drop),
        };
        let what = "read";
        self.note(READS, counted).map_err(|source| match changed {
            true => StoreError::Changed { slot },
            false => StoreError::Io { slot, what, source },
        })
    }

    /// Gives a slot back.
    pub fn discard(&mut self, page: StowedPage) {
        self.free.push(page.slot);
    }

    fn usable(&self) -> Result<(), StoreError> {
        match self.failures.iter().all(|failed| *failed < FAILURES_MAX) {
            true => Ok(()),
            false => Err(StoreError::GivenUp),
        }
    }

    fn offset(&self, slot: u32) -> u64 {
        u64::from(slot) * self.page_bytes as u64
    }

    /// Counts failures in a row.
    fn note(&mut self, of: usize, result: io::Result<()>) -> io::Result<()> {
        match result {
            Ok(()) => self.failures[of] = 0,
            Err(_) => self.failures[of] += 1,
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeSpill;

    fn store(pages: u64, one_in: u64) -> PageStore {
        PageStore::new(Box::new(FakeSpill::new(1, one_in)), 16, pages * 16 + 15)
    }

    #[test]
    fn the_bound_is_kept_and_slots_are_used_again() {
        let mut store = store(3, 0);
        assert_eq!((store.room().total, store.room().used), (3, 0));
        let mut pages: Vec<_> = (0..3).map(|byte| store.put(&[byte; 16]).unwrap()).collect();
        let full = store.put(&[9; 16]).unwrap_err();
        assert!(matches!(full, StoreError::Full { total: 3 }), "{full}");
        store.discard(pages.remove(1));
        assert_eq!(store.room().used, 2);
        pages.push(store.put(&[7; 16]).unwrap());
        for (page, byte) in pages.iter().zip([0, 2, 7]) {
            let mut out = [1; 16];
            store.get(page, &mut out).unwrap();
            assert_eq!(out, [byte; 16]);
        }
        // A full store is no broken one.
        assert_eq!((store.room().total, store.room().used), (3, 3));
    }

    #[test]
    fn a_store_is_as_large_as_is_said() {
        let of = |page_bytes, budget| {
            let store = PageStore::new(Box::new(FakeSpill::new(1, 0)), page_bytes, budget);
            (store.room().total, store.room().per_turn)
        };
        assert_eq!(of(1 << 20, 1 << 30), (1024, 32));
        assert_eq!(of(1 << 20, 0), (0, 32));
        assert_eq!(of(1 << 30, (1 << 31) - 1), (1, 1));
        assert_eq!(of(1, u64::MAX).0, u32::MAX as usize);
    }

    #[test]
    fn what_went_in_comes_out_or_nothing() {
        let mut wrong = 0;
        for seed in 0..200 {
            let spill = FakeSpill::new(seed, 4);
            let mut store = PageStore::new(Box::new(spill), 16, 1 << 20);
            let bytes = [seed as u8; 16];
            let Ok(page) = store.put(&bytes) else {
                assert_eq!(store.room().used, 0);
                continue;
            };
            let mut out = [0; 16];
            match store.get(&page, &mut out) {
                Ok(()) => assert_eq!(out, bytes),
                Err(StoreError::Changed { .. }) => wrong += 1,
                Err(error) => assert!(matches!(error, StoreError::Io { .. }), "{error}"),
            }
        }
        assert!(wrong > 20, "{wrong}");
    }

    /// Takes everything and gives back zeros.
    #[derive(Debug)]
    struct Forgetful;

    impl Spill for Forgetful {
        fn write_at(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn read_at(&mut self, _: u64, out: &mut [u8]) -> io::Result<()> {
            out.fill(0);
            Ok(())
        }
    }

    #[test]
    fn writes_that_succeed_do_not_excuse_reads_that_fail() {
        let mut store = PageStore::new(Box::new(Forgetful), 16, 128);
        for _ in 0..FAILURES_MAX {
            let page = store.put(&[1; 16]).unwrap();
            let error = store.get(&page, &mut [0; 16]).unwrap_err();
            assert!(matches!(error, StoreError::Changed { .. }), "{error}");
            store.discard(page);
        }
        assert_eq!(store.room().total, 0);
        let error = store.put(&[1; 16]).unwrap_err();
        assert!(matches!(error, StoreError::GivenUp), "{error}");
    }

    #[test]
    fn too_many_failures_in_a_row_are_the_end() {
        let mut store = store(8, 1);
        for _ in 0..FAILURES_MAX {
            assert_eq!(store.room().total, 8);
            let error = store.put(&[1; 16]).unwrap_err();
            assert!(matches!(error, StoreError::Io { .. }), "{error}");
        }
        assert_eq!((store.room().total, store.room().used), (0, 0));
        let error = store.put(&[1; 16]).unwrap_err();
        assert!(matches!(error, StoreError::GivenUp), "{error}");
    }
}
