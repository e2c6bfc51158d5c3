//! Products with quantised weights: exact integer sums over blocks of 32, scaled in one fixed order.
//!
//! A row of activations is quantised block by block to signed bytes ([`activations`]); then, for each
//! output, blocks upwards: `total = total + f32(sum) * (weight scale * activation scale)`, where `sum` is the
//! exact integer sum of the block's 32 products. The product of the scales is rounded first, nothing is
//! fused. Rows, threads, tiles and instruction sets take no part in any of it.

pub(crate) mod activations;
mod integers;
pub(crate) mod packed;

use std::ops::Range;

use skein_weights::BlockFormat;

use self::activations::Activations;
use self::integers::{Eight, Form, Four, Integers, MAX_HEIGHT, dispatch_integers};
use self::packed::{BlockMatrix, SCALES_BYTES};
use super::linear::{Machine, PART_PANELS, Target, by_height, runs_of_panels};
use crate::lanes::{InstructionSet, LANES, Lanes, prefetch, prefetch_once};

/// From this many rows on, work is blocked.
pub(crate) const MANY_ROWS: usize = 17;
/// Panels handled together for many rows; of whole parts.
const PANELS: usize = 8;
/// Tiles of rows handled together for many rows.
const TILES: usize = 16;
/// For how many rows of a panel there are totals.
const ROWS: usize = TILES * MAX_HEIGHT;
/// Bytes of a panel handled together for many rows. Two panels of `q8` stay in a first-level cache of 48 KiB beside a
/// tile's activations, one in 32 KiB; `q4` is as fast with 12 to 24 KiB.
const CHUNK_BYTES: usize = 18 << 10;
/// How far ahead weights are asked for, in bytes: a quarter of a microsecond where a core reads fastest.
const AHEAD: usize = 8192;

/// `target = x * w^T`, threads sharing the outputs; `size`: panels of a piece, if there are few rows.
///
/// # Panics
/// If the shapes do not match: the caller's own code fixes them.
pub(crate) fn product(
    Machine { pool, set }: Machine<'_>,
    x: &Activations,
    w: &BlockMatrix,
    target: &Target<'_>,
    size: usize,
) {
    x.check(set, w);
    if x.rows() == 0 {
        return;
    }
    let (panels, tiles) = (w.panels(), x.tiles());
    let job = Job { x, w, target };
    let compute = |panels: Range<usize>, tiles: Range<usize>| {
        let rows = x.rows_of(tiles.clone());
        let share = Share {
            panels: panels.clone(),
            tiles,
        };
        // SAFETY: `set` was detected on this machine, and `x` packed for it; shapes were checked; the panels or
        // the tiles of different shares are disjoint, so are the outputs that they write.
        unsafe {
            run_job(set, &job, share);
            target.finish(rows, panels);
        }
    };
    if x.rows() < MANY_ROWS {
        return runs_of_panels(pool, target, (panels, size), &|panels| {
            compute(panels, 0..tiles)
        });
    }
    // Many rows are shared out as well; those of the same panels follow each other.
    let size = size.next_multiple_of(PART_PANELS).min(PANELS);
    let height = TILES.min(tiles);
    let groups = tiles.div_ceil(height);
    pool.each(panels.div_ceil(size) * groups, &|index| {
        let (share, group) = (index / groups, index % groups);
        compute(
            share * size..panels.min((share + 1) * size),
            group * height..tiles.min((group + 1) * height),
        );
    });
}

/// What a thread computes at a time.
struct Share {
    panels: Range<usize>,
    /// Of the rows.
    tiles: Range<usize>,
}

struct Job<'a> {
    x: &'a Activations,
    w: &'a BlockMatrix,
    target: &'a Target<'a>,
}

dispatch_integers! {
    /// # Safety
    /// `set` is available, the activations are packed for it, shapes match, the outputs of the share are this
    /// thread's alone.
    unsafe fn run_job = job_body(job: &Job<'_>, share: Share)
}

#[inline(always)]
unsafe fn job_body<I: Integers>(job: &Job<'_>, share: Share) {
    // SAFETY: forwarded from the caller of `run_job`.
    unsafe {
        match job.w.format() {
            BlockFormat::Q8 if job.x.rows() < MANY_ROWS => few_rows::<I, Eight>(job, share),
            BlockFormat::Q4 if job.x.rows() < MANY_ROWS => few_rows::<I, Four>(job, share),
            BlockFormat::Q8 if I::ABREAST == 2 => many_rows::<I, Eight, 2>(job, share),
            BlockFormat::Q4 if I::ABREAST == 2 => many_rows::<I, Four, 2>(job, share),
            BlockFormat::Q8 => many_rows::<I, Eight, 1>(job, share),
            BlockFormat::Q4 => many_rows::<I, Four, 1>(job, share),
        }
    }
}

/// Few rows: each panel streams through once, all tiles over it while it is in the first-level cache.
///
/// # Safety
/// As for [`run_job`].
#[inline(always)]
unsafe fn few_rows<I: Integers, F: Form>(job: &Job<'_>, share: Share) {
    let whole = 0..job.w.blocks();
    for panel in share.panels {
        for tile in share.tiles.clone() {
            let rows = job.x.tile_rows(tile);
            // SAFETY: the tile has `R` rows; the panel is one of the share's.
            unsafe {
                by_height!(rows.len(), R => {
                    let mut total = [[I::Floats::splat(0.0); R]];
                    run::<I, F, R, 1, true>(job, rows.start, panel, whole.clone(), &mut total);
                    for (r, total) in total[0].into_iter().enumerate() {
                        job.target.store(total, rows.start + r, panel);
                    }
                })
            }
        }
    }
}

/// Many rows: up to [`PANELS`] over up to [`TILES`], a chunk of blocks after another, so that the chunk of `P` panels
/// stays in the first-level cache while the tiles pass, and that of the tiles in the second-level one. Totals wait in
/// memory between chunks.
///
/// # Safety
/// As for [`run_job`].
#[inline(always)]
unsafe fn many_rows<I: Integers, F: Form, const P: usize>(job: &Job<'_>, share: Share) {
    let Share { panels, tiles } = share;
    let blocks = job.w.blocks();
    // Of even size: totals go through memory for each chunk, which a short one would not be worth.
    let count = (blocks * F::STRIDE).div_ceil(CHUNK_BYTES).max(1);
    let size = blocks.div_ceil(count);
    let mut totals = vec![0.0f32; panels.len() * ROWS * LANES];
    let mut block = 0;
    while block < blocks {
        let chunk = block..blocks.min(block + size);
        let mut index = 0;
        while index < panels.len() {
            let (panel, abreast) = (panels.start + index, P.min(panels.len() - index));
            let totals = &mut totals[index * ROWS * LANES..];
            // SAFETY: the panels and tiles are the share's; there are totals for the tiles' rows.
            unsafe {
                if abreast == P {
                    over_tiles::<I, F, P>(job, tiles.clone(), panel, chunk.clone(), totals);
                } else {
                    over_tiles::<I, F, 1>(job, tiles.clone(), panel, chunk.clone(), totals);
                }
            }
            index += if abreast == P { P } else { 1 };
        }
        block = chunk.end;
    }
    for (index, panel) in panels.enumerate() {
        for (place, tile) in tiles.clone().enumerate() {
            let totals = &totals[(index * ROWS + place * MAX_HEIGHT) * LANES..];
            for (row, total) in job.x.tile_rows(tile).zip(totals.chunks_exact(LANES)) {
                // SAFETY: sixteen values; row and panel exist.
                unsafe {
                    job.target
                        .store(I::Floats::load(total.as_ptr()), row, panel)
                };
            }
        }
    }
}

/// [`run`] for some tiles, with totals that wait in memory: of a panel, [`ROWS`] times sixteen.
///
/// # Safety
/// As for [`run`]; `totals` holds those of the panels, as far as the tiles have rows.
#[inline(always)]
unsafe fn over_tiles<I: Integers, F: Form, const P: usize>(
    job: &Job<'_>,
    tiles: Range<usize>,
    panel: usize,
    blocks: Range<usize>,
    totals: &mut [f32],
) {
    for (place, tile) in tiles.enumerate() {
        let rows = job.x.tile_rows(tile);
        let totals = &mut totals[place * MAX_HEIGHT * LANES..];
        // SAFETY: the tile has `R` rows; the rest is the caller's.
        unsafe {
            by_height!(rows.len(), R => {
                stored_run::<I, F, R, P>(job, rows.start, panel, blocks.clone(), totals)
            })
        }
    }
}

/// As [`over_tiles`], for the tile of `R` rows that begins at `row`, whose totals are the first.
///
/// # Safety
/// As for [`run`]; `totals` holds those of the panels.
#[inline(always)]
unsafe fn stored_run<I: Integers, F: Form, const R: usize, const P: usize>(
    job: &Job<'_>,
    row: usize,
    panel: usize,
    blocks: Range<usize>,
    totals: &mut [f32],
) {
    // SAFETY: the caller's.
    unsafe {
        let mut total = [[I::Floats::splat(0.0); R]; P];
        for (total, stored) in total.iter_mut().zip(totals.chunks(ROWS * LANES)) {
            for (total, stored) in total.iter_mut().zip(stored.chunks_exact(LANES)) {
                *total = I::Floats::load(stored.as_ptr());
            }
        }
        run::<I, F, R, P, false>(job, row, panel, blocks, &mut total);
        for (total, stored) in total.iter().zip(totals.chunks_mut(ROWS * LANES)) {
            for (total, stored) in total.iter().zip(stored.chunks_exact_mut(LANES)) {
                total.store(stored.as_mut_ptr());
            }
        }
    }
}

/// Adds some blocks of `P` panels to the totals of the tile of `R` rows that begins at `row`. `FRESH`: the panels
/// come from memory, one stream.
///
/// # Safety
/// As for [`run_job`]; the tile, the panels and the blocks exist.
#[inline(always)]
unsafe fn run<I: Integers, F: Form, const R: usize, const P: usize, const FRESH: bool>(
    job: &Job<'_>,
    row: usize,
    panel: usize,
    blocks: Range<usize>,
    total: &mut [[I::Floats; R]; P],
) {
    // SAFETY: a panel has blocks of `F::STRIDE` bytes, a tile as many times `R` scales, starts and packed quads.
    unsafe {
        let mut w = [std::ptr::null::<u8>(); P];
        for (p, w) in w.iter_mut().enumerate() {
            *w = job.w.panel(panel + p).add(blocks.start * F::STRIDE);
        }
        let (x, scales, starts) = job.x.pointers(row);
        let step = job.x.block_bytes() * R;
        let mut x = x.add(blocks.start * step);
        let mut scales = scales.add(blocks.start * R);
        let mut starts = starts.add(blocks.start * R);
        for _ in blocks {
            if FRESH {
                let mut line = 0;
                while line < F::STRIDE {
                    let next = w[0].wrapping_add(AHEAD + line);
                    if job.x.tiles() == 1 {
                        prefetch_once(next);
                    } else {
                        prefetch(next);
                    }
                    line += 64;
                }
            }
            let sums = F::sums::<I, R, P>(x, w, starts);
            let mut p = 0;
            while p < P {
                let weight_scales = I::load_f16(w[p].cast());
                let mut r = 0;
                while r < R {
                    let scale = weight_scales.mul(I::Floats::splat(*scales.add(r)));
                    total[p][r] = total[p][r].add(sums[p][r].mul(scale));
                    r += 1;
                }
                w[p] = w[p].add(F::STRIDE);
                p += 1;
            }
            x = x.add(step);
            scales = scales.add(R);
            starts = starts.add(R);
        }
    }
}

const _: () = assert!(SCALES_BYTES == 2 * LANES);
const _: () = assert!(PANELS.is_multiple_of(PART_PANELS));

#[cfg(test)]
mod tests;
