//! A tokenizer out of the vocabulary inside a GGUF file.
//!
//! The vocabulary is written down in the form of a Hugging Face `tokenizer.json` and built by the
//! `tokenizers` library. Token ids are those of llama.cpp, whose `llama-vocab.cpp` defines what
//! the settings of a GGUF file mean; in particular nothing is Unicode-normalised, since a GGUF
//! file does not say that it should be (Qwen2's own `tokenizer.json` composes characters first).
//! As in Hugging Face's library, special tokens are found in any text.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde_json::{Map, Value, json};
use skein_weights::vocabulary::GgufVocabulary;
use tokenizers::Tokenizer;

mod split;

#[cfg(test)]
mod tests;

/// Kinds of tokens, as GGUF numbers them.
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// What SentencePiece writes for a space.
const SPACE: &str = "\u{2581}";

/// Why no tokenizer can be made of a GGUF vocabulary.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufTokenizerError {
    /// A kind of tokenizer that is not served.
    #[error(
        "GGUF tokenizer model {model:?} is not served, only gpt2 (byte-level BPE) and llama \
         (SentencePiece BPE): use the Hugging Face checkpoint"
    )]
    Model {
        /// `tokenizer.ggml.model`.
        model: String,
    },
    /// A way to cut text into words that is not served.
    #[error(
        "GGUF pre-tokenizer {pre:?} is not served ({served} are): use the Hugging Face checkpoint"
    )]
    PreTokenizer {
        /// `tokenizer.ggml.pre`.
        pre: String,
        /// Those that are.
        served: String,
    },
    /// Two tokens with the same text.
    #[error("GGUF tokens {first} and {second} are both {text:?}")]
    Duplicate {
        /// The text.
        text: String,
        /// The one id.
        first: usize,
        /// The other id.
        second: usize,
    },
    /// A list that does not fit the number of tokens.
    #[error("GGUF vocabulary of {tokens} tokens has {found} {what}")]
    Count {
        /// Which list.
        what: &'static str,
        /// How many entries it has.
        found: usize,
        /// How many tokens there are.
        tokens: usize,
    },
    /// An id outside the vocabulary.
    #[error("the id {id} of the {role} token is outside the GGUF vocabulary of {tokens} tokens")]
    Id {
        /// What the id is for.
        role: &'static str,
        /// The id.
        id: u32,
        /// How many tokens there are.
        tokens: usize,
    },
    /// A merge that is not two tokens with a space between.
    #[error("GGUF merge {index} ({merge:?}) is not made of two known tokens that join to a third")]
    Merge {
        /// Its place in the list.
        index: usize,
        /// The merge.
        merge: String,
    },
    /// The library refuses it.
    #[error("no tokenizer can be made of the GGUF vocabulary: {problem}")]
    Library {
        /// What the library said.
        problem: String,
    },
}

/// Makes the tokenizer of a GGUF file. If the file wants it (or does not say and its kind of
/// tokenizer implies it), encoding with special tokens puts `bos` before the text.
pub fn build(
    vocabulary: &GgufVocabulary,
    bos: Option<u32>,
) -> Result<Tokenizer, GgufTokenizerError> {
    let json = tokenizer_json(vocabulary, bos)?;
    Tokenizer::from_str(&json.to_string()).map_err(|error| GgufTokenizerError::Library {
        problem: error.to_string(),
    })
}

/// The tokenizer of a GGUF file in the form of a `tokenizer.json`.
pub fn tokenizer_json(
    vocabulary: &GgufVocabulary,
    bos: Option<u32>,
) -> Result<Value, GgufTokenizerError> {
    let ids = ids(vocabulary)?;
    let parts = match vocabulary.model.as_str() {
        "gpt2" => byte_level(vocabulary, &ids)?,
        "llama" => sentence_piece(vocabulary, &ids)?,
        other => {
            return Err(GgufTokenizerError::Model {
                model: other.to_owned(),
            });
        }
    };
    let bos = bos.filter(|_| vocabulary.add_bos.unwrap_or(parts.add_bos));
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(vocabulary),
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": bos.map(|bos| begin_with(vocabulary, bos)).transpose()?,
        "decoder": parts.decoder,
        "model": parts.model,
    }))
}

/// What the two kinds of tokenizers differ in.
#[derive(Debug)]
struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    model: Value,
    /// Whether a text begins with `bos` if the file does not say.
    add_bos: bool,
}

/// Ids by text.
fn ids(vocabulary: &GgufVocabulary) -> Result<BTreeMap<&str, usize>, GgufTokenizerError> {
    let tokens = vocabulary.tokens.len();
    for (what, found) in [
        ("scores", vocabulary.scores.len()),
        ("types", vocabulary.types.len()),
    ] {
        if found != tokens && found != 0 {
            return Err(GgufTokenizerError::Count {
                what,
                found,
                tokens,
            });
        }
    }
    let mut ids = BTreeMap::new();
    for (second, text) in vocabulary.tokens.iter().enumerate() {
        if let Some(first) = ids.insert(text.as_str(), second) {
            let text = text.clone();
            return Err(GgufTokenizerError::Duplicate {
                text,
                first,
                second,
            });
        }
    }
    Ok(ids)
}

fn vocabulary_map(ids: &BTreeMap<&str, usize>) -> Value {
    let map: Map<String, Value> = ids
        .iter()
        .map(|(text, id)| ((*text).into(), (*id).into()))
        .collect();
    Value::Object(map)
}

/// Tokens that are found in the text before anything else is done with it. Unused slots that
/// converters mark as control tokens are among them, as in llama.cpp.
fn added_tokens(vocabulary: &GgufVocabulary) -> Vec<Value> {
    let kinds = vocabulary.tokens.iter().zip(&vocabulary.types).enumerate();
    let added = kinds.filter(|(_, (text, kind))| {
        matches!(**kind, UNKNOWN | CONTROL | USER_DEFINED) && !text.is_empty()
    });
    added
        .map(|(id, (text, kind))| {
            json!({
                "id": id,
                "content": text,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": *kind != USER_DEFINED,
            })
        })
        .collect()
}

fn begin_with(vocabulary: &GgufVocabulary, bos: u32) -> Result<Value, GgufTokenizerError> {
    let tokens = vocabulary.tokens.len();
    let text = vocabulary.tokens.get(bos as usize);
    let text = text.ok_or(GgufTokenizerError::Id {
        role: "first",
        id: bos,
        tokens,
    })?;
    let token = |kind: u32| json!({"SpecialToken": {"id": text, "type_id": kind}});
    let sequence = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
    Ok(json!({
        "type": "TemplateProcessing",
        "single": [token(0), sequence("A", 0)],
        "pair": [token(0), sequence("A", 0), token(1), sequence("B", 1)],
        "special_tokens": { text: {"id": text, "ids": [bos], "tokens": [text]} },
    }))
}

fn byte_level(
    vocabulary: &GgufVocabulary,
    ids: &BTreeMap<&str, usize>,
) -> Result<Parts, GgufTokenizerError> {
    let rule = split::Rule::of(vocabulary.pre.as_deref())?;
    let isolate = |pattern: &&str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let bytes = |use_regex: bool| {
        json!({
            "type": "ByteLevel",
            "add_prefix_space": false,
            "trim_offsets": true,
            "use_regex": use_regex,
        })
    };
    let mut steps: Vec<Value> = rule.patterns().iter().map(isolate).collect();
    steps.push(bytes(false));
    Ok(Parts {
        normalizer: Value::Null,
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": steps}),
        decoder: bytes(true),
        model: json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": rule.whole_words_first(),
            "vocab": vocabulary_map(ids),
            "merges": listed_merges(vocabulary, ids)?,
        }),
        add_bos: rule.adds_bos(),
    })
}

fn listed_merges<'a>(
    vocabulary: &'a GgufVocabulary,
    ids: &BTreeMap<&str, usize>,
) -> Result<Vec<[&'a str; 2]>, GgufTokenizerError> {
    let pair = |(index, merge): (usize, &'a String)| {
        // A left half may begin with a space in old files: llama.cpp looks from the second byte.
        let from = merge.chars().next().map_or(0, char::len_utf8);
        let halves = merge[from..].find(' ').map(|at| merge.split_at(from + at));
        let halves = halves.map(|(left, right)| [left, &right[1..]]);
        let known = halves.filter(|[left, right]| {
            let whole = [*left, *right].concat();
            [*left, *right, whole.as_str()]
                .iter()
                .all(|half| ids.contains_key(half))
        });
        known.ok_or_else(|| GgufTokenizerError::Merge {
            index,
            merge: merge.clone(),
        })
    };
    vocabulary.merges.iter().enumerate().map(pair).collect()
}

fn sentence_piece(
    vocabulary: &GgufVocabulary,
    ids: &BTreeMap<&str, usize>,
) -> Result<Parts, GgufTokenizerError> {
    let tokens = vocabulary.tokens.len();
    if vocabulary.scores.len() != tokens {
        let found = vocabulary.scores.len();
        return Err(GgufTokenizerError::Count {
            what: "scores",
            found,
            tokens,
        });
    }
    let unknown = match vocabulary.unknown {
        None => None,
        Some(id) => Some(
            vocabulary
                .tokens
                .get(id as usize)
                .ok_or(GgufTokenizerError::Id {
                    role: "unknown",
                    id,
                    tokens,
                })?,
        ),
    };
    let prefix = vocabulary.add_space_prefix.unwrap_or(true);
    let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let mut normalizers = vec![spaces];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": SPACE}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(Parts {
        normalizer: json!({"type": "Sequence", "normalizers": normalizers}),
        pre_tokenizer: Value::Null,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        model: json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "ignore_merges": false,
            "vocab": vocabulary_map(ids),
            "merges": scored_merges(vocabulary, ids),
        }),
        add_bos: true,
    })
}

/// SentencePiece joins the neighbours whose joint token has the best score, wherever that is the
/// case first; BPE joins by a list of pairs. So: every way to cut a token into two tokens, by the
/// score of the token.
fn scored_merges<'a>(
    vocabulary: &'a GgufVocabulary,
    ids: &BTreeMap<&str, usize>,
) -> Vec<[&'a str; 2]> {
    let mut order: Vec<usize> = (0..vocabulary.tokens.len()).collect();
    order.sort_by(|&a, &b| vocabulary.scores[b].total_cmp(&vocabulary.scores[a]));
    let mut merges = Vec::new();
    let mut seen = BTreeSet::new();
    for id in order {
        let token = vocabulary.tokens[id].as_str();
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if ids.contains_key(left) && ids.contains_key(right) && seen.insert((left, right)) {
                merges.push([left, right]);
            }
        }
    }
    merges
}
