//! Ids to text, piece by piece, never with a broken character.
//!
//! Constant time per token: the tokenizer's decoder is carried as a state machine instead of
//! decoding everything again. Bytes that do not yet form a character wait for the next token.
//!
//! - **Byte-level** decoders (GPT-2, Qwen, Llama 3): invalid bytes become U+FFFD by the rule of
//!   "maximal subparts", as the decoder of the `tokenizers` library does.
//! - **Byte-fallback** decoders (Llama 2, Mistral): a run of byte tokens is text if all of it is
//!   UTF-8. Otherwise the library makes one U+FFFD of *every* byte of the run; here, characters
//!   that were complete before the first invalid byte have been said already and stay.

use crate::tokenizer::Tokenizer;

pub(crate) use plan::DecoderPlan;

mod plan;
#[cfg(test)]
mod tests;

/// U+FFFD, which stands for what is not text.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// The text of one answer as its tokens arrive.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    tokenizer: Tokenizer,
    show_special: bool,
    /// Bytes of an unfinished character.
    pending: Vec<u8>,
    /// The present run of byte tokens is not text.
    spoilt: bool,
    /// Whether a token has been said.
    started: bool,
    /// Characters that may still be stripped at the beginning of the text.
    strip: usize,
}

impl Detokenizer {
    /// Special tokens have no text.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        let strip = tokenizer.decoder().strip_count();
        let (pending, tokenizer) = (Vec::new(), tokenizer.clone());
        Self {
            tokenizer,
            show_special: false,
            pending,
            spoilt: false,
            started: false,
            strip,
        }
    }

    /// Special tokens are spelled out.
    pub fn with_special(tokenizer: &Tokenizer) -> Self {
        Self {
            show_special: true,
            ..Self::new(tokenizer)
        }
    }

    /// The text that `id` completes; often empty. Ids outside the vocabulary have no text.
    pub fn push(&mut self, id: u32) -> String {
        if !self.show_special && self.tokenizer.is_special(id) {
            return String::new();
        }
        let Some(token) = self.tokenizer.library().id_to_token(id) else {
            return String::new();
        };
        let first = !std::mem::replace(&mut self.started, true);
        match self.tokenizer.decoder().clone() {
            DecoderPlan::ByteLevel => {
                plan::push_byte_level(&token, &mut self.pending);
                self.complete()
            }
            DecoderPlan::Spaced if first => token,
            DecoderPlan::Spaced => format!(" {token}"),
            DecoderPlan::Pieces(pieces) => {
                let token = pieces.text(token, first);
                let text = match pieces.byte(&token) {
                    Some(byte) => self.push_byte(byte),
                    None => self.end_run() + &token,
                };
                self.stripped(text)
            }
        }
    }

    /// The answer has ended: an unfinished character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        match self.tokenizer.decoder() {
            DecoderPlan::Pieces(_) => {
                let text = self.end_run();
                self.stripped(text)
            }
            _ => {
                let rest = std::mem::take(&mut self.pending);
                String::from_utf8_lossy(&rest).into_owned()
            }
        }
    }

    /// Whole characters of `pending`, invalid bytes replaced.
    fn complete(&mut self) -> String {
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.pending.clear();
                    return text;
                }
                Err(error) => {
                    let (valid, rest) = self.pending.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    let Some(invalid) = error.error_len() else {
                        self.pending = rest.to_vec();
                        return text;
                    };
                    text.push(REPLACEMENT);
                    self.pending = rest[invalid..].to_vec();
                }
            }
        }
    }

    fn push_byte(&mut self, byte: u8) -> String {
        if self.spoilt {
            return REPLACEMENT.into();
        }
        self.pending.push(byte);
        match std::str::from_utf8(&self.pending) {
            Ok(valid) => {
                let text = valid.to_owned();
                self.pending.clear();
                text
            }
            Err(error) if error.error_len().is_none() => String::new(),
            Err(_) => {
                self.spoilt = true;
                self.replaced()
            }
        }
    }

    fn end_run(&mut self) -> String {
        self.spoilt = false;
        self.replaced()
    }

    /// One U+FFFD for each waiting byte.
    fn replaced(&mut self) -> String {
        std::mem::take(&mut self.pending)
            .iter()
            .map(|_| REPLACEMENT)
            .collect()
    }

    fn stripped(&mut self, text: String) -> String {
        if self.strip == 0 || text.is_empty() {
            return text;
        }
        let content = self.tokenizer.decoder().strip_char();
        let mut rest = text.as_str();
        while self.strip > 0 {
            match rest.strip_prefix(content) {
                Some(shorter) => rest = shorter,
                None => break,
            }
            self.strip -= 1;
            if rest.is_empty() {
                return String::new();
            }
        }
        self.strip = 0;
        rest.to_owned()
    }
}
