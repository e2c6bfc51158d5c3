//! From pieces of choices to OpenAI's JSON: whole answers, and chunks of streamed ones.

use std::collections::BTreeMap;

use serde::Serialize;
use skein_text::Tokenizer;

use super::answer::{
    Answer, ChatChoice, ChatChunkChoice, ChatDelta, ChatLogprob, ChatLogprobs, ChatMessage,
    ChatToken, Chunk, CompletionChoice, CompletionLogprobs, Head, TokenIds, Usage,
};
use crate::assembly::{End, Piece, TokenEntry};

/// What stands for a probability of zero: JSON has no minus infinity.
const LOGPROB_MIN: f32 = -9999.0;

/// Which endpoint answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Chat,
    Completion,
}

/// How the answers of one request look.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    pub(crate) kind: Kind,
    pub(crate) head: Head,
    pub(crate) tokenizer: Tokenizer,
    /// Alternatives per token, if log-probabilities are wanted at all.
    pub(crate) logprobs: Option<usize>,
    /// Whether token ids are wanted.
    pub(crate) token_ids: bool,
    /// Whether a stream ends with its usage.
    pub(crate) include_usage: bool,
}

/// A choice that has ended, put together from its pieces.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    text: String,
    tokens: Vec<TokenEntry>,
    finish_reason: Option<&'static str>,
}

impl Whole {
    pub(crate) fn push(&mut self, piece: Piece) {
        self.text.push_str(&piece.text);
        self.tokens.extend(piece.tokens);
        if let Some(End::Finished(reason)) = piece.end {
            self.finish_reason = Some(reason);
        }
    }
}

impl Form {
    /// `object` of a whole answer or of a chunk.
    pub(crate) fn object(kind: Kind, stream: bool) -> &'static str {
        match (kind, stream) {
            (Kind::Chat, false) => "chat.completion",
            (Kind::Chat, true) => "chat.completion.chunk",
            (Kind::Completion, _) => "text_completion",
        }
    }

    /// A whole answer.
    pub(crate) fn whole(&self, choices: Vec<Whole>, usage: Usage) -> String {
        let choices = choices.into_iter().enumerate();
        match self.kind {
            Kind::Chat => {
                let choices = choices
                    .map(|(index, whole)| self.chat_choice(index, whole))
                    .collect();
                json(&Answer {
                    head: &self.head,
                    choices,
                    usage,
                })
            }
            Kind::Completion => {
                let choices = choices
                    .map(|(index, whole)| self.completion_choice(index, whole))
                    .collect();
                json(&Answer {
                    head: &self.head,
                    choices,
                    usage,
                })
            }
        }
    }

    /// The chunks that open a stream of `choices` choices.
    pub(crate) fn opening(&self, choices: usize) -> Vec<String> {
        if self.kind == Kind::Completion {
            return Vec::new();
        }
        let open = |index| {
            let delta = ChatDelta {
                role: Some("assistant"),
                content: Some(String::new()),
                refusal: Some(None),
            };
            self.chat_chunk(index, delta, None, None)
        };
        (0..choices).map(open).collect()
    }

    /// The chunks of one piece: its text if there is any, then its end if it has come.
    pub(crate) fn chunks(&self, index: usize, piece: Piece) -> Vec<String> {
        let mut chunks = Vec::new();
        let finish_reason = match piece.end {
            Some(End::Finished(reason)) => Some(reason),
            _ => None,
        };
        if !piece.text.is_empty() || !piece.tokens.is_empty() {
            chunks.push(self.text_chunk(index, piece.text, &piece.tokens));
        }
        if finish_reason.is_some() {
            chunks.push(match self.kind {
                Kind::Chat => self.chat_chunk(index, ChatDelta::default(), None, finish_reason),
                Kind::Completion => self.completion_chunk(CompletionChoice {
                    text: String::new(),
                    index,
                    logprobs: None,
                    finish_reason,
                    token_ids: None,
                }),
            });
        }
        chunks
    }

    /// The chunk that closes a stream, if the client asked for one.
    pub(crate) fn closing(&self, usage: Usage) -> Option<String> {
        self.include_usage.then(|| {
            json(&Chunk::<()> {
                head: &self.head,
                choices: Vec::new(),
                usage: Some(Some(usage)),
            })
        })
    }

    fn text_chunk(&self, index: usize, text: String, tokens: &[TokenEntry]) -> String {
        match self.kind {
            Kind::Chat => {
                let delta = ChatDelta {
                    content: Some(text),
                    ..ChatDelta::default()
                };
                self.chat_chunk(index, delta, Some(tokens), None)
            }
            Kind::Completion => self.completion_chunk(CompletionChoice {
                text,
                index,
                logprobs: self.completion_logprobs(tokens),
                finish_reason: None,
                token_ids: self.ids(tokens),
            }),
        }
    }

    fn chat_chunk(
        &self,
        index: usize,
        delta: ChatDelta,
        tokens: Option<&[TokenEntry]>,
        finish_reason: Option<&'static str>,
    ) -> String {
        json(&Chunk {
            head: &self.head,
            choices: vec![ChatChunkChoice {
                index,
                delta,
                logprobs: tokens.and_then(|tokens| self.chat_logprobs(tokens)),
                finish_reason,
                token_ids: tokens.and_then(|tokens| self.ids(tokens)),
            }],
            usage: self.include_usage.then_some(None),
        })
    }

    fn completion_chunk(&self, choice: CompletionChoice) -> String {
        json(&Chunk {
            head: &self.head,
            choices: vec![choice],
            usage: self.include_usage.then_some(None),
        })
    }

    fn chat_choice(&self, index: usize, whole: Whole) -> ChatChoice {
        ChatChoice {
            index,
            logprobs: self.chat_logprobs(&whole.tokens),
            token_ids: self.ids(&whole.tokens),
            message: ChatMessage {
                role: "assistant",
                content: whole.text,
                refusal: None,
            },
            finish_reason: whole.finish_reason.unwrap_or("stop"),
        }
    }

    fn completion_choice(&self, index: usize, whole: Whole) -> CompletionChoice {
        CompletionChoice {
            index,
            logprobs: self.completion_logprobs(&whole.tokens),
            token_ids: self.ids(&whole.tokens),
            text: whole.text,
            finish_reason: whole.finish_reason,
        }
    }

    fn ids(&self, tokens: &[TokenEntry]) -> TokenIds {
        let ids = || tokens.iter().map(|entry| entry.token.id).collect();
        self.token_ids.then(ids)
    }

    fn chat_logprobs(&self, tokens: &[TokenEntry]) -> Option<ChatLogprobs> {
        let top = self.logprobs?;
        let entry = |entry: &TokenEntry| {
            let best = entry.token.top.iter().take(top);
            ChatLogprob {
                token: self.chat_token(entry.token.id, entry.token.logprob),
                top_logprobs: best
                    .map(|&(id, logprob)| self.chat_token(id, logprob))
                    .collect(),
            }
        };
        Some(ChatLogprobs {
            content: tokens.iter().map(entry).collect(),
            refusal: None,
        })
    }

    fn chat_token(&self, id: u32, logprob: f32) -> ChatToken {
        let bytes = self.tokenizer.token_bytes(id).unwrap_or_default();
        ChatToken {
            token: String::from_utf8_lossy(&bytes).into_owned(),
            logprob: finite(logprob),
            bytes,
        }
    }

    fn completion_logprobs(&self, tokens: &[TokenEntry]) -> Option<CompletionLogprobs> {
        let top = self.logprobs?;
        let mut logprobs = CompletionLogprobs::default();
        for entry in tokens {
            let token = &entry.token;
            let mut best = BTreeMap::new();
            let listed = token.top.iter().take(top).copied();
            // The chosen token is always listed; of tokens with the same text the best one counts.
            for (id, logprob) in listed.chain([(token.id, token.logprob)]) {
                best.entry(self.spelled(id)).or_insert(finite(logprob));
            }
            logprobs.tokens.push(self.spelled(token.id));
            logprobs.token_logprobs.push(finite(token.logprob));
            logprobs.top_logprobs.push(best);
            logprobs.text_offset.push(entry.offset);
        }
        Some(logprobs)
    }

    /// A token as this endpoint spells it: its text, or `bytes:\xe2\x82` if it is none.
    fn spelled(&self, id: u32) -> String {
        use std::fmt::Write as _;
        let bytes = self.tokenizer.token_bytes(id).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_else(|error| {
            let mut text = "bytes:".to_owned();
            for byte in error.as_bytes() {
                write!(text, "\\x{byte:02x}").expect("writing to a string cannot fail");
            }
            text
        })
    }
}

fn finite(logprob: f32) -> f32 {
    // Also what is not a number ends up here.
    if logprob >= LOGPROB_MIN {
        logprob
    } else {
        LOGPROB_MIN
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value)
        .expect("answers hold strings, numbers and lists, which always serialise")
}
