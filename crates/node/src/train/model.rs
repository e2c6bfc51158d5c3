//! What a training starts from: weights, tokenizer, settings of the model.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use skein_base::{Sha256, limits};
use skein_model::train::initial;
use skein_model::twin::{Parameters, Twin, TwinError, TwinLoadError};
use skein_runtime::FsFolder;
use skein_text::template::{ChatTemplate, TemplateError};
use skein_text::tokenizer::{Tokenizer, TokenizerError};
use skein_weights::bytes::MemoryFolder;
use skein_weights::checkpoint::{Sidecar, VocabularyError};
use skein_weights::config::{self, ConfigError};
use skein_weights::hashing::FileHasher;
use skein_weights::hf;
use skein_weights::profile::TensorSpec;
use skein_weights::safetensors::encode_f32;
use skein_weights::source::ReadError;
use skein_weights::vocabulary::Vocabulary;
use skein_weights::{Checkpoint, Part, Profile, WeightSource as _};

use crate::carried::carried;

/// Why there is nothing to start from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The shape is none that Skein serves.
    #[error("{}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// Weights could not be loaded.
    #[error(transparent)]
    Load(#[from] TwinLoadError),
    /// Tokenizer or settings could not be read.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// The tokenizer is none that works.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template is none that works.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The tokenizer has ids that the model has no row for.
    #[error("the tokenizer has {tokens} tokens, the shape only {vocabulary}: raise vocab_size")]
    Tokens {
        /// Tokens of the tokenizer.
        tokens: u32,
        /// Rows of the embedding.
        vocabulary: u32,
    },
    /// Weights could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// First weights could not be made.
    #[error(transparent)]
    Initial(#[from] TwinError),
}

/// A model to train.
#[derive(Debug)]
pub struct StartModel {
    /// The architecture.
    pub profile: Profile,
    /// The first weights.
    pub parameters: Parameters,
    /// Tokenizer and settings as files, for the trained model.
    pub sidecars: Vec<Sidecar>,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template, if there is one.
    pub template: Option<ChatTemplate>,
}

impl StartModel {
    /// A checkpoint's own weights.
    pub fn checkpoint(checkpoint: &dyn Checkpoint) -> Result<Self, ModelError> {
        Self::new(
            checkpoint.profile().clone(),
            Parameters::load(checkpoint)?,
            carried(checkpoint)?.files,
            &checkpoint.vocabulary()?,
        )
    }

    /// Random weights of the shape that the file `config` describes, with the tokenizer and the
    /// settings of the folder `tokenizer`.
    pub fn shape(config: &Path, tokenizer: &Path, seed: u64) -> Result<Self, ModelError> {
        let bytes = read(config)?;
        let profile = config::parse(&bytes).map_err(|source| ModelError::Shape {
            path: config.to_owned(),
            source,
        })?;
        let folder = FsFolder::open(tokenizer).map_err(|source| ModelError::Io {
            path: tokenizer.to_owned(),
            source,
        })?;
        // As if the shape lay in the folder: ids that end an answer may stand in either.
        let carried = hf::sidecars(&folder)?.into_iter();
        let merged = MemoryFolder::new(carried.map(|one| (one.name, one.bytes)));
        merged.put("config.json", bytes);
        let parameters = initial(&profile, seed)?;
        let (sidecars, vocabulary) = (hf::sidecars(&merged)?, hf::read_vocabulary(&merged)?);
        Self::new(profile, parameters, sidecars, &vocabulary)
    }

    /// SHA-256 of what it is: the small files, by which text becomes tokens, and, if a state does
    /// not hold all `weights`, these.
    pub fn digest(&self, weights: bool) -> Result<Sha256, ModelError> {
        let mut hasher = FileHasher::default();
        for file in &self.sidecars {
            let (name, size) = (file.name.as_bytes(), file.bytes.len() as u64);
            for piece in [name, &[0], &size.to_le_bytes(), &file.bytes] {
                hasher.update(piece);
            }
        }
        if weights {
            let source = Twin::new(self.profile.clone(), self.parameters.clone());
            for part in self.profile.parts() {
                for spec in self.profile.tensors(part) {
                    hasher.update(&values(&source, part, &spec)?);
                }
            }
        }
        Ok(hasher.finish().sha256)
    }

    fn new(
        profile: Profile,
        parameters: Parameters,
        sidecars: Vec<Sidecar>,
        vocabulary: &Vocabulary,
    ) -> Result<Self, ModelError> {
        let tokenizer = Tokenizer::new(vocabulary)?;
        if tokenizer.vocabulary() > profile.vocabulary {
            return Err(ModelError::Tokens {
                tokens: tokenizer.vocabulary(),
                vocabulary: profile.vocabulary,
            });
        }
        let template = match ChatTemplate::of(vocabulary) {
            Ok(template) => Some(template),
            Err(TemplateError::Missing) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            profile,
            parameters,
            sidecars,
            tokenizer,
            template,
        })
    }
}

/// The bytes of a tensor.
fn values(source: &Twin, part: Part, spec: &TensorSpec) -> Result<Vec<u8>, ReadError> {
    let rows = match spec.shape[..] {
        [rows, _] => rows,
        _ => 1,
    };
    let mut values = vec![0.0; spec.shape.iter().product::<u64>() as usize];
    source
        .tensor(part, spec.name)?
        .read_f32(0..rows, &mut values)?;
    let mut bytes = Vec::with_capacity(4 * values.len());
    encode_f32(&values, &mut bytes);
    Ok(bytes)
}

fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    let read = || {
        let mut bytes = Vec::new();
        let file = File::open(path)?;
        file.take(limits::MODEL_JSON_BYTES_MAX + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|source| ModelError::Io {
        path: path.to_owned(),
        source,
    })
}
