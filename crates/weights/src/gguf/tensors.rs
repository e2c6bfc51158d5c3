//! Canonical tensors read out of a GGUF file, row by row.

use std::io;
use std::ops::Range;

use crate::blocks::BlockFormat;
use crate::bytes::ByteRange;
use crate::part::Part;
use crate::profile::TensorSpec;
use crate::source::{CanonicalTensor, Dtype, ReadError, quantise_rows};
use crate::stored::{Rows, StoredDtype, check};

use super::layout::Stored;

/// One canonical tensor of a GGUF file.
#[derive(Debug)]
pub(super) struct GgufTensor<'a> {
    part: Part,
    name: &'static str,
    shape: Vec<u64>,
    /// Of a vector, "rows" are its elements.
    rows: Rows<'a>,
    /// Elements that are stored together with a vector.
    stored_len: u64,
}

impl<'a> GgufTensor<'a> {
    /// The tensor `spec` of `part`, which is in `file` from byte `start` on.
    pub(super) fn new(
        (part, spec): (Part, TensorSpec),
        stored: Stored,
        dtype: StoredDtype,
        (file, start): (&'a dyn ByteRange, u64),
    ) -> Self {
        let rows = Rows {
            file,
            dtype,
            start,
            first: stored.first,
            order: stored.order,
            height: spec.shape[0],
            columns: spec.shape.get(1).copied().unwrap_or(1),
        };
        Self {
            part,
            name: spec.name,
            shape: spec.shape,
            rows,
            stored_len: stored.shape[0],
        }
    }
}

impl CanonicalTensor for GgufTensor<'_> {
    fn dtype(&self) -> Dtype {
        self.rows.dtype.canonical_of(&self.shape)
    }

    fn shape(&self) -> &[u64] {
        &self.shape
    }

    fn read_f32(&self, rows: Range<u64>, out: &mut [f32]) -> Result<(), ReadError> {
        self.read(rows, out, StoredDtype::decode_f32)
    }

    fn read_bf16(&self, rows: Range<u64>, out: &mut [u16]) -> Result<(), ReadError> {
        self.read(rows, out, StoredDtype::decode_bf16)
    }

    fn read_blocks(
        &self,
        format: BlockFormat,
        rows: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), ReadError> {
        let is_matrix = self.shape.len() == 2;
        let stored = || self.rows.read_stored_blocks(format, rows.clone(), out);
        match is_matrix.then(stored).flatten() {
            Some(done) => done.map_err(|source| self.error(source)),
            None => quantise_rows(self, (self.part, self.name), format, rows, out),
        }
    }
}

impl GgufTensor<'_> {
    fn read<T: Copy + Default>(
        &self,
        rows: Range<u64>,
        out: &mut [T],
        decode: fn(StoredDtype, &[u8], &mut [T]),
    ) -> Result<(), ReadError> {
        let dtype = self.rows.dtype;
        let done = if self.shape.len() == 2 {
            let width = self.rows.columns as usize;
            let decode = |bytes: &[u8], out: &mut [T]| decode(dtype, bytes, out);
            self.rows.read(rows, width, out, decode)
        } else {
            self.read_vector(rows, out, decode)
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

    /// A vector may be part of a longer one, and its elements in another order.
    fn read_vector<T: Copy + Default>(
        &self,
        rows: Range<u64>,
        out: &mut [T],
        decode: fn(StoredDtype, &[u8], &mut [T]),
    ) -> io::Result<()> {
        let Rows { dtype, file, .. } = self.rows;
        check(&rows, 1, self.shape[0] as usize, out.len())?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut bytes = vec![0; dtype.row_bytes(self.stored_len) as usize];
        file.read_at(self.rows.start, &mut bytes)?;
        let mut whole = vec![T::default(); self.stored_len as usize];
        decode(dtype, &bytes, &mut whole);
        for (element, out) in out.iter_mut().enumerate() {
            let stored = self.rows.first + self.rows.order.stored_row(element as u64);
            *out = whole[stored as usize];
        }
        Ok(())
    }
}
