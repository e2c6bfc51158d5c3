//! Whether an answer says what it must, and nothing against it.

use std::collections::BTreeSet;

use super::lexer::{clauses, plain, says, sentences};
use super::numbers::{numbers, wrong_calculation};
use super::tale::Tale;
use crate::answer::{Class, Expected, Form, Measure};
use crate::world::words::{CAUSES, COLOURS, CONTAINERS, PERSONS, PLACES, SIZES, THINGS, WEIGHTS};

/// The fewest sentences of a story.
const STORY_SENTENCES_MIN: usize = 3;

/// The words of a denial.
const DENIALS: [&str; 4] = ["not", "never", "neither", "cannot"];

/// The sentences that decline, as plain words.
const DECLINING: [&str; 18] = [
    "i do not know",
    "i do not know that",
    "i only know my small world and skein",
    "my world is small",
    "my world is too small",
    "i cannot help with that",
    "please ask a doctor",
    "i cannot write programs",
    "i only know a little english",
    "that is too large for me",
    "i only calculate with numbers below 100",
    "that is below 0 and i only know numbers from 0",
    "that is too much for me",
    "i only calculate with two numbers",
    "i can only add and subtract",
    "tell me a story first and i can say",
    "i am sorry",
    "sorry",
];

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It does not say what it must.
    #[error("it does not say {what}")]
    Missing {
        /// What it should say.
        what: String,
    },
    /// It says something that speaks against the right answer.
    #[error("it says {what}")]
    Contradiction {
        /// What it should not say.
        what: String,
    },
    /// It calculates wrongly.
    #[error("the calculation {what} is wrong")]
    Calculation {
        /// The calculation.
        what: String,
    },
    /// A number and its noun do not agree.
    #[error("`{what}` does not agree")]
    Agreement {
        /// The number and the noun.
        what: String,
    },
    /// A refusal says more than that.
    #[error("`{sentence}` is no sentence of a refusal")]
    Chatter {
        /// The sentence.
        sentence: String,
    },
    /// A sentence of a story is none.
    #[error("the sentence `{sentence}` is not grammatical")]
    Ungrammatical {
        /// The sentence.
        sentence: String,
    },
    /// A sentence of a story cannot be true after those before it.
    #[error("the sentence `{sentence}` does not fit what was told before")]
    Impossible {
        /// The sentence.
        sentence: String,
    },
}

/// Judges an answer.
///
/// # Errors
/// The first fault.
pub fn judge(answer: &str, expected: &Expected) -> Result<(), Fault> {
    let words = plain(answer);
    judge_form(answer, &words, &expected.form)?;
    match &expected.names {
        Some(names) => {
            let other = |word: &&str| !names.contains(*word);
            forbid(&words, world().filter(other))
        }
        None => Ok(()),
    }
}

fn judge_form(answer: &str, words: &[String], form: &Form) -> Result<(), Fault> {
    match form {
        Form::Named { class, all } => {
            all.iter().try_for_each(|word| need(words, word))?;
            affirms(words)?;
            forbid(words, ["no"].into_iter())?;
            let other = |word: &&str| !all.contains(*word);
            forbid(words, apart(*class).filter(other))
        }
        Form::Each(pairs) => judge_each(answer, words, pairs),
        Form::Words(said) => match plain(said) == words {
            true => Ok(()),
            false => Err(missing(&format!("`{said}` and nothing else"))),
        },
        Form::Yes { yes, truth, denied } => judge_yes(answer, *yes, (truth, denied)),
        Form::Giver { from, to } => judge_giver(words, from, to),
        Form::Number(number) => {
            affirms(words)?;
            judge_number(answer, words, *number)
        }
        Form::Numbers(list) => match numbers(answer) == *list {
            true => Ok(()),
            false => Err(missing(&Expected::new(form.clone()).to_string())),
        },
        Form::Next { number, of } => judge_next(answer, words, (*number, *of)),
        Form::Compared { best, other, by } => judge_compared(words, (best, other), *by),
        Form::Phrases { groups, none } => {
            for group in groups {
                if !group.iter().any(|phrase| says(words, phrase)) {
                    return Err(missing(&group.join(" or ")));
                }
            }
            forbid(words, none.iter().map(String::as_str))
        }
        Form::Refusal(phrases) => judge_refusal(answer, words, phrases),
        Form::Story { about } => judge_story(answer, about),
    }
}

/// Each pair must stand together in a clause, and nothing of one with what is of another.
fn judge_each(
    answer: &str,
    words: &[String],
    pairs: &BTreeSet<(String, String)>,
) -> Result<(), Fault> {
    affirms(words)?;
    forbid(words, ["no", "nobody"].into_iter())?;
    let nothing = |(_, value): &(String, String)| value == "nothing";
    if !pairs.iter().any(nothing) {
        forbid(words, ["nothing"].into_iter())?;
    }
    let clauses = clauses(answer);
    let together = |key: &str, value: &str| clauses.iter().any(|c| says(c, key) && says(c, value));
    for (key, value) in pairs {
        let said = |name: &str| format!("{key}: {name}");
        if !together(key, value) {
            return Err(missing(&said(value)));
        }
        let mut wrong = pairs.iter().filter(|(other, value)| {
            other != key && !pairs.contains(&(key.clone(), value.clone())) && together(key, value)
        });
        if let Some((_, value)) = wrong.next() {
            let what = said(value);
            return Err(Fault::Contradiction { what });
        }
    }
    Ok(())
}

/// What is so may not be denied, and what is not so may only be denied.
fn judge_yes(
    answer: &str,
    yes: bool,
    (truth, denied): (&BTreeSet<String>, &BTreeSet<String>),
) -> Result<(), Fault> {
    let words = plain(answer);
    let (needed, other) = if yes { ("yes", "no") } else { ("no", "yes") };
    need(&words, needed)?;
    forbid(&words, [other].into_iter())?;
    if yes {
        affirms(&words)?;
    }
    for clause in clauses(answer) {
        let wrong = match affirms(&clause) {
            Ok(()) => denied,
            Err(_) => truth,
        };
        forbid(&clause, wrong.iter().map(String::as_str))?;
    }
    Ok(())
}

/// The giver is named; who got it may be named only as such.
fn judge_giver(words: &[String], from: &str, to: &str) -> Result<(), Fault> {
    need(words, from)?;
    affirms(words)?;
    let reversed = || {
        Err(Fault::Contradiction {
            what: format!("that {to} gave it"),
        })
    };
    let at = |name: &str| words.iter().position(|word| word == name);
    let (Some(giver), Some(getter)) = (at(from), at(to)) else {
        return Ok(());
    };
    let behind = |word: &str| at(word).and_then(|at| words.get(at + 1));
    let is = |found: Option<&String>, name: &str| found.is_none_or(|found| found == name);
    if !is(behind("from"), from) || !is(behind("by"), from) || !is(behind("to"), to) {
        return reversed();
    }
    // Without `from` or `by` the giver comes first.
    match behind("from").or(behind("by")).is_some() || giver < getter {
        true => Ok(()),
        false => reversed(),
    }
}

fn judge_number(answer: &str, words: &[String], number: u32) -> Result<(), Fault> {
    if let Some(what) = wrong_calculation(answer) {
        return Err(Fault::Calculation { what });
    }
    for pair in words.windows(2) {
        let [count, noun] = pair else { continue };
        let known = THINGS
            .iter()
            .find(|thing| thing.one == noun || thing.many == noun);
        if let (Ok(count), Some(thing)) = (count.parse::<u32>(), known) {
            let right = if count == 1 { thing.one } else { thing.many };
            if noun != right {
                return Err(Fault::Agreement {
                    what: format!("{count} {noun}"),
                });
            }
        }
    }
    match numbers(answer).last() {
        Some(last) if *last == number => Ok(()),
        _ => Err(missing(&number.to_string())),
    }
}

/// `After 47 comes 48`, `48 comes after 47`, `48`.
fn judge_next(answer: &str, words: &[String], (number, of): (u32, u32)) -> Result<(), Fault> {
    affirms(words)?;
    let said = numbers(answer);
    if !said.contains(&number) {
        return Err(missing(&number.to_string()));
    }
    if let Some(other) = said.iter().find(|&&other| other != number && other != of) {
        return Err(Fault::Contradiction {
            what: other.to_string(),
        });
    }
    let behind = |word: &str| {
        let at = words.iter().position(|other| other == word)?;
        words.get(at + 1)?.parse::<u32>().ok()
    };
    let (low, high) = (number.min(of), number.max(of));
    let wrong =
        behind("after").is_some_and(|n| n != low) || behind("before").is_some_and(|n| n != high);
    match wrong {
        false => Ok(()),
        true => Err(Fault::Contradiction {
            what: "the other order".to_owned(),
        }),
    }
}

fn judge_compared(words: &[String], (best, other): (&str, &str), by: Measure) -> Result<(), Fault> {
    need(words, best)?;
    affirms(words)?;
    let measures = [
        Measure::Larger,
        Measure::Smaller,
        Measure::Heavier,
        Measure::Lighter,
    ];
    let contrary = measures.into_iter().filter(|&measure| measure != by);
    forbid(
        words,
        contrary.flat_map(|measure| measure.words().iter().copied()),
    )?;
    let own = |word: &str| word == best || word == other;
    forbid(words, compared().filter(|&noun| !own(noun)))?;
    let number = |word: &&String| word.parse::<u32>().is_ok();
    if let Some(wrong) = words.iter().filter(number).find(|word| !own(word)) {
        return Err(Fault::Contradiction {
            what: wrong.clone(),
        });
    }
    let at = |name: &str| words.iter().position(|word| word == name);
    let behind = |first: Option<usize>, second: Option<usize>| first.is_some() && first < second;
    match at(other).is_none() || (behind(at(best), at("than")) && behind(at("than"), at(other))) {
        true => Ok(()),
        false => Err(Fault::Contradiction {
            what: other.to_owned(),
        }),
    }
}

fn judge_refusal(answer: &str, words: &[String], phrases: &[String]) -> Result<(), Fault> {
    if !phrases.iter().any(|phrase| says(words, phrase)) {
        return Err(missing(&phrases.join(" or ")));
    }
    let joined = sentences(answer).into_iter().map(|words| words.join(" "));
    let mut other = joined.filter(|sentence| !DECLINING.contains(&sentence.as_str()));
    match other.next() {
        None => Ok(()),
        Some(sentence) => Err(Fault::Chatter { sentence }),
    }
}

fn judge_story(text: &str, about: &BTreeSet<String>) -> Result<(), Fault> {
    let tale = Tale::read(text);
    if let Some(sentence) = tale.ungrammatical.first() {
        let sentence = sentence.clone();
        return Err(Fault::Ungrammatical { sentence });
    }
    if let Some(sentence) = tale.impossible.first() {
        let sentence = sentence.clone();
        return Err(Fault::Impossible { sentence });
    }
    if tale.sentences < STORY_SENTENCES_MIN || tale.scene.actors.is_empty() {
        return Err(missing("a whole story"));
    }
    let told = |word: &str| tale.scene.actors.contains(word) || tale.scene.taken.contains(word);
    match about.iter().find(|word| !told(word)) {
        None => Ok(()),
        Some(word) => Err(missing(&format!("what was done by or with {word}"))),
    }
}

fn need(words: &[String], phrase: &str) -> Result<(), Fault> {
    match says(words, phrase) {
        true => Ok(()),
        false => Err(missing(phrase)),
    }
}

fn affirms(words: &[String]) -> Result<(), Fault> {
    forbid(words, DENIALS.into_iter())
}

fn forbid<'a>(words: &[String], mut phrases: impl Iterator<Item = &'a str>) -> Result<(), Fault> {
    match phrases.find(|phrase| says(words, phrase)) {
        None => Ok(()),
        Some(phrase) => Err(Fault::Contradiction {
            what: phrase.to_owned(),
        }),
    }
}

fn missing(what: &str) -> Fault {
    Fault::Missing {
        what: what.to_owned(),
    }
}

/// All people, places, things and colours.
fn world() -> impl Iterator<Item = &'static str> {
    let persons = PERSONS.iter().map(|person| person.name);
    let places = PLACES.iter().map(|place| place.name).chain(CONTAINERS);
    let things = THINGS.iter().flat_map(|thing| [thing.one, thing.many]);
    persons.chain(places).chain(things).chain(COLOURS)
}

/// What can be named of a class and is no name of the world.
fn apart(class: Class) -> impl Iterator<Item = &'static str> {
    let words: &[&str] = match class {
        Class::Person => &["nobody"],
        Class::Thing => &["nothing"],
        Class::Cause => &CAUSES,
        Class::Place | Class::Colour => &[],
    };
    words.iter().copied()
}

/// What is compared by size or weight.
fn compared() -> impl Iterator<Item = &'static str> {
    SIZES
        .iter()
        .chain(&WEIGHTS)
        .flat_map(|row| row.iter().copied())
}
