//! Activations as signed bytes with a scale for each row and block of 32.
//!
//! With `a` the largest magnitude of a block: below [`TINY`] scale and values are zero, else `scale = a / 127` and
//! `value = round(x * (127 / a))`, to the nearest, ties to even; so values are in -127..=127. A block that holds
//! an infinity or NaN gets the scale NaN, so that no output of it passes for a number; its values are any bytes.

use std::ops::Range;

use skein_weights::BlockFormat;
use skein_weights::blocks::BLOCK;

use super::MANY_ROWS;
use super::integers::Packing;
use crate::kernels::linear::Rows;
use crate::lanes::{InstructionSet, LANES, Lanes, dispatch};
use crate::memory::{Scratch, SharedMut};
use crate::pool::Pool;

/// Smaller blocks are zero: the reciprocal of their scale might be no number.
const TINY: f32 = 1e-30;
/// Fewer values than this are not worth waking other threads for.
const SPLIT_VALUES: usize = 6 << 10;
/// Blocks of a tile that are quantised in one go.
const PIECE: usize = 16;
/// Pieces that a thread takes at a time: some microseconds.
const GRAIN: usize = 4;

/// Quantised rows, packed for the kernels of one instruction set: tile after tile, in it block after block, in
/// that group after group of four values, in that row after row.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    rows: usize,
    blocks: usize,
    tiles: usize,
    packing: Packing,
    data: Scratch<u8>,
    /// By tile, block and row.
    scales: Scratch<f32>,
    /// What a sum starts from, to make up for weights stored without sign; as `scales`.
    starts: Scratch<i32>,
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
        let (packing, height) = Packing::of(set, format, x.count >= MANY_ROWS);
        let blocks = x.width.div_ceil(BLOCK);
        self.rows = x.count;
        self.blocks = blocks;
        self.tiles = x.count.div_ceil(height);
        self.packing = packing;
        self.data.resize(x.count * blocks * packing.block_bytes());
        self.scales.resize(x.count * blocks);
        self.starts.resize(x.count * blocks);
        let data = SharedMut::new(&mut self.data);
        let scales = SharedMut::new(&mut self.scales);
        let starts = SharedMut::new(&mut self.starts);
        let (rows, tiles) = (self.rows, self.tiles);
        let pieces = blocks.div_ceil(PIECE);
        let work = |range: Range<usize>| {
            for index in range {
                let (tile, first) = (index / pieces, index % pieces * PIECE);
                let rows = tile_rows(rows, tiles, tile);
                let span = first..blocks.min(first + PIECE);
                let place = rows.start * blocks + first * rows.len();
                let count = rows.len() * span.len();
                // SAFETY: pieces of tiles are disjoint; `set` was detected.
                unsafe {
                    let out = Piece {
                        packing,
                        format,
                        rows: rows.len(),
                        data: data
                            .range(place * packing.block_bytes(), count * packing.block_bytes()),
                        scales: scales.range(place, count),
                        starts: starts.range(place, count),
                    };
                    quantise_piece(set, x, (rows.start, span), out);
                }
            }
        };
        if x.data.len() < SPLIT_VALUES {
            work(0..tiles * pieces)
        } else {
            pool.spread(tiles * pieces, GRAIN, &work)
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
    pub(crate) fn tile_rows(&self, tile: usize) -> Range<usize> {
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
fn tile_rows(rows: usize, tiles: usize, tile: usize) -> Range<usize> {
    rows * tile / tiles..rows * (tile + 1) / tiles
}

/// Where some blocks of a tile go.
struct Piece<'a> {
    packing: Packing,
    format: BlockFormat,
    rows: usize,
    data: &'a mut [u8],
    scales: &'a mut [f32],
    starts: &'a mut [i32],
}

dispatch! {
    /// Quantises blocks of as many rows as `out` has, from a row on.
    ///
    /// # Safety
    /// `set` is available.
    unsafe fn quantise_piece = piece_body(x: Rows<'_>, from: (usize, Range<usize>), out: Piece<'_>)
}

#[inline(always)]
unsafe fn piece_body<L: Lanes>(x: Rows<'_>, (row, blocks): (usize, Range<usize>), out: Piece<'_>) {
    let bias = match out.format {
        BlockFormat::Q8 => 128,
        BlockFormat::Q4 => 8,
    };
    let (start, end) = (blocks.start * BLOCK, x.width.min(blocks.end * BLOCK));
    for r in 0..out.rows {
        let values = &x.data[(row + r) * x.width..][start..end];
        for (index, values) in values.chunks(BLOCK).enumerate() {
            let place = index * out.rows + r;
            let mut quants = [0; BLOCK];
            // SAFETY: the caller's.
            let (scale, sum) = unsafe { quantise_block::<L>(values, &mut quants) };
            out.scales[place] = scale;
            out.starts[place] = sum.wrapping_mul(-bias);
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

/// Quantises up to 32 values, zeros behind the end; returns the scale and the sum of the quantised values.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn quantise_block<L: Lanes>(values: &[f32], quants: &mut [i8; BLOCK]) -> (f32, i32) {
    let mut padded = [0.0; BLOCK];
    let from = if values.len() == BLOCK {
        values.as_ptr()
    } else {
        padded[..values.len()].copy_from_slice(values);
        padded.as_ptr()
    };
    // SAFETY: 32 values are there to read; the array has room for as many bytes.
    unsafe {
        let (low, high) = (L::load(from), L::load(from.add(LANES)));
        let (scale, inverse) = match low.largest_magnitude(high) {
            magnitude if magnitude.is_finite() => scales(magnitude),
            _ => (f32::NAN, 0.0),
        };
        let inverse = L::splat(inverse);
        let (low, high) = (low.mul(inverse), high.mul(inverse));
        (scale, low.store_rounded_pair(high, quants.as_mut_ptr()))
    }
}
