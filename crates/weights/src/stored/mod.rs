//! How tensors are stored in checkpoints, and the values that they have there.

mod ggml;
mod rows;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use rows::{Order, Rows, check};

use std::fmt;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use crate::blocks::BlockFormat;
use crate::source::Dtype;

/// How a tensor is stored in the checkpoint that it came in.
///
/// The types of blocks are ggml's, by the names of its `ggml-common.h`. Those with minima or with scales
/// in two levels are not computed in: they are read as `bf16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoredDtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// Blocks of 32 signed bytes with one half-precision scale: [`BlockFormat::Q8`].
    #[serde(rename = "q8_0")]
    Q8_0,
    /// Blocks of 32 half-bytes with one half-precision scale: [`BlockFormat::Q4`].
    #[serde(rename = "q4_0")]
    Q4_0,
    /// Blocks of 32 half-bytes with scale and minimum.
    #[serde(rename = "q4_1")]
    Q4_1,
    /// Blocks of 32 values of five bits with one scale.
    #[serde(rename = "q5_0")]
    Q5_0,
    /// Blocks of 32 values of five bits with scale and minimum.
    #[serde(rename = "q5_1")]
    Q5_1,
    /// Blocks of 256 values of two bits; scales and minima of four bits for each 16.
    #[serde(rename = "q2_k")]
    Q2K,
    /// Blocks of 256 values of three bits; scales of six bits for each 16.
    #[serde(rename = "q3_k")]
    Q3K,
    /// Blocks of 256 values of four bits; scales and minima of six bits for each 32.
    #[serde(rename = "q4_k")]
    Q4K,
    /// Blocks of 256 values of five bits; scales and minima of six bits for each 32.
    #[serde(rename = "q5_k")]
    Q5K,
    /// Blocks of 256 values of six bits; scales of eight bits for each 16.
    #[serde(rename = "q6_k")]
    Q6K,
}

impl StoredDtype {
    /// Values and bytes of the smallest piece that can be read by itself.
    const fn piece(self) -> (u64, u64) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q2K => (256, 84),
            Self::Q3K => (256, 110),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
        }
    }

    /// Bytes of a row of `columns` values; the last block may be filled up.
    pub const fn row_bytes(self, columns: u64) -> u64 {
        let (values, bytes) = self.piece();
        columns.div_ceil(values).saturating_mul(bytes)
    }

    /// The form of its blocks, if they are those that Skein computes in.
    pub const fn blocks(self) -> Option<BlockFormat> {
        match self {
            Self::Q8_0 => Some(BlockFormat::Q8),
            Self::Q4_0 => Some(BlockFormat::Q4),
            _ => None,
        }
    }

    /// The precision in which such a matrix is served.
    ///
    /// It holds the stored values exactly, except of the types of blocks that are not computed in:
    /// these are rounded to `bf16`, and the rounded values are the model's, whatever it is converted
    /// to. So a model has one set of weights, and going through `bf16` changes nothing.
    pub const fn canonical(self) -> Dtype {
        match self {
            Self::F32 | Self::F16 => Dtype::F32,
            Self::Q8_0 => Dtype::Q8,
            Self::Q4_0 => Dtype::Q4,
            Self::Bf16
            | Self::Q4_1
            | Self::Q5_0
            | Self::Q5_1
            | Self::Q2K
            | Self::Q3K
            | Self::Q4K
            | Self::Q5K
            | Self::Q6K => Dtype::Bf16,
        }
    }

    /// Whether [`Self::canonical`] holds the stored values exactly.
    pub const fn is_exact(self) -> bool {
        matches!(
            self,
            Self::F32 | Self::F16 | Self::Bf16 | Self::Q8_0 | Self::Q4_0
        )
    }

    /// The precision in which such a vector is served: never in blocks.
    pub const fn canonical_vector(self) -> Dtype {
        match self.canonical() {
            Dtype::Q8 | Dtype::Q4 => Dtype::F32,
            plain => plain,
        }
    }

    /// [`Self::canonical`] or [`Self::canonical_vector`], by the number of dimensions.
    pub const fn canonical_of(self, shape: &[u64]) -> Dtype {
        match shape.len() {
            1 => self.canonical_vector(),
            _ => self.canonical(),
        }
    }

    /// The canonical values of (a part of) a row, which begins with a whole block.
    pub(crate) fn decode_f32(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => each(bytes, out, f32::from_le_bytes),
            Self::F16 => each(bytes, out, |pair| f16::from_le_bytes(pair).to_f32()),
            Self::Bf16 => each(bytes, out, |pair| bf16::from_le_bytes(pair).to_f32()),
            Self::Q8_0 => BlockFormat::Q8.decode_row(bytes, out),
            Self::Q4_0 => BlockFormat::Q4.decode_row(bytes, out),
            _ => {
                ggml::decode(self, bytes, out);
                for value in out {
                    *value = bf16::from_f32(*value).to_f32();
                }
            }
        }
    }

    /// As [`Self::decode_f32`], as the bits of `bf16`, rounded to nearest even.
    pub(crate) fn decode_bf16(self, bytes: &[u8], out: &mut [u16]) {
        if self == Self::Bf16 {
            return each(bytes, out, u16::from_le_bytes);
        }
        // Whole blocks of every type.
        const VALUES: usize = 256;
        let mut exact = [0.0; VALUES];
        let step = self.row_bytes(VALUES as u64) as usize;
        for (bytes, out) in bytes.chunks(step).zip(out.chunks_mut(VALUES)) {
            let exact = &mut exact[..out.len()];
            self.decode_f32(bytes, exact);
            for (out, exact) in out.iter_mut().zip(exact) {
                *out = bf16::from_f32(*exact).to_bits();
            }
        }
    }
}

impl From<Dtype> for StoredDtype {
    /// How canonical weights are stored.
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::Bf16,
            Dtype::Q8 => Self::Q8_0,
            Dtype::Q4 => Self::Q4_0,
        }
    }
}

impl fmt::Display for StoredDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q2K => "q2_k",
            Self::Q3K => "q3_k",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
        })
    }
}

fn each<T, const N: usize>(bytes: &[u8], out: &mut [T], decode: impl Fn([u8; N]) -> T) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *out = decode(*bytes);
    }
}
