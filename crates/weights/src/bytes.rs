//! Bytes that somebody else opened: a mapped file, an open file, a buffer, later a peer.

use std::fmt;
use std::io;
use std::sync::Arc;

/// A run of bytes of known length that can be read at any offset, by many readers at once.
pub trait ByteRange: Send + Sync + fmt::Debug {
    /// How many bytes there are. Does not change.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` from `offset`; an error if the range ends before.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
}

/// A folder of named files, flat: names have no separators.
///
/// An implementation refuses symbolic links that leave the folder and names that are not plain.
pub trait Folder: Send + Sync + fmt::Debug {
    /// Names of the regular files, sorted.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Opens one file. `NotFound` if there is none of that name.
    fn open(&self, name: &str) -> io::Result<Arc<dyn ByteRange>>;

    /// What to call this folder in messages.
    fn describe(&self) -> String;
}

impl ByteRange for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start
            .checked_add(out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let from = self.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(from);
        Ok(())
    }
}
