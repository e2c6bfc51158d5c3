//! Small files of a folder, read whole within a bound.

use std::io;

use skein_base::limits;

use crate::bytes::Folder;

/// Why a small file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It could not be opened or read.
    #[error("cannot read {file} in {place}")]
    Io {
        /// The folder.
        place: String,
        /// The file.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is larger than any real one.
    #[error("{file} has {found} bytes, over the bound of {max}")]
    TooLarge {
        /// The file.
        file: String,
        /// Its size.
        found: u64,
        /// The bound.
        max: u64,
    },
}

/// Whether a name is that of a file right inside a folder, on every system.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name
            .chars()
            .any(|c| c.is_control() || matches!(c, '/' | '\\' | ':'))
}

/// Reads a file of at most `max` bytes; `None` if there is none of that name.
pub(crate) fn read_small(
    folder: &dyn Folder,
    name: &str,
    max: u64,
) -> Result<Option<Vec<u8>>, FileError> {
    let fail = |source| FileError::Io {
        place: folder.describe(),
        file: name.to_owned(),
        source,
    };
    let range = match folder.open(name) {
        Ok(range) => range,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let found = range.len();
    let too_large = || FileError::TooLarge {
        file: name.to_owned(),
        found,
        max,
    };
    if found > max {
        return Err(too_large());
    }
    let mut bytes = vec![0; usize::try_from(found).map_err(|_| too_large())?];
    range.read_at(0, &mut bytes).map_err(fail)?;
    Ok(Some(bytes))
}

/// Reads a JSON description; `None` if there is none of that name.
pub(crate) fn read_json(folder: &dyn Folder, name: &str) -> Result<Option<Vec<u8>>, FileError> {
    read_small(folder, name, limits::MODEL_JSON_BYTES_MAX)
}
