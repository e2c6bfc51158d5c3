//! Quantised weights: blocks of 32 values along a row, with one scale.
//!
//! The bytes of a block are those of ggml's `Q8_0` and `Q4_0`, so that such GGUF files are taken over
//! without loss. A row is a whole number of blocks; where its width is no multiple of 32, the last
//! block is filled up with zeros.
//!
//! - [`BlockFormat::Q8`], 34 bytes: scale (`f16`, little endian), 32 signed bytes; value `i` is
//!   `scale * byte[i]`.
//! - [`BlockFormat::Q4`], 18 bytes: scale (`f16`), 16 bytes; value `i` is `scale * (low half of byte[i] -
//!   8)` for `i < 16`, and `scale * (high half of byte[i - 16] - 8)` from there on.
//!
//! Each value is exact in `f32`: a product of an 11-bit and an 8-bit number.
//!
//! Quantising tries several scales for each block and takes the one with the least sum of squared
//! errors; the order of all sums is fixed, so the same weights give the same bytes everywhere. Quantising
//! what was quantised so before changes no value, unless its scale is below 2^-14.
//!
//! Root mean square error over that of the weights, a million random ones (normal; and Student's t with
//! four degrees of freedom), beside ggml's reference rounding by gguf-py:
//!
//! | | normal | heavy tails |
//! |---|---|---|
//! | `Q8` | 0.00495 | 0.00687 |
//! | `Q8_0` of ggml | 0.00535 | 0.00730 |
//! | `Q4` | 0.0809 | 0.1109 |
//! | `Q4_0` of ggml | 0.0859 | 0.1156 |

use half::f16;

/// Values of a block.
pub const BLOCK: usize = 32;

/// A weight beyond what scales in half precision can express.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a weight is too large for a quantised format, or no number")]
pub struct OutOfRange;

/// Makes a row of other blocks of a row of blocks.
pub(crate) type ConvertRow = fn(&[u8], &mut [u8]);

/// How the values of a block are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFormat {
    /// Eight bits a value: 8.5 with the scale.
    Q8,
    /// Four bits a value: 4.5 with the scale.
    Q4,
}

impl BlockFormat {
    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::Q8 => 34,
            Self::Q4 => 18,
        }
    }

    /// Bytes of a row of `columns` values.
    pub const fn row_bytes(self, columns: usize) -> usize {
        columns.div_ceil(BLOCK) * self.block_bytes()
    }

    /// Quantises one row; `out` holds [`Self::row_bytes`].
    pub fn encode_row(self, values: &[f32], out: &mut [u8]) -> Result<(), OutOfRange> {
        debug_assert_eq!(out.len(), self.row_bytes(values.len()));
        for (values, out) in values
            .chunks(BLOCK)
            .zip(out.chunks_exact_mut(self.block_bytes()))
        {
            let mut block = [0.0; BLOCK];
            block[..values.len()].copy_from_slice(values);
            let (scale, quants) = out.split_at_mut(2);
            let chosen = match self {
                Self::Q8 => encode_q8(&block, quants)?,
                Self::Q4 => encode_q4(&block, quants)?,
            };
            scale.copy_from_slice(&chosen.to_le_bytes());
        }
        Ok(())
    }

    /// The values of one row, exactly; `bytes` holds [`Self::row_bytes`] of `out.len()`.
    pub fn decode_row(self, bytes: &[u8], out: &mut [f32]) {
        debug_assert_eq!(bytes.len(), self.row_bytes(out.len()));
        let mut values = [0.0; BLOCK];
        for (block, out) in bytes
            .chunks_exact(self.block_bytes())
            .zip(out.chunks_mut(BLOCK))
        {
            let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
            for (value, quant) in values.iter_mut().zip(self.quants(&block[2..])) {
                *value = scale * f32::from(quant);
            }
            out.copy_from_slice(&values[..out.len()]);
        }
    }

    /// What makes blocks of `to` of a row of these without loss, if something does.
    pub(crate) fn exact(self, to: Self) -> Option<ConvertRow> {
        match (self, to) {
            (Self::Q8, Self::Q8) | (Self::Q4, Self::Q4) => {
                Some(|from, to| to.copy_from_slice(from))
            }
            (Self::Q4, Self::Q8) => Some(widen_row),
            (Self::Q8, Self::Q4) => None,
        }
    }

    /// The values of a block without its scale.
    fn quants(self, bytes: &[u8]) -> [i8; BLOCK] {
        let mut quants = [0; BLOCK];
        match self {
            Self::Q8 => {
                for (quant, byte) in quants.iter_mut().zip(bytes) {
                    *quant = *byte as i8;
                }
            }
            Self::Q4 => {
                let (low, high) = quants.split_at_mut(BLOCK / 2);
                for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
                    *low = (byte & 15) as i8 - 8;
                    *high = (byte >> 4) as i8 - 8;
                }
            }
        }
        quants
    }
}

/// Blocks of four bits as blocks of eight: the same scales, the same values.
fn widen_row(from: &[u8], to: &mut [u8]) {
    let [narrow, wide] = [BlockFormat::Q4, BlockFormat::Q8];
    for (from, to) in from
        .chunks_exact(narrow.block_bytes())
        .zip(to.chunks_exact_mut(wide.block_bytes()))
    {
        to[..2].copy_from_slice(&from[..2]);
        for (to, quant) in to[2..].iter_mut().zip(narrow.quants(&from[2..])) {
            *to = quant as u8;
        }
    }
}

/// Scales that are tried for eight bits: the largest magnitude becomes each of these.
const LARGEST_Q8: [f32; 4] = [127.0, 126.0, 125.0, 124.0];
/// As [`LARGEST_Q8`] for four bits: the first value of the largest magnitude becomes each of these with a
/// minus, on which side there is one step more; beyond 8 it is cut off. With the whole numbers among
/// them, what was quantised before is found again without loss.
const LARGEST_Q4: [f32; 17] = {
    let mut list = [6.0; 17];
    let mut index = 0;
    while index < list.len() {
        list[index] += 0.25 * index as f32;
        index += 1;
    }
    list
};

/// The best scale, with the rounded values in `quants`.
fn encode_q8(values: &[f32; BLOCK], quants: &mut [u8]) -> Result<f16, OutOfRange> {
    let mut search = Search::begin(values, [-127.0, 127.0], 127.0)?;
    let magnitude = search.magnitude;
    for one in LARGEST_Q8 {
        search.try_scale(magnitude / one);
    }
    for (quant, steps) in quants.iter_mut().zip(search.steps()) {
        *quant = byte(steps);
    }
    Ok(search.scale)
}

/// As [`encode_q8`].
fn encode_q4(values: &[f32; BLOCK], quants: &mut [u8]) -> Result<f16, OutOfRange> {
    let mut search = Search::begin(values, [-8.0, 7.0], 8.0)?;
    let is_largest = |value: &&f32| value.abs() == search.magnitude;
    let largest = values.iter().find(is_largest).copied().unwrap_or(0.0);
    for one in LARGEST_Q4 {
        search.try_scale(largest / -one);
    }
    search.refine();
    let steps = search.steps().map(|steps| byte(steps + 8.0));
    let (low, high) = steps.split_at(BLOCK / 2);
    for ((quants, low), high) in quants.iter_mut().zip(low).zip(high) {
        *quants = low | high << 4;
    }
    Ok(search.scale)
}

/// The search for the scale of a block with the least sum of squared errors. Scales are rounded to what
/// is stored before they are judged; among equals the first wins.
struct Search<'a> {
    values: &'a [f32; BLOCK],
    /// Least and greatest value without scale.
    range: [f32; 2],
    /// The largest magnitude.
    magnitude: f32,
    /// The best scale so far.
    scale: f16,
    error: f32,
}

impl<'a> Search<'a> {
    /// Begins with a scale of zero. Refuses what has none: where a value is not finite, or the scale by
    /// which the largest magnitude becomes `widest`.
    fn begin(values: &'a [f32; BLOCK], range: [f32; 2], widest: f32) -> Result<Self, OutOfRange> {
        let (magnitude, error) = (magnitude(values), sum_of_squares(values));
        // Squares overflow far beyond the largest scale only.
        if !error.is_finite() || !f16::from_f32(magnitude / widest).is_finite() {
            return Err(OutOfRange);
        }
        Ok(Self {
            values,
            range,
            magnitude,
            scale: f16::ZERO,
            error,
        })
    }

    fn try_scale(&mut self, scale: f32) {
        let stored = f16::from_f32(scale);
        self.try_stored(stored);
        if !stored.is_normal() {
            // Where scales lie far apart, the next larger one may be much better.
            self.try_stored(f16::from_bits(stored.to_bits() + 1));
        }
    }

    fn try_stored(&mut self, stored: f16) {
        let scale = stored.to_f32();
        if scale == 0.0 || !scale.is_finite() {
            return;
        }
        let mut lost = self.steps_of(scale);
        for (lost, value) in lost.iter_mut().zip(self.values) {
            *lost = value - *lost * scale;
        }
        let error = sum_of_squares(&lost);
        if error < self.error {
            (self.scale, self.error) = (stored, error);
        }
    }

    /// Tries the scale that suits the rounded values best: least squares.
    fn refine(&mut self) {
        let steps = self.steps();
        let mut products = steps;
        for (product, value) in products.iter_mut().zip(self.values) {
            *product *= value;
        }
        let squares = sum_of_squares(&steps);
        if squares > 0.0 {
            self.try_scale(sum(&products) / squares);
        }
    }

    /// The values without their scale.
    fn steps(&self) -> [f32; BLOCK] {
        match self.scale.to_f32() {
            0.0 => [0.0; BLOCK],
            scale => self.steps_of(scale),
        }
    }

    /// The values without `scale`, which is not zero.
    fn steps_of(&self, scale: f32) -> [f32; BLOCK] {
        let (inverse, range) = (1.0 / scale, self.range);
        let mut steps = [0.0; BLOCK];
        for (step, value) in steps.iter_mut().zip(self.values) {
            *step = rounded(value * inverse, range);
        }
        steps
    }
}

/// 1.5 * 2^23: beside it, single precision has whole numbers only.
const ROUND: f32 = 12_582_912.0;

/// The nearest whole number within a small range, the even one where two are. Written so, because
/// `round_ties_even` is a call for each value where the instruction set is not known to have it, and
/// `clamp` more than two instructions.
fn rounded(steps: f32, [least, greatest]: [f32; 2]) -> f32 {
    let steps = if steps < least { least } else { steps };
    let steps = if steps > greatest { greatest } else { steps };
    (steps + ROUND) - ROUND
}

/// A small whole number as a signed byte: the lowest bits of its sum with [`ROUND`]. A cast would be
/// checked for each value.
fn byte(steps: f32) -> u8 {
    (steps + ROUND).to_bits() as u8
}

/// The largest magnitude; what is no number is passed over.
fn magnitude(values: &[f32; BLOCK]) -> f32 {
    let mut largest = [0.0_f32; 4];
    for values in values.as_chunks::<4>().0 {
        for (largest, value) in largest.iter_mut().zip(values) {
            let value = value.abs();
            *largest = if value > *largest { value } else { *largest };
        }
    }
    largest.into_iter().fold(0.0, f32::max)
}

/// A sum in a fixed order that suits vectors of four.
fn sum(values: &[f32; BLOCK]) -> f32 {
    let mut sums = [0.0; 4];
    for values in values.as_chunks::<4>().0 {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value;
        }
    }
    (sums[0] + sums[2]) + (sums[1] + sums[3])
}

fn sum_of_squares(values: &[f32; BLOCK]) -> f32 {
    let mut squares = *values;
    for square in &mut squares {
        *square *= *square;
    }
    sum(&squares)
}

#[cfg(test)]
mod tests;
