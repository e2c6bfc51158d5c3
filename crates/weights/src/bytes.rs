//! Bytes that somebody else opened: a mapped file, an open file, a buffer, later a peer.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// A folder in memory, for tests and for small models made on the spot.
#[derive(Debug, Default)]
pub struct MemoryFolder {
    files: Mutex<BTreeMap<String, Arc<Vec<u8>>>>,
}

impl MemoryFolder {
    /// A folder with these files.
    pub fn new(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let files = files
            .into_iter()
            .map(|(name, bytes)| (name, Arc::new(bytes)));
        Self {
            files: Mutex::new(files.collect()),
        }
    }

    /// Puts a file, in place of one of that name.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        self.lock().insert(name.to_owned(), Arc::new(bytes));
    }

    /// Takes a file out.
    pub fn take(&self, name: &str) -> Option<Vec<u8>> {
        self.lock().remove(name).map(Arc::unwrap_or_clone)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Vec<u8>>>> {
        // A panic elsewhere cannot leave a map of whole files half changed.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Folder for MemoryFolder {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn ByteRange>> {
        let found = self.lock().get(name).cloned();
        found
            .map(|file| file as Arc<dyn ByteRange>)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}
