//! Canonical tensors read out of a GGUF file, row by row.

use std::io;
use std::ops::Range;

use half::bf16;

use crate::bytes::ByteRange;
use crate::part::Part;
use crate::source::{CanonicalTensor, Dtype, ReadError};

use super::blocks::Format;
use super::layout::{Order, Stored};

/// How much is read at once, beyond a single row.
const SCRATCH_BYTES: usize = 256 << 10;

/// One canonical tensor of a GGUF file.
#[derive(Debug)]
pub(super) struct GgufTensor<'a> {
    pub(super) file: &'a dyn ByteRange,
    pub(super) part: Part,
    pub(super) name: &'static str,
    pub(super) shape: Vec<u64>,
    pub(super) stored: Stored,
    pub(super) format: Format,
    /// Where the stored tensor begins.
    pub(super) offset: u64,
}

impl CanonicalTensor for GgufTensor<'_> {
    fn dtype(&self) -> Dtype {
        if self.format == Format::Bf16 {
            Dtype::Bf16
        } else {
            Dtype::F32
        }
    }

    fn shape(&self) -> &[u64] {
        &self.shape
    }

    fn read_f32(&self, rows: Range<u64>, out: &mut [f32]) -> Result<(), ReadError> {
        self.read(rows, out, |bytes, out| self.format.decode(bytes, out))
    }

    fn read_bf16(&self, rows: Range<u64>, out: &mut [u16]) -> Result<(), ReadError> {
        if self.format == Format::Bf16 {
            return self.read(rows, out, |bytes, out| {
                for (out, pair) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *out = u16::from_le_bytes(*pair);
                }
            });
        }
        let mut exact = Vec::new();
        self.read(rows, out, |bytes, out| {
            exact.resize(out.len(), 0.0);
            self.format.decode(bytes, &mut exact);
            for (out, &exact) in out.iter_mut().zip(&exact) {
                *out = bf16::from_f32(exact).to_bits();
            }
        })
    }
}

impl GgufTensor<'_> {
    /// Reads rows through `decode`, which is given whole rows and room for their values.
    fn read<T: Copy + Default>(
        &self,
        rows: Range<u64>,
        out: &mut [T],
        decode: impl FnMut(&[u8], &mut [T]),
    ) -> Result<(), ReadError> {
        let (height, columns) = match self.shape[..] {
            [rows, columns] => (rows, columns),
            _ => (1, self.shape.iter().product()),
        };
        let count = rows
            .end
            .checked_sub(rows.start)
            .filter(|_| rows.end <= height);
        if count.and_then(|count| count.checked_mul(columns)) != Some(out.len() as u64) {
            let problem = format!("rows {rows:?} of {height} into {} values", out.len());
            return Err(self.error(io::Error::new(io::ErrorKind::InvalidInput, problem)));
        }
        let done = match self.shape.len() {
            2 => self.read_matrix(rows, out, decode),
            _ if rows.is_empty() => Ok(()),
            _ => self.read_vector(out, decode),
        };
        done.map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> ReadError {
        ReadError::Io {
            part: self.part,
            name: self.name.to_owned(),
            source,
        }
    }

    fn read_matrix<T>(
        &self,
        rows: Range<u64>,
        out: &mut [T],
        mut decode: impl FnMut(&[u8], &mut [T]),
    ) -> io::Result<()> {
        let columns = self.shape[1] as usize;
        let row_bytes = self.format.bytes(columns);
        let together = match self.stored.order {
            Order::Plain => (SCRATCH_BYTES / row_bytes).max(1),
            Order::Interleaved { .. } => 1,
        };
        let mut scratch = vec![0; row_bytes * together.min(out.len() / columns)];
        let mut row = rows.start;
        for out in out.chunks_mut(together * columns) {
            let count = out.len() / columns;
            let bytes = &mut scratch[..count * row_bytes];
            let stored = self.stored.first + self.stored.order.stored_row(row);
            self.file
                .read_at(self.offset + stored * row_bytes as u64, bytes)?;
            decode(bytes, out);
            row += count as u64;
        }
        Ok(())
    }

    /// A vector may be part of a longer one, and its elements in another order.
    fn read_vector<T: Copy + Default>(
        &self,
        out: &mut [T],
        mut decode: impl FnMut(&[u8], &mut [T]),
    ) -> io::Result<()> {
        let len = self.stored.shape.iter().product::<u64>() as usize;
        let mut bytes = vec![0; self.format.bytes(len)];
        self.file.read_at(self.offset, &mut bytes)?;
        let mut whole = vec![T::default(); len];
        decode(&bytes, &mut whole);
        for (element, out) in out.iter_mut().enumerate() {
            let stored = self.stored.first + self.stored.order.stored_row(element as u64);
            *out = whole[stored as usize];
        }
        Ok(())
    }
}
