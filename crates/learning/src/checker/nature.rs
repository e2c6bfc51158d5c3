//! What the checker knows of how things behave, in lists of its own.

use super::grammar::parse;
use super::lexer::{Words, sentences};
use crate::answer::{Expected, Measure};

/// What swims on water.
const LIGHTER_THAN_WATER: &str = "apple ball balloon feather leaf stick";
/// What goes down in water.
const HEAVIER_THAN_WATER: &str = "bell coin key ring spoon stone";
const GLASS: &str = "cup lamp";
const SOLID: &str = "book coin hat key ring spoon stick";
const MELTING: &str = "butter candle chocolate ice snow";
const HOT: &str = "fire stove sun";
const COLD: &str = "cellar wind";

/// Animals and things, from the smallest to the largest; those of one line are not compared.
const BY_SIZE: [&str; 6] = [
    "ant bee fly",
    "frog mouse snail",
    "cat hen rabbit",
    "dog goat sheep",
    "bear cow horse",
    "house ship tree",
];

/// Animals and things, from the lightest to the heaviest.
const BY_WEIGHT: [&str; 4] = [
    "balloon feather flower leaf",
    "apple bell book cup",
    "chair dog goat sheep",
    "bear cart cow horse",
];

/// The answer to a question of how things behave or compare.
pub(super) fn answer(text: &str) -> Option<Expected> {
    let told = sentences(text);
    let question = told.last()?;
    // What happened is told in the same message, and not as a story would tell it. The thing may be
    // `it` in the question, so look at all of it.
    let scene = told.len() > 1 && told.iter().all(|words| parse(words).is_none());
    compared(question).or_else(|| {
        let said = told.concat();
        let words: Vec<&str> = said.iter().map(String::as_str).collect();
        let expected = scene.then(|| behaviour(&said))??;
        Some(expected.naming(&words))
    })
}

fn behaviour(scene: &Words) -> Option<Expected> {
    let says = |word: &str| scene.iter().any(|other| other == word);
    let any = |list: &str| list.split(' ').any(says);
    let phrases = |notation: &str| Some(Expected::phrases(notation));
    if says("let") && says("go") {
        return match says("balloon") {
            true => phrases("up|rose|flew ! fell"),
            false => phrases("fell|down ! up|rose"),
        };
    }
    if says("floor") && any(GLASS) {
        return phrases("broke|breaks|broken ! not");
    }
    if says("floor") && any(SOLID) {
        return phrases("not break|did not ! broke");
    }
    if says("water") || says("river") {
        return match (any(LIGHTER_THAN_WATER), any(HEAVIER_THAN_WATER)) {
            (true, false) => phrases("floated|floats|float ! sank|sinks"),
            (false, true) => phrases("sank|sinks|sink ! floated|floats"),
            _ => None,
        };
    }
    match (any(MELTING), any(HOT), any(COLD)) {
        (true, true, false) => phrases("melted|melts ! not"),
        (true, false, true) => phrases("not ! melted"),
        _ => None,
    }
}

fn compared(question: &Words) -> Option<Expected> {
    let says = |word: &str| question.iter().any(|other| other == word);
    let (rows, by): (&[&str], Measure) = match () {
        () if says("bigger") || says("larger") => (&BY_SIZE, Measure::Larger),
        () if says("smaller") => (&BY_SIZE, Measure::Smaller),
        () if says("heavier") => (&BY_WEIGHT, Measure::Heavier),
        () if says("lighter") => (&BY_WEIGHT, Measure::Lighter),
        () => return None,
    };
    let named: Vec<&str> = rows
        .iter()
        .flat_map(|row| row.split(' '))
        .filter(|word| says(word))
        .collect();
    // In the order of the rows: the smaller or lighter first.
    let &[less, greater] = named.as_slice() else {
        return None;
    };
    Some(match by {
        Measure::Larger | Measure::Heavier => Expected::compared(greater, less, by),
        Measure::Smaller | Measure::Lighter => Expected::compared(less, greater, by),
    })
}
