//! Activations as signed bytes with a scale for each row and block of 32.
//!
//! With `a` the largest magnitude of a block: below [`TINY`] scale and values are zero, else `scale = a / 127` and
//! `value = round(x * (127 / a))`, to the nearest, ties to even; so values are in -127..=127. A block that holds
//! an infinity or NaN gets the scale NaN, so that no output of it passes for a number; its values are any bytes.

use skein_weights::BlockFormat;
use skein_weights::blocks::BLOCK;

use super::integers::Packing;
use crate::kernels::linear::Rows;
use crate::lanes::{InstructionSet, LANES, Lanes, dispatch, tree_sum};
use crate::memory::SharedMut;
use crate::pool::Pool;

/// Smaller blocks are zero: the reciprocal of their scale might be no number.
const TINY: f32 = 1e-30;
/// Added to a value below 2^22, it leaves the nearest integer in the lowest bits.
pub(crate) const ROUND: f32 = 12_582_912.0;
/// Fewer values than this are not worth waking other threads for.
const SPLIT_VALUES: usize = 16 << 10;

/// Quantised rows, packed for the kernels of one instruction set: tile after tile, in it block after block, in
/// that group after group of four values, in that row after row.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    rows: usize,
    blocks: usize,
    tiles: usize,
    packing: Packing,
    data: Vec<u8>,
    /// By tile, block and row.
    scales: Vec<f32>,
    /// What a sum starts from, to make up for weights stored without sign; as `scales`.
    starts: Vec<i32>,
}

impl Activations {
    /// Quantises rows for a product with weights of `format`; what was held before is gone.
    pub(crate) fn quantise(
        &mut self,
        pool: &Pool,
        set: InstructionSet,
        format: BlockFormat,
        x: Rows<'_>,
    ) {
        let (packing, height) = Packing::of(set, format);
        let blocks = x.width.div_ceil(BLOCK);
        self.rows = x.count;
        self.blocks = blocks;
        self.tiles = x.count.div_ceil(height);
        self.packing = packing;
        self.data
            .resize(x.count * blocks * packing.block_bytes(), 0);
        self.scales.resize(x.count * blocks, 0.0);
        self.starts.resize(x.count * blocks, 0);
        let data = SharedMut::new(&mut self.data);
        let scales = SharedMut::new(&mut self.scales);
        let starts = SharedMut::new(&mut self.starts);
        let (rows, tiles) = (self.rows, self.tiles);
        let work = |range: std::ops::Range<usize>| {
            for tile in range {
                let rows = tile_rows(rows, tiles, tile);
                let (first, count) = (rows.start * blocks, rows.len() * blocks);
                // SAFETY: tiles are disjoint runs of rows; `set` was detected.
                unsafe {
                    let out = Tile {
                        packing,
                        format,
                        rows: rows.len(),
                        data: data
                            .range(first * packing.block_bytes(), count * packing.block_bytes()),
                        scales: scales.range(first, count),
                        starts: starts.range(first, count),
                    };
                    quantise_tile(
                        set,
                        &x.data[rows.start * x.width..rows.end * x.width],
                        x.width,
                        out,
                    );
                }
            }
        };
        if x.data.len() < SPLIT_VALUES {
            work(0..tiles)
        } else {
            pool.split(tiles, &work)
        }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn tiles(&self) -> usize {
        self.tiles
    }

    /// Bytes of a row's block.
    pub(crate) fn block_bytes(&self) -> usize {
        self.packing.block_bytes()
    }

    /// Which rows a tile has.
    pub(crate) fn tile_rows(&self, tile: usize) -> std::ops::Range<usize> {
        tile_rows(self.rows, self.tiles, tile)
    }

    /// Values, scales and starts of the tile that begins at `row`.
    pub(crate) fn pointers(&self, row: usize) -> (*const u8, *const f32, *const i32) {
        let first = row * self.blocks;
        (
            self.data[first * self.block_bytes()..].as_ptr(),
            self.scales[first..].as_ptr(),
            self.starts[first..].as_ptr(),
        )
    }
}

/// Tiles of even height: a short one would idle on the latency of its additions.
fn tile_rows(rows: usize, tiles: usize, tile: usize) -> std::ops::Range<usize> {
    rows * tile / tiles..rows * (tile + 1) / tiles
}

/// Where a tile goes.
struct Tile<'a> {
    packing: Packing,
    format: BlockFormat,
    rows: usize,
    data: &'a mut [u8],
    scales: &'a mut [f32],
    starts: &'a mut [i32],
}

dispatch! {
    /// # Safety
    /// `set` is available.
    unsafe fn quantise_tile = tile_body(x: &[f32], width: usize, out: Tile<'_>)
}

#[inline(always)]
unsafe fn tile_body<L: Lanes>(x: &[f32], width: usize, out: Tile<'_>) {
    let bias = match out.format {
        BlockFormat::Q8 => 128,
        BlockFormat::Q4 => 8,
    };
    for (r, row) in x.chunks_exact(width).enumerate() {
        for (index, values) in row.chunks(BLOCK).enumerate() {
            let place = index * out.rows + r;
            let mut quants = [0; BLOCK];
            // SAFETY: the caller's.
            out.scales[place] = unsafe { quantise_block::<L>(values, &mut quants) };
            let sum: i32 = quants.iter().map(|q| i32::from(*q)).sum();
            out.starts[place] = -bias * sum;
            let block = &mut out.data[index * out.rows * out.packing.block_bytes()..];
            out.packing.write(&quants, out.rows, r, block);
        }
    }
}

/// The scale of values of which `largest` is the largest magnitude, and what they are multiplied by before they are
/// rounded.
#[inline(always)]
pub(crate) fn scales(largest: f32) -> (f32, f32) {
    match largest < TINY {
        true => (0.0, 0.0),
        false => (largest / 127.0, 127.0 / largest),
    }
}

/// Quantises up to 32 values, zeros behind the end; returns the scale.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn quantise_block<L: Lanes>(values: &[f32], quants: &mut [i8; BLOCK]) -> f32 {
    let mut padded = [0.0; BLOCK];
    let from = if values.len() == BLOCK {
        values.as_ptr()
    } else {
        padded[..values.len()].copy_from_slice(values);
        padded.as_ptr()
    };
    // SAFETY: 32 values are there to read; the arrays have room for whole lanes.
    unsafe {
        let (low, high) = (L::load(from), L::load(from.add(LANES)));
        let zero = L::splat(0.0);
        let magnitude = low.max(zero.sub(low)).max(high.max(zero.sub(high)));
        let poison = low.fma(zero, high.mul(zero));
        let mut lanes = [0.0; LANES];
        poison.store(lanes.as_mut_ptr());
        let poison = tree_sum(lanes);
        magnitude.store(lanes.as_mut_ptr());
        let largest = largest(lanes);
        let (scale, inverse) = scales(largest);
        let round = L::splat(ROUND);
        for (half, quants) in [low, high].into_iter().zip(quants.chunks_exact_mut(LANES)) {
            half.mul(L::splat(inverse))
                .add(round)
                .store(lanes.as_mut_ptr());
            for (quant, lane) in quants.iter_mut().zip(lanes) {
                *quant = lane.to_bits() as i8;
            }
        }
        scale + poison
    }
}

fn largest(mut lanes: [f32; LANES]) -> f32 {
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            if lanes[i] < lanes[i + width] {
                lanes[i] = lanes[i + width];
            }
        }
    }
    lanes[0]
}
