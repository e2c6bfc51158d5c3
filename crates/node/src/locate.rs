//! What a user means by a model: a folder, a file, or a repository of the hub.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use skein_weights::manifest::MANIFEST_FILE;

use crate::config::nearest;
use crate::embedded;

/// The forms that are accepted, for messages.
const FORMS: &str = "a model is a Hugging Face folder (config.json and *.safetensors), a folder \
     written by `skein model split`, a .gguf file, org/name@commit of the hub, or \"embedded\": the small one \
     inside Skein";

/// A model, found but not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The model inside the program.
    Embedded,
    /// A Hugging Face folder.
    HuggingFace(PathBuf),
    /// A folder that Skein split.
    Split(PathBuf),
    /// A GGUF file.
    Gguf(PathBuf),
    /// A commit of a repository of the hub.
    Hub(Repository),
}

/// A commit of a repository of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Who owns it.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// 40 hexadecimal digits.
    pub commit: String,
}

/// Why no model was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocateError {
    /// There is nothing of that name.
    #[error("there is no model at {text}{}; {FORMS}", did_you_mean(.near))]
    NotFound {
        /// What was asked for.
        text: String,
        /// What is there of a similar name.
        near: Vec<String>,
    },
    /// It cannot be looked at.
    #[error("cannot look at {}", path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Weights without their configuration.
    #[error("{} has weights but no config.json; copy config.json, tokenizer.json and tokenizer_config.json of the model beside them", path.display())]
    NoConfig {
        /// The folder.
        path: PathBuf,
    },
    /// Only weights that run code when they are read.
    #[error("{} has pickle weights only ({file}): reading those can run any code, so Skein does not; convert them with transformers: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(other_folder)", path.display())]
    PickleOnly {
        /// The folder.
        path: PathBuf,
        /// One of the files.
        file: String,
    },
    /// A configuration without weights.
    #[error("{} has a config.json but no *.safetensors; fetch the weights too (git lfs pull, or skein model fetch org/name@commit)", path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// A folder without any of the files of a model.
    #[error("{} holds no model{}; {FORMS}", path.display(), inside(.candidates))]
    NoModel {
        /// The folder.
        path: PathBuf,
        /// Things inside it that may have been meant.
        candidates: Vec<String>,
    },
    /// A file that is no model by itself.
    #[error("{} is {what}; {advice}", path.display())]
    NotAModelFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What to give instead.
        advice: String,
    },
    /// A repository whose content is not fixed.
    #[error(
        "{text} names a repository of the hub, but not one commit of it; write {repository}@COMMIT with the 40 digits that the hub shows under \"Files\", \"History\", so that everybody loads the same bytes"
    )]
    NoCommit {
        /// What was asked for.
        text: String,
        /// `org/name`.
        repository: String,
    },
}

fn did_you_mean(near: &[String]) -> String {
    match near {
        [] => String::new(),
        near => format!("; did you mean {}?", near.join(" or ")),
    }
}

fn inside(candidates: &[String]) -> String {
    match candidates {
        [] => String::new(),
        some => format!(", but inside it are {}", some.join(", ")),
    }
}

/// Finds the model that `text` names; looks at names only, opens nothing.
pub fn locate(text: &str) -> Result<Place, LocateError> {
    // A folder of that name is ./embedded.
    if text == embedded::NAME {
        return Ok(Place::Embedded);
    }
    let path = Path::new(text);
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => folder(path),
        Ok(_) => file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => absent(text),
        Err(source) => Err(LocateError::Unreadable {
            path: path.to_owned(),
            source,
        }),
    }
}

fn names(path: &Path) -> Result<Vec<String>, LocateError> {
    let unreadable = |source| LocateError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        names.push(
            entry
                .map_err(unreadable)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    Ok(names)
}

fn is_pickle(name: &str) -> bool {
    [".bin", ".pt", ".pth", ".ckpt", ".pkl"]
        .iter()
        .any(|end| name.ends_with(end))
}

fn folder(path: &Path) -> Result<Place, LocateError> {
    let names = names(path)?;
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let weights = names.iter().any(|name| name.ends_with(".safetensors"));
    if has(MANIFEST_FILE) {
        return Ok(Place::Split(path.to_owned()));
    }
    if has("config.json") && weights {
        return Ok(Place::HuggingFace(path.to_owned()));
    }
    if weights {
        return Err(LocateError::NoConfig {
            path: path.to_owned(),
        });
    }
    if let Some(file) = names.iter().find(|name| is_pickle(name)) {
        return Err(LocateError::PickleOnly {
            path: path.to_owned(),
            file: file.clone(),
        });
    }
    if has("config.json") {
        return Err(LocateError::NoWeights {
            path: path.to_owned(),
        });
    }
    let mut ggufs = names.iter().filter(|name| name.ends_with(".gguf"));
    if let (Some(only), None) = (ggufs.next(), ggufs.next()) {
        return Ok(Place::Gguf(path.join(only)));
    }
    let model_inside = |name: &&String| {
        let inner = path.join(name);
        name.ends_with(".gguf")
            || ["config.json", MANIFEST_FILE]
                .iter()
                .any(|f| inner.join(f).is_file())
    };
    let found = names.iter().filter(model_inside).take(5);
    let candidates = found
        .map(|name| path.join(name).display().to_string())
        .collect();
    Err(LocateError::NoModel {
        path: path.to_owned(),
        candidates,
    })
}

fn file(path: &Path) -> Result<Place, LocateError> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new(".")).display().to_string();
    let refuse = |what, advice| LocateError::NotAModelFile {
        path: path.to_owned(),
        what,
        advice,
    };
    if name.ends_with(".gguf") {
        return Ok(Place::Gguf(path.to_owned()));
    }
    if is_pickle(&name) {
        return Err(LocateError::PickleOnly {
            path: path.to_owned(),
            file: name,
        });
    }
    if name.ends_with(".safetensors") || name.ends_with(".json") {
        return Err(refuse(
            "one file of a model",
            format!("give its folder: {parent}"),
        ));
    }
    Err(refuse("no model file", FORMS.to_owned()))
}

fn absent(text: &str) -> Result<Place, LocateError> {
    let (repository, commit) = match text.split_once('@') {
        Some((repository, commit)) => (repository, Some(commit)),
        None => (text, None),
    };
    let plain = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && part.len() <= 96 && !part.starts_with('.') && part.chars().all(allowed)
    };
    let hub = repository
        .split_once('/')
        .filter(|(owner, name)| plain(owner) && plain(name));
    let parent_exists = Path::new(text)
        .parent()
        .is_some_and(|parent| parent.is_dir());
    match (hub, commit) {
        (Some((owner, name)), Some(commit)) => {
            if commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                let (owner, name) = (owner.to_owned(), name.to_owned());
                return Ok(Place::Hub(Repository {
                    owner,
                    name,
                    commit: commit.to_lowercase(),
                }));
            }
            Err(LocateError::NoCommit {
                text: text.to_owned(),
                repository: repository.to_owned(),
            })
        }
        (Some(_), None) if !parent_exists && !text.ends_with(".gguf") => {
            Err(LocateError::NoCommit {
                text: text.to_owned(),
                repository: repository.to_owned(),
            })
        }
        _ => Err(LocateError::NotFound {
            text: text.to_owned(),
            near: near(Path::new(text)),
        }),
    }
}

/// What stands where `path` should, by a similar name.
fn near(path: &Path) -> Vec<String> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Vec::new();
    };
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let Ok(there) = names(parent) else {
        // Nor is the folder there: the mistake may be further up.
        return near(parent);
    };
    let best = nearest(name, there.iter().map(String::as_str));
    best.map(|best| parent.join(best).display().to_string())
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests;
