//! The node's key, in a file that only its owner reads.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use skein_base::NodeId;
use skein_p2p::{Identity, IdentityError};
use skein_runtime::AtomicFile;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file cannot be read or written.
    #[error("cannot read or write the node's key {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It holds something else.
    #[error(
        "{} is no node key: it should hold 64 hexadecimal digits; move it away and a new key is made, under which nobody knows the node yet",
        path.display()
    )]
    Invalid {
        /// The file.
        path: PathBuf,
    },
    /// Others may read it.
    #[error("{} can be read by others: whoever has it is this node; chmod 600 {}", path.display(), path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// The key itself.
    #[error(transparent)]
    Key(#[from] IdentityError),
}

/// Longest content that is looked at: digits and an end of line.
const BYTES_MAX: u64 = 128;

/// The key of a file, made if there is none; without a file a key for this run.
///
/// # Errors
/// See [`KeyFileError`].
pub fn identity(file: Option<&Path>) -> Result<Identity, KeyFileError> {
    let Some(path) = file else {
        return Ok(Identity::random()?.0);
    };
    let io = |source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    };
    match fs::metadata(path) {
        Ok(found) if found.len() <= BYTES_MAX => read(path, &found),
        Ok(_) => Err(KeyFileError::Invalid {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (identity, seed) = Identity::random()?;
            write(path, &seed).map_err(io)?;
            Ok(identity)
        }
        Err(error) => Err(io(error)),
    }
}

fn read(path: &Path, found: &fs::Metadata) -> Result<Identity, KeyFileError> {
    use std::os::unix::fs::PermissionsExt as _;
    if found.permissions().mode() & 0o077 != 0 {
        return Err(KeyFileError::Open {
            path: path.to_owned(),
        });
    }
    let text = fs::read_to_string(path).map_err(|source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    })?;
    // The same digits as a node's id: 32 bytes in hexadecimal.
    let seed: Option<NodeId> = text.trim().parse().ok();
    let seed = seed.ok_or_else(|| KeyFileError::Invalid {
        path: path.to_owned(),
    })?;
    Ok(Identity::from_seed(&seed.0)?)
}

fn write(path: &Path, seed: &[u8; 32]) -> io::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::other("it has no name"))?;
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let mut file = AtomicFile::create_private(folder.unwrap_or(Path::new(".")), name)?;
    writeln!(file, "{}", NodeId(*seed))?;
    file.commit()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("node.key");
        let first = identity(Some(&path)).expect("made").node();
        let again = identity(Some(&path)).expect("read").node();
        assert_eq!(first, again);
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
        let error = identity(Some(&path)).expect_err("others can read it");
        assert!(error.to_string().contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
        for content in ["", "abc", &"0".repeat(1000)] {
            fs::write(&path, content).expect("written");
            let error = identity(Some(&path)).expect_err("no key");
            assert!(matches!(error, KeyFileError::Invalid { .. }), "{error}");
        }
        let one = identity(None).expect("a key").node();
        assert_ne!(one, identity(None).expect("another").node());
    }
}
