//! Where settings come from: defaults, then the file, then the environment, then flags.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Field, SECTIONS, Section, Settings};

/// Largest configuration file that is read, in bytes; a hundred times what anybody writes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How every environment variable of a setting begins.
const ENV_PREFIX: &str = "SKEIN_";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
    /// A flag of the command line, by name.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is far too large to be a configuration.
    #[error("{} has {bytes} bytes: no configuration is larger than {FILE_BYTES_MAX}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The file is no TOML.
    #[error("{} is no valid TOML:\n{message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser said, with the place.
        message: String,
    },
    /// No section has this name.
    #[error("{origin}: there is no section [{name}]{}", hint(.suggestion))]
    UnknownSection {
        /// Where it was found.
        origin: Origin,
        /// The unknown name.
        name: String,
        /// The nearest known name or names.
        suggestion: String,
    },
    /// No setting has this name.
    #[error("{origin}: there is no setting {name} in [{section}]{}", hint(.suggestion))]
    UnknownKey {
        /// Where it was found.
        origin: Origin,
        /// The section.
        section: String,
        /// The unknown name.
        name: String,
        /// The nearest known name or names.
        suggestion: String,
    },
    /// A value is of the wrong kind.
    #[error("{origin}: {section}.{key}: {message}")]
    BadValue {
        /// Where it was found.
        origin: Origin,
        /// The section.
        section: String,
        /// The setting.
        key: String,
        /// What was expected and what was found.
        message: String,
    },
    /// Two settings contradict each other.
    #[error("{message}")]
    Contradiction {
        /// Which, and what to do.
        message: String,
    },
}

fn hint(suggestion: &str) -> String {
    if suggestion.is_empty() {
        String::new()
    } else {
        format!("; {suggestion}")
    }
}

/// One setting given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// Section.
    pub section: &'static str,
    /// Setting.
    pub key: &'static str,
    /// How the user wrote it, such as `--listen`.
    pub flag: &'static str,
    /// The text given.
    pub value: String,
}

/// Settings, and where each came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub settings: Settings,
    origins: BTreeMap<(&'static str, &'static str), Origin>,
}

impl Loaded {
    /// Where the value of a setting came from.
    pub fn origin(&self, field: &Field) -> Origin {
        self.origins
            .get(&(field.section, field.key))
            .cloned()
            .unwrap_or(Origin::Default)
    }

    /// Defaults alone.
    pub fn defaults() -> Self {
        Self {
            settings: Settings::default(),
            origins: BTreeMap::new(),
        }
    }

    /// Reads a file over what is there.
    pub fn apply_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let unreadable = |source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let bytes = fs::metadata(path).map_err(unreadable)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge {
                path: path.to_owned(),
                bytes,
            });
        }
        let text = fs::read_to_string(path).map_err(unreadable)?;
        self.apply_text(&text, path)
    }

    /// Reads the text of a file over what is there; `path` is for messages.
    pub fn apply_text(&mut self, text: &str, path: &Path) -> Result<(), ConfigError> {
        let table: toml::Table =
            text.parse()
                .map_err(|error: toml::de::Error| ConfigError::Syntax {
                    path: path.to_owned(),
                    message: error.to_string(),
                })?;
        let origin = Origin::File(path.to_owned());
        for (name, value) in &table {
            let section = find_section(name, &origin)?;
            let Some(keys) = value.as_table() else {
                return Err(ConfigError::BadValue {
                    origin,
                    section: name.clone(),
                    key: "(itself)".to_owned(),
                    message: format!("expected a section: write [{name}] on a line of its own"),
                });
            };
            for (key, value) in keys {
                let field = find_field(section, key, &origin)?;
                let result = self.settings.set_toml(field.section, field.key, value);
                self.record(field, &origin, result)?;
            }
        }
        Ok(())
    }

    /// Reads variables such as `SKEIN_GATEWAY__LISTEN` over what is there. Names without a double
    /// underscore are no settings and are left alone.
    pub fn apply_environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        let mut sorted: Vec<_> = variables.into_iter().collect();
        sorted.sort();
        for (name, text) in sorted {
            let Some((section, key)) = name
                .strip_prefix(ENV_PREFIX)
                .and_then(|rest| rest.split_once("__"))
            else {
                continue;
            };
            let origin = Origin::Environment(name.clone());
            let section = find_section(&section.to_lowercase(), &origin)?;
            let field = find_field(section, &key.to_lowercase(), &origin)?;
            let result = self.settings.set_text(field.section, field.key, &text);
            self.record(field, &origin, result)?;
        }
        Ok(())
    }

    /// Applies flags over what is there.
    pub fn apply_overrides(&mut self, overrides: &[Override]) -> Result<(), ConfigError> {
        for change in overrides {
            let origin = Origin::Flag(change.flag.to_owned());
            let section = find_section(change.section, &origin)?;
            let field = find_field(section, change.key, &origin)?;
            let result = self
                .settings
                .set_text(field.section, field.key, &change.value);
            self.record(field, &origin, result)?;
        }
        Ok(())
    }

    fn record(
        &mut self,
        field: &Field,
        origin: &Origin,
        result: Result<(), String>,
    ) -> Result<(), ConfigError> {
        result.map_err(|message| ConfigError::BadValue {
            origin: origin.clone(),
            section: field.section.to_owned(),
            key: field.key.to_owned(),
            message,
        })?;
        self.origins
            .insert((field.section, field.key), origin.clone());
        Ok(())
    }
}

/// The name of the environment variable of a setting.
pub fn environment_name(field: &Field) -> String {
    format!(
        "{ENV_PREFIX}{}__{}",
        field.section.to_uppercase(),
        field.key.to_uppercase()
    )
}

fn find_section(name: &str, origin: &Origin) -> Result<&'static Section, ConfigError> {
    SECTIONS
        .iter()
        .find(|section| section.name == name)
        .ok_or_else(|| ConfigError::UnknownSection {
            origin: origin.clone(),
            name: name.to_owned(),
            suggestion: suggest(name, SECTIONS.iter().map(|section| section.name)),
        })
}

fn find_field(
    section: &'static Section,
    name: &str,
    origin: &Origin,
) -> Result<&'static Field, ConfigError> {
    section
        .fields
        .iter()
        .find(|field| field.key == name)
        .ok_or_else(|| ConfigError::UnknownKey {
            origin: origin.clone(),
            section: section.name.to_owned(),
            name: name.to_owned(),
            suggestion: suggest_field(section, name),
        })
}

/// The nearest key of the section, else a section that has exactly this key, else all keys.
fn suggest_field(section: &Section, name: &str) -> String {
    if let Some(near) = nearest(name, section.fields.iter().map(|field| field.key)) {
        return format!("did you mean {near}?");
    }
    let has = |other: &&Section| other.fields.iter().any(|field| field.key == name);
    let elsewhere = SECTIONS.iter().filter(has);
    let elsewhere: Vec<_> = elsewhere.map(|s| format!("[{}]", s.name)).collect();
    match elsewhere.is_empty() {
        false => format!("{name} belongs into {}", elsewhere.join(" or ")),
        true => suggest(name, section.fields.iter().map(|field| field.key)),
    }
}

fn suggest<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("known are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// The known name nearest to `name`, if one is near.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}
