//! Activations as signed bytes with a scale for each row and block of 32.
//!
//! With `a` the largest magnitude of a block: below [`TINY`] scale and values are zero, else `scale = a / 127` and
//! `value = round(x * (127 / a))`, to the nearest, ties to even; so values are in -127..=127. A block that holds
//! an infinity or NaN gets the scale NaN, so that no output of it passes for a number; its values are any bytes.

use std::marker::PhantomData;
use std::ops::Range;

use skein_weights::BlockFormat;
use skein_weights::blocks::BLOCK;

use super::MANY_ROWS;
use super::integers::Packing;
use super::packed::BlockMatrix;
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
    /// Of the weights.
    format: Option<BlockFormat>,
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
        let filling = self.begin(set, format, [x.count, x.width]);
        let pieces = filling.blocks.div_ceil(PIECE);
        let count = filling.tiles * pieces;
        let work = |range: Range<usize>| {
            for index in range {
                let (tile, first) = (index / pieces, index % pieces * PIECE);
                let span = first..filling.blocks.min(first + PIECE);
                // SAFETY: pieces of tiles are disjoint; there are as many rows as were announced.
                unsafe { filling.fill(x.data.as_ptr(), tile, span) };
            }
        };
        if x.data.len() < SPLIT_VALUES {
            work(0..count)
        } else {
            pool.spread(count, GRAIN, &work)
        }
    }

    /// Room for `rows` of `width` values, for a product with weights of `format`; what was held before is gone. Threads fill
    /// it as values become known; once all is filled it may be used.
    pub(crate) fn begin(
        &mut self,
        set: InstructionSet,
        format: BlockFormat,
        [rows, width]: [usize; 2],
    ) -> Filling<'_> {
        let (packing, height) = Packing::of(set, format, rows >= MANY_ROWS);
        let blocks = width.div_ceil(BLOCK);
        self.rows = rows;
        self.blocks = blocks;
        self.tiles = rows.div_ceil(height);
        self.packing = packing;
        self.format = Some(format);
        self.data.resize(rows * blocks * packing.block_bytes());
        self.scales.resize(rows * blocks);
        self.starts.resize(rows * blocks);
        Filling {
            set,
            format,
            packing,
            rows,
            width,
            blocks,
            tiles: self.tiles,
            data: SharedMut::new(&mut self.data),
            scales: SharedMut::new(&mut self.scales),
            starts: SharedMut::new(&mut self.starts),
            borrowed: PhantomData,
        }
    }

    /// # Panics
    /// If this is not for a product with those weights by that instruction set.
    pub(crate) fn check(&self, set: InstructionSet, w: &BlockMatrix) {
        assert_eq!(self.blocks, w.blocks(), "inputs match");
        assert_eq!(self.format, Some(w.format()), "formats match");
        let (packing, _) = Packing::of(set, w.format(), self.rows >= MANY_ROWS);
        assert_eq!(self.packing, packing, "instruction sets match");
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

    /// Which rows tiles that follow each other have.
    pub(crate) fn rows_of(&self, tiles: Range<usize>) -> Range<usize> {
        tile_rows(self.rows, self.tiles, tiles.start).start
            ..tile_rows(self.rows, self.tiles, tiles.end).start
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> (&[u8], &[f32], &[i32]) {
        (&self.data, &self.scales, &self.starts)
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

/// Activations that threads fill: see [`Activations::begin`].
pub(crate) struct Filling<'a> {
    set: InstructionSet,
    format: BlockFormat,
    packing: Packing,
    rows: usize,
    width: usize,
    blocks: usize,
    tiles: usize,
    data: SharedMut<u8>,
    scales: SharedMut<f32>,
    starts: SharedMut<i32>,
    borrowed: PhantomData<&'a mut Activations>,
}

impl Filling<'_> {
    /// The tiles that have these rows.
    ///
    /// # Panics
    /// If the rows are not those of whole tiles.
    pub(crate) fn tiles_of(&self, rows: Range<usize>) -> Range<usize> {
        // Each tile has a row at least, so that the next place up is the tile's.
        let tile = |row: usize| (row * self.tiles).div_ceil(self.rows.max(1));
        let tiles = tile(rows.start)..tile(rows.end);
        // On this stands that no two threads fill the same tile.
        let first = |tile: usize| tile_rows(self.rows, self.tiles.max(1), tile).start;
        assert_eq!(first(tiles.start)..first(tiles.end), rows, "whole tiles");
        tiles
    }

    /// Quantises some blocks of the rows of a tile; `x` points to the first row of all.
    ///
    /// # Safety
    /// There are as many rows and values as were announced, and nobody writes to those of
    /// these blocks meanwhile. No other thread fills these blocks of the tile.
    pub(crate) unsafe fn fill(&self, x: *const f32, tile: usize, blocks: Range<usize>) {
        let rows = tile_rows(self.rows, self.tiles, tile);
        let place = rows.start * self.blocks + blocks.start * rows.len();
        let count = rows.len() * blocks.len();
        let bytes = self.packing.block_bytes();
        let (start, end) = (blocks.start * BLOCK, self.width.min(blocks.end * BLOCK));
        // SAFETY: the caller's; the set was detected.
        unsafe {
            let from = Source {
                x: x.add(rows.start * self.width + start),
                stride: self.width,
                count: end - start,
            };
            let out = Piece {
                packing: self.packing,
                format: self.format,
                rows: rows.len(),
                data: self.data.range(place * bytes, count * bytes),
                scales: self.scales.range(place, count),
                starts: self.starts.range(place, count),
            };
            quantise_piece(self.set, from, out);
        }
    }
}

/// Rows of `count` values each, `stride` apart.
#[derive(Clone, Copy)]
struct Source {
    x: *const f32,
    stride: usize,
    count: usize,
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
    /// Quantises blocks of as many rows as `out` has.
    ///
    /// # Safety
    /// `set` is available; the rows are there to read.
    unsafe fn quantise_piece = piece_body(from: Source, out: Piece<'_>)
}

#[inline(always)]
unsafe fn piece_body<L: Lanes>(from: Source, out: Piece<'_>) {
    let bias = match out.format {
        BlockFormat::Q8 => 128,
        BlockFormat::Q4 => 8,
    };
    for r in 0..out.rows {
        // SAFETY: the caller's.
        let values = unsafe { std::slice::from_raw_parts(from.x.add(r * from.stride), from.count) };
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
