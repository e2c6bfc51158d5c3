//! Files without a name.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::entropy;

/// A file that only this process can reach, read and written at any offset: its name is taken away as soon as it is
/// made, so that the system gives its space back when the process ends, however it ends.
#[derive(Debug)]
pub struct ScratchFile {
    file: File,
}

impl ScratchFile {
    /// An empty file on the file system of `folder`, which exists. While it has a name, only its owner may
    /// open it.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let mut random = [0; 8];
        entropy(&mut random).map_err(io::Error::other)?;
        let name = format!(".skein-{:016x}.scratch", u64::from_le_bytes(random));
        let path = folder.join(name);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        fs::remove_file(&path)?;
        Ok(Self { file })
    }

    /// Writes all of `bytes` at `offset`; the file grows if it must. What the system has taken need not be on the
    /// disk yet: nobody reads it after this process.
    ///
    /// # Errors
    /// If the disk is full or fails.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Fills `out` with what lies at `offset`.
    ///
    /// # Errors
    /// If the disk fails, or so much was never written there.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }
}
