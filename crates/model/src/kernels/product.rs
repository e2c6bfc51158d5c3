//! Products of matrices that change at every step, for training.
//!
//! `out[r][c] = sum over k of a[r][k] * b[k][c]` in one order: fused multiply-adds into one
//! accumulator per output over [`BLOCK`] steps of `k`, then the blocks one after another. Neither
//! threads nor vector width nor other rows and columns take part, so they cannot change a bit.
//!
//! Goto and van de Geijn's scheme (2008): `b` is packed into panels of sixteen columns that stay in
//! the first-level cache, a block of rows of `a` into slivers of a register tile's height that stay
//! in the second-level cache.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::lanes::{InstructionSet, LANES, Lanes, dispatch};
use crate::memory::{Buffer, SharedMut};
use crate::pool::Pool;

/// Steps of `k` summed in registers: a panel of `b` takes 16 KiB, half of a first-level cache.
const BLOCK: usize = 256;
/// Steps of `k` packed at a time: a piece of a panel takes one KiB.
const PIECE: usize = 16;
/// Most rows of `a` packed at a time: 96 KiB with [`BLOCK`], a part of the second-level cache.
const ROWS_MAX: usize = 96;
/// Rows of `a` are shared out in multiples of this, which every tile height divides.
const ROWS_STEP: usize = 24;
/// Shares of rows for each thread, so that no thread waits long for the last one.
const SHARES: usize = 4;

/// A matrix inside a slice: value `(row, column)` is `data[row * row_step + column * column_step]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_step: usize,
    column_step: usize,
}

impl<'a, T> View<'a, T> {
    /// Row after row, `columns` values each.
    pub(crate) fn new(data: &'a [T], columns: usize) -> Self {
        let rows = data.len() / columns;
        Self::strided(data, [rows, columns], columns)
    }

    /// Rows of `columns` values, `row_step` apart.
    ///
    /// # Panics
    /// If `data` is shorter.
    pub(crate) fn strided(data: &'a [T], [rows, columns]: [usize; 2], row_step: usize) -> Self {
        assert!(columns <= row_step, "rows do not overlap");
        assert!(
            rows == 0 || (rows - 1) * row_step + columns <= data.len(),
            "rows are inside"
        );
        Self {
            data,
            rows,
            columns,
            row_step,
            column_step: 1,
        }
    }

    /// Rows as columns.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_step: self.column_step,
            column_step: self.row_step,
            ..self
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }
}

impl<T: Copy> View<'_, T> {
    /// The value at `row` and `column`.
    #[inline(always)]
    pub(crate) fn at(&self, row: usize, column: usize) -> T {
        self.data[row * self.row_step + column * self.column_step]
    }
}

/// What a product is added to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a, T> {
    /// Nothing: `out` is overwritten.
    Zero,
    /// What `out` holds.
    Held,
    /// One value per column, the same in every row.
    Bias(&'a [T]),
}

/// The right-hand side of a product, packed: blocks of `k`, in each the panels, in each
/// `[k][16]`; columns beyond the last are zero.
#[derive(Debug)]
pub(crate) struct Packed {
    inner: usize,
    columns: usize,
    data: Buffer<f32>,
}

impl Packed {
    /// Packs `b`; threads share the panels.
    pub(crate) fn new(pool: &Pool, b: View<'_, f32>) -> Self {
        let mut packed = Self::zeroed(b);
        let (panels, shared) = (packed.panels(), SharedMut::new(packed.data.as_mut_slice()));
        pool.split(panels, &|range| {
            // SAFETY: the ranges of the threads are disjoint.
            unsafe { pack_panels(b, panels, range, &shared) }
        });
        packed
    }

    /// As [`Self::new`], on the calling thread alone.
    pub(crate) fn here(b: View<'_, f32>) -> Self {
        let mut packed = Self::zeroed(b);
        let (panels, shared) = (packed.panels(), SharedMut::new(packed.data.as_mut_slice()));
        // SAFETY: nobody else sees the buffer.
        unsafe { pack_panels(b, panels, 0..panels, &shared) };
        packed
    }

    /// # Panics
    /// If there is nothing to sum over: then a product has no place to start from.
    fn zeroed(b: View<'_, f32>) -> Self {
        assert!(b.rows > 0, "at least one step");
        Self {
            inner: b.rows,
            columns: b.columns,
            data: Buffer::zeroed(b.rows * b.columns.next_multiple_of(LANES)),
        }
    }

    fn panels(&self) -> usize {
        self.columns.div_ceil(LANES)
    }
}

/// Fills the panels of `range`, whose places start out zero.
///
/// # Safety
/// `to` is the buffer of a [`Packed`] of `b`; nobody else touches these panels meanwhile.
unsafe fn pack_panels(b: View<'_, f32>, panels: usize, range: Range<usize>, to: &SharedMut<f32>) {
    for start in (0..b.rows).step_by(BLOCK) {
        let count = BLOCK.min(b.rows - start);
        // A few rows at a time over all panels: both sides are then walked in runs.
        for piece in (0..count).step_by(PIECE) {
            let steps = PIECE.min(count - piece);
            for panel in range.clone() {
                let place = (start * panels + panel * count + piece) * LANES;
                // SAFETY: inside the buffer, and the caller's promise.
                unsafe {
                    let to = to.range(place, steps * LANES).as_mut_ptr();
                    let first = [panel * LANES, start + piece];
                    pack_piece::<LANES>(b.transposed(), first, steps, to);
                }
            }
        }
    }
}

/// Fills `to`, `count` groups of `N`, with columns `step..` of the rows `first..first + N` of `a`, a
/// group for each column; of rows beyond the last, nothing is written.
///
/// # Safety
/// Row `first` and the columns exist; `to` has room for the groups, which nobody else touches.
#[inline(always)]
unsafe fn pack_piece<const N: usize>(
    a: View<'_, f32>,
    [first, step]: [usize; 2],
    count: usize,
    to: *mut f32,
) {
    let height = N.min(a.rows - first);
    let from = first * a.row_step + step * a.column_step;
    debug_assert!(from + (height - 1) * a.row_step + (count - 1) * a.column_step < a.data.len());
    // SAFETY: rows below `height` and `count` columns exist; so do `count` groups of `to`.
    unsafe {
        let from = a.data.as_ptr().add(from);
        for k in 0..count {
            let (from, to) = (from.add(k * a.column_step), to.add(k * N));
            match (height == N, a.row_step == 1) {
                // Copies of a known size are a few instructions, others a call.
                (true, true) => std::ptr::copy_nonoverlapping(from, to, N),
                (true, false) => (0..N).for_each(|r| *to.add(r) = *from.add(r * a.row_step)),
                (false, _) => (0..height).for_each(|r| *to.add(r) = *from.add(r * a.row_step)),
            }
        }
    }
}

/// `out = start + a * b`, row after row; threads share the rows.
///
/// # Panics
/// If the shapes do not match: the caller's own code fixes them.
pub(crate) fn product(
    pool: &Pool,
    set: InstructionSet,
    a: View<'_, f32>,
    b: &Packed,
    start: Start<'_, f32>,
    out: &mut [f32],
) {
    let job = Job::new(a, b, start, out);
    let even = a.rows.div_ceil(pool.threads() * SHARES);
    let share = even.next_multiple_of(ROWS_STEP).clamp(ROWS_STEP, ROWS_MAX);
    pool.each(a.rows.div_ceil(share), &|index| {
        let rows = index * share..a.rows.min((index + 1) * share);
        // SAFETY: `set` was detected; shapes were checked; shares of rows are disjoint.
        unsafe { run_job(set, &job, rows) }
    });
}

/// As [`product`], on the calling thread alone.
pub(crate) fn product_here(
    set: InstructionSet,
    a: View<'_, f32>,
    b: &Packed,
    start: Start<'_, f32>,
    out: &mut [f32],
) {
    let job = Job::new(a, b, start, out);
    for first in (0..a.rows).step_by(ROWS_MAX) {
        let rows = first..a.rows.min(first + ROWS_MAX);
        // SAFETY: `set` was detected; shapes were checked; nobody else has `out`.
        unsafe { run_job(set, &job, rows) }
    }
}

struct Job<'a> {
    a: View<'a, f32>,
    b: &'a Packed,
    start: Start<'a, f32>,
    out: SharedMut<f32>,
}

impl<'a> Job<'a> {
    fn new(a: View<'a, f32>, b: &'a Packed, start: Start<'a, f32>, out: &mut [f32]) -> Self {
        assert_eq!(a.columns, b.inner, "inner dimensions match");
        assert_eq!(out.len(), a.rows * b.columns, "the output has their shape");
        if let Start::Bias(bias) = start {
            assert_eq!(bias.len(), b.columns, "a bias for each column");
        }
        Self {
            a,
            b,
            start,
            out: SharedMut::new(out),
        }
    }
}

dispatch! {
    /// At most [`ROWS_MAX`] rows of a product.
    ///
    /// # Safety
    /// `set` is available, the rows exist, their outputs are this thread's alone.
    unsafe fn run_job = job_body(job: &Job<'_>, rows: Range<usize>)
}

#[inline(always)]
unsafe fn job_body<L: Lanes>(job: &Job<'_>, rows: Range<usize>) {
    // SAFETY: forwarded from the caller of `run_job`.
    unsafe {
        match L::TILE_ROWS {
            4 => rows_body::<L, 4>(job, rows),
            6 => rows_body::<L, 6>(job, rows),
            _ => rows_body::<L, 8>(job, rows),
        }
    }
}

/// # Safety
/// As for [`run_job`]; `R` is the tile height of `L`.
#[inline(always)]
unsafe fn rows_body<L: Lanes, const R: usize>(job: &Job<'_>, rows: Range<usize>) {
    // Not cleared: for small products that would cost more than the product.
    let mut slivers = [const { MaybeUninit::<f32>::uninit() }; ROWS_MAX * BLOCK];
    let panels = job.b.panels();
    for start in (0..job.b.inner).step_by(BLOCK) {
        let count = BLOCK.min(job.b.inner - start);
        // SAFETY: the rows exist, and `a` has as many columns as `b` rows.
        unsafe { pack_slivers::<R>(job.a, rows.clone(), start..start + count, &mut slivers) };
        for panel in 0..panels {
            let place = (start * panels + panel * count) * LANES;
            let b = &job.b.data.as_slice()[place..place + count * LANES];
            let mut row = rows.start;
            while row < rows.end {
                let a = &slivers[(row - rows.start) * count..][..R * count];
                // SAFETY: both hold `count` steps, those of `a` written by `pack_slivers`; the
                // tile's rows are among `rows`.
                unsafe {
                    let sums = tile::<L, R>(a.as_ptr().cast(), b.as_ptr(), count);
                    store::<L, R>(job, sums, row..rows.end.min(row + R), panel, start == 0);
                }
                row += R;
            }
        }
    }
}

/// Packs `rows` of `a`, columns `steps`, into slivers `[k][R]`; rows beyond the last are zero. All
/// of the slivers of these rows is written.
///
/// # Safety
/// The rows and columns exist; `to` has room for them.
#[inline(always)]
unsafe fn pack_slivers<const R: usize>(
    a: View<'_, f32>,
    rows: Range<usize>,
    steps: Range<usize>,
    to: &mut [MaybeUninit<f32>],
) {
    let count = steps.len();
    let slivers = rows.len().div_ceil(R);
    if !rows.len().is_multiple_of(R) {
        to[(slivers - 1) * R * count..][..R * count].fill(MaybeUninit::new(0.0));
    }
    for piece in steps.clone().step_by(PIECE) {
        let size = PIECE.min(steps.end - piece);
        for sliver in 0..slivers {
            let place = (sliver * count + piece - steps.start) * R;
            let (first, to) = (rows.start + sliver * R, &mut to[place..place + size * R]);
            // SAFETY: the sliver's first row is among `rows`, the piece among `steps`.
            unsafe { pack_piece::<R>(a, [first, piece], size, to.as_mut_ptr().cast()) };
        }
    }
}

/// `sums[r] = sum over k of a[k][r] * b[k][..]`.
///
/// # Safety
/// As for [`Lanes`]; `a` has `count` steps of `R` values, `b` of sixteen.
#[inline(always)]
unsafe fn tile<L: Lanes, const R: usize>(a: *const f32, b: *const f32, count: usize) -> [L; R] {
    // SAFETY: indices stay below `R * count` and `16 * count`.
    unsafe {
        let mut sums = [L::splat(0.0); R];
        for k in 0..count {
            let columns = L::load(b.add(k * LANES));
            let mut r = 0;
            while r < R {
                sums[r] = L::splat(*a.add(k * R + r)).fma(columns, sums[r]);
                r += 1;
            }
        }
        sums
    }
}

/// Adds the sums of a tile to what the product starts from (`first`) or to what `out` holds.
///
/// # Safety
/// As for [`run_job`]; there are at most `R` rows, and the panel exists.
#[inline(always)]
unsafe fn store<L: Lanes, const R: usize>(
    job: &Job<'_>,
    sums: [L; R],
    rows: Range<usize>,
    panel: usize,
    first: bool,
) {
    let (column, columns) = (panel * LANES, job.b.columns);
    let width = LANES.min(columns - column);
    for (row, sum) in rows.zip(sums) {
        // SAFETY: the columns of this panel in a row of this thread.
        let out = unsafe { job.out.range(row * columns + column, width) };
        let held = match job.start {
            Start::Bias(bias) if first => Some(&bias[column..column + width]),
            Start::Zero if first => None,
            _ => Some(&*out),
        };
        // SAFETY: whole panels have room for sixteen values, others go through a copy.
        unsafe {
            let sum = match held {
                None => sum,
                Some(held) if width == LANES => L::load(held.as_ptr()).add(sum),
                Some(held) => {
                    let mut padded = [0.0; LANES];
                    padded[..width].copy_from_slice(held);
                    L::load(padded.as_ptr()).add(sum)
                }
            };
            if width == LANES {
                sum.store(out.as_mut_ptr());
            } else {
                let mut padded = [0.0; LANES];
                sum.store(padded.as_mut_ptr());
                out.copy_from_slice(&padded[..width]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
