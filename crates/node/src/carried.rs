//! The small files that go with a model in its Hugging Face form.

use skein_text::gguf_tokenizer::{GgufTokenizerError, tokenizer_json};
use skein_weights::checkpoint::{Checkpoint, Sidecar, VocabularyError};
use skein_weights::hf;
use skein_weights::sidecar::GGUF_TOKENIZER_FILE;
use skein_weights::vocabulary::VocabularyKind;

/// Tokenizer and settings of a checkpoint as files that transformers reads.
#[derive(Debug)]
pub struct Carried {
    /// The files.
    pub files: Vec<Sidecar>,
    /// Why there is no tokenizer among them, if it came inside a GGUF file and cannot be read.
    pub lost: Option<GgufTokenizerError>,
}

/// What `checkpoint` brings; what came inside a GGUF file is put into the form of files.
pub fn carried(checkpoint: &dyn Checkpoint) -> Result<Carried, VocabularyError> {
    let files = checkpoint.sidecars()?;
    if files.iter().all(|one| one.name != GGUF_TOKENIZER_FILE) {
        return Ok(Carried { files, lost: None });
    }
    let vocabulary = checkpoint.vocabulary()?;
    let generation = checkpoint.generation_defaults()?;
    let made = match &vocabulary.kind {
        VocabularyKind::TokenizerJson(bytes) => Ok(bytes.clone()),
        VocabularyKind::Gguf(gguf) => {
            tokenizer_json(gguf, vocabulary.bos).map(|json| json.to_string().into_bytes())
        }
    };
    let (tokenizer, lost) = match made {
        Ok(bytes) => (Some(bytes), None),
        Err(error) => (None, Some(error)),
    };
    Ok(Carried {
        files: hf::render(&vocabulary, &generation, tokenizer),
        lost,
    })
}
