//! Where pages lie: many together, so that they are on huge pages.

use crate::memory::Buffer;

/// Pages are taken from the system in runs of about so many bytes. A page of keys and values is smaller than a huge
/// page, and each layer reads another piece of it: on small pages, attention waits for the translation of addresses
/// longer than for the memory (several times as long, on a virtual machine).
const RUN_BYTES: usize = 8 << 20;

/// Memory of pages of one size, taken as they are first used.
#[derive(Debug)]
pub(super) struct PageMemory {
    page_bytes: usize,
    count: usize,
    /// Pages of a run; the last one may have fewer.
    run_pages: usize,
    runs: Vec<Option<Buffer<u8>>>,
}

impl PageMemory {
    pub(super) fn new(page_bytes: usize, count: u32) -> Self {
        let count = count as usize;
        let run_pages = (RUN_BYTES / page_bytes.max(1)).max(1);
        Self {
            page_bytes,
            count,
            run_pages,
            runs: (0..count.div_ceil(run_pages)).map(|_| None).collect(),
        }
    }

    /// Where a page begins. It is zeroed when it is first asked for.
    ///
    /// # Panics
    /// If there is no such page.
    pub(super) fn pointer(&mut self, page: u32) -> *mut u8 {
        let (run, place) = self.place(page);
        let pages = self.run_pages.min(self.count - run * self.run_pages);
        let memory = self.runs[run].get_or_insert_with(|| Buffer::zeroed(pages * self.page_bytes));
        // SAFETY: the page is inside its run. No reference is made: other pages of the run may be in use.
        unsafe { memory.pointer().add(place) }
    }

    /// The bytes of a page; `None` if it was never asked for.
    pub(super) fn bytes(&self, page: u32) -> Option<&[u8]> {
        let (run, place) = self.place(page);
        let run = self.runs[run].as_ref()?;
        Some(&run.as_slice()[place..][..self.page_bytes])
    }

    /// The bytes of a page, for writing.
    pub(super) fn bytes_mut(&mut self, page: u32) -> &mut [u8] {
        let (pointer, bytes) = (self.pointer(page), self.page_bytes);
        // SAFETY: a whole page, initialised, and `self` is borrowed exclusively; whoever holds pointers to this page
        // uses them during a batch, in which nobody calls this.
        unsafe { std::slice::from_raw_parts_mut(pointer, bytes) }
    }

    /// Which run a page is in, and where it begins there.
    fn place(&self, page: u32) -> (usize, usize) {
        let page = page as usize;
        assert!(page < self.count, "pages come from the table");
        let place = page % self.run_pages * self.page_bytes;
        (page / self.run_pages, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_do_not_overlap_and_are_taken_late() {
        let mut memory = PageMemory::new(3 << 20, 5);
        assert_eq!((memory.run_pages, memory.runs.len()), (2, 3));
        let last = memory.pointer(4);
        assert!(memory.runs[..2].iter().all(Option::is_none));
        let [zero, one] = [0, 1].map(|page| memory.pointer(page));
        assert_eq!(one as usize - zero as usize, 3 << 20);
        assert_eq!(memory.pointer(4), last, "pages stay where they are");
        let sizes = memory.runs.iter().flatten().map(|run| run.as_slice().len());
        assert_eq!(sizes.collect::<Vec<_>>(), [6 << 20, 3 << 20]);
    }
}
