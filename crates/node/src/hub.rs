//! Models of the hub, in the usual cache.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use skein_base::Sha256;
use skein_runtime::FileRange;
use skein_weights::hashing::FileHashes;

use crate::config::ModelSettings;
use crate::console::Console;
use crate::locate::Repository;

/// The files of a model that are worth fetching: settings, tokenizer, template, weights.
const WANTED: [&str; 3] = [".json", ".jinja", ".safetensors"];
/// Fetched last of all: where it is, the rest is.
const LAST: &str = "config.json";
/// How often a broken transfer is taken up again before the command gives up.
const RETRIES: usize = 5;

/// Why a model could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The client cannot be made.
    #[error("the client of the hub cannot be started")]
    Client(#[source] ApiError),
    /// The cache does not have it, and the network may not be used.
    #[error(
        "{repository} is not in the local cache, and fetching is off; set model.fetch = true or leave out --offline"
    )]
    NotCached {
        /// The repository.
        repository: String,
    },
    /// The hub cannot be reached.
    #[error(
        "cannot reach the hub to fetch {repository}: check the network, or copy the model's folder here by other means and give its path"
    )]
    NoNetwork {
        /// The repository.
        repository: String,
        /// What the client said.
        #[source]
        source: ApiError,
    },
    /// The hub has no such repository or commit.
    #[error(
        "the hub has no {repository}: check the name and the commit (and HF_TOKEN, if it is private)"
    )]
    NotFound {
        /// The repository.
        repository: String,
        /// What the client said.
        #[source]
        source: ApiError,
    },
    /// The hub fell silent.
    #[error(
        "nothing came from the hub for {timeout:?}: run the same command again, what came is kept \
         (model.fetch_timeout says how long to wait)"
    )]
    Silent {
        /// How long it was waited for.
        timeout: Duration,
    },
    /// There is no thread for it.
    #[error("the operating system gave no thread to fetch with")]
    Thread(#[source] io::Error),
    /// The hub refuses.
    #[error(
        "the hub does not give {repository} to you: accept its terms on its page, and set HF_TOKEN"
    )]
    Denied {
        /// The repository.
        repository: String,
        /// What the client said.
        #[source]
        source: ApiError,
    },
    /// What came is not what the hub announced.
    #[error(
        "{file} of {repository} arrived damaged (its SHA-256 is {found}, the hub announced {expected}) \
         and was removed; run the same command again"
    )]
    Damaged {
        /// The repository.
        repository: String,
        /// The file.
        file: String,
        /// Its hash.
        found: Sha256,
        /// The hash that the hub announced.
        expected: Sha256,
    },
    /// The cache cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error("fetching {repository} failed; run the same command again, what is complete is kept")]
    Failed {
        /// The repository.
        repository: String,
        /// What the client said.
        #[source]
        source: ApiError,
    },
}

/// Whether and how patiently to fetch.
#[derive(Debug, Clone, Copy)]
pub struct Fetching {
    online: bool,
    timeout: Duration,
}

impl Fetching {
    /// As the settings say, unless a flag forbids it.
    pub fn new(settings: &ModelSettings, offline: bool) -> Self {
        Self {
            online: settings.fetch && !offline,
            timeout: settings.fetch_timeout.0,
        }
    }

    /// Not at all.
    pub fn never() -> Self {
        Self {
            online: false,
            timeout: Duration::ZERO,
        }
    }
}

/// Tells whoever waits that something happened.
#[derive(Debug, Clone, Default)]
struct Pulse(Arc<AtomicU64>);

impl Pulse {
    fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn beats(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bytes of one file so far, on a bar.
struct Bar {
    bar: indicatif::ProgressBar,
    pulse: Pulse,
}

impl Progress for Bar {
    fn init(&mut self, size: usize, filename: &str) {
        self.bar.set_length(size as u64);
        // After a break it begins again, and is told first how much was there.
        self.bar.set_position(0);
        self.bar.set_message(filename.to_owned());
        self.pulse.beat();
    }

    fn update(&mut self, size: usize) {
        self.bar.inc(size as u64);
        self.pulse.beat();
    }

    fn finish(&mut self) {
        self.bar.finish_and_clear();
        self.pulse.beat();
    }
}

/// The folder of a commit: from the cache, or fetched into it if `online`.
///
/// A file that is whole in the cache is not fetched again, and one that broke off goes on where it
/// stopped.
pub fn fetch(
    repository: &Repository,
    fetching: Fetching,
    console: Console,
) -> Result<PathBuf, FetchError> {
    let Repository {
        owner,
        name,
        commit,
    } = repository;
    let described = format!("{owner}/{name}@{commit}");
    let repo = Repo::with_revision(format!("{owner}/{name}"), RepoType::Model, commit.clone());
    let cache = Cache::from_env();
    let folder = cache.repo(repo.clone()).pointer_path(commit);
    let cached = folder.join(LAST).exists();
    if !fetching.online {
        let missing = FetchError::NotCached {
            repository: described,
        };
        return if cached { Ok(folder) } else { Err(missing) };
    }
    let mut builder = ApiBuilder::from_env()
        .with_progress(false)
        .with_retries(RETRIES);
    if let Some(token) = token() {
        builder = builder.with_token(Some(token));
    }
    let api = builder.build().map_err(FetchError::Client)?.repo(repo);
    if !cached {
        console.note(&format!("fetching {described} into the cache of the hub"));
    }
    let download = Download {
        api,
        folder: folder.clone(),
        described: described.clone(),
        console,
        pulse: Pulse::default(),
    };
    match watched(download, fetching.timeout) {
        // Without a network, what was fetched before still serves; a commit never changes.
        Err(FetchError::NoNetwork { .. }) if cached => {
            console.note(&format!(
                "the hub cannot be reached; using {described} of the local cache"
            ));
            Ok(folder)
        }
        Err(error) => Err(error),
        Ok(()) => Ok(folder),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the usual variable of the hub's own tools"
)]
fn token() -> Option<String> {
    std::env::var("HF_TOKEN")
        .ok()
        .filter(|token| !token.is_empty())
}

/// Waits for a download as long as something comes.
///
/// The client has no deadlines of its own, so it works on a thread that is left behind when it
/// hangs: its caller ends the process soon, and what it wrote stays good.
fn watched(download: Download, timeout: Duration) -> Result<(), FetchError> {
    let pulse = download.pulse.clone();
    let (done, result) = sync_channel(1);
    thread::Builder::new()
        .name("skein-fetch".to_owned())
        .spawn(move || {
            // Nobody listens any more if it took too long.
            let _ = done.send(download.run());
        })
        .map_err(FetchError::Thread)?;
    loop {
        let before = pulse.beats();
        match result.recv_timeout(timeout) {
            Ok(outcome) => return outcome,
            Err(RecvTimeoutError::Timeout) if pulse.beats() != before => {}
            Err(_) => return Err(FetchError::Silent { timeout }),
        }
    }
}

/// The download of one commit.
struct Download {
    api: ApiRepo,
    folder: PathBuf,
    described: String,
    console: Console,
    pulse: Pulse,
}

impl Download {
    fn run(&self) -> Result<(), FetchError> {
        let failed = |error| explain(self.described.clone(), error);
        let siblings = self.api.info().map_err(failed)?.siblings;
        let mut names: Vec<(usize, String)> = siblings
            .into_iter()
            .filter_map(|file| Some((turn(&file.rfilename)?, file.rfilename)))
            .collect();
        names.sort();
        for (_, name) in &names {
            if !self.folder.join(name).exists() {
                let bar = Bar {
                    bar: self.console.byte_bar(0),
                    pulse: self.pulse.clone(),
                };
                let path = self.api.download_with_progress(name, bar).map_err(failed)?;
                self.check(&path, name)?;
            }
        }
        Ok(())
    }

    /// Compares a file's SHA-256 with what the hub announced, which is the name that the cache
    /// gives to large files. (Small ones are named by git's own hash; what is wrong in them shows
    /// when they are parsed.)
    fn check(&self, path: &Path, file: &str) -> Result<(), FetchError> {
        let io = |source| FetchError::Io {
            path: path.to_owned(),
            source,
        };
        let blob = path.canonicalize().map_err(io)?;
        let name = blob.file_name().and_then(|name| name.to_str());
        let Some(Ok(expected)) = name.map(str::parse::<Sha256>) else {
            return Ok(());
        };
        let content = FileRange::open(&blob).map_err(io)?;
        let hashes = FileHashes::of(&content, &mut |_| self.pulse.beat()).map_err(io)?;
        if hashes.sha256 == expected {
            return Ok(());
        }
        fs::remove_file(path).map_err(io)?;
        fs::remove_file(&blob).map_err(io)?;
        Err(FetchError::Damaged {
            repository: self.described.clone(),
            file: file.to_owned(),
            found: hashes.sha256,
            expected,
        })
    }
}

/// When a file is fetched; `None` if it is not.
fn turn(name: &str) -> Option<usize> {
    // Files in folders of the repository are other formats of the same weights.
    if name.contains(['/', '\\']) {
        return None;
    }
    let turn = WANTED.iter().position(|ending| name.ends_with(ending));
    turn.map(|turn| if name == LAST { WANTED.len() } else { turn })
}

fn explain(repository: String, source: ApiError) -> FetchError {
    match &source {
        ApiError::TooManyRetries(inner) if matches!(**inner, ApiError::RequestError(_)) => {
            FetchError::NoNetwork { repository, source }
        }
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(404) => FetchError::NotFound { repository, source },
            ureq::Error::StatusCode(401 | 403) => FetchError::Denied { repository, source },
            ureq::Error::StatusCode(_) => FetchError::Failed { repository, source },
            _ => FetchError::NoNetwork { repository, source },
        },
        _ => FetchError::Failed { repository, source },
    }
}
