//! Memory that is fetched while there is nothing else to do.
//!
//! A step of decoding waits for memory, but for the moments when threads wait for each other: then nobody reads. So the
//! caller announces what comes after a piece of work, and who is through with its own part fetches the beginning of what it
//! will read next into the cache of its core. It changes no result: these are hints to the processor.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::lanes::prefetch_near;
use crate::memory::CACHE_LINE;

/// Bytes fetched ahead by each thread at most: an eighth of a second-level cache of a megabyte.
const BYTES: usize = 128 << 10;
/// Lines fetched between two looks at whether there is work.
const LINES: usize = 4;

/// What threads read next, each from a place of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ahead {
    /// Where the first thread begins.
    pub(crate) first: *const u8,
    /// From there to where the second one does, and so on.
    pub(crate) step: usize,
}

/// An [`Ahead`] or nothing, for others to read. What is read while it changes may be half of each: then memory is fetched
/// that nobody wants.
#[derive(Debug, Default)]
pub(super) struct Announced {
    first: AtomicPtr<u8>,
    step: AtomicUsize,
}

impl Announced {
    pub(super) fn set(&self, ahead: Option<Ahead>) {
        let (first, step) = match ahead {
            Some(Ahead { first, step }) => (first.cast_mut(), step),
            None => (ptr::null_mut(), 0),
        };
        self.first.store(first, Ordering::Relaxed);
        self.step.store(step, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Option<Ahead> {
        let first = self.first.load(Ordering::Relaxed).cast_const();
        let step = self.step.load(Ordering::Relaxed);
        (!first.is_null()).then_some(Ahead { first, step })
    }

    /// What there is to fetch for a thread.
    pub(super) fn fetch(&self, thread: usize) -> Fetch {
        match self.get() {
            Some(Ahead { first, step }) => Fetch {
                next: first.wrapping_add(step.wrapping_mul(thread)),
                left: BYTES / CACHE_LINE,
            },
            None => Fetch {
                next: ptr::null(),
                left: 0,
            },
        }
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
