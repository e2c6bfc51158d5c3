//! The decoder of a tokenizer, read as a plan for decoding token by token.

use std::sync::Arc;

use tokenizers::decoders::metaspace::{Metaspace, PrependScheme};
use tokenizers::normalizers::Replace;
use tokenizers::{Decoder, DecoderWrapper};

use crate::tokenizer::TokenizerError;

/// How tokens become text.
#[derive(Debug, Clone)]
pub(crate) enum DecoderPlan {
    /// Every character of a token stands for a byte.
    ByteLevel,
    /// Tokens are pieces of text, with marks for spaces, and bytes.
    Pieces(Arc<Pieces>),
    /// No decoder: tokens are words.
    Spaced,
}

/// A sequence of simple decoders.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    steps: Vec<Step>,
    byte_fallback: bool,
    fused: bool,
    /// Stripped at the beginning of the text: this character, at most so often.
    strip: Option<(char, usize)>,
}

#[derive(Debug)]
enum Step {
    Replace(Replace),
    Metaspace(Metaspace),
}

impl DecoderPlan {
    pub(crate) fn new(decoder: Option<&DecoderWrapper>) -> Result<Self, TokenizerError> {
        let mut list = Vec::new();
        match decoder {
            None => return Ok(Self::Spaced),
            Some(decoder) => flatten(decoder, &mut list),
        }
        if let [DecoderWrapper::ByteLevel(_)]
        | [DecoderWrapper::ByteLevel(_), DecoderWrapper::Fuse(_)] = list[..]
        {
            return Ok(Self::ByteLevel);
        }
        let mut pieces = Pieces::default();
        list.into_iter()
            .try_for_each(|decoder| pieces.add(decoder))?;
        Ok(Self::Pieces(Arc::new(pieces)))
    }

    pub(crate) fn strip_count(&self) -> usize {
        self.strip().map_or(0, |(_, count)| count)
    }

    pub(crate) fn strip_char(&self) -> char {
        self.strip().map_or(' ', |(content, _)| content)
    }

    fn strip(&self) -> Option<(char, usize)> {
        match self {
            Self::Pieces(pieces) => pieces.strip,
            _ => None,
        }
    }

    /// What `token` stands for in the middle of a text.
    pub(crate) fn token_bytes(&self, token: String) -> Vec<u8> {
        match self {
            Self::ByteLevel => {
                let mut bytes = Vec::new();
                push_byte_level(&token, &mut bytes);
                bytes
            }
            Self::Spaced => token.into_bytes(),
            Self::Pieces(pieces) => {
                let text = pieces.text(token, false);
                pieces
                    .byte(&text)
                    .map_or_else(|| text.into_bytes(), |byte| vec![byte])
            }
        }
    }
}

impl Pieces {
    fn add(&mut self, decoder: &DecoderWrapper) -> Result<(), TokenizerError> {
        let before = !self.byte_fallback && !self.fused;
        match decoder {
            DecoderWrapper::Replace(step) if before => {
                self.steps.push(Step::Replace(step.clone()));
            }
            DecoderWrapper::Metaspace(step) if before => {
                self.steps.push(Step::Metaspace(step.clone()));
            }
            DecoderWrapper::ByteFallback(_) if before => self.byte_fallback = true,
            DecoderWrapper::Fuse(_) => self.fused = true,
            DecoderWrapper::Strip(strip)
                if strip.stop == 0 && self.fused && self.strip.is_none() =>
            {
                self.strip = Some((strip.content, strip.start));
            }
            other => {
                let found = serde_json::to_string(other).unwrap_or_else(|_| "unknown".to_owned());
                let found = found.chars().take(200).collect();
                return Err(TokenizerError::Unsupported {
                    part: "decoder",
                    found,
                });
            }
        }
        Ok(())
    }

    /// The text of a token, or the spelling of a byte.
    pub(crate) fn text(&self, token: String, first: bool) -> String {
        self.steps.iter().fold(token, |token, step| match step {
            Step::Replace(replace) => replace
                .decode_chain(vec![token.clone()])
                .map_or(token, |replaced| replaced.concat()),
            Step::Metaspace(metaspace) => unmarked(&token, metaspace, first),
        })
    }

    /// The byte that `<0xE2>` spells.
    pub(crate) fn byte(&self, token: &str) -> Option<u8> {
        if !self.byte_fallback || token.len() != 6 {
            return None;
        }
        let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
        u8::from_str_radix(digits, 16).ok()
    }
}

fn unmarked(token: &str, metaspace: &Metaspace, first: bool) -> String {
    let mark = metaspace.get_replacement();
    let dropped = first && metaspace.get_prepend_scheme() != PrependScheme::Never;
    match dropped {
        true => token.replace(mark, ""),
        false => token.replace(mark, " "),
    }
}

fn flatten<'a>(decoder: &'a DecoderWrapper, list: &mut Vec<&'a DecoderWrapper>) {
    match decoder {
        DecoderWrapper::Sequence(sequence) => {
            sequence
                .get_decoders()
                .iter()
                .for_each(|decoder| flatten(decoder, list));
        }
        other => list.push(other),
    }
}

/// Adds the bytes of a byte-level token. A token with a character that stands for no byte is taken
/// as it is, like in the `tokenizers` library.
pub(crate) fn push_byte_level(token: &str, bytes: &mut Vec<u8>) {
    let before = bytes.len();
    for character in token.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            None => {
                bytes.truncate(before);
                bytes.extend_from_slice(token.as_bytes());
                return;
            }
        }
    }
}

/// GPT-2's table: printable Latin-1 characters stand for themselves, the other 68 bytes for the
/// characters from U+0100 on, in order.
fn byte_of(character: char) -> Option<u8> {
    match u32::from(character) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => u8::try_from(code).ok(),
        code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        code @ 0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}
