//! The inner loop of what is multiplied as floats, but for weights in [twelve bits](super::compact).

use crate::lanes::{Lanes, bf16_place, prefetch};
use crate::memory::CACHE_LINE;

/// Steps between additions to the running total: eight times less rounding error than one long
/// sum, at no cost.
pub(crate) const RUN: usize = 64;

/// A stored weight.
pub(crate) trait Weight: Copy {
    /// Where lane `lane` of sixteen is stored.
    #[inline(always)]
    fn place(lane: usize) -> usize {
        lane
    }
    /// The value, exactly.
    fn widen(self) -> f32;
    /// Sixteen of them, as [`Self::place`] says.
    ///
    /// # Safety
    /// As for [`Lanes`].
    unsafe fn lanes<L: Lanes>(from: *const Self) -> L;
}

impl Weight for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    unsafe fn lanes<L: Lanes>(from: *const Self) -> L {
        // SAFETY: the caller's.
        unsafe { L::load(from) }
    }
}

/// `bf16`.
impl Weight for u16 {
    #[inline(always)]
    fn place(lane: usize) -> usize {
        bf16_place(lane)
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self) << 16)
    }

    #[inline(always)]
    unsafe fn lanes<L: Lanes>(from: *const Self) -> L {
        // SAFETY: the caller's.
        unsafe { L::load_bf16(from) }
    }
}

/// Keys and values rounded to bytes; their scales are somebody else's.
impl Weight for i8 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from(self)
    }

    #[inline(always)]
    unsafe fn lanes<L: Lanes>(from: *const Self) -> L {
        // SAFETY: the caller's.
        unsafe { L::load_i8(from) }
    }
}

/// What is asked for while a [`tile()`] is computed.
pub(crate) trait Asking: Copy {
    /// Before a run: `from` is where a panel's next one begins, `bytes` how long it is.
    #[inline(always)]
    fn before_run(self, _from: *const u8, _bytes: usize) {}

    /// In a step, `place` being where it is in the panel, in bytes.
    #[inline(always)]
    fn in_step(self, _place: usize) {}
}

/// Nothing: the weights are in the caches, or the processor follows their streams by itself.
#[derive(Clone, Copy)]
pub(crate) struct Nothing;

impl Asking for Nothing {}

/// The next run of the same panel: the weights come from memory, each panel one stream.
#[derive(Clone, Copy)]
pub(crate) struct NextRun;

impl Asking for NextRun {
    #[inline(always)]
    fn before_run(self, from: *const u8, bytes: usize) {
        ask(from, bytes);
    }
}

/// Asks for so many bytes.
#[inline(always)]
pub(crate) fn ask(from: *const u8, bytes: usize) {
    let mut line = 0;
    while line < bytes {
        prefetch(from.wrapping_add(line));
        line += CACHE_LINE;
    }
}

/// The same places of another panel, which begins there: what a step reads for each step, so that nobody waits for many at
/// once.
#[derive(Clone, Copy)]
pub(crate) struct Along(pub(crate) *const u8);

impl Asking for Along {
    #[inline(always)]
    fn in_step(self, place: usize) {
        prefetch(self.0.wrapping_add(place));
    }
}

/// The inner loop: `total[p][r] += runs of x[r][..count] * w[p][..count]` for `R` rows and 16
/// outputs of each of `P` panels.
///
/// `stride` is the distance between consecutive `k` in `w`; `x` rows are `x_stride` apart.
///
/// # Safety
/// As for [`Lanes`]; `x` has `R` rows of `count` values, each of `w` has `count` steps of 16.
#[inline(always)]
pub(crate) unsafe fn tile<L: Lanes, W: Weight, const R: usize, const P: usize>(
    (x, x_stride): (*const f32, usize),
    (w, stride): ([*const W; P], usize),
    count: usize,
    total: &mut [[L; R]; P],
    asking: impl Asking,
) {
    // SAFETY: indices stay below `R`, `count` and `stride * count`, as the caller promises.
    unsafe {
        let mut start = 0;
        while start < count {
            let end = (start + RUN).min(count);
            let mut p = 0;
            while p < P {
                let from = w[p].wrapping_add((start + RUN) * stride).cast::<u8>();
                asking.before_run(from, RUN * stride * size_of::<W>());
                p += 1;
            }
            let mut sum = [[L::splat(0.0); R]; P];
            let mut k = start;
            while k < end {
                asking.in_step(k * stride * size_of::<W>());
                let mut p = 0;
                while p < P {
                    let weights = W::lanes::<L>(w[p].add(k * stride));
                    let mut r = 0;
                    while r < R {
                        let value = L::splat(*x.add(r * x_stride + k));
                        sum[p][r] = value.fma(weights, sum[p][r]);
                        r += 1;
                    }
                    p += 1;
                }
                k += 1;
            }
            add_run(total, &sum);
            start = end;
        }
    }
}

/// Adds the sums of a run to the totals.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn add_run<L: Lanes, const R: usize, const P: usize>(
    total: &mut [[L; R]; P],
    sum: &[[L; R]; P],
) {
    let mut p = 0;
    while p < P {
        let mut r = 0;
        while r < R {
            // SAFETY: the caller's.
            total[p][r] = unsafe { total[p][r].add(sum[p][r]) };
            r += 1;
        }
        p += 1;
    }
}
