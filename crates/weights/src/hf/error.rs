//! Why a folder is no checkpoint that can be served.

use std::io;

use crate::config::ConfigError;
use crate::files::FileError;
use crate::gguf::GgufError;
use crate::manifest::ManifestError;
use crate::part::Part;
use crate::safetensors::SafetensorsError;
use crate::split::PartError;

/// Why a checkpoint could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Something could not be read.
    #[error("cannot read {file}")]
    Io {
        /// File or folder.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A small file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder holds no known kind of checkpoint.
    #[error(
        "{place} has no config.json; a Hugging Face folder, a folder that `skein model split` \
         wrote, or a GGUF file is expected"
    )]
    NoConfig {
        /// The folder.
        place: String,
    },
    /// The configuration cannot be served.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The GGUF file cannot be served.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The folder was split by Skein, but its manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A part of a split model is damaged.
    #[error("{file} is not what the manifest says; run `skein model verify`")]
    Part {
        /// The file.
        file: String,
        /// What is wrong.
        #[source]
        source: PartError,
    },
    /// It is not clear which file is meant.
    #[error("{place} has several GGUF files; name the one to open")]
    SeveralGguf {
        /// The folder.
        place: String,
    },
    /// The folder has no weights.
    #[error("{place} has no weights: no *.safetensors file is there (is the download complete?)")]
    NoWeights {
        /// The folder.
        place: String,
    },
    /// The weights are in a format that can run code when it is read.
    #[error(
        "{file} is a pickle, which Skein does not read because it can run code; convert the \
         checkpoint to safetensors (transformers: save_pretrained(safe_serialization=True))"
    )]
    PickleOnly {
        /// One of the files.
        file: String,
    },
    /// There are several weight files and nothing says what they are.
    #[error("{count} safetensors files, but no model.safetensors.index.json says what is where")]
    NoIndex {
        /// How many files.
        count: usize,
    },
    /// The index contradicts itself or the files.
    #[error("model.safetensors.index.json is invalid: {problem}")]
    Index {
        /// What is wrong.
        problem: String,
    },
    /// A file that is named elsewhere is not there.
    #[error("{file} is missing (is the download complete?)")]
    MissingFile {
        /// The file.
        file: String,
    },
    /// More files than any real model has.
    #[error("more than {max} weight files")]
    TooManyFiles {
        /// The bound.
        max: usize,
    },
    /// A weight file is damaged.
    #[error("{file} is no valid safetensors file")]
    Safetensors {
        /// The file.
        file: String,
        /// What is wrong.
        #[source]
        source: SafetensorsError,
    },
    /// A tensor that the architecture needs is not there.
    #[error("tensor {name} is missing, which {part} needs")]
    MissingTensor {
        /// Its name in the checkpoint's own style, without the whole model's prefix.
        name: String,
        /// The part that needs it.
        part: Part,
    },
    /// A tensor is there that the architecture does not have, and that may change results.
    #[error("tensor {name} is foreign to the architecture")]
    ForeignTensor {
        /// Its name.
        name: String,
    },
    /// A tensor is there twice.
    #[error("tensor {name} is there twice, in several files or under several prefixes")]
    DuplicateTensor {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("tensor {name} has shape {found:?}; the configuration asks for {expected:?}")]
    WrongShape {
        /// Its name.
        name: String,
        /// The shape by the configuration.
        expected: Vec<u64>,
        /// The shape in the file.
        found: Vec<u64>,
    },
    /// A tensor's elements are no weights that Skein reads.
    #[error("tensor {name} has type {dtype}; f32, f16 and bf16 are served")]
    Dtype {
        /// Its name.
        name: String,
        /// Its type.
        dtype: String,
    },
    /// The configuration says that head and embedding are one, the weights say otherwise.
    #[error("tie_word_embeddings is true, but {name} differs from the embedding")]
    TiedHeadDiffers {
        /// The head's name.
        name: String,
    },
}
