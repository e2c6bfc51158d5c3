//! Vocabularies without files of their own, rendered as files and read back.

use serde::{Deserialize, Serialize};

use crate::checkpoint::{Sidecar, SidecarRole, VocabularyError};
use crate::vocabulary::{GenerationDefaults, GgufVocabulary, Vocabulary, VocabularyKind};

/// A tokenizer that came inside a GGUF file, as JSON.
pub const GGUF_TOKENIZER_FILE: &str = "tokenizer.gguf.json";
/// Everything of a [`Vocabulary`] but its pieces, and the sampling defaults, as JSON.
pub const SETTINGS_FILE: &str = "vocabulary.json";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    chat_template: Option<String>,
    special_tokens: Vec<(String, String)>,
    bos: Option<u32>,
    eos: Vec<u32>,
    generation: GenerationDefaults,
}

/// Renders a vocabulary and its settings as sidecar files, sorted by name.
pub fn render(
    vocabulary: &Vocabulary,
    generation: &GenerationDefaults,
) -> Result<Vec<Sidecar>, VocabularyError> {
    let settings = Settings {
        chat_template: vocabulary.chat_template.clone(),
        special_tokens: vocabulary.special_tokens.clone(),
        bos: vocabulary.bos,
        eos: vocabulary.eos.clone(),
        generation: generation.clone(),
    };
    let (name, bytes) = match &vocabulary.kind {
        VocabularyKind::TokenizerJson(bytes) => ("tokenizer.json", bytes.clone()),
        VocabularyKind::Gguf(gguf) => (GGUF_TOKENIZER_FILE, encode(GGUF_TOKENIZER_FILE, gguf)?),
    };
    let settings = encode(SETTINGS_FILE, &settings)?;
    Ok(vec![
        Sidecar {
            name: name.to_owned(),
            role: SidecarRole::Tokenizer,
            bytes,
        },
        Sidecar {
            name: SETTINGS_FILE.to_owned(),
            role: SidecarRole::Settings,
            bytes: settings,
        },
    ])
}

/// Reads back what [`render`] wrote for a GGUF vocabulary.
pub fn parse(
    tokenizer: &[u8],
    settings: &[u8],
) -> Result<(Vocabulary, GenerationDefaults), VocabularyError> {
    let gguf: GgufVocabulary = decode(GGUF_TOKENIZER_FILE, tokenizer)?;
    let settings: Settings = decode(SETTINGS_FILE, settings)?;
    let vocabulary = Vocabulary {
        kind: VocabularyKind::Gguf(gguf),
        chat_template: settings.chat_template,
        special_tokens: settings.special_tokens,
        bos: settings.bos,
        eos: settings.eos,
    };
    Ok((vocabulary, settings.generation))
}

fn encode(file: &str, value: &impl Serialize) -> Result<Vec<u8>, VocabularyError> {
    serde_json::to_vec(value).map_err(|error| invalid(file, &error))
}

fn decode<'a, T: Deserialize<'a>>(file: &str, bytes: &'a [u8]) -> Result<T, VocabularyError> {
    serde_json::from_slice(bytes).map_err(|error| invalid(file, &error))
}

fn invalid(file: &str, error: &serde_json::Error) -> VocabularyError {
    VocabularyError::Invalid {
        file: file.to_owned(),
        problem: error.to_string(),
    }
}
