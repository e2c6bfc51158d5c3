//! From the name of a model to an open checkpoint.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skein_runtime::{FileRange, FsFolder};
use skein_weights::bytes::Folder;
use skein_weights::gguf::GgufCheckpoint;
use skein_weights::{Checkpoint, HfCheckpoint};

use crate::console::Console;
use crate::hub::{self, FetchError};
use crate::locate::{LocateError, Place, locate};

/// Why a model could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is none of that name.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// It could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The file or folder cannot be read.
    #[error("cannot open {}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is there, but cannot be served.
    #[error("{} cannot be served", path.display())]
    Refused {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: skein_weights::OpenError,
    },
}

/// An open model.
#[derive(Debug)]
pub struct Opened {
    /// Weights, tokenizer, settings.
    pub checkpoint: Box<dyn Checkpoint>,
    /// Where it is.
    pub path: PathBuf,
    /// What to call it.
    pub name: String,
}

/// Finds, fetches if need be and allowed, and opens a model.
pub fn open(text: &str, online: bool, console: Console) -> Result<Opened, OpenError> {
    match locate(text)? {
        Place::Gguf(path) => gguf(&path),
        Place::HuggingFace(path) => {
            let folder = folder(&path, &path)?;
            hugging_face(folder, &path, None)
        }
        Place::Split(path) => split(&path),
        Place::Hub(repository) => {
            let path = hub::fetch(&repository, online, console)?;
            // A snapshot is a folder of links to blobs beside it.
            let root = path.ancestors().nth(2).unwrap_or(&path);
            let folder = folder(&path, root)?;
            hugging_face(
                folder,
                &path,
                Some(format!("{}/{}", repository.owner, repository.name)),
            )
        }
    }
}

fn folder(path: &Path, root: &Path) -> Result<Arc<dyn Folder>, OpenError> {
    let opened = FsFolder::open_within(path, root);
    let opened = opened.map_err(|source| OpenError::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok(Arc::new(opened))
}

fn gguf(path: &Path) -> Result<Opened, OpenError> {
    let bytes = FileRange::open(path).map_err(|source| OpenError::Io {
        path: path.to_owned(),
        source,
    })?;
    let place = path.display().to_string();
    let checkpoint =
        GgufCheckpoint::open(Arc::new(bytes), &place).map_err(|error| OpenError::Refused {
            path: path.to_owned(),
            source: error.into(),
        })?;
    let name = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    Ok(Opened {
        name: name.unwrap_or_else(|| "model".to_owned()),
        checkpoint: Box::new(checkpoint),
        path: path.to_owned(),
    })
}

fn hugging_face(
    folder: Arc<dyn Folder>,
    path: &Path,
    name: Option<String>,
) -> Result<Opened, OpenError> {
    let checkpoint = HfCheckpoint::open(folder).map_err(|source| OpenError::Refused {
        path: path.to_owned(),
        source,
    })?;
    Ok(Opened {
        name: name.unwrap_or_else(|| folder_name(path)),
        checkpoint: Box::new(checkpoint),
        path: path.to_owned(),
    })
}

fn split(path: &Path) -> Result<Opened, OpenError> {
    // INSERT
    hugging_face(folder(path, path)?, path, None)
}

/// The last part of a path, also of `.` and `..`.
fn folder_name(path: &Path) -> String {
    let real = path.canonicalize();
    let path = real.as_deref().unwrap_or(path);
    path.file_name().map_or_else(
        || "model".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
