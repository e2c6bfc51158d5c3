//! What every kind of checkpoint offers, whether a Hugging Face folder, a GGUF file or a folder
//! that Skein split.

use std::io;

use serde::{Deserialize, Serialize};
use skein_base::ModelId;

use crate::part::Part;
use crate::source::WeightSource;
pub use crate::stored::StoredDtype;
use crate::vocabulary::{GenerationDefaults, Vocabulary};

/// Why tokenizer or generation settings could not be read from a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VocabularyError {
    /// The checkpoint brings no tokenizer.
    #[error("{place} has no tokenizer: {hint}")]
    Missing {
        /// The checkpoint.
        place: String,
        /// What to do.
        hint: &'static str,
    },
    /// A file is larger than any real one.
    #[error("{file} has {found} bytes, over the bound of {max}")]
    TooLarge {
        /// The file.
        file: String,
        /// Its size.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// A file could not be read.
    #[error("cannot read {file}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is not what its name says.
    #[error("{file} is invalid: {problem}")]
    Invalid {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What a small file beside the weights is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SidecarRole {
    /// Turns text into tokens: part of the model id.
    Tokenizer,
    /// Chat template, special tokens, generation defaults, the checkpoint's own configuration:
    /// carried and hashed, not part of the model id.
    Settings,
}

/// A small file beside the weights, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// Its plain file name.
    pub name: String,
    /// What it is for.
    pub role: SidecarRole,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A model as found on disk: weights, tokenizer, settings.
pub trait Checkpoint: WeightSource {
    /// What to call the model: the checkpoint's own name where it has one, else the name of its
    /// folder or file.
    fn name(&self) -> String;

    /// The model's id, where it is known: of a model that was split.
    fn model_id(&self) -> Option<ModelId> {
        None
    }

    /// The tokenizer, chat template and special tokens, as found.
    fn vocabulary(&self) -> Result<Vocabulary, VocabularyError>;

    /// The checkpoint's default sampling settings; all `None` if it states none.
    fn generation_defaults(&self) -> Result<GenerationDefaults, VocabularyError>;

    /// How a canonical tensor is stored; `None` if there is no such tensor.
    fn stored_dtype(&self, part: Part, name: &str) -> Option<StoredDtype>;

    /// The small files that go with the weights when the model is split, sorted by name.
    ///
    /// The default renders [`Self::vocabulary`] and [`Self::generation_defaults`] as files, for
    /// checkpoints that have none of their own (GGUF).
    fn sidecars(&self) -> Result<Vec<Sidecar>, VocabularyError> {
        crate::sidecar::render(&self.vocabulary()?, &self.generation_defaults()?)
    }
}
