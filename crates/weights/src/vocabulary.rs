//! What a checkpoint brings to turn words into tokens: raw, as found; `skein-text` makes a
//! tokenizer of it.

use serde::{Deserialize, Serialize};

/// The tokenizer of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// Where the pieces are.
    pub kind: VocabularyKind,
    /// The chat template (Jinja), from `tokenizer_config.json`, `chat_template.jinja` or GGUF.
    pub chat_template: Option<String>,
    /// Special tokens by role (`bos_token`, `eos_token`, ...), as text, for the chat template.
    pub special_tokens: Vec<(String, String)>,
    /// Id that begins a text, where one is declared.
    pub bos: Option<u32>,
    /// Ids that end an answer: of `generation_config.json`, `config.json`, GGUF.
    pub eos: Vec<u32>,
}

/// The two forms that people have.
#[derive(Debug, Clone, PartialEq)]
pub enum VocabularyKind {
    /// The bytes of `tokenizer.json`.
    TokenizerJson(Vec<u8>),
    /// The vocabulary inside a GGUF file.
    Gguf(GgufVocabulary),
}

/// `tokenizer.ggml.*` of a GGUF file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GgufVocabulary {
    /// `gpt2` (byte-level BPE with merges) or `llama` (SentencePiece BPE with scores).
    pub model: String,
    /// Which pre-tokenizer: `qwen2`, `llama-bpe`, `gpt-2`, `default`, ...
    pub pre: Option<String>,
    /// The tokens, by id.
    pub tokens: Vec<String>,
    /// Scores by id; empty for `gpt2`.
    pub scores: Vec<f32>,
    /// Kinds by id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub types: Vec<i32>,
    /// Merges, best first, `left right`; empty for `llama`.
    pub merges: Vec<String>,
    /// Whether to put `bos` before a text; the default depends on `model`.
    pub add_bos: Option<bool>,
    /// Whether to put a space before a text (`llama` only).
    pub add_space_prefix: Option<bool>,
    /// The unknown token.
    pub unknown: Option<u32>,
}

/// Default sampling settings of a checkpoint (`generation_config.json`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationDefaults {
    /// Softmax temperature; `None` if not stated. `do_sample: false` is stated as zero.
    pub temperature: Option<f32>,
    /// Keep the best k.
    pub top_k: Option<u32>,
    /// Keep the smallest set of at least this probability.
    pub top_p: Option<f32>,
    /// Divide (or multiply) logits of tokens already seen.
    pub repetition_penalty: Option<f32>,
}
