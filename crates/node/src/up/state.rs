//! The folder of a network: the split model, and a folder with key, configuration and log for each
//! node. Everything in it can be made anew but the keys.

use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::json;
use skein_base::Blake3;
use skein_base::codec::Writer;
use skein_runtime::{AtomicFile, LockError, LockFile, entropy};
use skein_weights::manifest::MANIFEST_FILE;
use skein_weights::split::JOURNAL_FILE;

use super::layout::Member;
use super::supervisor::Watched;
use crate::config::Format;
use crate::embedded;

/// What people and scripts read about a running network.
pub const NETWORK_FILE: &str = "network.json";
const LOCK_FILE: &str = "lock";
/// Where ports are looked for, and how often.
const PORTS: Range<u16> = 15_000..32_000;
const PORT_TRIES: usize = 1000;
const MODEL_PREFIX: &str = "model-";

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another `skein up` has it.
    #[error(
        "a network is running from {} already: talk to it (`skein chat`, `skein status`), end it with Ctrl-C where it was started, or start another one with --state DIR and --listen ADDRESS",
        path.display()
    )]
    Running {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot be read or written.
    #[error("cannot use the state folder {}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The folder, held as long as this lives.
#[derive(Debug)]
pub struct State {
    root: PathBuf,
    _lock: LockFile,
}

impl State {
    /// Makes the folder if need be and takes it.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn take(root: &Path) -> Result<Self, StateError> {
        let io = |source| StateError::Io {
            path: root.to_owned(),
            source,
        };
        fs::create_dir_all(root.join("nodes")).map_err(io)?;
        // Nodes are given absolute paths.
        let root = root.canonicalize().map_err(io)?;
        match LockFile::take(&root.join(LOCK_FILE)) {
            Ok(lock) => Ok(Self { root, _lock: lock }),
            Err(LockError::Taken { .. }) => Err(StateError::Running { path: root }),
            Err(error) => Err(io(io::Error::other(error))),
        }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the nodes have their folders.
    pub fn nodes(&self) -> PathBuf {
        self.root.join("nodes")
    }

    /// The log of a node.
    pub fn log(&self, name: &str) -> PathBuf {
        self.nodes().join(name).join("log")
    }

    /// The configuration of a node.
    pub fn config(&self, name: &str) -> PathBuf {
        self.nodes().join(name).join("node.toml")
    }

    /// Where `source` is kept when split: another folder whenever the source or the format changes.
    ///
    /// # Errors
    /// If the source cannot be listed.
    pub fn model_folder(&self, source: &Path, format: Format) -> io::Result<PathBuf> {
        let digest = fingerprint(source, format)?;
        Ok(self.root.join(format!("{MODEL_PREFIX}{digest}")))
    }

    /// Removes the split models of before.
    ///
    /// # Errors
    /// Of the file system.
    pub fn remove_other_models(&self, keep: &Path) -> io::Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let model = name.is_some_and(|name| name.starts_with(MODEL_PREFIX));
            if model && path != keep {
                fs::remove_dir_all(&path)?;
            }
        }
        Ok(())
    }

    /// Makes the folder of a node.
    ///
    /// # Errors
    /// Of the file system.
    pub fn make_node(&self, name: &str) -> Result<(), StateError> {
        let path = self.nodes().join(name);
        fs::create_dir_all(&path).map_err(|source| StateError::Io { path, source })
    }

    /// Writes what a node is told.
    ///
    /// # Errors
    /// Of the file system.
    pub fn write_config(&self, member: &Member) -> Result<(), StateError> {
        let text = format!(
            "# Written by `skein up` at each start.\n{}",
            member.settings.to_file()
        );
        self.write(&self.nodes().join(&member.name), "node.toml", &text)
    }

    /// Writes what runs where.
    ///
    /// # Errors
    /// Of the file system.
    pub fn write_network(&self, url: Option<&str>, nodes: &[Watched]) -> Result<(), StateError> {
        let nodes = nodes.iter().map(|node| {
            json!({
                "name": node.member.name,
                "node": node.member.node.to_string(),
                "layers": node.member.slice.as_ref().map(|slice| json!({
                    "start": slice.layers.start,
                    "end": slice.layers.end,
                })),
                "address": node.member.address,
                "pid": node.pid,
                "ready": node.ready,
                "restarts": node.restarts,
                "log": self.log(&node.member.name),
            })
        });
        let network = json!({
            "pid": std::process::id(),
            "url": url,
            "nodes": nodes.collect::<Vec<_>>(),
        });
        self.write(&self.root, NETWORK_FILE, &format!("{network:#}\n"))
    }

    /// Nothing runs any more.
    pub fn forget_network(&self) {
        // The lock says the same; this is for whoever looks into the folder.
        let _ = fs::remove_file(self.root.join(NETWORK_FILE));
    }

    fn write(&self, folder: &Path, name: &str, text: &str) -> Result<(), StateError> {
        let write = || {
            let mut file = AtomicFile::create(folder, name)?;
            file.write_all(text.as_bytes())?;
            file.commit()
        };
        write().map_err(|source| StateError::Io {
            path: folder.join(name),
            source,
        })
    }
}

/// Whether a folder holds a whole split model.
pub fn is_split(folder: &Path) -> bool {
    folder.join(MANIFEST_FILE).is_file() && !folder.join(JOURNAL_FILE).exists()
}

/// Changes when a file of the source does: by names, sizes and times, not by content.
fn fingerprint(source: &Path, format: Format) -> io::Result<String> {
    if source == Path::new(embedded::NAME) {
        let known = format!("{} {format:?}", embedded::fingerprint());
        return Ok(Blake3::of(known.as_bytes()).to_string()[..12].to_owned());
    }
    let source = source.canonicalize()?;
    let mut writer = Writer::domain("skein up source v2");
    writer.bytes(source.as_os_str().as_encoded_bytes());
    writer.bytes(format!("{format:?}").as_bytes());
    let mut files = match source.is_dir() {
        true => fs::read_dir(&source)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?,
        false => vec![source],
    };
    files.sort();
    for file in files {
        let found = fs::metadata(&file)?;
        let changed = found.modified()?.duration_since(std::time::UNIX_EPOCH);
        let changed = changed.map_or(0, |since| since.as_nanos());
        writer
            .bytes(file.as_os_str().as_encoded_bytes())
            .u64(found.len())
            .raw(&changed.to_le_bytes());
    }
    Ok(Blake3::of(&writer.finish()).to_string()[..12].to_owned())
}

/// Ports of loopback that are free now, each another one. They are taken from below those that systems give to
/// outgoing connections: such a one could be in use by the time a node listens.
///
/// # Errors
/// If none are found.
pub fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    // All held until all are known.
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..PORT_TRIES {
        if listeners.len() == count {
            break;
        }
        let mut bytes = [0; 2];
        entropy(&mut bytes).map_err(io::Error::other)?;
        let port = PORTS.start + u16::from_le_bytes(bytes) % (PORTS.end - PORTS.start);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            listeners.push(listener);
        }
    }
    if listeners.len() < count {
        let problem = format!("{count} free ports were not found on 127.0.0.1");
        return Err(io::Error::new(io::ErrorKind::AddrInUse, problem));
    }
    listeners.iter().map(TcpListener::local_addr).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_at_a_time_has_a_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("deep/state");
        let state = State::take(&root).expect("taken");
        let error = State::take(&root).expect_err("taken already").to_string();
        assert!(
            error.contains("running") && error.contains("--state"),
            "{error}"
        );
        drop(state);
        State::take(&root).expect("free again");
    }

    #[test]
    fn another_source_has_another_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::take(&folder.path().join("state")).expect("taken");
        let source = folder.path().join("model");
        fs::create_dir(&source).expect("made");
        fs::write(source.join("config.json"), "{}").expect("written");
        let place = |format| state.model_folder(&source, format).expect("a place");
        let first = place(Format::Auto);
        assert_eq!(first, place(Format::Auto));
        assert_ne!(first, place(Format::Bf16));
        fs::write(source.join("config.json"), "{ }").expect("written");
        let second = place(Format::Auto);
        assert_ne!(first, second);
        for model in [&first, &second] {
            fs::create_dir(model).expect("made");
        }
        state.remove_other_models(&second).expect("removed");
        assert!(!first.exists() && second.exists());
    }
}
