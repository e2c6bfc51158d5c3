//! The canonical encoding: one value, one sequence of bytes.
//!
//! Little-endian fixed-width integers; byte strings and sequences behind a `u32` length. The
//! reader refuses what exceeds the bound that its caller names, before it allocates.

/// Why bytes could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ends inside a value.
    #[error("input ends {missing} bytes early while reading {what}")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// How many bytes were lacking.
        missing: usize,
    },
    /// A length is over its bound.
    #[error("{what} has length {found}, over the bound of {max}")]
    TooLong {
        /// What was being read.
        what: &'static str,
        /// The length found.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// A value is outside its set.
    #[error("{what} is invalid")]
    Invalid {
        /// What was being read.
        what: &'static str,
    },
    /// Bytes are left over.
    #[error("{extra} bytes follow the value")]
    Trailing {
        /// How many.
        extra: usize,
    },
}

/// Appends values in canonical form.
#[derive(Debug, Default, Clone)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// A writer that begins with a domain: different kinds of values never share an encoding.
    pub fn domain(domain: &str) -> Self {
        let mut writer = Self::new();
        writer.bytes(domain.as_bytes());
        writer
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    /// Appends four bytes.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends eight bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends bytes behind their length.
    ///
    /// # Panics
    /// If `value` is longer than `u32::MAX`: our own data never is.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        let length = u32::try_from(value.len()).expect("own byte strings are shorter than 4 GiB");
        self.u32(length);
        self.bytes.extend_from_slice(value);
        self
    }

    /// Appends bytes whose length the reader knows.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        self
    }

    /// The encoding so far.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Takes values off the front of untrusted bytes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from their start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Takes `count` bytes.
    pub fn raw(&mut self, what: &'static str, count: usize) -> Result<&'a [u8], DecodeError> {
        if count > self.rest.len() {
            return Err(DecodeError::Truncated {
                what,
                missing: count - self.rest.len(),
            });
        }
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.raw(what, N)?);
        Ok(out)
    }

    /// Takes one byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    /// Takes four bytes.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Takes eight bytes.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Takes a length, then that many bytes, of which there may be at most `max`.
    pub fn bytes(&mut self, what: &'static str, max: usize) -> Result<&'a [u8], DecodeError> {
        let found = self.u32(what)? as usize;
        if found > max {
            return Err(DecodeError::TooLong { what, found, max });
        }
        self.raw(what, found)
    }

    /// Ends the reading: nothing may be left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { extra }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let mut writer = Writer::domain("test");
        writer
            .u8(7)
            .u32(0x0102_0304)
            .u64(u64::MAX)
            .bytes(b"abc")
            .raw(b"xy");
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.bytes("domain", 16), Ok(b"test".as_slice()));
        assert_eq!(reader.u8("a"), Ok(7));
        assert_eq!(reader.u32("b"), Ok(0x0102_0304));
        assert_eq!(reader.u64("c"), Ok(u64::MAX));
        assert_eq!(reader.bytes("d", 3), Ok(b"abc".as_slice()));
        assert_eq!(reader.raw("e", 2), Ok(b"xy".as_slice()));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn refuses_before_allocating() {
        let bytes = u32::MAX.to_le_bytes();
        let found = Reader::new(&bytes).bytes("x", 10);
        assert_eq!(
            found,
            Err(DecodeError::TooLong {
                what: "x",
                found: u32::MAX as usize,
                max: 10
            })
        );
        let found = Reader::new(&[3, 0, 0, 0, 1]).bytes("x", 10);
        assert_eq!(
            found,
            Err(DecodeError::Truncated {
                what: "x",
                missing: 2
            })
        );
        assert_eq!(
            Reader::new(&[1]).finish(),
            Err(DecodeError::Trailing { extra: 1 })
        );
    }
}
