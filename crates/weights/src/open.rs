//! One door for every kind of checkpoint.

use std::sync::Arc;

use crate::bytes::{ByteRange, Folder};
use crate::checkpoint::Checkpoint;
use crate::gguf::GgufCheckpoint;
use crate::hf::{HfCheckpoint, OpenError};
use crate::manifest::MANIFEST_FILE;
use crate::split::SplitCheckpoint;

/// Opens a folder: one that Skein split, a Hugging Face one, or one with a single GGUF file.
pub fn open_folder(folder: Arc<dyn Folder>) -> Result<Box<dyn Checkpoint>, OpenError> {
    let io = |source| OpenError::Io {
        file: folder.describe(),
        source,
    };
    let names = folder.names().map_err(io)?;
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if has(MANIFEST_FILE) {
        return Ok(Box::new(SplitCheckpoint::open(folder)?));
    }
    if has("config.json") {
        return Ok(Box::new(HfCheckpoint::open(folder)?));
    }
    let mut ggufs = names.iter().filter(|name| name.ends_with(".gguf"));
    match (ggufs.next(), ggufs.next()) {
        (Some(only), None) => open_gguf(folder.open(only).map_err(io)?, only),
        (Some(_), Some(_)) => Err(OpenError::SeveralGguf {
            place: folder.describe(),
        }),
        (None, _) => Err(OpenError::NoConfig {
            place: folder.describe(),
        }),
    }
}

/// Opens a lone GGUF file; `name` is what to call it.
pub fn open_gguf(file: Arc<dyn ByteRange>, name: &str) -> Result<Box<dyn Checkpoint>, OpenError> {
    let stem = name.strip_suffix(".gguf").unwrap_or(name);
    Ok(Box::new(GgufCheckpoint::open(file, stem)?))
}
