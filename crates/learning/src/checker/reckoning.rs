//! Understands questions about numbers and about how many, and computes the answers.

use super::lexer::{Words, sentences, words};
use crate::answer::{Expected, Form, Measure};
use crate::world::words::{PERSONS, THINGS};

/// The answer to a question about numbers: a sum, a difference, an order.
pub(super) fn numbers(question: &str) -> Option<Expected> {
    let words = words(question);
    let numbers: Vec<u32> = words.iter().filter_map(|word| word.parse().ok()).collect();
    if numbers.iter().any(|&number| number > 99) {
        return None;
    }
    let any = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    let next = |number, of| Some(Expected::new(Form::Next { number, of }));
    let compared = |best: u32, other: u32, by| {
        let (best, other) = (best.to_string(), other.to_string());
        Some(Expected::compared(&best, &other, by))
    };
    match numbers[..] {
        [number] if any(&["after"]) => next(number + 1, number),
        [number] if any(&["before"]) => next(number.checked_sub(1)?, number),
        [a, b] if any(Measure::Larger.words()) => compared(a.max(b), a.min(b), Measure::Larger),
        [a, b] if any(Measure::Smaller.words()) => compared(a.min(b), a.max(b), Measure::Smaller),
        [a, b] if any(&["count"]) => Some(Expected::new(Form::Numbers(match a <= b {
            true => (a..=b).collect(),
            false => (b..=a).rev().collect(),
        }))),
        [b, a] if any(&["take", "subtract"]) => Some(Expected::number(a.checked_sub(b)?)),
        [a, b] if any(&["-", "minus"]) => Some(Expected::number(a.checked_sub(b)?)),
        [_, _] if any(&["times", "divided", "*", "/"]) => None,
        [a, b] if any(&["+", "plus", "and"]) => Some(Expected::number(a + b)),
        _ => None,
    }
}

/// The answer to a little problem: who had, got, lost how many.
pub(super) fn problem(text: &str) -> Option<Expected> {
    let mut told = sentences(text);
    let question = told.pop()?;
    if !question.iter().any(|word| word == "how") || !question.iter().any(|word| word == "many") {
        return None;
    }
    let first = told.first()?;
    let thing = THINGS.iter().find(|thing| {
        first
            .iter()
            .any(|word| word == thing.one || word == thing.many)
    })?;
    let number_of = |count, owners: &[&str]| {
        let expected = Expected::number(count).naming(owners);
        Some(expected.naming(&[thing.one, thing.many]))
    };
    // `Tom has 3 apples and Anna has 4`: both together.
    if told.len() == 1 && first.iter().filter(|word| *word == "has").count() == 2 {
        let numbers = first.iter().filter_map(|word| word.parse::<u32>().ok());
        let total = numbers.into_iter().try_fold(0_u32, u32::checked_add)?;
        let owners: Vec<&str> = persons(first).collect();
        return number_of(total, &owners);
    }
    let owner = persons(first).next()?;
    let mut count = number(first)?;
    for sentence in &told[1..] {
        let change = number(sentence)?;
        count = match gains(sentence, owner)? {
            true => count.checked_add(change)?,
            false => count.checked_sub(change)?,
        };
    }
    number_of(count, &[owner])
}

/// Whether the owner has more after this sentence.
fn gains(sentence: &Words, owner: &str) -> Option<bool> {
    let verb = sentence.iter().find_map(|word| match word.as_str() {
        "found" | "got" | "bought" => Some("gain"),
        "lost" | "ate" | "sold" => Some("loss"),
        "gave" => Some("gift"),
        _ => None,
    })?;
    match verb {
        "gain" => Some(true),
        "loss" => Some(false),
        // A gift of the owner is a loss; whoever else gives, gives to the owner.
        _ => {
            let giver = sentence.iter().take_while(|word| *word != "gave");
            let by_owner = giver.clone().any(|word| word == owner || is_pronoun(word));
            Some(!by_owner)
        }
    }
}

fn is_pronoun(word: &str) -> bool {
    word == "he" || word == "she"
}

fn persons(words: &Words) -> impl Iterator<Item = &'static str> {
    let name = |word: &String| PERSONS.iter().map(|p| p.name).find(|name| name == word);
    words.iter().filter_map(name)
}

fn number(words: &Words) -> Option<u32> {
    words.iter().find_map(|word| word.parse().ok())
}
