//! Work shared out by rows, compiled for the instructions at hand.

use std::ops::Range;

use super::Workers;
use super::real::Real;
use crate::lanes::InstructionSet;
use crate::memory::SharedMut;

/// Rows whose sums over rows are added up together: a fixed number, so that threads change nothing.
pub(super) const BLOCK: usize = 64;
/// Fewer values than this are not worth waking other threads for.
const SPLIT_VALUES: usize = 16 << 10;

/// Plain code to be compiled for every instruction set.
pub(crate) trait Kernel {
    /// Runs it. Implementations are `#[inline(always)]`, so that they take on the caller's
    /// instructions.
    fn run(self);
}

/// Runs `kernel` with the instructions of `set`, which was detected.
pub(crate) fn vectorised(set: InstructionSet, kernel: impl Kernel) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2(kernel: impl Kernel) {
        kernel.run();
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx2,fma")]
    fn avx512(kernel: impl Kernel) {
        kernel.run();
    }
    match set {
        // All programs for aarch64 are compiled with NEON.
        InstructionSet::Scalar | InstructionSet::Neon => kernel.run(),
        // SAFETY: the machine has AVX2 and FMA, as detection found.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => unsafe { avx2(kernel) },
        // SAFETY: the machine has AVX-512F, as detection found.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 | InstructionSet::Avx512Vnni => unsafe { avx512(kernel) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!("only detected instruction sets are constructed"),
    }
}

/// Calls `work` over ranges that cover `0..rows`, each a run of whole [`BLOCK`]s (the last may be
/// shorter), on all threads if there is enough to do.
pub(crate) fn split(
    workers: &Workers,
    rows: usize,
    width: usize,
    work: &(dyn Fn(Range<usize>) + Sync),
) {
    let blocks = rows.div_ceil(BLOCK);
    let share = |range: Range<usize>| work(range.start * BLOCK..rows.min(range.end * BLOCK));
    if rows * width < SPLIT_VALUES {
        share(0..blocks)
    } else {
        workers.pool.split(blocks, &share)
    }
}

/// Rows of a slice that several threads write, each its own.
pub(crate) struct RowsMut<T> {
    values: SharedMut<T>,
    width: usize,
    rows: usize,
}

impl<T> RowsMut<T> {
    pub(crate) fn new(values: &mut [T], width: usize) -> Self {
        let rows = values.len() / width;
        Self {
            values: SharedMut::new(values),
            width,
            rows,
        }
    }

    /// The rows of `range`.
    ///
    /// # Safety
    /// The slice is still borrowed, and nobody else holds any of these rows.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn range(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.end <= self.rows, "the rows exist");
        // SAFETY: inside the slice; the rest is the caller's promise.
        unsafe {
            self.values
                .range(range.start * self.width, range.len() * self.width)
        }
    }
}

/// Adds the rows of a range to sums.
pub(super) type AddRows<'a, T> = dyn Fn(Range<usize>, &mut [T]) + Sync + 'a;

/// Sums over rows: `add(range, sums)` adds the rows of a block to `sums`, `[width]`, which start at
/// zero; blocks are then added in their order.
pub(super) fn sum_blocks<T: Real>(
    workers: &Workers,
    rows: usize,
    width: usize,
    add: &AddRows<'_, T>,
) -> Vec<T> {
    let blocks = rows.div_ceil(BLOCK);
    let mut partial = vec![T::ZERO; blocks * width];
    let shared = RowsMut::new(&mut partial, width);
    split(workers, rows, width, &|range| {
        for start in range.clone().step_by(BLOCK) {
            let block = start / BLOCK;
            // SAFETY: ranges of threads are made of whole blocks and disjoint.
            let sums = unsafe { shared.range(block..block + 1) };
            add(start..range.end.min(start + BLOCK), sums);
        }
    });
    let mut total = vec![T::ZERO; width];
    for partial in partial.chunks_exact(width) {
        add_to(partial, &mut total);
    }
    total
}

/// `to += from`.
#[inline(always)]
pub(super) fn add_to<T: Real>(from: &[T], to: &mut [T]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += *from);
}
