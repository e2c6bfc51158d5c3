//! Words to be said again. Easy, and of much use: to copy what was said is the first thing that answers about
//! stories take (Olsson et al., "In-context Learning and Induction Heads", 2022).

use super::dice::Dice;
use super::phrase::{capital, say};
use super::sample::{Kind, Turn};
use super::split::{Split, of_word};
use super::words::{COLOURS, COUNTABLE, PERSONS, PLACES, THINGS};
use crate::answer::{Expected, Form};

/// How many words at least, and below how many more.
const WORDS: [usize; 2] = [3, 8];

/// A wish to say some words; `None` if they are of the other split.
pub(super) fn asked(dice: &mut Dice, split: Split) -> Option<Turn> {
    let count = WORDS[0] + dice.below(WORDS[1]);
    let words: Vec<String> = (0..count).map(|_| word(dice)).collect();
    let words = words.join(" ");
    if of_word(&words) != split {
        return None;
    }
    let template = "[Say|Repeat|Please repeat|Repeat after me|Say after me|Please say]: {words}";
    let user = say(dice, template, &[("words", &words)]);
    let expected = Expected::new(Form::Words(words.to_lowercase()));
    Some(Turn {
        kind: Kind::Echo,
        user,
        assistant: words,
        expected: Some(expected),
    })
}

fn word(dice: &mut Dice) -> String {
    match dice.below(4) {
        0 => capital(dice.pick(&PERSONS).name),
        1 => THINGS[dice.below(COUNTABLE)].one.to_owned(),
        2 => dice.pick(&PLACES).name.to_owned(),
        _ => (*dice.pick(&COLOURS)).to_owned(),
    }
}
