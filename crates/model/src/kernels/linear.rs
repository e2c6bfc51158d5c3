//! Products with weight matrices, in the one order that everything else stands on.
//!
//! `y[o] = sum over k of x[k] * w[o][k]`: one accumulator per output walks `k` upwards with fused
//! multiply-adds; after every [`RUN`] steps it is added to a running total and starts again at
//! zero. Nothing else takes part, so rows, batch, threads and vector width cannot change a bit.
//!
//! Sixteen outputs are interleaved in memory (a *panel*: `[k][16]`), so that vector lanes are
//! outputs and a thread reads contiguous streams. With few rows several panels are walked abreast:
//! one chain of multiply-adds would wait for its own latency instead of for memory. `bf16` weights take twelve bits
//! each where they can ([`compact`]).

pub(crate) mod compact;
mod compact_rows;
mod target;
mod tile;

use std::ops::Range;

use skein_weights::{BlockFormat, Dtype};

use self::compact::{CompactMatrix, CompactPacker};
use self::compact_rows::compact_rows;
pub(crate) use self::target::{Epilogue, Finished, PART_PANELS, Target};
pub(crate) use self::tile::{Along, NextRun, Nothing, RUN, Weight, ask, tile};
use super::quantised;
use super::quantised::activations::Activations;
use super::quantised::packed::{BlockMatrix, BlockPacker};
use crate::lanes::{InstructionSet, LANES, Lanes, dispatch};
use crate::memory::{Buffer, Plain, SharedMut};
use crate::pool::{Ahead, Pool};

/// Steps of `k` handled at a time for many rows; a multiple of [`RUN`], so that the cut is
/// invisible. Four panels of it (128 KiB as f32) stay in the second-level cache.
const STEP: usize = 512;
/// Panels handled together for many rows: each row tile is then read once for 64 outputs.
const GROUP: usize = 4;
/// Panels that a single row walks abreast.
const ABREAST: usize = 4;
/// Pieces of a product with few rows, for each thread, so that who is through first can help: a step of one row waits at
/// a hundred places for the slower thread and, where each core has a way to memory of its own, nobody reads faster for
/// another's being through. [`Pool::runs`] takes several at a time.
const PIECES: usize = 24;
/// From this many rows on, work is blocked, and `bf16` weights are widened once into a scratch.
const BLOCKED_ROWS: usize = 17;

/// Weights of a projection, packed for the kernels.
#[derive(Debug)]
pub(crate) struct Matrix {
    outputs: usize,
    inputs: usize,
    data: Data,
}

#[derive(Debug)]
enum Data {
    F32(Buffer<f32>),
    Bf16(Buffer<u16>),
    Compact(CompactMatrix),
    Blocks(BlockMatrix),
}

/// Rows of values with a stride.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) width: usize,
    pub(crate) count: usize,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(data: &'a [f32], width: usize) -> Self {
        assert_eq!(data.len() % width, 0, "rows are whole");
        Self {
            data,
            width,
            count: data.len() / width,
        }
    }
}

impl Matrix {
    /// Room for `outputs * inputs` weights; fill it through [`Matrix::packer`].
    pub(crate) fn zeroed(outputs: usize, inputs: usize, dtype: Dtype) -> Self {
        let len = outputs.div_ceil(LANES) * LANES * inputs;
        let data = match (dtype, dtype.blocks()) {
            (_, Some(format)) => Data::Blocks(BlockMatrix::zeroed(outputs, inputs, format)),
            (Dtype::Bf16, None) => Data::Bf16(Buffer::zeroed(len)),
            (_, None) => Data::F32(Buffer::zeroed(len)),
        };
        Self {
            outputs,
            inputs,
            data,
        }
    }

    /// The same for `bf16` in twelve bits, if they will do: [`Packer::pack_bf16`] tells.
    pub(crate) fn compact(outputs: usize, inputs: usize) -> Self {
        Self {
            outputs,
            inputs,
            data: Data::Compact(CompactMatrix::zeroed(outputs, inputs)),
        }
    }

    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.data {
            Data::F32(data) => data.as_slice().len() as u64 * 4,
            Data::Bf16(data) => data.as_slice().len() as u64 * 2,
            Data::Compact(data) => data.bytes(),
            Data::Blocks(data) => data.bytes(),
        }
    }

    /// The format of its weights, where they are in blocks.
    pub(crate) fn format(&self) -> Option<BlockFormat> {
        match &self.data {
            Data::Blocks(data) => Some(data.format()),
            Data::F32(_) | Data::Bf16(_) | Data::Compact(_) => None,
        }
    }

    /// Panels of a piece of a product with few rows; `whole`: whole parts.
    fn piece_panels(&self, threads: usize, whole: bool) -> usize {
        let size = self.outputs.div_ceil(LANES).div_ceil(threads * PIECES);
        match size / PART_PANELS {
            // Small blocks may be dealt out one panel at a time, floats are walked abreast.
            0 if self.format().is_some() && !whole => size,
            groups => groups.max(1) * PART_PANELS,
        }
    }

    /// What threads read in a product with few rows; `whole`: somebody comes [after it](Epilogue::then).
    pub(crate) fn ahead(&self, threads: usize, whole: bool) -> Ahead {
        let (first, panel) = match &self.data {
            Data::F32(data) => (data.as_slice().as_ptr().cast(), 4 * LANES * self.inputs),
            Data::Bf16(data) => (data.as_slice().as_ptr().cast(), 2 * LANES * self.inputs),
            Data::Compact(data) => data.panels(),
            Data::Blocks(data) => (data.panel(0), data.panel_bytes()),
        };
        let size = self.piece_panels(threads, whole);
        Ahead {
            first,
            shares: self.outputs.div_ceil(LANES).div_ceil(size.max(1)),
            share_bytes: size * panel,
            threads,
        }
    }

    /// The matrix, where it is one of blocks.
    #[cfg(feature = "cuda")]
    pub(crate) fn blocks(&self) -> Option<&BlockMatrix> {
        match &self.data {
            Data::Blocks(data) => Some(data),
            Data::F32(_) | Data::Bf16(_) | Data::Compact(_) => None,
        }
    }

    /// A view through which threads fill disjoint panels.
    pub(crate) fn packer(&mut self) -> Packer {
        let data = match &mut self.data {
            Data::F32(data) => PackerData::F32(SharedMut::new(data.as_mut_slice())),
            Data::Bf16(data) => PackerData::Bf16(SharedMut::new(data.as_mut_slice())),
            Data::Compact(data) => PackerData::Compact(data.packer()),
            Data::Blocks(data) => PackerData::Blocks(data.packer()),
        };
        Packer {
            inputs: self.inputs,
            data,
        }
    }

    /// Copies row `output` (an embedding, where the head is tied to it) to `to`, widened.
    pub(crate) fn unpack_row(&self, output: usize, to: &mut [f32]) {
        match &self.data {
            Data::F32(data) => self.unpack(data, output, to),
            Data::Bf16(data) => self.unpack(data, output, to),
            Data::Compact(data) => data.unpack_row(output, to),
            Data::Blocks(data) => data.unpack_row(output, to),
        }
    }

    fn unpack<W: Weight + Plain>(&self, data: &Buffer<W>, output: usize, to: &mut [f32]) {
        let start = (output / LANES) * LANES * self.inputs + W::place(output % LANES);
        let source = data.as_slice()[start..].iter().step_by(LANES);
        to.iter_mut()
            .zip(source)
            .for_each(|(to, value)| *to = value.widen());
    }
}

/// See [`Matrix::packer`].
pub(crate) struct Packer {
    inputs: usize,
    data: PackerData,
}

enum PackerData {
    F32(SharedMut<f32>),
    Bf16(SharedMut<u16>),
    Compact(CompactPacker),
    Blocks(BlockPacker),
}

impl Packer {
    /// Interleaves row-major rows, the first being output `output`, a multiple of 16.
    ///
    /// # Safety
    /// The matrix is of `f32`, is still borrowed, has those outputs, and no other thread touches
    /// their panels.
    pub(crate) unsafe fn pack_f32(&self, output: usize, rows: &[f32]) {
        let PackerData::F32(data) = &self.data else {
            unreachable!("the caller's promise")
        };
        // SAFETY: the caller's promise.
        unsafe { interleave(data, self.inputs, output, rows) }
    }

    /// As [`Self::pack_f32`], for `bf16`. `false`: the matrix was to be [compact](Matrix::compact) and cannot be.
    ///
    /// # Safety
    /// As for [`Self::pack_f32`], the matrix being of `bf16`.
    #[must_use]
    pub(crate) unsafe fn pack_bf16(&self, output: usize, rows: &[u16]) -> bool {
        match &self.data {
            PackerData::Bf16(data) => {
                // SAFETY: the caller's promise.
                unsafe { interleave(data, self.inputs, output, rows) };
                true
            }
            // SAFETY: the caller's promise.
            PackerData::Compact(packer) => unsafe { packer.pack(output, rows) },
            PackerData::F32(_) | PackerData::Blocks(_) => unreachable!("the caller's promise"),
        }
    }

    /// As [`Self::pack_f32`], for rows of blocks as they are stored.
    ///
    /// # Safety
    /// As for [`Self::pack_f32`], the matrix being of blocks of that format.
    pub(crate) unsafe fn pack_blocks(&self, output: usize, rows: &[u8]) {
        let PackerData::Blocks(packer) = &self.data else {
            unreachable!("the caller's promise")
        };
        // SAFETY: the caller's promise.
        unsafe { packer.pack(output, rows) }
    }
}

/// # Safety
/// As for [`Packer::pack_f32`].
unsafe fn interleave<W: Weight>(data: &SharedMut<W>, inputs: usize, output: usize, rows: &[W]) {
    for (panel, rows) in rows.chunks(LANES * inputs).enumerate() {
        let start = (output / LANES + panel) * LANES * inputs;
        // SAFETY: the caller says that these panels exist and are this thread's alone.
        let to = unsafe { data.range(start, LANES * inputs) };
        for (lane, row) in rows.chunks_exact(inputs).enumerate() {
            for (k, value) in row.iter().enumerate() {
                to[k * LANES + W::place(lane)] = *value;
            }
        }
    }
}

/// Who computes, and with what.
#[derive(Clone, Copy)]
pub(crate) struct Machine<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) set: InstructionSet,
}

/// The left-hand side of a product.
pub(crate) enum Operand<'a> {
    /// Rows of values, and memory to quantise them in where the weights are in blocks.
    Values(Rows<'a>, &'a mut Activations),
    /// Rows that have been quantised for weights of that format.
    Quantised(&'a Activations),
}

/// `out = x * w^T` (then the epilogue): `x` is `[rows, inputs]`, `w` `[outputs, inputs]`, `out`
/// `[rows, outputs]`. Threads split the outputs.
///
/// # Panics
/// If the shapes or formats do not match: the caller's own code fixes them.
pub(crate) fn linear(
    machine: Machine<'_>,
    x: Operand<'_>,
    w: &Matrix,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
) {
    let Machine { pool, set } = machine;
    let size = w.piece_panels(pool.threads(), epilogue.then.is_some());
    if let Operand::Values(x, _) = &x {
        assert_eq!(x.width, w.inputs, "inputs match");
    }
    match (&w.data, x) {
        (Data::Blocks(blocks), x) => {
            let x = match x {
                Operand::Quantised(x) => x,
                Operand::Values(x, room) => {
                    room.quantise(pool, set, blocks.format(), x);
                    &*room
                }
            };
            let target = Target::new(x.rows(), w.outputs, epilogue, out);
            pool.announce(epilogue.ahead);
            quantised::product(machine, x, blocks, &target, size)
        }
        (_, Operand::Values(x, _)) => {
            let target = Target::new(x.count, w.outputs, epilogue, out);
            pool.announce(epilogue.ahead);
            product_of_floats(machine, x, w, &target, size)
        }
        (_, Operand::Quantised(_)) => unreachable!("rows are quantised for weights in blocks"),
    }
}

/// Calls `work` for runs of pieces of `size` panels; for each piece where somebody comes after, who shall find it in the
/// thread's caches.
pub(crate) fn runs_of_panels(
    pool: &Pool,
    target: &Target<'_>,
    (panels, size): (usize, usize),
    work: &(dyn Fn(Range<usize>) + Sync),
) {
    pool.runs(panels.div_ceil(size), &|run| {
        let step = if target.is_followed() { 1 } else { run.len() };
        for piece in run.clone().step_by(step) {
            let end = run.end.min(piece + step);
            work(piece * size..panels.min(end * size));
        }
    });
}

/// `size`: panels of a piece, if there are few rows.
fn product_of_floats(
    Machine { pool, set }: Machine<'_>,
    x: Rows<'_>,
    w: &Matrix,
    target: &Target<'_>,
    size: usize,
) {
    const { assert!(PART_PANELS.is_multiple_of(ABREAST)) };
    if x.count == 0 {
        return;
    }
    let panels = w.outputs.div_ceil(LANES);
    let compute = |range: Range<usize>| {
        let job = Job {
            x,
            w,
            target,
            first: range.start,
            last: range.end,
        };
        // SAFETY: `set` was detected on this machine; shapes were checked; the panels of
        // different calls are disjoint, so are the outputs that they write.
        unsafe {
            run_job(set, &job);
            target.finish(0..x.count, range);
        }
    };
    if x.count >= BLOCKED_ROWS {
        let size = if target.is_followed() { PART_PANELS } else { 1 };
        return pool.split(panels.div_ceil(size), &|parts| {
            compute(parts.start * size..panels.min(parts.end * size));
        });
    }
    runs_of_panels(pool, target, (panels, size), &compute);
}

/// What a thread computes of a product: panels `first..last`.
struct Job<'a> {
    x: Rows<'a>,
    w: &'a Matrix,
    target: &'a Target<'a>,
    first: usize,
    last: usize,
}

dispatch! {
    /// # Safety
    /// `set` is available, the job's shapes match, its outputs are this thread's alone.
    unsafe fn run_job = job_body(job: &Job<'_>)
}

#[inline(always)]
unsafe fn job_body<L: Lanes>(job: &Job<'_>) {
    // SAFETY: forwarded from the caller of `run_job`.
    unsafe {
        match &job.w.data {
            Data::F32(data) if job.x.count < BLOCKED_ROWS => few_rows::<L, f32>(job, data),
            Data::Bf16(data) if job.x.count < BLOCKED_ROWS => few_rows::<L, u16>(job, data),
            Data::Compact(data) if job.x.count < BLOCKED_ROWS => compact_rows::<L>(job, data),
            _ => many_rows::<L>(job),
        }
    }
}

/// Rows of the next tile when `left` are left: as few tiles as registers allow, of even height, so
/// that no short one idles on the latency of its multiply-adds.
#[inline(always)]
pub(crate) fn tile_height<L: Lanes>(left: usize) -> usize {
    left.div_ceil(left.div_ceil(L::TILE_ROWS))
}

/// Calls `$body` with the constant `$r` equal to `$height`, which [`tile_height`] gave.
macro_rules! by_height {
    ($height:expr, $r:ident => $body:expr) => {
        match $height {
            1 => {
                const $r: usize = 1;
                $body
            }
            2 => {
                const $r: usize = 2;
                $body
            }
            3 => {
                const $r: usize = 3;
                $body
            }
            4 => {
                const $r: usize = 4;
                $body
            }
            5 => {
                const $r: usize = 5;
                $body
            }
            6 => {
                const $r: usize = 6;
                $body
            }
            7 => {
                const $r: usize = 7;
                $body
            }
            _ => {
                const $r: usize = 8;
                $body
            }
        }
    };
}
pub(crate) use by_height;

/// All rows over each panel: the weights stream through once, from memory.
///
/// # Safety
/// As for [`run_job`].
#[inline(always)]
unsafe fn few_rows<L: Lanes, W: Weight + Plain>(job: &Job<'_>, data: &Buffer<W>) {
    // SAFETY: the caller's; `R` is the number of rows.
    unsafe {
        match job.x.count {
            1 => abreast::<L, W, 1, ABREAST>(job, data),
            2 => abreast::<L, W, 2, 2>(job, data),
            _ => by_tiles::<L, W>(job, data),
        }
    }
}

/// `R` rows, all there are, over `P` panels at a time.
///
/// # Safety
/// As for [`run_job`]; the job has `R` rows.
#[inline(always)]
unsafe fn abreast<L: Lanes, W: Weight + Plain, const R: usize, const P: usize>(
    job: &Job<'_>,
    data: &Buffer<W>,
) {
    let mut panel = job.first;
    // SAFETY: `panel + P <= last`, then `panel < last`.
    unsafe {
        while panel + P <= job.last {
            rows_of_panels::<L, W, R, P>(job, data, 0, panel);
            panel += P;
        }
        while panel < job.last {
            rows_of_panels::<L, W, R, 1>(job, data, 0, panel);
            panel += 1;
        }
    }
}

/// One tile of rows after another over each panel.
///
/// # Safety
/// As for [`run_job`].
#[inline(always)]
unsafe fn by_tiles<L: Lanes, W: Weight + Plain>(job: &Job<'_>, data: &Buffer<W>) {
    // No closure here: it would be compiled without the instruction set.
    for panel in job.first..job.last {
        let mut row = 0;
        while row < job.x.count {
            row += by_height!(tile_height::<L>(job.x.count - row), R => {
                // SAFETY: a tile is at most as high as rows are left.
                unsafe { rows_of_panels::<L, W, R, 1>(job, data, row, panel) };
                R
            });
        }
    }
}

/// # Safety
/// As for [`run_job`]; rows `row..row + R` and panels `panel..panel + P` exist.
#[inline(always)]
unsafe fn rows_of_panels<L: Lanes, W: Weight + Plain, const R: usize, const P: usize>(
    job: &Job<'_>,
    data: &Buffer<W>,
    row: usize,
    panel: usize,
) {
    let inputs = job.w.inputs;
    // SAFETY: a panel has `LANES * inputs` weights, a row `inputs` values.
    unsafe {
        let x = job.x.data.as_ptr().add(row * inputs);
        let first = data.as_slice().as_ptr().add(panel * LANES * inputs);
        let w = std::array::from_fn(|p| first.add(p * LANES * inputs));
        let mut total = [[L::splat(0.0); R]; P];
        // Several panels are several streams, and the processor follows them by itself; asking for the lines of all
        // of them at once costs a fifth of the speed.
        if P == 1 {
            tile((x, inputs), (w, LANES), inputs, &mut total, NextRun);
        } else {
            tile((x, inputs), (w, LANES), inputs, &mut total, Nothing);
        }
        for (p, total) in total.into_iter().enumerate() {
            for (r, total) in total.into_iter().enumerate() {
                job.target.store(total, row + r, panel + p);
            }
        }
    }
}

/// Blocked over `k` and panels: each weight is read from memory once for all rows.
///
/// # Safety
/// As for [`run_job`].
#[inline(always)]
unsafe fn many_rows<L: Lanes>(job: &Job<'_>) {
    let rows = job.x.count;
    let mut scratch = vec![0.0f32; GROUP * STEP * LANES];
    let mut totals = vec![0.0f32; GROUP * rows * LANES];
    let mut panel = job.first;
    while panel < job.last {
        let group = GROUP.min(job.last - panel);
        totals.fill(0.0);
        let mut k = 0;
        while k < job.w.inputs {
            let count = STEP.min(job.w.inputs - k);
            // SAFETY: `panel + group <= last`, `k + count <= inputs`; buffers sized above.
            unsafe { group_step::<L>(job, [panel, group], [k, count], &mut scratch, &mut totals) };
            k += count;
        }
        for (index, totals) in totals.chunks_exact(rows * LANES).take(group).enumerate() {
            for (row, total) in totals.chunks_exact(LANES).enumerate() {
                // SAFETY: sixteen values; row and panel exist.
                unsafe {
                    job.target
                        .store(L::load(total.as_ptr()), row, panel + index)
                };
            }
        }
        panel += group;
    }
}

/// # Safety
/// As for [`run_job`]; `panel..panel + group` and `k..k + count` exist.
#[inline(always)]
unsafe fn group_step<L: Lanes>(
    job: &Job<'_>,
    [panel, group]: [usize; 2],
    [k, count]: [usize; 2],
    scratch: &mut [f32],
    totals: &mut [f32],
) {
    let (rows, inputs) = (job.x.count, job.w.inputs);
    let mut weights = [std::ptr::null::<f32>(); GROUP];
    let rooms = scratch.chunks_exact_mut(STEP * LANES);
    for (index, (weights, to)) in weights.iter_mut().zip(rooms).enumerate().take(group) {
        let start = ((panel + index) * inputs + k) * LANES;
        *weights = match &job.w.data {
            Data::F32(data) => data.as_slice()[start..start + count * LANES].as_ptr(),
            Data::Bf16(data) => {
                let from = &data.as_slice()[start..start + count * LANES];
                let room = to.as_mut_ptr();
                for (step, from) in from.chunks_exact(LANES).enumerate() {
                    // SAFETY: chunks of sixteen, and room for a step of as many.
                    unsafe { L::load_bf16(from.as_ptr()).store(room.add(step * LANES)) };
                }
                room
            }
            Data::Compact(data) => {
                let room = to.as_mut_ptr();
                // SAFETY: there is room for a step, which is of whole units; the inputs exist.
                unsafe { data.widen::<L>(panel + index, [k, count], room) };
                room
            }
            Data::Blocks(_) => unreachable!("blocks have a product of their own"),
        };
    }
    let mut row = 0;
    while row < rows {
        let left = rows - row;
        // SAFETY: `row < rows`, so the tile's rows exist; `k + count <= inputs`.
        let x = unsafe { job.x.data.as_ptr().add(row * inputs + k) };
        let mut done = 0;
        for (index, weights) in weights.iter().enumerate().take(group) {
            let total = &mut totals[(index * rows + row) * LANES..];
            // SAFETY: the weights have `count` steps, `total` room for the tile's rows.
            done = unsafe { any_tile::<L>(x, inputs, *weights, count, left, total.as_mut_ptr()) };
        }
        row += done;
    }
}

/// Picks the tallest tile that fits into `left` rows; returns its height.
///
/// # Safety
/// As for [`tile()`]; `totals` has room for the tile's rows of sixteen.
#[inline(always)]
unsafe fn any_tile<L: Lanes>(
    x: *const f32,
    x_stride: usize,
    w: *const f32,
    count: usize,
    left: usize,
    totals: *mut f32,
) -> usize {
    // SAFETY: the caller's.
    unsafe {
        by_height!(tile_height::<L>(left), R => {
            stored_tile::<L, R>(x, x_stride, w, count, totals)
        })
    }
}

/// [`tile()`] with running totals kept in memory between steps of `k`.
///
/// # Safety
/// As for [`any_tile`].
#[inline(always)]
unsafe fn stored_tile<L: Lanes, const R: usize>(
    x: *const f32,
    x_stride: usize,
    w: *const f32,
    count: usize,
    totals: *mut f32,
) -> usize {
    // SAFETY: the caller's.
    unsafe {
        let mut total = [[L::splat(0.0); R]];
        for (r, total) in total[0].iter_mut().enumerate() {
            *total = L::load(totals.add(r * LANES));
        }
        tile((x, x_stride), ([w], LANES), count, &mut total, Nothing);
        for (r, total) in total[0].into_iter().enumerate() {
            total.store(totals.add(r * LANES));
        }
    }
    R
}

#[cfg(test)]
mod tests;
