//! The tokenizer of a GGUF file.

use skein_weights::vocabulary::Vocabulary;

/// Why the vocabulary of a GGUF file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufTokenizerError {
    /// The kind of vocabulary is not known.
    #[error("tokenizer.ggml.model is {found}, which is not supported")]
    Model {
        /// What the file says.
        found: String,
    },
}

/// Builds a tokenizer from the vocabulary of a GGUF file.
pub fn build(vocabulary: &Vocabulary) -> Result<tokenizers::Tokenizer, GgufTokenizerError> {
    let _ = vocabulary;
    Err(GgufTokenizerError::Model {
        found: "any: not built yet".to_owned(),
    })
}
