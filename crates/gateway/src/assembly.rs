//! From the tokens of one choice to the pieces of its answer, without I/O.
//!
//! ```text
//! token ─► detokenizer ─► stop strings ─► piece (text, log-probabilities, finish reason)
//! ```
//! Text that may still turn into a stop string, or into one character with the next token, is held
//! back, and so are the log-probabilities of its tokens: a piece never tells more than its text.

use std::collections::VecDeque;

use skein_serving::{Event, FinishReason, GenerationError, Token, Usage};
use skein_text::{Detokenizer, StopMatcher};

/// Log-probabilities of one token of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenEntry {
    pub(crate) token: Token,
    /// Where its text starts in the answer, in characters.
    pub(crate) offset: usize,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// OpenAI's `finish_reason`.
    Finished(&'static str),
    /// The serving side failed; its words are for the log alone.
    Failed(String),
    /// The time for an answer was over before its first token.
    TimedOut,
    /// The server stops.
    Stopping,
}

/// What one event adds to an answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) tokens: Vec<TokenEntry>,
    pub(crate) end: Option<End>,
}

/// One choice in the making.
#[derive(Debug)]
pub(crate) struct Assembly {
    detokenizer: Detokenizer,
    stop: StopMatcher,
    wants_tokens: bool,
    held: VecDeque<TokenEntry>,
    /// Characters that came out of the detokenizer.
    decoded: usize,
    /// Characters that were handed on.
    released: usize,
    usage: Usage,
}

impl Assembly {
    pub(crate) fn new(detokenizer: Detokenizer, stop: StopMatcher, wants_tokens: bool) -> Self {
        Self {
            detokenizer,
            stop,
            wants_tokens,
            held: VecDeque::new(),
            decoded: 0,
            released: 0,
            usage: Usage::default(),
        }
    }

    /// Tokens so far.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    /// Takes the next event of the serving side; `None` is its end, which must not come before a
    /// last event.
    pub(crate) fn push(&mut self, event: Option<Event>) -> Piece {
        match event {
            Some(Event::Started {
                prompt_tokens,
                reused_tokens,
            }) => {
                self.usage.prompt = prompt_tokens;
                self.usage.reused = reused_tokens;
                Piece::default()
            }
            Some(Event::Token(token)) => self.token(token),
            Some(Event::Finished { reason, usage }) => {
                self.usage = usage;
                match reason {
                    FinishReason::Stop(_) => self.finish("stop"),
                    FinishReason::Length => self.finish("length"),
                    // What there is by then is an answer cut short; nothing at all is none.
                    FinishReason::Deadline if usage.completion > 0 => self.finish("length"),
                    FinishReason::Deadline => Self::end(Piece::default(), End::TimedOut),
                    FinishReason::Shutdown => Self::end(Piece::default(), End::Stopping),
                    other => Self::end(
                        Piece::default(),
                        End::Failed(format!("unknown end: {other:?}")),
                    ),
                }
            }
            Some(Event::Failed {
                error: GenerationError::EngineStopped,
            }) => Self::end(Piece::default(), End::Stopping),
            Some(Event::Failed { error }) => {
                Self::end(Piece::default(), End::Failed(error.to_string()))
            }
            None => {
                let reason = "the serving side dropped the answer before its end".to_owned();
                Self::end(Piece::default(), End::Failed(reason))
            }
        }
    }

    fn token(&mut self, token: Token) -> Piece {
        self.usage.completion = self.usage.completion.saturating_add(1);
        let text = self.detokenizer.push(token.id);
        if self.wants_tokens {
            let offset = self.decoded;
            self.held.push_back(TokenEntry { token, offset });
        }
        self.decoded += text.chars().count();
        let step = self.stop.push(&text);
        let piece = self.release(step.text);
        if step.stopped.is_some() {
            return Self::end(piece, End::Finished("stop"));
        }
        piece
    }

    /// The serving side has said all: whatever was held back comes out, unless it completes a stop
    /// string at last.
    fn finish(&mut self, reason: &'static str) -> Piece {
        let rest = self.detokenizer.finish();
        self.decoded += rest.chars().count();
        let step = self.stop.push(&rest);
        if step.stopped.is_some() {
            let piece = self.release(step.text);
            return Self::end(piece, End::Finished("stop"));
        }
        let mut text = step.text;
        text.push_str(&self.stop.finish());
        let mut piece = self.release(text);
        // Tokens without text of their own at the very end.
        piece.tokens.extend(self.held.drain(..));
        Self::end(piece, End::Finished(reason))
    }

    /// A piece with `text` and the tokens that begin in it.
    fn release(&mut self, text: String) -> Piece {
        self.released += text.chars().count();
        let begun = self
            .held
            .iter()
            .take_while(|entry| entry.offset < self.released)
            .count();
        Piece {
            text,
            tokens: self.held.drain(..begun).collect(),
            end: None,
        }
    }

    fn end(mut piece: Piece, end: End) -> Piece {
        piece.end = Some(end);
        piece
    }
}

#[cfg(test)]
mod tests;
