//! Little problems: somebody has some things, gets or loses some, and how many are there now?

use super::dice::Dice;
use super::phrase::{capital, say, wording};
use super::sample::{Kind, Turn};
use super::split::{Cast, Split};
use super::words::{COUNTABLE, PERSONS, THINGS};
use crate::answer::Expected;

/// The most things of one person: what the tables of one-digit numbers reach.
const MOST: u32 = 18;

/// A problem with its worked answer; `None` if its cast is of the other split.
pub(super) fn problem(dice: &mut Dice, split: Split) -> Option<Turn> {
    let persons = dice.several(2, PERSONS.len());
    let thing = dice.below(COUNTABLE);
    let (first, second) = (persons[0], persons[1]);
    let turn = match dice.chance(25) {
        true => together(dice, first, second, thing),
        false => changing(dice, first, second, thing),
    };
    (Cast::of(&turn.user).split() == split).then_some(turn)
}

/// Two people put their things together.
fn together(dice: &mut Dice, first: usize, second: usize, thing: usize) -> Turn {
    let (a, b) = (small(dice, 9), small(dice, 9));
    let (p, q) = (capital(PERSONS[first].name), capital(PERSONS[second].name));
    let (x, y) = (counted(a, thing), counted(b, thing));
    let many = THINGS[thing].many;
    let slots = [
        ("p", p.as_str()),
        ("q", &q),
        ("x", &x),
        ("y", &y),
        ("many", many),
    ];
    let template = "{p} has {x} and {q} has {y}. How many {many} do [they|{p} and {q}] have \
                    [together|in all]?";
    let user = say(dice, template, &slots);
    let total = a + b;
    Turn {
        kind: Kind::Count,
        user,
        assistant: format!(
            "{a}+{b}={total}, so they have {} together.",
            counted(total, thing)
        ),
        expected: Some(expectation(total, thing, &[first, second])),
    }
}

/// The things of one person become more or less, once or twice.
fn changing(dice: &mut Dice, first: usize, second: usize, thing: usize) -> Turn {
    let mut count = small(dice, 9);
    let name = capital(PERSONS[first].name);
    let mut text = format!("{name} had {}.", counted(count, thing));
    let mut steps = Vec::new();
    let (mut lost, mut given) = (false, false);
    let changes = 1 + dice.weighted(&[70, 30]);
    for at in 0..changes {
        // Nobody loses the last things at once, or gets more than the tables reach.
        let more = count < 2 || (count < MOST && dice.chance(50));
        let change = match more {
            true => small(dice, 9.min(MOST - count)),
            false => small(dice, 9.min(count)),
        };
        let after = if more { count + change } else { count - change };
        let sign = if more { '+' } else { '-' };
        steps.push(format!("{count}{sign}{change}={after}"));
        let link = match at {
            0 => "",
            _ => *dice.pick(&["then ", "after that, ", "later, "]),
        };
        let sentence = change_told(dice, (first, second), thing, change, more);
        given |= sentence.contains(" gave ");
        text.push_str(&format!(" {}", capital(&format!("{link}{sentence}"))));
        lost = !more;
        count = after;
    }
    let many = THINGS[thing].many;
    let left = if lost { "[now|left]" } else { "now" };
    // What was given is still there, and not asked for.
    let all = match given {
        true => "",
        false => "|How many {many} are there now?",
    };
    let template = format!(
        "[How many {{many}} does {{p}} have {left}?{all}|Tell me how many {{many}} {{p}} has[| now].]"
    );
    let question = say(dice, &template, &[("many", many), ("p", &name)]);
    Turn {
        kind: Kind::Count,
        user: format!("{text} {question}"),
        assistant: format!(
            "{}, so {name} has {}.",
            steps.join(", "),
            counted(count, thing)
        ),
        expected: Some(expectation(count, thing, &[first])),
    }
}

/// The sentence of one change, as it stands behind a link. A pronoun is used only where it can mean
/// nobody else.
fn change_told(
    dice: &mut Dice,
    (first, second): (usize, usize),
    thing: usize,
    change: u32,
    more: bool,
) -> String {
    let (he, him) = if PERSONS[first].he {
        ("he", "him")
    } else {
        ("she", "her")
    };
    let name = capital(PERSONS[first].name);
    let other = capital(PERSONS[second].name);
    let things = counted(change, thing);
    let number = change.to_string();
    let clear = PERSONS[first].he != PERSONS[second].he;
    let subject = if clear && dice.chance(50) {
        he
    } else {
        name.as_str()
    };
    let slots = [
        ("s", subject),
        ("him", him),
        ("q", other.as_str()),
        ("n", number.as_str()),
        ("x", things.as_str()),
    ];
    let eaten = matches!(THINGS[thing].one, "apple" | "pear");
    let template = match (more, eaten) {
        (true, _) => "[{s} [found|got|bought] {n} more.|{q} gave {him} [{n} more|{x}].]",
        (false, true) => "[{s} [lost|ate] [{n}|{x}].|{s} gave [{n}|{x}] to {q}.]",
        (false, false) => "[{s} [lost|sold] [{n}|{x}].|{s} gave [{n}|{x}] to {q}.]",
    };
    wording(dice, template, &slots)
}

/// How many of a thing some people have.
fn expectation(count: u32, thing: usize, owners: &[usize]) -> Expected {
    let names: Vec<&str> = owners.iter().map(|&owner| PERSONS[owner].name).collect();
    Expected::number(count)
        .naming(&names)
        .naming(&[THINGS[thing].one, THINGS[thing].many])
}

fn counted(count: u32, thing: usize) -> String {
    let thing = THINGS[thing];
    match count {
        1 => format!("1 {}", thing.one),
        _ => format!("{count} {}", thing.many),
    }
}

/// A number from 1 to `most`, which is not zero.
fn small(dice: &mut Dice, most: u32) -> u32 {
    1 + dice.below(most as usize) as u32
}
