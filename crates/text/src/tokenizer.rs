//! A checkpoint's tokenizer: text to ids and back.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use skein_base::limits::TOKENIZER_BYTES_MAX;
use skein_weights::vocabulary::{Vocabulary, VocabularyKind};
use tokenizers::TruncationParams;

use crate::detokenizer::{DecoderPlan, Detokenizer};
use crate::gguf_tokenizer;
use crate::template::Rendered;

pub use control::ControlTokens;

mod control;
mod guarded;
#[cfg(test)]
pub(crate) mod tests;

/// Longest text to encode, in bytes.
pub const TEXT_BYTES_MAX: usize = 16 << 20;

/// Why no tokenizer could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file is too large.
    #[error("tokenizer.json has {found} bytes, at most {max} are read")]
    TooLarge {
        /// Its size in bytes.
        found: u64,
        /// The largest allowed.
        max: u64,
    },
    /// The file is not a tokenizer.
    #[error("tokenizer.json cannot be read as a tokenizer: {reason}")]
    Malformed {
        /// What the reader said.
        reason: String,
    },
    /// The vocabulary of a GGUF file cannot be used.
    #[error("the vocabulary of the GGUF file cannot be used")]
    Gguf(#[from] gguf_tokenizer::GgufTokenizerError),
    /// The tokenizer needs something that is not built.
    #[error("the tokenizer has a {part} that is not supported: {found}")]
    Unsupported {
        /// `decoder` or `model`.
        part: &'static str,
        /// What it is.
        found: String,
    },
}

/// Why a text could not be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The text is too long to try.
    #[error("the text has {found} bytes, at most {max} are encoded")]
    TooLong {
        /// Its length in bytes.
        found: usize,
        /// The longest allowed.
        max: usize,
    },
    /// The tokenizer failed on it.
    #[error("the tokenizer could not encode the text: {reason}")]
    Failed {
        /// What it said.
        reason: String,
    },
    /// The text spells a control token and the tokenizer knows no other way to write it.
    #[error(
        "the text contains {token}, which this tokenizer cannot write as plain text: remove it"
    )]
    Control {
        /// The control token.
        token: String,
    },
}

/// What becomes of special tokens while encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specials {
    /// Special tokens spelled in the text are recognised, and those that the tokenizer puts around
    /// a text are added: a plain completion.
    AddAndParse,
    /// Special tokens spelled in the text are recognised, none is added: text that brings its own,
    /// such as a rendered chat template.
    Parse,
    /// None is recognised and none is added: text of others, to be taken literally.
    Literal,
}

/// A tokenizer. Clones share it.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    library: tokenizers::Tokenizer,
    decoder: DecoderPlan,
    special: BTreeSet<u32>,
    control: ControlTokens,
    vocabulary: u32,
    bos: Option<u32>,
    eos: Vec<u32>,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocabulary", &self.inner.vocabulary)
            .field("special", &self.inner.special.len())
            .field("decoder", &self.inner.decoder)
            .field("bos", &self.inner.bos)
            .field("eos", &self.inner.eos)
            .finish()
    }
}

impl Tokenizer {
    /// The tokenizer of a checkpoint, from `tokenizer.json` or the vocabulary of a GGUF file.
    pub fn new(vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let mut library = match &vocabulary.kind {
            VocabularyKind::TokenizerJson(bytes) => read(bytes)?,
            VocabularyKind::Gguf(gguf) => gguf_tokenizer::build(gguf, vocabulary.bos)?,
        };
        library.with_padding(None);
        library
            .with_truncation(None::<TruncationParams>)
            .map_err(|error| malformed(&error))?;
        refuse_dropout(&library)?;
        let decoder = DecoderPlan::new(library.get_decoder())?;
        let added = library.get_added_tokens_decoder();
        let special = added
            .iter()
            .filter(|(_, token)| token.special)
            .map(|(&id, _)| id)
            .collect();
        let control = ControlTokens::new(
            added
                .iter()
                .map(|(&id, token)| (id, token.content.clone(), token.special)),
        );
        let highest = library.get_vocab(true).into_values().max();
        let role = |name: &str| {
            let (_, text) = vocabulary
                .special_tokens
                .iter()
                .find(|(role, _)| role == name)?;
            library.token_to_id(text)
        };
        let mut eos = vocabulary.eos.clone();
        if eos.is_empty() {
            eos.extend(role("eos_token"));
        }
        let bos = vocabulary.bos.or_else(|| role("bos_token"));
        let vocabulary = highest.map_or(0, |id| id.saturating_add(1));
        let inner = Inner {
            library,
            decoder,
            special,
            control,
            vocabulary,
            bos,
            eos,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The ids of `text`.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>, EncodeError> {
        check_length(text)?;
        match specials {
            Specials::AddAndParse => self.plain(text, true),
            Specials::Parse => self.plain(text, false),
            Specials::Literal => guarded::encode(self, text, &guarded::Trust::Nothing),
        }
    }

    /// The ids of a rendered chat. Control tokens that the template wrote are recognised; those
    /// that stand in messages or tool descriptions, or come about where such texts meet others, are
    /// encoded as the plain text that they are. A chat without any such text gives the same ids as
    /// [`Specials::Parse`].
    pub fn encode_chat(&self, chat: &Rendered) -> Result<Vec<u32>, EncodeError> {
        check_length(&chat.text)?;
        if self.inner.control.is_broken(&chat.text, &chat.breaks) {
            return guarded::encode(self, &chat.text, &guarded::Trust::Except(&chat.breaks));
        }
        self.plain(&chat.text, false)
    }

    fn plain(&self, text: &str, add: bool) -> Result<Vec<u32>, EncodeError> {
        let run = || {
            self.inner
                .library
                .encode_fast(text, add)
                .map_err(|error| error.to_string())
        };
        let encoding = contained(run).map_err(|reason| EncodeError::Failed { reason })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids`, special tokens left out: what a [`Detokenizer`] says in total. Ids
    /// outside the vocabulary have no text.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut detokenizer = Detokenizer::new(self);
        let mut text = String::new();
        ids.iter()
            .for_each(|&id| text.push_str(&detokenizer.push(id)));
        text.push_str(&detokenizer.finish());
        text
    }

    /// The bytes that one token stands for inside a text; of a special token, its spelling. `None`
    /// outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let token = self.inner.library.id_to_token(id)?;
        if self.is_special(id) {
            return Some(token.into_bytes());
        }
        Some(self.inner.decoder.token_bytes(token))
    }

    /// The id of a token by its exact spelling in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.library.token_to_id(token)
    }

    /// One above the highest id. The model's own table may have more rows.
    pub fn vocabulary(&self) -> u32 {
        self.inner.vocabulary
    }

    /// Whether `id` is a special token: not shown, and recognised in templates only.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.special.contains(&id)
    }

    /// The id that begins a text, if one is declared.
    pub fn bos(&self) -> Option<u32> {
        self.inner.bos
    }

    /// The ids that end an answer.
    pub fn eos(&self) -> &[u32] {
        &self.inner.eos
    }

    /// Whether `id` ends an answer.
    pub fn is_eos(&self, id: u32) -> bool {
        self.inner.eos.contains(&id)
    }

    /// The spellings that must not become control tokens where a client writes them.
    pub fn control_tokens(&self) -> &ControlTokens {
        &self.inner.control
    }

    pub(crate) fn library(&self) -> &tokenizers::Tokenizer {
        &self.inner.library
    }

    pub(crate) fn decoder(&self) -> &DecoderPlan {
        &self.inner.decoder
    }
}

fn read(bytes: &[u8]) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let found = bytes.len() as u64;
    if found > TOKENIZER_BYTES_MAX {
        return Err(TokenizerError::TooLarge {
            found,
            max: TOKENIZER_BYTES_MAX,
        });
    }
    let run = || tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| error.to_string());
    contained(run).map_err(|reason| TokenizerError::Malformed { reason })
}

fn malformed(error: &dyn fmt::Display) -> TokenizerError {
    TokenizerError::Malformed {
        reason: error.to_string(),
    }
}

/// A BPE model may be told to skip merges at random, which is for training.
fn refuse_dropout(library: &tokenizers::Tokenizer) -> Result<(), TokenizerError> {
    match library.get_model() {
        tokenizers::ModelWrapper::BPE(model) if model.dropout.is_some_and(|share| share > 0.0) => {
            let found = "BPE with dropout".to_owned();
            Err(TokenizerError::Unsupported {
                part: "model",
                found,
            })
        }
        _ => Ok(()),
    }
}

fn check_length(text: &str) -> Result<(), EncodeError> {
    match text.len() {
        found if found > TEXT_BYTES_MAX => Err(EncodeError::TooLong {
            found,
            max: TEXT_BYTES_MAX,
        }),
        _ => Ok(()),
    }
}

/// Runs library code that panics on some malformed files, and makes an error of that.
fn contained<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err("the tokenizer library panicked on it".to_owned()))
}
