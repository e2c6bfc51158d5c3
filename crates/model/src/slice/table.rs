//! The table of token embeddings, where no packed head serves as one.

use skein_weights::{BlockFormat, Dtype};

use super::LoadError;
use super::load::{Named, scales_are_finite};
use crate::kernels::linear::Weight as _;
use crate::memory::Buffer;

/// A row-major table.
#[derive(Debug)]
pub(super) enum Table {
    F32(Buffer<f32>),
    Bf16(Buffer<u16>),
    Blocks(BlockFormat, Buffer<u8>),
}

impl Table {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::F32(data) => data.as_slice().len() as u64 * 4,
            Self::Bf16(data) => data.as_slice().len() as u64 * 2,
            Self::Blocks(_, data) => data.as_slice().len() as u64,
        }
    }

    /// Copies a row, widened.
    pub(super) fn row(&self, row: usize, to: &mut [f32]) {
        let start = row * to.len();
        match self {
            Self::F32(data) => to.copy_from_slice(&data.as_slice()[start..start + to.len()]),
            Self::Bf16(data) => {
                let from = &data.as_slice()[start..start + to.len()];
                to.iter_mut()
                    .zip(from)
                    .for_each(|(to, bits)| *to = bits.widen());
            }
            Self::Blocks(format, data) => {
                let bytes = format.row_bytes(to.len());
                format.decode_row(&data.as_slice()[row * bytes..][..bytes], to);
            }
        }
    }

    /// Reads a whole tensor as `dtype`.
    pub(super) fn read(named: &Named<'_>, dtype: Dtype) -> Result<Self, LoadError> {
        let (tensor, rows, width) = (&named.tensor, named.rows(), named.width());
        let all = 0..rows as u64;
        let (table, is_finite) = match (dtype, dtype.blocks()) {
            (_, Some(format)) => {
                let mut data = Buffer::zeroed(rows * format.row_bytes(width));
                tensor.read_blocks(format, all, data.as_mut_slice())?;
                let is_finite = scales_are_finite(format, data.as_slice());
                (Self::Blocks(format, data), is_finite)
            }
            (Dtype::Bf16, None) => {
                let mut data = Buffer::zeroed(rows * width);
                tensor.read_bf16(all, data.as_mut_slice())?;
                let is_finite = data.as_slice().iter().all(|v| v.widen().is_finite());
                (Self::Bf16(data), is_finite)
            }
            (_, None) => {
                let mut data = Buffer::zeroed(rows * width);
                tensor.read_f32(all, data.as_mut_slice())?;
                let is_finite = data.as_slice().iter().all(|v| v.is_finite());
                (Self::F32(data), is_finite)
            }
        };
        match is_finite {
            true => Ok(table),
            false => Err(named.not_finite()),
        }
    }
}
