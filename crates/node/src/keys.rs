//! The file of API keys: names, hashes and limits; never a key itself.

use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skein_gateway::{ConfigError, GatewayConfig, KeyEntry, KeyError, KeyHash, KeyLimits};
use skein_runtime::AtomicFile;

/// Largest file that is read, in bytes: some 50 thousand keys.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Why a file of keys was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// No file was named.
    #[error("no file of keys is configured: give --file, or set gateway.keys_file")]
    NoFile,
    /// It cannot be read or written.
    #[error("cannot read or write the file of keys {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not what such a file is.
    #[error("{} is no file of keys: {reason}; let `skein keys new` write it", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A hash is none.
    #[error("{}: {reason}", path.display())]
    Hash {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: KeyError,
    },
    /// Its entries are at odds.
    #[error("{}: {reason}", path.display())]
    Entries {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: ConfigError,
    },
    /// No randomness for a new key.
    #[error(transparent)]
    Entropy(#[from] skein_runtime::EntropyError),
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysFile {
    #[serde(default)]
    key: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_minute: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_minute: Option<u32>,
}

/// Reads a file of keys.
pub fn read(path: &Path) -> Result<Vec<KeyEntry>, KeysError> {
    let io = |source| KeysError::Io {
        path: path.to_owned(),
        source,
    };
    let invalid = |reason: String| KeysError::Invalid {
        path: path.to_owned(),
        reason,
    };
    let bytes = fs::metadata(path).map_err(io)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(invalid(format!(
            "it has {bytes} bytes, at most {FILE_BYTES_MAX} are read"
        )));
    }
    let text = fs::read_to_string(path).map_err(io)?;
    let file: KeysFile = toml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    let entries = file.key.into_iter().map(|entry| {
        let refuse = |reason| KeysError::Hash {
            path: path.to_owned(),
            reason,
        };
        Ok(KeyEntry {
            hash: entry.hash.parse::<KeyHash>().map_err(refuse)?,
            name: entry.name,
            limits: KeyLimits {
                requests_per_minute: entry.requests_per_minute,
                tokens_per_minute: entry.tokens_per_minute,
            },
        })
    });
    let entries: Vec<KeyEntry> = entries.collect::<Result<_, KeysError>>()?;
    check(path, &entries)?;
    Ok(entries)
}

/// Makes a key, adds its hash to the file (made if absent, readable by its owner alone), and
/// returns the key: nobody can read it again.
pub fn add(path: &Path, name: &str, limits: KeyLimits) -> Result<String, KeysError> {
    let mut entries = if path.exists() {
        read(path)?
    } else {
        Vec::new()
    };
    let mut random = [0; 32];
    skein_runtime::entropy(&mut random)?;
    let key = skein_gateway::format_key(&random);
    entries.push(KeyEntry {
        name: name.to_owned(),
        hash: KeyHash::of(&key),
        limits,
    });
    check(path, &entries)?;
    write(path, &entries)?;
    Ok(key)
}

fn check(path: &Path, entries: &[KeyEntry]) -> Result<(), KeysError> {
    let config = GatewayConfig {
        keys: entries.to_vec(),
        ..GatewayConfig::default()
    };
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config
        .validate(loopback)
        .map_err(|reason| KeysError::Entries {
            path: path.to_owned(),
            reason,
        })
}

fn write(path: &Path, entries: &[KeyEntry]) -> Result<(), KeysError> {
    let io = |source| KeysError::Io {
        path: path.to_owned(),
        source,
    };
    let key = entries.iter().map(|entry| Entry {
        name: entry.name.clone(),
        hash: entry.hash.to_string(),
        requests_per_minute: entry.limits.requests_per_minute,
        tokens_per_minute: entry.limits.tokens_per_minute,
    });
    let file = KeysFile { key: key.collect() };
    let text = toml::to_string(&file).map_err(|error| KeysError::Invalid {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io(io::ErrorKind::InvalidFilename.into()))?;
    fs::create_dir_all(folder).map_err(io)?;
    let mut out = AtomicFile::create_private(folder, name).map_err(io)?;
    out.write_all(b"# Hashes of API keys; written by `skein keys new`.\n")
        .map_err(io)?;
    out.write_all(text.as_bytes()).map_err(io)?;
    out.commit().map_err(io)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_kept_as_hashes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/keys.toml");
        let limits = KeyLimits {
            requests_per_minute: Some(60),
            tokens_per_minute: None,
        };
        let first = add(&path, "alice", limits).expect("a key");
        let second = add(&path, "bob", KeyLimits::default()).expect("a key");
        assert_ne!(first, second);
        let entries = read(&path).expect("readable");
        assert_eq!(entries.len(), 2);
        assert_eq!(
            (entries[0].hash, entries[0].limits),
            (KeyHash::of(&first), limits)
        );
        let text = fs::read_to_string(&path).expect("readable");
        assert!(!text.contains(&first) && text.contains("alice"), "{text}");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let twice = add(&path, "alice", KeyLimits::default()).expect_err("a name taken");
        assert!(
            twice.to_string().contains("two API keys are named 'alice'"),
            "{twice}"
        );
    }

    #[test]
    fn other_files_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.toml");
        for (text, expected) in [
            ("x = 1", "let `skein keys new` write it"),
            (
                "[[key]]\nname = \"a\"\nhash = \"12\"",
                "64 hexadecimal digits",
            ),
            ("[[key]]\nname = \"a\"", "missing field `hash`"),
        ] {
            fs::write(&path, text).expect("written");
            let message = read(&path).expect_err(text).to_string();
            assert!(message.contains(expected), "{message}");
        }
        assert!(matches!(
            read(&folder.path().join("absent")),
            Err(KeysError::Io { .. })
        ));
    }
}
