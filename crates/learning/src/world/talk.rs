//! Greetings and small talk.

mod greetings;

use super::catalogue::Entry;
use super::dice::Dice;
use super::phrase::{capital, say, say_one};
use super::sample::{Kind, Turn};
use super::split::Split;
use super::story;
use super::words::PERSONS;
use crate::answer::Expected;

/// All fixed small talk.
pub(super) fn entries() -> impl Iterator<Item = &'static Entry> {
    greetings::HELLO
        .iter()
        .chain(&greetings::BYE)
        .chain(&greetings::SMALL)
}

/// One to three turns of small talk.
pub(super) fn chat(dice: &mut Dice, split: Split) -> Vec<Turn> {
    if dice.chance(25) {
        return introduced(dice, split);
    }
    let all: Vec<&Entry> = greetings::SMALL.iter().collect();
    let count = 1 + dice.weighted(&[70, 30]);
    let mut turns = Vec::new();
    for at in dice.several(count, all.len()) {
        let turn = all[at].turn(dice, Kind::Talk, split);
        let offered = turn.assistant.ends_with("Shall I tell you a story?");
        turns.push(turn);
        if offered && dice.chance(60) {
            turns.extend(reaction(dice, split));
        }
    }
    if dice.chance(30) {
        turns.insert(0, hello(dice, split));
    }
    turns
}

/// A yes or a no to the offer of a story, and what follows.
fn reaction(dice: &mut Dice, split: Split) -> Option<Turn> {
    if dice.chance(60) {
        let yes = "[Yes, please.|Yes.|Yes, tell me a story.|Please do.]";
        let yes = say(dice, yes, &[]);
        return dice.once(|dice| story::accepted(dice, split, yes));
    }
    let user = say(dice, "[No.|No, thank you.|Not now.]", &[]);
    Some(Turn {
        kind: Kind::Talk,
        user,
        assistant: "What else can I do for you?".to_owned(),
        expected: Some(Expected::phrases("what else & do for you")),
    })
}

/// A greeting and its answer.
pub(super) fn hello(dice: &mut Dice, split: Split) -> Turn {
    dice.pick(&greetings::HELLO).turn(dice, Kind::Talk, split)
}

/// Thanks or a farewell, and the answer.
pub(super) fn bye(dice: &mut Dice, split: Split) -> Turn {
    dice.pick(&greetings::BYE).turn(dice, Kind::Talk, split)
}

/// Somebody says a name, and may ask for it.
fn introduced(dice: &mut Dice, split: Split) -> Vec<Turn> {
    let name = PERSONS[dice.below(PERSONS.len())].name;
    let written = capital(name);
    let slots = [("p", written.as_str())];
    let templates: &[&str] = match split {
        Split::Training => &[
            "My name is {p}.",
            "[Hello|Hi], I am {p}.",
            "I am {p}[.|, and who are you?]",
            "I am called {p}.",
            "[Hello|Hi], my name is {p}.",
        ],
        Split::HeldOut => &["{p} is my name.", "Hello, I am called {p}."],
    };
    let user = say_one(dice, templates, &slots);
    dice.answering(true);
    let assistant = say(
        dice,
        "Hello, {p}! I am [the|a] small model inside Skein.",
        &slots,
    );
    dice.answering(false);
    let mut turns = vec![Turn {
        kind: Kind::Talk,
        user,
        assistant,
        expected: Some(Expected::phrases(name).naming(&[name])),
    }];
    if dice.chance(60) {
        let user = say(
            dice,
            "[What is my name?|Do you know my name?|Who am I?]",
            &[],
        );
        turns.push(Turn {
            kind: Kind::Talk,
            user,
            assistant: format!("Your name is {written}."),
            expected: Some(Expected::phrases(name).naming(&[name])),
        });
    }
    turns
}
