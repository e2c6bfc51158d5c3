//! How conversations of the world are written for a model: control tokens, chat template, tokenizer.

use skein_text::tokenizer::EncodeError;
use skein_text::tokenizer_training::{
    TokenizerFiles, TokenizerPlan, TokenizerTrainingError, train_tokenizer,
};
use skein_text::{Specials, Tokenizer};

use crate::world::{Course, Role, Sample, World};

/// Begins every conversation, so that one can follow another without being taken for its next turn.
pub const BEGIN: &str = "<|begin|>";

/// Ends every message, and an answer with it.
pub const END: &str = "<|end|>";

/// Begins the message of each role: `<|system|>`, `<|user|>`, `<|assistant|>`.
pub const ROLES: [&str; 3] = ["<|system|>", "<|user|>", "<|assistant|>"];

/// The chat template (Jinja): role, content, end, and nothing between messages. One token more than
/// the content on either side.
pub const TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}{% if message['role'] not \
in ['system', 'user', 'assistant'] %}{{ raise_exception('the roles are system, user and assistant') \
}}{% endif %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}{% if \
add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

/// Entries of the embedded model's tokenizer: all words of the world that are not rare are one token
/// (`docs/genesis.md` has the figures).
pub const ENTRIES: usize = 2048;

/// Conversations that the tokenizer is learned from; every word of the catalogues is in them.
pub const TOKENIZER_SAMPLES: u64 = 20_000;

/// The longest text of the embedded model, in tokens.
pub const CONTEXT: usize = 512;

/// Learns the tokenizer of a world from its first training conversations. The same arguments give
/// the same bytes.
///
/// # Errors
/// `entries` is too small, or the library failed.
pub fn tokenizer(
    world: World,
    samples: u64,
    entries: usize,
) -> Result<TokenizerFiles, TokenizerTrainingError> {
    let plan = TokenizerPlan {
        entries,
        begin: BEGIN,
        end: END,
        roles: &ROLES,
        chat_template: TEMPLATE,
        context: CONTEXT,
    };
    let texts = (0..samples).flat_map(move |index| {
        let sample = world.training(Course::First, index);
        let turns = sample.turns.into_iter();
        let texts = turns.flat_map(|turn| [turn.user, turn.assistant]);
        sample.system.into_iter().chain(texts).collect::<Vec<_>>()
    });
    train_tokenizer(&plan, texts)
}

/// Why a tokenizer cannot write conversations of the world.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriterError {
    /// A control token is missing.
    #[error("the tokenizer has no {token}: use the one that was learned from the world")]
    NoToken {
        /// The token.
        token: &'static str,
    },
}

/// A conversation as token ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// The ids, the first of them [`BEGIN`].
    pub ids: Vec<u32>,
    /// For each id, whether the assistant says it: contents of answers and the [`END`] of each.
    pub answer: Vec<bool>,
}

/// Writes conversations as token ids, exactly as the chat template does.
#[derive(Debug, Clone)]
pub struct Writer {
    tokenizer: Tokenizer,
    begin: u32,
    end: u32,
    roles: [u32; 3],
}

impl Writer {
    /// A writer with a tokenizer of the world.
    ///
    /// # Errors
    /// The tokenizer lacks a control token.
    pub fn new(tokenizer: Tokenizer) -> Result<Self, WriterError> {
        let id = |token| {
            tokenizer
                .token_to_id(token)
                .ok_or(WriterError::NoToken { token })
        };
        let [system, user, assistant] = ROLES;
        Ok(Self {
            begin: id(BEGIN)?,
            end: id(END)?,
            roles: [id(system)?, id(user)?, id(assistant)?],
            tokenizer,
        })
    }

    /// One above the highest id.
    #[must_use]
    pub fn vocabulary(&self) -> u32 {
        self.tokenizer.vocabulary()
    }

    /// The id of [`END`], which also pads.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.end
    }

    /// The whole conversation.
    ///
    /// # Errors
    /// The tokenizer failed; it does not on texts of the world.
    pub fn write(&self, sample: &Sample) -> Result<Document, EncodeError> {
        let mut document = Document::default();
        document.push(&[self.begin], false);
        for message in sample.messages() {
            let answer = message.role == Role::Assistant;
            let content = self.tokenizer.encode(message.content, Specials::Literal)?;
            document.push(&[self.roles[message.role as usize]], false);
            document.push(&content, answer);
            document.push(&[self.end], answer);
        }
        Ok(document)
    }
}

impl Document {
    fn push(&mut self, ids: &[u32], answer: bool) {
        self.ids.extend(ids);
        self.answer.resize(self.ids.len(), answer);
    }
}

#[cfg(test)]
pub(crate) mod tests;
