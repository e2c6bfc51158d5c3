//! Why a GGUF file was refused.

use std::io;

use crate::profile_check::ProfileError;

/// Why a GGUF file could not be opened as a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The bytes could not be read.
    #[error("cannot read the GGUF file at byte {offset}")]
    Io {
        /// Where.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It does not begin as GGUF files do.
    #[error("not a GGUF file: it does not begin with the letters GGUF")]
    Magic,
    /// A version or byte order that is not served.
    #[error(
        "GGUF version {found} is not served, only 2 and 3 in little-endian byte order: \
         convert the model again with a current llama.cpp"
    )]
    Version {
        /// The version found, read as little-endian.
        found: u32,
    },
    /// The file ends too early.
    #[error("the GGUF file ends inside {what}: {needed} bytes needed, {left} left")]
    Truncated {
        /// What was being read.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes left.
        left: u64,
    },
    /// More of something than any real file has.
    #[error("{what}: {found} is over the bound of {max}")]
    TooLarge {
        /// What there is too much of.
        what: String,
        /// How much was found.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// A metadata key that is missing.
    #[error("the GGUF file has no metadata key {key}")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A metadata value that makes no sense.
    #[error("GGUF metadata {key}: {problem}")]
    Metadata {
        /// The key.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// A setting that would change results and is not served.
    #[error("GGUF metadata {key} = {value} is not served: it would change the answers")]
    Unsupported {
        /// The key.
        key: String,
        /// Its value, shortened.
        value: String,
    },
    /// An architecture that is not served.
    #[error("GGUF architecture {found:?} is not served; llama, qwen2, qwen3 and gpt2 are")]
    Architecture {
        /// What was found.
        found: String,
    },
    /// A tensor whose description makes no sense.
    #[error("GGUF tensor {name}: {problem}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A tensor in a quantisation that is not served.
    #[error(
        "GGUF tensor {name} is stored as {found}, which is not served: take a file of the model in \
         F32, F16, BF16, Q8_0, Q6_K, Q5_K, Q4_K, Q3_K, Q2_K, Q5_1, Q5_0, Q4_1 or Q4_0, or make one \
         with llama.cpp's llama-quantize"
    )]
    TensorType {
        /// The tensor.
        name: String,
        /// ggml's name of the type.
        found: String,
    },
    /// A tensor that the architecture needs.
    #[error("the GGUF file has no tensor {name}")]
    MissingTensor {
        /// The tensor.
        name: String,
    },
    /// A tensor that the architecture has no use for: ignoring it would change results.
    #[error("GGUF tensor {name} belongs to nothing in this architecture")]
    ForeignTensor {
        /// The tensor.
        name: String,
    },
    /// The architecture makes no sense or is out of bounds.
    #[error("the architecture in the GGUF metadata is not served")]
    Profile(#[from] ProfileError),
}

impl GgufError {
    pub(super) fn metadata(key: &str, problem: impl Into<String>) -> Self {
        Self::Metadata {
            key: key.to_owned(),
            problem: problem.into(),
        }
    }

    pub(super) fn tensor(name: &str, problem: impl Into<String>) -> Self {
        Self::Tensor {
            name: name.to_owned(),
            problem: problem.into(),
        }
    }
}
