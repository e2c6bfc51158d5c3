//! Few rows over [compact](super::compact) weights: a run of inputs is widened, then multiplied.

use std::mem::MaybeUninit;

use super::compact::CompactMatrix;
use super::{ABREAST, BLOCKED_ROWS, Job, RUN, any_tile, tile};
use crate::lanes::{LANES, Lanes};

/// All rows over each panel of compact weights: a run at a time is widened into the first-level cache.
///
/// # Safety
/// As for [`super::run_job`].
#[inline(always)]
pub(super) unsafe fn compact_rows<L: Lanes>(job: &Job<'_>, data: &CompactMatrix) {
    let mut panel = job.first;
    // SAFETY: `panel + P <= last`, then `panel < last`; `R` is the number of rows.
    unsafe {
        while job.x.count == 1 && panel + ABREAST <= job.last {
            compact_panels::<L, 1, ABREAST>(job, data, panel);
            panel += ABREAST;
        }
        while job.x.count == 2 && panel + 2 <= job.last {
            compact_panels::<L, 2, 2>(job, data, panel);
            panel += 2;
        }
        while panel < job.last {
            compact_panel::<L>(job, data, panel);
            panel += 1;
        }
    }
}

/// `R` rows, all there are, over `P` panels.
///
/// # Safety
/// As for [`super::run_job`]; the job has `R` rows; panels `panel..panel + P` exist.
#[inline(always)]
unsafe fn compact_panels<L: Lanes, const R: usize, const P: usize>(
    job: &Job<'_>,
    data: &CompactMatrix,
    panel: usize,
) {
    let inputs = job.w.inputs;
    let x = job.x.data.as_ptr();
    let mut wide = [const { MaybeUninit::<[f32; RUN * LANES]>::uninit() }; P];
    let from: [*mut f32; P] = std::array::from_fn(|p| wide[p].as_mut_ptr().cast());
    // SAFETY: a run is at most as long as there is room for, in whole units; `x` has `R` rows of `inputs` values.
    unsafe {
        let mut total = [[L::splat(0.0); R]; P];
        let mut start = 0;
        while start < inputs {
            let count = RUN.min(inputs - start);
            for (p, to) in from.into_iter().enumerate() {
                data.widen::<L>(panel + p, [start, count], to);
            }
            let from = from.map(<*mut f32>::cast_const);
            tile::<L, f32, R, P, false>(x.add(start), inputs, from, LANES, count, &mut total);
            start += count;
        }
        for (p, total) in total.into_iter().enumerate() {
            for (r, total) in total.into_iter().enumerate() {
                job.target.store(total, r, panel + p);
            }
        }
    }
}

/// Any few rows over one panel.
///
/// # Safety
/// As for [`super::run_job`]; the job has fewer than [`BLOCKED_ROWS`] rows; the panel exists.
#[inline(always)]
unsafe fn compact_panel<L: Lanes>(job: &Job<'_>, data: &CompactMatrix, panel: usize) {
    let (rows, inputs) = (job.x.count, job.w.inputs);
    let mut wide = MaybeUninit::<[f32; RUN * LANES]>::uninit();
    let wide: *mut f32 = wide.as_mut_ptr().cast();
    let mut totals = [0.0_f32; BLOCKED_ROWS * LANES];
    let totals = totals.as_mut_ptr();
    let mut start = 0;
    while start < inputs {
        let count = RUN.min(inputs - start);
        // SAFETY: a run is at most as long as there is room for, in whole units.
        unsafe { data.widen::<L>(panel, [start, count], wide) };
        let mut row = 0;
        while row < rows {
            // SAFETY: the rows that are left exist, and there are totals for them, one after another.
            row += unsafe {
                let x = job.x.data.as_ptr().add(row * inputs + start);
                any_tile::<L>(x, inputs, wide, count, rows - row, totals.add(row * LANES))
            };
        }
        start += count;
    }
    for row in 0..rows {
        // SAFETY: sixteen values each; row and panel exist.
        unsafe {
            let total = L::load(totals.add(row * LANES));
            job.target.store(total, row, panel);
        }
    }
}
