//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{partial, plain, sync_folder};

/// A file that is written beside its place and moved there by [`Self::commit`]: whoever looks sees
/// the old file or the new one, also after a crash. Dropped without that, it leaves nothing.
///
/// The temporary name is fixed (`.NAME.partial`), so that what a crash leaves is replaced by the
/// next writer and does not pile up; two writers of one name at a time need a [`super::LockFile`].
#[derive(Debug)]
pub struct AtomicFile {
    file: Option<File>,
    folder: PathBuf,
    temporary: PathBuf,
    target: PathBuf,
}

impl AtomicFile {
    /// Begins the file `name` in `folder`, which exists.
    pub fn create(folder: &Path, name: &str) -> io::Result<Self> {
        Self::with_mode(folder, name, 0o666)
    }

    /// As [`Self::create`], for a file that from its first byte on only its owner may read.
    pub fn create_private(folder: &Path, name: &str) -> io::Result<Self> {
        Self::with_mode(folder, name, 0o600)
    }

    /// `mode`: the permissions asked for; the system takes away what the umask says.
    fn with_mode(folder: &Path, name: &str, mode: u32) -> io::Result<Self> {
        let name = plain(name)?;
        let temporary = folder.join(partial(name));
        // Removed, not truncated: a planted link would otherwise be written through.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        let target = folder.join(name);
        Ok(Self {
            file: Some(file),
            folder: folder.to_owned(),
            temporary,
            target,
        })
    }

    /// Makes the bytes durable and puts the file in its place, replacing what is there.
    pub fn commit(mut self) -> io::Result<()> {
        let file = self
            .file
            .take()
            .expect("taken by commit alone, which consumes");
        let moved = file
            .sync_all()
            .and_then(|()| fs::rename(&self.temporary, &self.target));
        if moved.is_err() {
            self.file = Some(file);
        }
        moved.and_then(|()| sync_folder(&self.folder))
    }

    fn open(&mut self) -> &mut File {
        self.file
            .as_mut()
            .expect("taken by commit alone, which consumes")
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.open().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open().flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Best effort: what stays is replaced by the next writer of this name.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
