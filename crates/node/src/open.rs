//! From the name of a model to an open checkpoint.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skein_runtime::{FileRange, FsFolder};
use skein_weights::Checkpoint;

use crate::console::Console;
use crate::embedded;
use crate::hub::{self, FetchError, Fetching};
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
pub fn open(text: &str, fetching: Fetching, console: Console) -> Result<Opened, OpenError> {
    match locate(text)? {
        Place::Embedded => embedded_model(),
        Place::Gguf(path) => gguf(&path),
        Place::HuggingFace(path) | Place::Split(path) => folder(&path, &path, None),
        Place::Hub(repository) => {
            let path = hub::fetch(&repository, fetching, console)?;
            // A snapshot is a folder of links to blobs beside it.
            let root = path.ancestors().nth(2).unwrap_or(&path).to_owned();
            folder(
                &path,
                &root,
                Some(format!("{}/{}", repository.owner, repository.name)),
            )
        }
    }
}

fn embedded_model() -> Result<Opened, OpenError> {
    let path = PathBuf::from(embedded::NAME);
    let opened = skein_weights::open_folder(Arc::new(embedded::folder()));
    match opened {
        Ok(checkpoint) => Ok(Opened {
            checkpoint,
            path,
            name: embedded::MODEL_NAME.to_owned(),
        }),
        Err(source) => Err(OpenError::Refused { path, source }),
    }
}

fn folder(path: &Path, root: &Path, name: Option<String>) -> Result<Opened, OpenError> {
    let opened = FsFolder::open_within(path, root);
    let opened = opened.map_err(|source| OpenError::Io {
        path: path.to_owned(),
        source,
    })?;
    let checkpoint =
        skein_weights::open_folder(Arc::new(opened)).map_err(|source| OpenError::Refused {
            path: path.to_owned(),
            source,
        })?;
    let name = name.unwrap_or_else(|| own_name(checkpoint.as_ref(), path));
    Ok(Opened {
        checkpoint,
        path: path.to_owned(),
        name,
    })
}

fn gguf(path: &Path) -> Result<Opened, OpenError> {
    let bytes = FileRange::open(path).map_err(|source| OpenError::Io {
        path: path.to_owned(),
        source,
    })?;
    let file = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let checkpoint =
        skein_weights::open_gguf(Arc::new(bytes), &file).map_err(|source| OpenError::Refused {
            path: path.to_owned(),
            source,
        })?;
    let name = file.strip_suffix(".gguf").unwrap_or(&file).to_owned();
    Ok(Opened {
        checkpoint,
        path: path.to_owned(),
        name,
    })
}

/// What a model is called where the user does not say: as it calls itself, unless that is a path
/// (of somebody's training machine, say), else as its folder.
fn own_name(checkpoint: &dyn Checkpoint, path: &Path) -> String {
    let own = checkpoint.name();
    if !own.is_empty() && own.len() <= 128 && !own.contains(['/', '\\']) {
        return own;
    }
    let real = path.canonicalize();
    let path = real.as_deref().unwrap_or(path);
    path.file_name().map_or_else(
        || "model".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
