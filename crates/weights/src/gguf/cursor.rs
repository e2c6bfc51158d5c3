//! Reads little-endian values one after another, through a buffer, never past a bound.

use crate::bytes::ByteRange;

use super::error::GgufError;

/// How much is read ahead at most.
const BUFFER: u64 = 64 << 10;

/// A place in the header of a GGUF file.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    file: &'a dyn ByteRange,
    /// The offset of the next byte.
    at: u64,
    /// Where reading must stop: the end of the file or the bound on headers.
    end: u64,
    buffer: Vec<u8>,
    /// The offset of the first byte of `buffer`.
    buffer_at: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: &'a dyn ByteRange, header_bytes_max: u64) -> Self {
        let end = file.len().min(header_bytes_max);
        Self {
            file,
            at: 0,
            end,
            buffer: Vec::new(),
            buffer_at: 0,
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// Bytes that may still be read.
    pub(super) fn left(&self) -> u64 {
        self.end - self.at
    }

    /// Refuses if fewer than `count` elements of `each` bytes can follow.
    pub(super) fn expect_left(&self, count: u64, each: u64, what: &str) -> Result<(), GgufError> {
        let needed = count.saturating_mul(each);
        if needed <= self.left() {
            return Ok(());
        }
        if self.end < self.file.len() {
            let found = self.at.saturating_add(needed);
            let what = format!("the GGUF header, at {what}");
            return Err(GgufError::TooLarge {
                what,
                found,
                max: self.end,
            });
        }
        Err(GgufError::Truncated {
            what: what.to_owned(),
            needed,
            left: self.left(),
        })
    }

    fn fill(&mut self, out: &mut [u8], what: &str) -> Result<(), GgufError> {
        let len = out.len() as u64;
        self.expect_left(len, 1, what)?;
        if len > BUFFER {
            return self.read_at(out);
        }
        let buffered = self.buffer_at + self.buffer.len() as u64;
        if self.at + len > buffered {
            let take = BUFFER.min(self.left());
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize(take as usize, 0);
            self.file
                .read_at(self.at, &mut buffer)
                .map_err(|source| GgufError::Io {
                    offset: self.at,
                    source,
                })?;
            self.buffer = buffer;
            self.buffer_at = self.at;
        }
        let start = (self.at - self.buffer_at) as usize;
        out.copy_from_slice(&self.buffer[start..start + out.len()]);
        self.at += len;
        Ok(())
    }

    fn read_at(&mut self, out: &mut [u8]) -> Result<(), GgufError> {
        let offset = self.at;
        self.file
            .read_at(offset, out)
            .map_err(|source| GgufError::Io { offset, source })?;
        self.at += out.len() as u64;
        Ok(())
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        let mut out = [0; N];
        self.fill(&mut out, what)?;
        Ok(out)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A string: its length in bytes, then the bytes.
    pub(super) fn bytes(&mut self, max: u64, what: &str) -> Result<Vec<u8>, GgufError> {
        let len = self.u64(what)?;
        if len > max {
            return Err(GgufError::TooLarge {
                what: format!("length of {what}"),
                found: len,
                max,
            });
        }
        self.expect_left(len, 1, what)?;
        let mut out = vec![0; len as usize];
        self.fill(&mut out, what)?;
        Ok(out)
    }

    /// Passes over bytes that nobody needs.
    pub(super) fn skip(&mut self, count: u64, each: u64, what: &str) -> Result<(), GgufError> {
        self.expect_left(count, each, what)?;
        self.at += count * each;
        Ok(())
    }
}
