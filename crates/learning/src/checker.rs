//! Judges answers by a grammar and a semantics of its own.
//!
//! The checker shares with the generator the plain vocabulary
//! ([`words`](crate::world::words)) and the form of an expectation ([`Expected`]), and nothing else:
//! no template, no table, no state. It reads what was *said*: a conversation's story sentence by
//! sentence ([the grammar](#grammar)), follows it in a scene of its own, takes a question apart by
//! its words, and computes sums itself. So when [`derive()`] and the generator agree on thousands of
//! stories and calculations, each vouches for the other. Of nature each side has its lists; there,
//! agreement proves that they were copied rightly, not that they are true.
//!
//! # Grammar
//!
//! A story sentence is a deed (`Then Tom gave the red ball to Anna`), perhaps with its reason before
//! (`It began to rain, so ...`) or after it (`... because she was cold`), a thing that lies
//! somewhere, or the colour of one. A grammatical sentence may still be impossible: giving what one
//! does not have, `she` where nobody is meant, a second `a ball`, a reason that does not lead to the
//! deed, a sentence that was told before.
//!
//! # Judgement
//!
//! [`judge()`] compares words, lower-cased and without marks, contractions written out. The right word
//! must be there, no other of its class may be, and of the small world only what the answer may name
//! ([`Expected::names`]); numbers are read as numbers, and every calculation on the way (`7+8=15`)
//! must be right. Facts, small talk and refusals are judged by their phrases, which come with the
//! question; of words that are to be said again, all must be said and no others.

mod grammar;
mod judge;
mod lexer;
mod nature;
mod numbers;
mod question;
mod reason;
mod reckoning;
mod tale;
#[cfg(test)]
mod tests;

pub use judge::{Fault, judge};

use crate::answer::Expected;
use crate::world::Message;
use tale::Tale;

/// What the answer to the last message must say, found out from the messages alone; `None` where the
/// checker does not understand the question (facts about Skein, small talk, refusals).
#[must_use]
pub fn derive(messages: &[Message<'_>]) -> Option<Expected> {
    let texts: Vec<&str> = messages.iter().map(|message| message.content).collect();
    let last = texts.last()?;
    reckoning::problem(last)
        .or_else(|| nature::answer(last))
        .or_else(|| reckoning::numbers(last))
        .or_else(|| question::answer(&texts, last))
}

/// What the grammar makes of a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grammaticality {
    /// Its sentences.
    pub sentences: usize,
    /// Those that are grammatical.
    pub grammatical: usize,
    /// Those that are grammatical and possible after what was told before them.
    pub possible: usize,
}

/// Reads a free story.
#[must_use]
pub fn grammaticality(story: &str) -> Grammaticality {
    let tale = Tale::read(story);
    Grammaticality {
        sentences: tale.sentences,
        grammatical: tale.grammatical(),
        possible: tale.grammatical() - tale.impossible.len(),
    }
}
