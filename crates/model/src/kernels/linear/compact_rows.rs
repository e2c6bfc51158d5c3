//! Few rows over [compact](super::compact) weights, which are widened in registers.

use super::compact::{CompactMatrix, Stream, UNIT_STEP};
use super::tile::add_run;
use super::{ABREAST, Job, RUN, by_height, tile_height};
use crate::lanes::compact::{HALF_STEPS, STEPS, UNIT_BYTES};
use crate::lanes::{Lanes, prefetch};
use crate::memory::CACHE_LINE;

/// How far ahead memory is asked for where one panel of a pair is walked, as a distance of addresses. Two ask half as
/// far, which is as many bytes of weights.
const AHEAD: usize = 32 * UNIT_STEP;

/// All rows over each panel of compact weights: they stream through once, from memory.
///
/// # Safety
/// As for [`super::run_job`].
#[inline(always)]
pub(super) unsafe fn compact_rows<L: Lanes>(job: &Job<'_>, data: &CompactMatrix) {
    const { assert!(L::TILE_ROWS / 2 <= 4, "up to four rows walk a pair") };
    let rows = job.x.count;
    let mut panel = job.first;
    // A pair is one stream of memory; the sums of more rows would not stay in registers.
    while panel + 2 <= job.last && rows <= L::TILE_ROWS / 2 {
        // SAFETY: there are two panels, and so many rows.
        unsafe {
            match rows {
                1 => rows_of_panels::<L, 1, 2>(job, data, 0, panel),
                2 => rows_of_panels::<L, 2, 2>(job, data, 0, panel),
                3 => rows_of_panels::<L, 3, 2>(job, data, 0, panel),
                4 => rows_of_panels::<L, 4, 2>(job, data, 0, panel),
                _ => unreachable!("a product has a row at least"),
            }
        }
        panel += 2;
    }
    while panel < job.last {
        let mut row = 0;
        while row < rows {
            row += by_height!(tile_height::<L>(rows - row), R => {
                // SAFETY: a tile is at most as high as rows are left.
                unsafe { rows_of_panels::<L, R, 1>(job, data, row, panel) };
                R
            });
        }
        panel += 1;
    }
}

const _: () = assert!(ABREAST.is_multiple_of(2), "threads share out whole pairs");

/// The same sums in the same order as [`super::tile()`] has them.
///
/// # Safety
/// As for [`super::run_job`]; rows `row..row + R` and panels `panel..panel + P` exist.
#[inline(always)]
unsafe fn rows_of_panels<L: Lanes, const R: usize, const P: usize>(
    job: &Job<'_>,
    data: &CompactMatrix,
    row: usize,
    panel: usize,
) {
    let inputs = job.w.inputs;
    // SAFETY: a row has `inputs` values, a panel a unit for each eight of them, a begun one too.
    unsafe {
        let x = job.x.data.as_ptr().add(row * inputs);
        let mut streams = [data.stream::<L>(panel); P];
        // No closures here: they would be compiled without the instruction set.
        let mut p = 1;
        while p < P {
            streams[p] = data.stream::<L>(panel + p);
            p += 1;
        }
        let mut total = [[L::splat(0.0); R]; P];
        let mut start = 0;
        while start < inputs {
            let end = (start + RUN).min(inputs);
            let mut sum = [[L::splat(0.0); R]; P];
            let mut k = start;
            while k + STEPS <= end {
                let mut p = 0;
                while p < P {
                    streams[p].ask::<P>();
                    unit(&mut streams[p], [k, STEPS], x.add(k), inputs, &mut sum[p]);
                    streams[p].advance();
                    p += 1;
                }
                k += STEPS;
            }
            let mut p = 0;
            while p < P && k < end {
                // Of a matrix's last unit, which is not full.
                unit(&mut streams[p], [k, end - k], x.add(k), inputs, &mut sum[p]);
                p += 1;
            }
            add_run(&mut total, &sum);
            start = end;
        }
        let mut p = 0;
        while p < P {
            let mut r = 0;
            while r < R {
                job.target.store(total[p][r], row + r, panel + p);
                r += 1;
            }
            p += 1;
        }
    }
}

/// The unit at hand, whose inputs are `k..k + count`, at most [`STEPS`].
///
/// # Safety
/// As for [`Lanes`]; there is a unit from input `k` on, and `x` has `R` rows of `count` values, `x_stride` apart.
#[inline(always)]
unsafe fn unit<L: Lanes, const R: usize>(
    stream: &mut Stream<'_, L>,
    [k, count]: [usize; 2],
    x: *const f32,
    x_stride: usize,
    sum: &mut [L; R],
) {
    // SAFETY: the caller's.
    unsafe {
        let (few, left) = (count.min(HALF_STEPS), count.saturating_sub(HALF_STEPS));
        let lower = stream.half::<false>(k);
        multiply((lower, few), x, x_stride, sum);
        let upper = stream.half::<true>(k + HALF_STEPS);
        multiply((upper, left), x.wrapping_add(HALF_STEPS), x_stride, sum);
    }
}

/// # Safety
/// As for [`Lanes`]; `x` has `R` rows of `steps` values, at most four, `x_stride` apart.
#[inline(always)]
unsafe fn multiply<L: Lanes, const R: usize>(
    (weights, steps): ([L; HALF_STEPS], usize),
    x: *const f32,
    x_stride: usize,
    sum: &mut [L; R],
) {
    let mut step = 0;
    while step < steps {
        let mut r = 0;
        while r < R {
            // SAFETY: the caller's.
            unsafe {
                let value = L::splat(*x.add(r * x_stride + step));
                sum[r] = value.fma(weights[step], sum[r]);
            }
            r += 1;
        }
        step += 1;
    }
}

impl<L: Lanes> Stream<'_, L> {
    /// Asks for a later unit, where `P` panels are walked abreast.
    #[inline(always)]
    fn ask<const P: usize>(&self) {
        let mut line = 0;
        while line < UNIT_BYTES {
            prefetch(self.unit().wrapping_add(AHEAD / P + line));
            line += CACHE_LINE;
        }
    }
}
