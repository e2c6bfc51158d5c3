//! What a training was started with, kept so that it can be gone on with.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skein_model::train::{Lora, ParameterSet, Plan, TrainConfig};
use skein_runtime::AtomicFile;
use skein_weights::Part;

use crate::config::Format;

/// The file of the settings.
pub const SETTINGS_FILE: &str = "settings.json";
/// The file of the last state.
pub const STATE_FILE: &str = "state.safetensors";
/// The file of the log.
pub const LOG_FILE: &str = "log.jsonl";

/// Most tokens of a step.
pub const STEP_TOKENS_MAX: usize = 1 << 26;
/// Largest file of settings, in bytes.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;

/// Why settings could not be kept or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read or written.
    #[error("{}: cannot read or write {SETTINGS_FILE}", folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file says something else.
    #[error("{}: {SETTINGS_FILE} is no settings of a training: {problem}", folder.display())]
    Invalid {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Where the first weights come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Start {
    /// A checkpoint.
    Model(String),
    /// Random weights of the shape that a `config.json` describes, with the tokenizer of a folder.
    Shape {
        /// The file.
        config: PathBuf,
        /// The folder.
        tokenizer: PathBuf,
    },
}

/// A file of samples, as it was at the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its SHA-256: another order or other samples would be another training.
    pub sha256: String,
}

/// Adapters of low rank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraSettings {
    /// The rank.
    pub rank: usize,
    /// The scale times the rank.
    pub alpha: f64,
    /// Names of projections; empty for all.
    pub targets: BTreeSet<String>,
}

/// Everything that a training is a function of, and where it began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the first weights come from.
    pub start: Start,
    /// What is learned.
    pub data: DataFile,
    /// What is only measured.
    pub held_out: Option<DataFile>,
    /// Steps of the schedule.
    pub steps: u64,
    /// The step to end behind, if the schedule goes further.
    pub until: Option<u64>,
    /// Rows of a batch.
    pub batch: usize,
    /// Tokens of a row.
    pub context: usize,
    /// Batches whose gradients make one step.
    pub accumulate: usize,
    /// Highest learning rate.
    pub rate: f64,
    /// Steps of the rise to it.
    pub warmup: u64,
    /// Steps of the fall at the end; 0 for all after the rise.
    pub decay: u64,
    /// Last learning rate over the highest.
    pub final_share: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Largest norm of the gradient.
    pub clip_norm: Option<f64>,
    /// Largest norm of one tensor's gradient.
    pub clip_tensor: Option<f64>,
    /// Share of values left out.
    pub dropout: f64,
    /// Whether layers are computed twice to save memory.
    pub recompute: bool,
    /// Adapters instead of the weights.
    pub lora: Option<LoraSettings>,
    /// Parts that stay as they are.
    #[serde(with = "parts")]
    pub frozen: BTreeSet<Part>,
    /// Where first weights, order and dropout come from.
    pub seed: u64,
    /// What the trained matrices are written in.
    #[serde(with = "format")]
    pub format: Format,
    /// Steps between evaluations; 0 for one at the end.
    pub evaluate_every: u64,
    /// Steps between saved states; 0 for one at the end.
    pub save_every: u64,
    /// When it began, in seconds since 1970: what a template is told that asks for the date.
    pub began_unix: i64,
    /// SHA-256 of what it starts from, once that is read.
    pub start_sha256: Option<String>,
}

/// A format by its name.
mod format {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::config::{Format, Setting as _};

    pub(super) fn serialize<S: Serializer>(format: &Format, out: S) -> Result<S::Ok, S::Error> {
        format.to_toml().serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Format, D::Error> {
        Format::from_text(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// Parts by the names that the command line has for them.
mod parts {
    use std::collections::BTreeSet;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use skein_weights::Part;

    use super::part;

    pub(super) fn serialize<S: Serializer>(
        parts: &BTreeSet<Part>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        let name = |part: &Part| match part {
            Part::Layer(index) => index.to_string(),
            other => other.to_string(),
        };
        parts.iter().map(name).collect::<Vec<_>>().serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeSet<Part>, D::Error> {
        let names = Vec::<String>::deserialize(from)?;
        let parts = names
            .iter()
            .map(|name| part(name).map_err(D::Error::custom));
        parts.collect()
    }
}

/// The part of this name: `embedding`, `head`, or the number of a layer, counted from 0.
///
/// # Errors
/// In words, if there is none such in any model.
pub fn part(name: &str) -> Result<Part, String> {
    match name {
        "embedding" => Ok(Part::Embedding),
        "head" => Ok(Part::Head),
        other => other.parse().map(Part::Layer).map_err(|_| {
            format!("{other:?} is no part: embedding, head, or the number of a layer from 0")
        }),
    }
}

impl Settings {
    /// Tokens of a step.
    ///
    /// # Errors
    /// In words, if there are none, or more than [`STEP_TOKENS_MAX`].
    pub fn step_tokens(&self) -> Result<usize, String> {
        let counts = [
            ("batch", self.batch),
            ("context", self.context),
            ("accumulate", self.accumulate),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(format!("--{name} must be at least 1"));
        }
        let mut all = counts.iter().map(|(_, count)| *count);
        let tokens = all.try_fold(1_usize, |product, count: usize| product.checked_mul(count));
        let few = tokens.filter(|tokens| *tokens <= STEP_TOKENS_MAX);
        few.ok_or_else(|| {
            format!("--batch times --context times --accumulate is more than {STEP_TOKENS_MAX}")
        })
    }

    /// Whether a state holds all weights that are not made from the seed: else they must be those
    /// that training began with.
    pub fn has_all_weights(&self) -> bool {
        self.lora.is_none() && self.frozen.is_empty()
    }

    /// How the trainer is configured.
    pub fn config(&self) -> TrainConfig {
        TrainConfig {
            steps: self.steps,
            warmup: self.warmup,
            rate: self.rate,
            decay: self.decay,
            final_share: self.final_share,
            weight_decay: self.weight_decay,
            clip_norm: self.clip_norm,
            clip_tensor: self.clip_tensor,
            dropout: self.dropout,
            recompute: self.recompute,
            seed: self.seed,
            ..TrainConfig::default()
        }
    }

    /// What learns.
    pub fn parameters(&self) -> ParameterSet {
        let lora = self.lora.as_ref().map(|lora| Lora {
            rank: lora.rank,
            alpha: lora.alpha,
            targets: lora.targets.clone(),
        });
        ParameterSet {
            lora,
            frozen: self.frozen.clone(),
        }
    }

    /// When to evaluate and to save.
    pub fn plan(&self) -> Plan {
        Plan {
            accumulate: self.accumulate,
            evaluate_every: self.evaluate_every,
            save_every: self.save_every,
            until: self.until,
        }
    }

    /// Keeps the settings in `folder`.
    pub fn write(&self, folder: &Path) -> Result<(), SettingsError> {
        let write = || {
            let mut file = AtomicFile::create(folder, SETTINGS_FILE)?;
            let mut text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
            text.push(b'\n');
            file.write_all(&text)?;
            file.commit()
        };
        write().map_err(|source| SettingsError::Io {
            folder: folder.to_owned(),
            source,
        })
    }

    /// Reads the settings kept in `folder`.
    pub fn read(folder: &Path) -> Result<Self, SettingsError> {
        let read = || {
            let file = fs::File::open(folder.join(SETTINGS_FILE))?;
            let mut text = Vec::new();
            file.take(SETTINGS_BYTES_MAX).read_to_end(&mut text)?;
            Ok(text)
        };
        let text = read().map_err(|source| SettingsError::Io {
            folder: folder.to_owned(),
            source,
        })?;
        serde_json::from_slice(&text).map_err(|error| SettingsError::Invalid {
            folder: folder.to_owned(),
            problem: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            start: Start::Model("fixtures/qwen3".to_owned()),
            data: DataFile {
                path: "stories.jsonl".into(),
                sha256: "00".repeat(32),
            },
            held_out: None,
            steps: 9,
            until: Some(7),
            batch: 2,
            context: 64,
            accumulate: 1,
            rate: 0.1 + 0.2,
            warmup: 3,
            decay: 2,
            final_share: 0.1,
            weight_decay: 0.1,
            clip_norm: None,
            clip_tensor: Some(0.5),
            dropout: 0.0,
            recompute: true,
            lora: Some(LoraSettings {
                rank: 8,
                alpha: 16.0,
                targets: ["attn_q".to_owned()].into(),
            }),
            frozen: [Part::Embedding, Part::Layer(3)].into(),
            seed: u64::MAX,
            format: Format::Bf16,
            evaluate_every: 0,
            save_every: 5,
            began_unix: 1_700_000_000,
            start_sha256: Some("11".repeat(32)),
        }
    }

    #[test]
    fn a_step_has_a_bounded_number_of_tokens() {
        let with = |batch, context, accumulate| {
            let settings = Settings {
                batch,
                context,
                accumulate,
                ..settings()
            };
            settings.step_tokens()
        };
        assert_eq!(with(2, 64, 3), Ok(384));
        assert_eq!(with(STEP_TOKENS_MAX, 1, 1), Ok(STEP_TOKENS_MAX));
        assert!(with(STEP_TOKENS_MAX, 1, 2).is_err());
        assert!(with(usize::MAX, usize::MAX, 2).is_err());
        assert!(with(2, 64, 0).unwrap_err().contains("--accumulate"));
    }

    #[test]
    fn parts_have_names() {
        assert_eq!(part("12"), Ok(Part::Layer(12)));
        assert_eq!(part("head"), Ok(Part::Head));
        assert!(part("body").unwrap_err().contains("body"));
    }

    #[test]
    fn settings_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings();
        settings.write(folder.path()).unwrap();
        assert_eq!(Settings::read(folder.path()).unwrap(), settings);
        assert_eq!(settings.config().clip_norm, None);
        fs::write(folder.path().join(SETTINGS_FILE), "{}").unwrap();
        let error = Settings::read(folder.path()).unwrap_err();
        assert!(matches!(error, SettingsError::Invalid { .. }), "{error}");
        fs::remove_file(folder.path().join(SETTINGS_FILE)).unwrap();
        let error = Settings::read(folder.path()).unwrap_err();
        assert!(matches!(error, SettingsError::Io { .. }), "{error}");
    }
}
