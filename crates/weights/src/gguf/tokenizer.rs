//! The vocabulary and the sampling defaults inside a GGUF file.

use skein_base::limits::VOCABULARY_MAX;

use crate::vocabulary::{GenerationDefaults, GgufVocabulary, Vocabulary, VocabularyKind};

use super::error::GgufError;
use super::file::GgufFile;
use super::value::{Array, Value};

/// Texts of control tokens that end an answer even where no key says so: llama.cpp's own list
/// (`llama-vocab.cpp`), of the families that are served.
const ENDS: [&str; 8] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<EOT>",
    "<|end|>",
    "</s>",
];

/// Kind of control tokens.
const CONTROL: i32 = 3;

/// Reads the vocabulary of a model with `rows` embeddings.
pub(super) fn vocabulary(file: &GgufFile, rows: u32) -> Result<Vocabulary, GgufError> {
    let keys = Keys { file };
    let model = keys.required_text("model")?;
    let tokens = keys.texts("tokens")?;
    if tokens.is_empty() || tokens.len() > rows.min(VOCABULARY_MAX) as usize {
        let problem = format!("{} tokens, but {rows} embeddings", tokens.len());
        return Err(GgufError::metadata(&full("tokens"), problem));
    }
    let count = tokens.len();
    let id = |key: &str| keys.id(key, count);
    let gguf = GgufVocabulary {
        scores: keys.floats("scores", count)?,
        types: keys.types(count)?,
        merges: keys.texts_or_none("merges")?,
        pre: keys.text("pre")?,
        add_bos: keys.bool("add_bos_token")?,
        add_space_prefix: keys.bool("add_space_prefix")?,
        unknown: id("unknown_token_id")?,
        model,
        tokens,
    };
    keys.refuse_unserved()?;
    let roles = [
        ("bos_token", "bos"),
        ("eos_token", "eos"),
        ("pad_token", "padding"),
    ];
    let mut special_tokens = Vec::new();
    for (role, key) in roles {
        if let Some(id) = id(&format!("{key}_token_id"))? {
            special_tokens.push((role.to_owned(), gguf.tokens[id as usize].clone()));
        }
    }
    if let Some(id) = gguf.unknown {
        special_tokens.push(("unk_token".to_owned(), gguf.tokens[id as usize].clone()));
    }
    Ok(Vocabulary {
        chat_template: chat_template(file)?,
        special_tokens,
        bos: id("bos_token_id")?,
        eos: ends(&keys, &gguf)?,
        kind: VocabularyKind::Gguf(gguf),
    })
}

/// Ids that end an answer, those that the file declares first.
fn ends(keys: &Keys<'_>, vocabulary: &GgufVocabulary) -> Result<Vec<u32>, GgufError> {
    let mut ends = Vec::new();
    for key in ["eos_token_id", "eot_token_id", "eom_token_id"] {
        ends.extend(keys.id(key, vocabulary.tokens.len())?);
    }
    for (id, (token, kind)) in vocabulary.tokens.iter().zip(&vocabulary.types).enumerate() {
        if *kind == CONTROL && ENDS.contains(&token.as_str()) {
            ends.push(id as u32);
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    ends.retain(|id| seen.insert(*id));
    Ok(ends)
}

fn chat_template(file: &GgufFile) -> Result<Option<String>, GgufError> {
    let key = full("chat_template");
    match file.value(&key) {
        None => Ok(None),
        Some(Value::Text(template)) => Ok(Some(template.clone())),
        Some(_) => Err(GgufError::metadata(&key, "must be text")),
    }
}

/// Sampling defaults (`general.sampling.*`), which newer converters write.
pub(super) fn generation_defaults(file: &GgufFile) -> Result<GenerationDefaults, GgufError> {
    let number = |key: &str| {
        let key = format!("general.sampling.{key}");
        let Some(value) = file.value(&key) else {
            return Ok(None);
        };
        let number = value
            .as_f64()
            .filter(|number| number.is_finite() && *number >= 0.0);
        number
            .map(Some)
            .ok_or_else(|| GgufError::metadata(&key, "must be a number, not negative"))
    };
    Ok(GenerationDefaults {
        temperature: number("temp")?.map(|value| value as f32),
        top_k: number("top_k")?.map(|value| value as u32),
        top_p: number("top_p")?.map(|value| value as f32),
        repetition_penalty: number("penalty_repeat")?.map(|value| value as f32),
    })
}

fn full(key: &str) -> String {
    format!("tokenizer.ggml.{key}")
        .replace("tokenizer.ggml.chat_template", "tokenizer.chat_template")
}

/// `tokenizer.ggml.*`.
#[derive(Debug)]
struct Keys<'a> {
    file: &'a GgufFile,
}

impl Keys<'_> {
    fn wrong(key: &str, expected: &str) -> GgufError {
        GgufError::metadata(&full(key), format!("must be {expected}"))
    }

    fn text(&self, key: &str) -> Result<Option<String>, GgufError> {
        match self.file.value(&full(key)) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Self::wrong(key, "text")),
        }
    }

    fn required_text(&self, key: &str) -> Result<String, GgufError> {
        self.text(key)?
            .ok_or_else(|| GgufError::MissingKey { key: full(key) })
    }

    fn bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        match self.file.value(&full(key)) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(Self::wrong(key, "true or false")),
        }
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, GgufError> {
        if self.file.value(&full(key)).is_none() {
            return Err(GgufError::MissingKey { key: full(key) });
        }
        self.texts_or_none(key)
    }

    fn texts_or_none(&self, key: &str) -> Result<Vec<String>, GgufError> {
        match self.file.value(&full(key)) {
            None => Ok(Vec::new()),
            Some(Value::Array(Array::Texts(list))) => Ok(list.clone()),
            Some(_) => Err(Self::wrong(key, "an array of texts")),
        }
    }

    fn floats(&self, key: &str, count: usize) -> Result<Vec<f32>, GgufError> {
        match self.file.value(&full(key)) {
            None => Ok(Vec::new()),
            Some(Value::Array(Array::Floats(list)))
                if list.len() == count && list.iter().all(|score| !score.is_nan()) =>
            {
                Ok(list.clone())
            }
            Some(_) => Err(Self::wrong(key, "one number per token")),
        }
    }

    fn types(&self, count: usize) -> Result<Vec<i32>, GgufError> {
        let key = "token_type";
        let list = match self.file.value(&full(key)) {
            None => return Ok(vec![1; count]),
            Some(Value::Array(Array::Ints(list))) if list.len() == count => list,
            Some(_) => return Err(Self::wrong(key, "one integer per token")),
        };
        let kinds: Option<Vec<i32>> = list
            .iter()
            .map(|kind| {
                i32::try_from(*kind)
                    .ok()
                    .filter(|kind| (0..=6).contains(kind))
            })
            .collect();
        kinds.ok_or_else(|| Self::wrong(key, "a kind from 1 to 6 per token"))
    }

    /// An id within the vocabulary. llama.cpp's "none" is the largest 32-bit number.
    fn id(&self, key: &str, count: usize) -> Result<Option<u32>, GgufError> {
        let Some(value) = self.file.value(&full(key)) else {
            return Ok(None);
        };
        if matches!(value, Value::Int(-1)) || value.as_u64() == Some(u64::from(u32::MAX)) {
            return Ok(None);
        }
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.filter(|&id| (id as usize) < count)
            .map(Some)
            .ok_or_else(|| Self::wrong(key, "an id of the vocabulary"))
    }

    /// Settings that change token ids and are not served.
    fn refuse_unserved(&self) -> Result<(), GgufError> {
        for key in ["add_eos_token", "add_sep_token"] {
            if self.bool(key)? == Some(true) {
                return Err(GgufError::Unsupported {
                    key: full(key),
                    value: "true".into(),
                });
            }
        }
        Ok(())
    }
}
