//! Models of the hub, in the usual cache.

use std::path::PathBuf;
use std::sync::Arc;

use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use hf_hub::{HFClientSync, HFError};

use crate::console::Console;
use crate::locate::Repository;

/// The files of a model that are worth fetching: weights, settings, tokenizer, template.
const WANTED: [&str; 3] = ["*.safetensors", "*.json", "*.jinja"];

/// Why a model could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The client cannot be made.
    #[error("the client of the hub cannot be started")]
    Client(#[source] HFError),
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
        source: HFError,
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
        source: HFError,
    },
    /// The hub refuses.
    #[error(
        "the hub does not give {repository} to you: accept its terms on its page, and set HF_TOKEN"
    )]
    Denied {
        /// The repository.
        repository: String,
        /// What the client said.
        #[source]
        source: HFError,
    },
    /// Anything else.
    #[error("fetching {repository} failed; run the same command again, what is complete is kept")]
    Failed {
        /// The repository.
        repository: String,
        /// What the client said.
        #[source]
        source: HFError,
    },
}

/// Bytes so far, on a bar.
struct Bar(indicatif::ProgressBar);

impl ProgressHandler for Bar {
    fn on_progress(&self, event: &ProgressEvent) {
        match event {
            ProgressEvent::Download(DownloadEvent::Start { total_bytes, .. }) => {
                self.0.set_length(*total_bytes);
            }
            ProgressEvent::Download(DownloadEvent::AggregateProgress {
                bytes_completed, ..
            }) => {
                self.0.set_position(*bytes_completed);
            }
            ProgressEvent::Download(DownloadEvent::Complete) => self.0.finish_and_clear(),
            _ => {}
        }
    }
}

/// The folder of a commit: from the cache, or fetched into it if `online`.
pub fn fetch(
    repository: &Repository,
    online: bool,
    console: Console,
) -> Result<PathBuf, FetchError> {
    let Repository {
        owner,
        name,
        commit,
    } = repository;
    let described = format!("{owner}/{name}@{commit}");
    let client = HFClientSync::new().map_err(FetchError::Client)?;
    let model = client.model(owner.as_str(), name.as_str());
    let download = |local: bool, bar: indicatif::ProgressBar| {
        model
            .snapshot_download()
            .revision(commit.as_str())
            .allow_patterns(WANTED.map(str::to_owned).to_vec())
            .ignore_patterns(vec!["*/*".to_owned()])
            .local_files_only(local)
            .progress(Arc::new(Bar(bar)))
            .send()
    };
    if !online {
        return download(true, indicatif::ProgressBar::hidden()).map_err(|_| {
            FetchError::NotCached {
                repository: described,
            }
        });
    }
    console.note(&format!("fetching {described} into the cache of the hub"));
    let error = match download(false, console.byte_bar(0)) {
        Ok(folder) => return Ok(folder),
        Err(error) => explain(described.clone(), error),
    };
    // Without a network, what was fetched before still serves; a commit never changes.
    if let (FetchError::NoNetwork { .. }, Ok(folder)) =
        (&error, download(true, indicatif::ProgressBar::hidden()))
    {
        console.note(&format!(
            "the hub cannot be reached; using {described} of the local cache"
        ));
        return Ok(folder);
    }
    Err(error)
}

fn explain(repository: String, source: HFError) -> FetchError {
    match source {
        HFError::RepoNotFound { .. }
        | HFError::RevisionNotFound { .. }
        | HFError::EntryNotFound { .. } => FetchError::NotFound { repository, source },
        HFError::AuthRequired { .. } | HFError::Forbidden { .. } => {
            FetchError::Denied { repository, source }
        }
        HFError::Request { .. } => FetchError::NoNetwork { repository, source },
        source => FetchError::Failed { repository, source },
    }
}
