//! Questions with fixed answers: facts, small talk, refusals. What is held out is wordings.

use super::dice::Dice;
use super::phrase::{capital, say_one, wording};
use super::rewording::reworded;
use super::sample::{Kind, Turn};
use super::split::Split;
use super::words::COMMANDS;
use crate::answer::{Expected, Form};

/// How something is asked: in training, and in wordings that training never sees. `{x}` is the
/// entry's subject.
#[derive(Debug)]
pub(super) struct Wordings {
    pub(super) training: &'static [&'static str],
    pub(super) held_out: &'static [&'static str],
}

/// What an answer must say.
#[derive(Debug)]
pub(super) enum Keys {
    /// In the notation of [`Expected::phrases`].
    Phrases(&'static str),
    /// This command and no other, and phrases beside it.
    Command(&'static str, &'static str),
}

/// One question in all its wordings, with its answer.
#[derive(Debug)]
pub(super) struct Entry {
    /// What fills `{x}` in the question.
    pub(super) subject: &'static str,
    /// The same in held-out questions.
    pub(super) subject_held_out: &'static str,
    pub(super) wordings: &'static Wordings,
    /// The answer, a template as well.
    pub(super) answer: &'static str,
    pub(super) keys: Keys,
}

/// A fixed question in wordings of its own.
pub(super) const fn entry(wordings: &'static Wordings, answer: &'static str, keys: Keys) -> Entry {
    about("", wordings, answer, keys)
}

/// A question about a subject, in wordings shared with others.
pub(super) const fn about(
    subject: &'static str,
    wordings: &'static Wordings,
    answer: &'static str,
    keys: Keys,
) -> Entry {
    Entry {
        subject,
        subject_held_out: subject,
        wordings,
        answer,
        keys,
    }
}

impl Wordings {
    fn of(&self, split: Split) -> &'static [&'static str] {
        match split {
            Split::Training => self.training,
            Split::HeldOut => self.held_out,
        }
    }
}

impl Keys {
    fn expected(&self) -> Expected {
        match *self {
            Self::Phrases(notation) => Expected::phrases(notation),
            Self::Command(command, more) => {
                let others = COMMANDS.into_iter().filter(|other| *other != command);
                let others: Vec<&str> = others.collect();
                Expected::phrases(&format!("{command} & {more} ! {}", others.join("|")))
            }
        }
    }
}

impl Entry {
    /// What an answer must say. It may not deny where the right one does not.
    pub(super) fn expected(&self) -> Expected {
        let mut expected = self.keys.expected();
        let says = |word: &str| {
            let mut words = self.answer.split(|c: char| !c.is_alphabetic());
            words.any(|other| other == word)
        };
        let denials = ["not", "never", "cannot"];
        if let Form::Phrases { none, .. } = &mut expected.form
            && !denials.into_iter().any(says)
        {
            none.extend(denials.map(str::to_owned));
        }
        expected
    }

    /// Asks and answers it.
    pub(super) fn turn(&self, dice: &mut Dice, kind: Kind, split: Split) -> Turn {
        let subject = match split {
            Split::Training => self.subject,
            Split::HeldOut => self.subject_held_out,
        };
        let subject = wording(dice, subject, &[]);
        let big = capital(&subject);
        let slots = [("x", subject.as_str()), ("X", big.as_str())];
        let user = say_one(dice, self.wordings.of(split), &slots);
        // Small talk is too short and too fixed for it.
        let user = match (split, kind) {
            (Split::Training, Kind::Skein | Kind::Nature) => reworded(dice, user, &subject),
            _ => user,
        };
        dice.answering(true);
        let assistant = say_one(dice, &[self.answer], &slots);
        dice.answering(false);
        Turn {
            kind,
            user,
            assistant,
            expected: Some(self.expected()),
        }
    }
}
