//! Files: opened read-only behind checks, written whole or not at all.

mod atomic;
mod folder;
mod lock;
mod scratch;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Component;
use std::path::Path;

pub use atomic::AtomicFile;
pub use folder::{FileRange, FsFolder};
pub use lock::{LockError, LockFile};
pub use scratch::ScratchFile;

/// Refuses every name that is not one plain component of a path.
fn plain(name: &str) -> io::Result<&str> {
    let mut components = Path::new(name).components();
    let single = matches!(
        (components.next(), components.next()),
        (Some(Component::Normal(only)), None) if only == name
    );
    if single && !name.contains(['/', '\\', '\0']) {
        return Ok(name);
    }
    let text = format!("{name:?} is not a plain file name: it may not contain separators or dots");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// The name of `name` while it is being written.
fn partial(name: &str) -> String {
    format!(".{name}.partial")
}

fn is_partial(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".partial")
}

/// Makes the entries of `folder` (a created or renamed file) survive a loss of power.
fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}
