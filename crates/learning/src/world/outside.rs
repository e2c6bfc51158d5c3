//! What the world does not hold, and how to say so politely.

mod topics;

use super::dice::Dice;
use super::phrase::{capital, say};
use super::sample::{Kind, Turn};
use super::split::{self, Cast, Split};
use super::words::{COUNTABLE, PERSONS, THINGS};
use crate::answer::Expected;
use topics::{Refusal, SUBJECTS, Subject, UNKNOWN};

/// A question outside the world; `None` if none was found. `untold`: no story was
/// told before, so a question about one has no answer.
pub(super) fn asked(dice: &mut Dice, split: Split, untold: bool) -> Option<Turn> {
    // Drawn again within each, so that both sides of the split have the same mixture.
    match dice.weighted(&[55, 15, 22, if untold { 8 } else { 0 }]) {
        0 => {
            let subject = dice.pick(&SUBJECTS);
            Some(known(dice, subject, split))
        }
        1 => dice.until(|dice| invented(dice, split)),
        2 => dice.until(|dice| reckoning(dice, split)),
        _ => dice.until(|dice| story(dice, split)),
    }
}

/// Something of the great world, by a list.
fn known(dice: &mut Dice, subject: &Subject, split: Split) -> Turn {
    let words = match split {
        Split::Training => subject.training,
        Split::HeldOut => subject.held_out,
    };
    let word = *dice.pick(words);
    let user = say(dice, subject.template, &[("x", word)]);
    answered(dice, user, &subject.refusal)
}

/// Something that does not exist.
fn invented(dice: &mut Dice, split: Split) -> Option<Turn> {
    const STARTS: &[&str] = &[
        "bl", "d", "f", "gr", "k", "l", "m", "pl", "r", "st", "v", "z",
    ];
    const MIDDLES: &[&str] = &["a", "e", "i", "o", "u", "oo"];
    const ENDS: &[&str] = &["b", "ck", "ff", "l", "mp", "nt", "rk", "x"];
    let parts: [&[&str]; 5] = [STARTS, MIDDLES, STARTS, MIDDLES, ENDS];
    let word = parts.map(|part| *dice.pick(part)).concat();
    let template = "[What is [a |]{x}?|Who is {X}?|Tell me about {x}.|Where is [the |]{x}?|Do you \
                    know [a |]{x}?|What does {x} mean?]";
    let user = say(dice, template, &[("x", &word), ("X", &capital(&word))]);
    let turn = answered(dice, user, &UNKNOWN);
    (split::of_word(&word) == split).then_some(turn)
}

/// Why a calculation is beyond the world.
#[derive(Debug, Clone, Copy)]
enum Beyond {
    Large,
    Below,
    Terms,
    Times,
}

/// Calculations beyond the world's numbers, split by their first two.
fn reckoning(dice: &mut Dice, split: Split) -> Option<Turn> {
    const WAYS: [Beyond; 4] = [Beyond::Large, Beyond::Below, Beyond::Terms, Beyond::Times];
    let large = |dice: &mut Dice| 100 + dice.below(9900) as u32;
    let small = |dice: &mut Dice| 2 + dice.below(98) as u32;
    let beyond = WAYS[dice.weighted(&[25, 45, 10, 20])];
    let (a, b) = match beyond {
        Beyond::Large => match dice.weighted(&[50, 25, 25]) {
            0 => (large(dice), large(dice)),
            1 => (large(dice), small(dice)),
            _ => (small(dice), large(dice)),
        },
        _ => (small(dice), small(dice)),
    };
    let possible = !matches!(beyond, Beyond::Below) || a < b;
    if split::of_numbers(a, b) != split || !possible {
        return None;
    }
    let (template, refusal) = beyond.told();
    let c = match beyond {
        Beyond::Terms => small(dice).to_string(),
        _ => String::new(),
    };
    let slots = [("a", a.to_string()), ("b", b.to_string()), ("c", c)];
    let slots = slots.each_ref().map(|(name, text)| (*name, text.as_str()));
    let user = say(dice, template, &slots);
    Some(answered(dice, user, &refusal))
}

impl Beyond {
    /// How it is asked for and declined.
    fn told(self) -> (&'static str, Refusal) {
        let (template, answer, keys) = match self {
            Self::Large => (
                "[What is|How much is] {a}[ + |+| plus | - |-| minus ]{b}?",
                "That is too large for me. I only calculate with numbers below 100.",
                "too large|below 100",
            ),
            Self::Below => (
                "[What is|How much is] {a}[ - |-| minus ]{b}?",
                "That is below 0, and I only know numbers from 0.",
                "below 0",
            ),
            Self::Terms => (
                "[What is|How much is] [{a} + {b} + {c}|{a}+{b}+{c}|{a} plus {b} plus {c}]?",
                "That is too much for me. I only calculate with two numbers.",
                "two numbers",
            ),
            Self::Times => (
                "[What is|How much is] {a} [times|divided by|*|/] {b}?",
                "I can only add and subtract.",
                "only add",
            ),
        };
        (template, Refusal { answer, keys })
    }
}

/// A question about a story that nobody told.
fn story(dice: &mut Dice, split: Split) -> Option<Turn> {
    let person = capital(PERSONS[dice.below(PERSONS.len())].name);
    let thing = THINGS[dice.below(COUNTABLE)].one;
    let template = "[Where is {p}?|Where is the {t}?|Who has the {t}?|What does {p} have?|Does {p} \
                    have the {t}?|Who gave the {t} to {p}?|Why did {p} take the {t}?]";
    let user = say(dice, template, &[("p", &person), ("t", thing)]);
    let side = Cast::of(&user).split();
    let refusal = Refusal {
        answer: "I do not know. Tell me a story first, and I can say.",
        keys: "do not know",
    };
    let turn = answered(dice, user, &refusal);
    (side == split).then_some(turn)
}

fn answered(dice: &mut Dice, user: String, refusal: &Refusal) -> Turn {
    dice.answering(true);
    let assistant = say(dice, refusal.answer, &[]);
    dice.answering(false);
    Turn {
        kind: Kind::Outside,
        user,
        assistant,
        expected: Some(Expected::refusal(refusal.keys)),
    }
}
