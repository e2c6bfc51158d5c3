//! What can be wrong with a configuration.

use crate::profile_check::ProfileError;

/// Why a `config.json` cannot be served.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is larger than any real one.
    #[error("config.json has {found} bytes, over the bound of {max}")]
    TooLarge {
        /// Its size.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// It is no JSON object.
    #[error("config.json is no JSON object: {problem}")]
    Json {
        /// What the parser said.
        problem: String,
    },
    /// It does not say what it describes.
    #[error("config.json has no model_type; is this the configuration of a language model?")]
    NoModelType,
    /// Skein does not serve such models.
    #[error(
        "model_type {model_type:?} is not served; served are llama, mistral, qwen2, qwen3 and gpt2"
    )]
    UnknownFamily {
        /// The type found.
        model_type: String,
    },
    /// A field has another JSON type or range than it should.
    #[error("config.json: {field} is {found}; expected {expected}")]
    WrongType {
        /// The field.
        field: String,
        /// Its value, cut.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A field asks for something that would change results and that Skein does not serve.
    #[error("config.json: {field} = {found} is not supported: {reason}")]
    Unsupported {
        /// The field.
        field: String,
        /// Its value, cut.
        found: String,
        /// Why not.
        reason: &'static str,
    },
    /// The dimensions make no sense, or more than is allowed.
    #[error("config.json describes no model that can be served")]
    Profile(#[from] ProfileError),
}
