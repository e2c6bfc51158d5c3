//! Models of the hub, in the usual cache.

use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use crate::console::Console;
use crate::locate::Repository;

/// The files of a model that are worth fetching: weights, settings, tokenizer, template.
/// Small ones first, so that a model that cannot be served is known as such early.
const WANTED: [&str; 3] = [".json", ".jinja", ".safetensors"];
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

/// Bytes of one file so far, on a bar.
struct Bar(indicatif::ProgressBar);

impl Progress for Bar {
    fn init(&mut self, size: usize, filename: &str) {
        self.0.set_length(size as u64);
        self.0.set_message(filename.to_owned());
    }

    fn update(&mut self, size: usize) {
        self.0.inc(size as u64);
    }

    fn finish(&mut self) {
        self.0.finish_and_clear();
    }
}

/// The folder of a commit: from the cache, or fetched into it if `online`.
///
/// A file that is whole in the cache is not fetched again, and one that broke off goes on where it
/// stopped.
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
    let repo = Repo::with_revision(format!("{owner}/{name}"), RepoType::Model, commit.clone());
    let cache = Cache::from_env();
    let folder = cache.repo(repo.clone()).pointer_path(commit);
    let cached = folder.join("config.json").exists();
    if !online {
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
    console.note(&format!("fetching {described} into the cache of the hub"));
    match download(&api, &folder, console).map_err(|error| explain(described.clone(), error)) {
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

fn download(api: &ApiRepo, folder: &Path, console: Console) -> Result<(), ApiError> {
    let names: Vec<String> = api
        .info()?
        .siblings
        .into_iter()
        .map(|s| s.rfilename)
        .collect();
    for ending in WANTED {
        // Files in folders of the repository are other formats of the same weights.
        let wanted = |name: &&String| name.ends_with(ending) && !name.contains(['/', '\\']);
        for name in names.iter().filter(wanted) {
            if !folder.join(name).exists() {
                api.download_with_progress(name, Bar(console.byte_bar(0)))?;
            }
        }
    }
    Ok(())
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
