//! Large buffers: aligned for vector loads, on huge pages where the system has them.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Buffers at least this large are aligned to it and advised to live on huge pages: a stream over
/// hundreds of megabytes otherwise misses the TLB once every 4 KiB.
const HUGE_PAGE: usize = 2 << 20;
/// What memory is read by, at least.
pub(crate) const CACHE_LINE: usize = 64;

/// Freed memory that a process in training keeps, in bytes.
#[cfg(all(feature = "train", target_os = "linux", target_env = "gnu"))]
const KEPT_MAX: libc::c_int = 1 << 30;
/// Allocations from this size on are mappings of their own; glibc takes no higher limit.
#[cfg(all(feature = "train", target_os = "linux", target_env = "gnu"))]
const MAPPED_MIN: libc::c_int = 32 << 20;

/// Lets this process keep the memory that it frees, for the next time. Every step of a training
/// asks for the same buffers again; glibc would give each large one back to the system, which
/// clears it page by page when it is asked for anew. Of use to a process that does nothing else,
/// and a matter of speed alone; other allocators are left as they are.
#[cfg(feature = "train")]
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets two numbers of the allocator, under its own lock; refusal is harmless.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_MIN);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_MAX);
    }
}

/// Types whose all-zero bytes are a value, so that fresh zeroed memory may be read as them.
pub(crate) trait Plain: Copy + Send + Sync + 'static {}
impl Plain for f32 {}
impl Plain for i32 {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for u64 {}

/// A zeroed, fixed-size array of `T` with the alignment that kernels like.
pub(crate) struct Buffer<T: Plain> {
    pointer: NonNull<T>,
    len: usize,
    layout: Layout,
}

// SAFETY: a buffer owns its memory alone, and T is Send and Sync; sharing follows the borrow rules
// of the slices that it lends.
unsafe impl<T: Plain> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Plain> Sync for Buffer<T> {}

impl<T: Plain> Buffer<T> {
    /// `len` zeros.
    ///
    /// # Panics
    /// If the size overflows; callers bound shapes first.
    pub(crate) fn zeroed(len: usize) -> Self {
        let bytes = len
            .checked_mul(size_of::<T>())
            .expect("shapes are bounded before");
        let align = if bytes >= HUGE_PAGE {
            HUGE_PAGE
        } else {
            CACHE_LINE
        };
        let layout =
            Layout::from_size_align(bytes.max(1), align).expect("shapes are bounded before");
        let raw = match align == HUGE_PAGE {
            // SAFETY: the layout has a size above zero.
            true => unsafe { alloc(layout) },
            // SAFETY: as above.
            false => unsafe { alloc_zeroed(layout) },
        };
        let Some(pointer) = NonNull::new(raw.cast::<T>()) else {
            handle_alloc_error(layout)
        };
        if align == HUGE_PAGE {
            // Before anything touches it: what has been touched is on small pages already.
            #[cfg(target_os = "linux")]
            // SAFETY: advice about memory just allocated; failure is harmless and ignored.
            unsafe {
                libc::madvise(raw.cast(), bytes, libc::MADV_HUGEPAGE)
            };
            // SAFETY: `bytes` were allocated.
            unsafe { raw.write_bytes(0, bytes) };
        }
        Self {
            pointer,
            len,
            layout,
        }
    }

    /// All values.
    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: the buffer holds `len` initialised values for as long as it lives.
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.len) }
    }

    /// Where it begins, for those who share parts of it out.
    pub(crate) fn pointer(&self) -> *mut T {
        self.pointer.as_ptr()
    }

    /// All values, for writing.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr(), self.len) }
    }
}

impl<T: Plain> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this very layout.
        unsafe { dealloc(self.pointer.as_ptr().cast(), self.layout) }
    }
}

impl<T: Plain> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} values of {} bytes)", self.len, size_of::<T>())
    }
}

/// Values in memory that is kept from call to call, and taken anew only where more is needed. Large ones are on huge
/// pages: on a virtual machine, whose pages are translated twice, a first touch of a small page can take longer than
/// the work on it.
pub(crate) struct Scratch<T: Plain> {
    buffer: Buffer<T>,
    len: usize,
}

/// From here on, memory is rounded up to whole huge pages.
const ROUNDED_MIN: usize = HUGE_PAGE / 4;

impl<T: Plain> Scratch<T> {
    /// Gives it a length. What it holds then is anything: callers overwrite all.
    pub(crate) fn resize(&mut self, len: usize) -> &mut [T] {
        if len > self.buffer.len {
            let bytes = len.saturating_mul(size_of::<T>());
            let size = match bytes >= ROUNDED_MIN {
                true => bytes.next_multiple_of(HUGE_PAGE),
                false => bytes.next_power_of_two(),
            };
            // The old memory goes first: never both at a time.
            self.buffer = Buffer::zeroed(0);
            self.buffer = Buffer::zeroed(size / size_of::<T>());
        }
        self.len = len;
        self
    }
}

impl<T: Plain> Default for Scratch<T> {
    fn default() -> Self {
        Self {
            buffer: Buffer::zeroed(0),
            len: 0,
        }
    }
}

impl<T: Plain> Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.buffer.as_slice()[..self.len]
    }
}

impl<T: Plain> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.buffer.as_mut_slice()[..self.len]
    }
}

impl<T: Plain> fmt::Debug for Scratch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scratch({} of {:?})", self.len, self.buffer)
    }
}

/// A mutable slice that several threads write in disjoint parts.
///
/// The borrow checker cannot see that partitions are disjoint; every use states why they are.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<T> {
    pointer: *mut T,
    len: usize,
}

// SAFETY: access goes through the unsafe methods alone, whose callers promise disjoint parts.
unsafe impl<T: Send> Send for SharedMut<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<T> {}

impl<T> SharedMut<T> {
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Self {
            pointer: slice.as_mut_ptr(),
            len: slice.len(),
        }
    }

    /// Where it begins.
    pub(crate) fn pointer(&self) -> *mut T {
        self.pointer
    }

    /// # Safety
    /// The slice given to [`Self::new`] is still borrowed, the range is inside it, and no other
    /// reference to any of it exists meanwhile.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn range(&self, start: usize, len: usize) -> &mut [T] {
        debug_assert!(start + len <= self.len);
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(start), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroed_aligned_and_writable() {
        for len in [0, 1, 17, HUGE_PAGE / 4 + 3] {
            let mut buffer = Buffer::<f32>::zeroed(len);
            assert!(buffer.as_slice().iter().all(|v| *v == 0.0));
            assert_eq!(buffer.as_slice().as_ptr() as usize % CACHE_LINE, 0);
            buffer.as_mut_slice().fill(1.5);
            assert_eq!(buffer.as_slice().len(), len);
        }
    }

    #[test]
    fn scratch_grows_and_stays() {
        let mut scratch = Scratch::<f32>::default();
        for len in [3, 1 << 18, 0, 1 << 17] {
            scratch.resize(len).fill(2.0);
            assert_eq!(scratch.len(), len);
        }
        let place = scratch.as_ptr();
        assert_eq!(scratch.resize(1 << 18).as_ptr(), place, "the same memory");
        assert_eq!(place as usize % CACHE_LINE, 0);
    }
}
