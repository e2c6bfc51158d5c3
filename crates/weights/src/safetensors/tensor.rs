//! Rows of stored tensors as numbers.

use std::io;
use std::ops::Range;

use crate::bytes::ByteRange;
use crate::checkpoint::StoredDtype;

/// How many bytes are read at once.
const PIECE_BYTES: usize = 1 << 20;

/// A canonical matrix inside a stored one.
///
/// Row `r`, column `c` is the stored element `first + r * row_step + c * column_step`; one of the
/// steps is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Stored precision: `F32`, `F16` or `Bf16`.
    pub(crate) dtype: StoredDtype,
    /// Where the stored tensor begins in its file, in bytes.
    pub(crate) start: u64,
    /// The stored element that is row 0, column 0.
    pub(crate) first: u64,
    /// Columns of the canonical matrix.
    pub(crate) columns: u64,
    /// `columns` if rows are stored one after the other.
    pub(crate) row_step: u64,
    /// 1 if the elements of a row are stored one after the other.
    pub(crate) column_step: u64,
}

impl Block {
    /// Reads rows; `decode` turns stored bytes into as many values.
    ///
    /// # Panics
    /// If `out` has another size than `rows.len() * columns`: a fault of the caller.
    pub(crate) fn read<T: Copy + Default>(
        &self,
        file: &dyn ByteRange,
        rows: Range<u64>,
        decode: fn(StoredDtype, &[u8], &mut [T]),
        out: &mut [T],
    ) -> io::Result<()> {
        let count = rows.end.saturating_sub(rows.start);
        assert_eq!(
            out.len() as u64,
            count * self.columns,
            "the buffer holds whole rows"
        );
        if self.column_step == 1 {
            let first = self.first + rows.start * self.row_step;
            return self.read_run(file, first, decode, out);
        }
        // Stored transposed: a run of stored elements is a part of a column.
        let (count, columns) = (count as usize, self.columns as usize);
        let mut run = vec![T::default(); count];
        for column in 0..columns {
            let first = self.first + rows.start + column as u64 * self.column_step;
            self.read_run(file, first, decode, &mut run)?;
            for (row, value) in run.iter().enumerate() {
                out[row * columns + column] = *value;
            }
        }
        Ok(())
    }

    fn read_run<T>(
        &self,
        file: &dyn ByteRange,
        first: u64,
        decode: fn(StoredDtype, &[u8], &mut [T]),
        out: &mut [T],
    ) -> io::Result<()> {
        let width = self.dtype.row_bytes(1) as usize;
        let mut bytes = vec![0; PIECE_BYTES.min(out.len() * width)];
        let mut offset = self.start + first * width as u64;
        for piece in out.chunks_mut(PIECE_BYTES / width) {
            let bytes = &mut bytes[..piece.len() * width];
            file.read_at(offset, bytes)?;
            decode(self.dtype, bytes, piece);
            offset += bytes.len() as u64;
        }
        Ok(())
    }
}
