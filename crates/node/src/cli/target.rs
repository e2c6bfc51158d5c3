//! Folders that commands write.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use skein_runtime::FsFolder;

/// Why a folder cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It cannot be made or opened.
    #[error("cannot write to {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process writes there.
    #[error("{} is being written by another process; wait for it, or choose another folder", path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
    },
}

/// The folder, made if absent, locked as long as the first value lives.
pub(super) fn target(path: &Path) -> Result<(File, FsFolder), TargetError> {
    let folder = |source| TargetError::Folder {
        path: path.to_owned(),
        source,
    };
    let sink = fs::create_dir_all(path)
        .and_then(|()| FsFolder::open(path))
        .map_err(folder)?;
    let lock = File::open(path).map_err(folder)?;
    match lock.try_lock() {
        Ok(()) => Ok((lock, sink)),
        Err(TryLockError::WouldBlock) => Err(TargetError::Taken {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(folder(source)),
    }
}
