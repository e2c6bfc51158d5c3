//! Rows of a stored matrix, read in pieces.

use std::io;
use std::ops::Range;

use super::StoredDtype;
use crate::blocks::BlockFormat;
use crate::bytes::ByteRange;

/// How much is read at once, beyond a single row.
const PIECE_BYTES: usize = 256 << 10;

/// How canonical rows are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// As they are.
    Plain,
    /// Rotary pairs side by side within each head of this many rows: llama.cpp's converter turns
    /// Llama's q and k (`LlamaModel.permute` in `convert_hf_to_gguf.py`) so that row `i` and
    /// row `i + head_dim / 2` become rows `2 i` and `2 i + 1`.
    Interleaved {
        /// Rows of one head.
        head_dim: u64,
    },
}

impl Order {
    /// The stored row of a canonical row.
    pub(crate) fn stored_row(self, row: u64) -> u64 {
        match self {
            Self::Plain => row,
            Self::Interleaved { head_dim } => {
                let (head, within) = (row / head_dim, row % head_dim);
                let half = head_dim / 2;
                head * head_dim + 2 * (within % half) + within / half
            }
        }
    }
}

/// A canonical matrix whose rows are rows of a stored one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) file: &'a dyn ByteRange,
    pub(crate) dtype: StoredDtype,
    /// Where the stored matrix begins in its file, in bytes.
    pub(crate) start: u64,
    /// The stored row that is the first.
    pub(crate) first: u64,
    /// The order of the rows behind it.
    pub(crate) order: Order,
    /// Number of canonical rows.
    pub(crate) height: u64,
    /// Values of a row.
    pub(crate) columns: u64,
}

impl Rows<'_> {
    /// Reads rows; `decode` turns the bytes of each into its share of `out`, `width` elements.
    pub(crate) fn read<T>(
        &self,
        rows: Range<u64>,
        width: usize,
        out: &mut [T],
        decode: impl Fn(&[u8], &mut [T]),
    ) -> io::Result<()> {
        check(&rows, self.height, width, out.len())?;
        let row_bytes = self.dtype.row_bytes(self.columns) as usize;
        let together = match self.order {
            Order::Plain => (PIECE_BYTES / row_bytes).max(1),
            Order::Interleaved { .. } => 1,
        };
        let mut piece = vec![0; row_bytes * together.min(out.len() / width)];
        let mut row = rows.start;
        for out in out.chunks_mut(together * width) {
            let count = out.len() / width;
            let bytes = &mut piece[..count * row_bytes];
            let stored = self.first + self.order.stored_row(row);
            self.file
                .read_at(self.start + stored * row_bytes as u64, bytes)?;
            for (bytes, out) in bytes
                .chunks_exact(row_bytes)
                .zip(out.chunks_exact_mut(width))
            {
                decode(bytes, out);
            }
            row += count as u64;
        }
        Ok(())
    }

    /// Reads rows as blocks of `format`, if the stored ones are such or are exact as such.
    pub(crate) fn read_stored_blocks(
        &self,
        format: BlockFormat,
        rows: Range<u64>,
        out: &mut [u8],
    ) -> Option<io::Result<()>> {
        let convert = self.dtype.blocks()?.exact(format)?;
        let width = format.row_bytes(self.columns as usize);
        Some(self.read(rows, width, out, convert))
    }
}

/// Whether `rows` of `height` fill `found` elements, `width` each.
pub(crate) fn check(rows: &Range<u64>, height: u64, width: usize, found: usize) -> io::Result<()> {
    let count = rows.end.checked_sub(rows.start);
    let count = count.filter(|_| rows.end <= height);
    if count.and_then(|count| count.checked_mul(width as u64)) == Some(found as u64) {
        return Ok(());
    }
    let problem = format!("rows {rows:?} of {height} into {found} elements, {width} a row");
    Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaving_is_a_permutation_within_each_head() {
        let order = Order::Interleaved { head_dim: 6 };
        let rows: Vec<u64> = (0..12).map(|row| order.stored_row(row)).collect();
        assert_eq!(rows, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    }
}
