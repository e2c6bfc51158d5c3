//! Memory that is fetched while there is nothing else to do.
//!
//! A step of decoding waits for memory, but for the moments when threads wait for each other: then nobody reads. So the
//! caller announces what comes after a piece of work, and who is through with its own part fetches the beginning of what it
//! will read next into the cache of its core. It changes no result: these are hints to the processor.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::part;
use crate::lanes::prefetch_near;
use crate::memory::CACHE_LINE;

/// Bytes fetched ahead by each thread at most: an eighth of a second-level cache of a megabyte.
const BYTES: usize = 128 << 10;
/// Lines fetched between two looks at whether there is work.
const LINES: usize = 4;

/// What threads read next: shares that lie one after another, of which each thread has a part, as [`super::Pool::runs`] deals
/// them out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ahead {
    /// Where the first share begins.
    pub(crate) first: *const u8,
    pub(crate) shares: usize,
    pub(crate) share_bytes: usize,
    pub(crate) threads: usize,
}

// SAFETY: nobody reads or writes there: the processor is asked to fetch it, which any address is good for.
unsafe impl Send for Ahead {}
// SAFETY: as above.
unsafe impl Sync for Ahead {}

impl Ahead {
    /// Nothing to be read.
    pub(super) const NOTHING: Self = Self {
        first: ptr::null(),
        shares: 0,
        share_bytes: 0,
        threads: 0,
    };

    /// What there is to fetch for a thread.
    fn fetch(self, thread: usize) -> Fetch {
        let own = part(self.shares, thread, self.threads);
        let bytes = own.len().saturating_mul(self.share_bytes);
        Fetch {
            next: self
                .first
                .wrapping_add(own.start.wrapping_mul(self.share_bytes)),
            left: bytes.min(BYTES).div_ceil(CACHE_LINE),
        }
    }
}

/// An [`Ahead`] for others to read. What is read while it changes may be of both: then memory is fetched
/// that nobody wants.
#[derive(Debug, Default)]
pub(super) struct Announced {
    first: AtomicPtr<u8>,
    shares: AtomicUsize,
    share_bytes: AtomicUsize,
    threads: AtomicUsize,
}

impl Announced {
    pub(super) fn set(&self, ahead: Ahead) {
        self.first.store(ahead.first.cast_mut(), Ordering::Relaxed);
        self.shares.store(ahead.shares, Ordering::Relaxed);
        self.share_bytes.store(ahead.share_bytes, Ordering::Relaxed);
        self.threads.store(ahead.threads, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Ahead {
        Ahead {
            first: self.first.load(Ordering::Relaxed).cast_const(),
            shares: self.shares.load(Ordering::Relaxed),
            share_bytes: self.share_bytes.load(Ordering::Relaxed),
            threads: self.threads.load(Ordering::Relaxed),
        }
    }

    /// What there is to fetch for a thread.
    pub(super) fn fetch(&self, thread: usize) -> Fetch {
        self.get().fetch(thread)
    }
}

/// See [`Announced::fetch`].
pub(super) struct Fetch {
    next: *const u8,
    left: usize,
}

impl Fetch {
    /// Passes a moment: fetches a few lines or, where all has been asked for, does nothing.
    pub(super) fn pass(&mut self) {
        if self.left == 0 {
            return std::hint::spin_loop();
        }
        let count = self.left.min(LINES);
        for _ in 0..count {
            prefetch_near(self.next);
            self.next = self.next.wrapping_add(CACHE_LINE);
        }
        self.left -= count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each thread fetches from where it begins to work, and no more than is its own.
    #[test]
    fn threads_fetch_their_own_part() {
        for threads in [1, 2, 3, 7] {
            for shares in [0, 1, 5, 14, 51] {
                let ahead = Ahead {
                    first: ptr::null(),
                    shares,
                    share_bytes: 10 * CACHE_LINE,
                    threads,
                };
                for thread in 0..threads {
                    let (fetch, own) = (ahead.fetch(thread), part(shares, thread, threads));
                    assert_eq!(fetch.next.addr(), own.start * ahead.share_bytes);
                }
                let lines: usize = (0..threads).map(|thread| ahead.fetch(thread).left).sum();
                assert_eq!(lines, 10 * shares, "all of it, none twice");
            }
        }
    }
}
