//! A tokenizer learned from text, in Hugging Face's form: byte-level BPE whose digits stand alone.
//!
//! Bytes are the fallback, so any text can be encoded. Words are split as Qwen2's tokenizer does it,
//! which other programs know as well.

use serde_json::json;
use skein_weights::vocabulary::{Vocabulary, VocabularyKind};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, ModelWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use crate::tokenizer::{Tokenizer, TokenizerError};

/// Words with the space or mark before them, single digits, runs of marks, line ends, spaces.
const SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// All bytes, each a token.
const BYTES: usize = 256;

/// What a tokenizer shall be.
#[derive(Debug, Clone, Copy)]
pub struct TokenizerPlan<'a> {
    /// How many tokens in total, at most: control tokens, bytes, and what is learned.
    pub entries: usize,
    /// The control token that begins every text.
    pub begin: &'a str,
    /// The control token that ends every message; it also pads.
    pub end: &'a str,
    /// The other control tokens. Ids are given in order: begin, end, these.
    pub roles: &'a [&'a str],
    /// The chat template (Jinja).
    pub chat_template: &'a str,
    /// The longest text that the model takes, in tokens.
    pub context: usize,
}

/// The files of a tokenizer, as they lie in a Hugging Face folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizerFiles {
    /// `tokenizer.json`.
    pub tokenizer: Vec<u8>,
    /// `tokenizer_config.json`, with the chat template.
    pub config: Vec<u8>,
}

impl TokenizerFiles {
    /// The tokenizer, ready to encode.
    ///
    /// # Errors
    /// The files are not as [`train_tokenizer`] gave them.
    pub fn load(&self) -> Result<Tokenizer, TokenizerError> {
        Tokenizer::new(&Vocabulary {
            kind: VocabularyKind::TokenizerJson(self.tokenizer.clone()),
            chat_template: None,
            special_tokens: Vec::new(),
            bos: None,
            eos: Vec::new(),
        })
    }
}

/// Why no tokenizer was learned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerTrainingError {
    /// There is no room for what every tokenizer of this form has.
    #[error("{entries} entries are too few: control tokens and bytes alone are {least}")]
    TooFewEntries {
        /// How many were asked for.
        entries: usize,
        /// The fewest possible.
        least: usize,
    },
    /// The library failed.
    #[error("the tokenizer library could not learn from the text: {reason}")]
    Failed {
        /// What it said.
        reason: String,
    },
}

/// Learns a tokenizer from texts. The same texts give the same bytes.
///
/// # Errors
/// The plan has too few entries, or the library failed.
pub fn train_tokenizer(
    plan: &TokenizerPlan<'_>,
    texts: impl Iterator<Item = String> + Send,
) -> Result<TokenizerFiles, TokenizerTrainingError> {
    let least = 2 + plan.roles.len() + BYTES;
    if plan.entries < least {
        let entries = plan.entries;
        return Err(TokenizerTrainingError::TooFewEntries { entries, least });
    }
    let mut tokenizer = tokenizers::Tokenizer::new(ModelWrapper::BPE(BPE::default()));
    let split = Split::new(
        SplitPattern::Regex(SPLIT.to_owned()),
        SplitDelimiterBehavior::Isolated,
        false,
    );
    let split = PreTokenizerWrapper::Split(split.map_err(failed)?);
    let bytes = PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, false));
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![split, bytes])));
    tokenizer.with_decoder(Some(ByteLevel::new(false, true, false)));
    let controls: Vec<AddedToken> = [plan.begin, plan.end]
        .iter()
        .chain(plan.roles)
        .map(|&token| AddedToken::from(token, true))
        .collect();
    let mut trainer: TrainerWrapper = BpeTrainerBuilder::new()
        .vocab_size(plan.entries)
        // A pair that occurs once is an accident.
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(controls.clone())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build()
        .into();
    tokenizer.train(&mut trainer, texts).map_err(failed)?;
    tokenizer.add_special_tokens(controls).map_err(failed)?;
    let single = format!("{} $A", plan.begin);
    let begin = TemplateProcessing::builder()
        .try_single(single.as_str())
        .map_err(failed)?
        .special_tokens(vec![(plan.begin, 0)])
        .build()
        .map_err(failed)?;
    tokenizer.with_post_processor(Some(begin));
    let tokenizer = tokenizer.to_string(true).map_err(failed)?;
    Ok(TokenizerFiles {
        tokenizer: tokenizer.into_bytes(),
        config: config(plan),
    })
}

fn config(plan: &TokenizerPlan<'_>) -> Vec<u8> {
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": plan.context,
        "clean_up_tokenization_spaces": false,
        "bos_token": plan.begin,
        "eos_token": plan.end,
        "pad_token": plan.end,
        "chat_template": plan.chat_template,
    });
    format!("{config:#}\n").into_bytes()
}

fn failed(error: impl std::fmt::Display) -> TokenizerTrainingError {
    TokenizerTrainingError::Failed {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Specials;

    const PLAN: TokenizerPlan<'_> = TokenizerPlan {
        entries: 275,
        begin: "<|begin|>",
        end: "<|end|>",
        roles: &["<|user|>"],
        chat_template: "{{ bos_token }}",
        context: 64,
    };

    fn texts() -> impl Iterator<Item = String> + Send {
        (0..200).map(|n| format!("the cat number {n} sat on the mat, and the {n} mats sat"))
    }

    fn loaded(files: &TokenizerFiles) -> Tokenizer {
        files.load().expect("our own tokenizer loads")
    }

    #[test]
    fn the_same_texts_give_the_same_bytes() {
        let first = train_tokenizer(&PLAN, texts()).expect("learns");
        // In another order, since the library may count in parallel.
        let mut other: Vec<String> = texts().collect();
        other.reverse();
        let second = train_tokenizer(&PLAN, other.into_iter()).expect("learns");
        assert_eq!(first, second);
    }

    #[test]
    fn control_tokens_come_first_and_digits_stand_alone() {
        let tokenizer = loaded(&train_tokenizer(&PLAN, texts()).expect("learns"));
        assert_eq!(tokenizer.vocabulary() as usize, PLAN.entries);
        assert_eq!(tokenizer.token_to_id("<|begin|>"), Some(0));
        assert_eq!(tokenizer.token_to_id("<|end|>"), Some(1));
        assert_eq!(tokenizer.token_to_id("<|user|>"), Some(2));
        let ids = tokenizer
            .encode("<|user|>the cat 123", Specials::AddAndParse)
            .expect("short");
        let begin_user_the_cat_space = 5;
        assert_eq!(ids.len(), begin_user_the_cat_space + 3, "{ids:?}");
        assert_eq!(&ids[..2], [0, 2]);
        let literal = tokenizer
            .encode("<|user|>", Specials::Literal)
            .expect("short");
        assert!(!literal.contains(&2));
    }

    #[test]
    fn too_few_entries_are_refused() {
        let plan = TokenizerPlan {
            entries: 258,
            ..PLAN
        };
        let error = train_tokenizer(&plan, texts()).expect_err("too few");
        let least = 259;
        assert_eq!(
            error,
            TokenizerTrainingError::TooFewEntries {
                entries: 258,
                least
            }
        );
    }

    #[test]
    fn any_text_comes_back() {
        let tokenizer = loaded(&train_tokenizer(&PLAN, texts()).expect("learns"));
        proptest!(|(text in any::<String>())| {
            let ids = tokenizer.encode(&text, Specials::Literal).expect("short");
            prop_assert_eq!(tokenizer.decode(&ids), text);
        });
    }
}
