//! How things behave: what floats, melts, falls and breaks, what is larger or heavier, and plain
//! facts of the world.

mod facts;

use super::dice::Dice;
use super::phrase::{capital, say, with_article};
use super::sample::{Kind, Turn};
use super::split::{self, Cast, Split};
use super::words::{PERSONS, SIZES, WEIGHTS};
use crate::answer::{Expected, Measure};

const FLOATING: [&str; 6] = ["feather", "leaf", "stick", "ball", "apple", "balloon"];
const SINKING: [&str; 6] = ["stone", "coin", "key", "ring", "spoon", "bell"];
const BREAKING: [&str; 2] = ["cup", "lamp"];
const UNBREAKABLE: [&str; 7] = ["book", "hat", "key", "coin", "spoon", "ring", "stick"];
const FALLING: [&str; 6] = ["ball", "book", "apple", "stone", "drum", "doll"];
const MELTING: [&str; 5] = ["ice", "snow", "butter", "chocolate", "candle"];

/// Something that makes things melt, or does not.
struct Climate {
    place: &'static str,
    source: &'static str,
    hot: bool,
}

const CLIMATES: [Climate; 5] = [
    climate("in the sun", "sun", true),
    climate("near the fire", "fire", true),
    climate("on the stove", "stove", true),
    climate("in the cellar", "cellar", false),
    climate("in the cold wind", "wind", false),
];

/// All plain facts.
pub(super) fn facts() -> impl Iterator<Item = &'static super::catalogue::Entry> {
    facts::FACTS.iter()
}

/// A question about how things behave; `None` if none was found.
pub(super) fn asked(dice: &mut Dice, split: Split) -> Option<Turn> {
    // Drawn again within each, so that both sides of the split have the same mixture.
    match dice.weighted(&[50, 25, 25]) {
        0 => dice.until(|dice| {
            let turn = scene(dice);
            (Cast::of(&turn.user).split() == split).then_some(turn)
        }),
        1 => dice.until(|dice| compared(dice, split)),
        _ => Some(dice.pick(&facts::FACTS).turn(dice, Kind::Nature, split)),
    }
}

fn scene(dice: &mut Dice) -> Turn {
    let person = capital(PERSONS[dice.below(PERSONS.len())].name);
    match dice.weighted(&[30, 30, 20, 20]) {
        0 => floating(dice, &person),
        1 => melting(dice, &person),
        2 => breaking(dice, &person),
        _ => falling(dice, &person),
    }
}

fn floating(dice: &mut Dice, person: &str) -> Turn {
    let floats = dice.chance(50);
    let thing = *dice.pick(if floats { &FLOATING } else { &SINKING });
    let scene = "{p} [threw|dropped|put] {a} [in|into] the [water|river]. [Did it float or \
                 sink?|What happened to the {t}?|Did the {t} float or sink?|Tell me what happened \
                 to the {t}.]";
    let (answer, keys) = match floats {
        true => (
            "The {t} floated, because it is light.",
            "floated|floats ! sank|sinks",
        ),
        false => (
            "The {t} sank, because it is heavy.",
            "sank|sinks ! floated|floats",
        ),
    };
    turn(dice, person, thing, scene, answer, keys)
}

fn melting(dice: &mut Dice, person: &str) -> Turn {
    let thing = *dice.pick(&MELTING);
    let Climate { place, source, hot } = *dice.pick(&CLIMATES);
    let scene = format!(
        "{{p}} [left|put] {{the}} {{t}} {place}. [What happened to the {{t}}?|Did the {{t}} \
         melt?|What did the {{t}} do?|Tell me what happened to the {{t}}.]"
    );
    let (answer, keys) = match hot {
        true => (
            format!("The {{t}} melted, because the {source} was hot."),
            "melted|melts ! not",
        ),
        false => (
            format!("The {{t}} did not melt, because the {source} was cold."),
            "not melt ! melted",
        ),
    };
    turn(dice, person, thing, &scene, &answer, keys)
}

fn breaking(dice: &mut Dice, person: &str) -> Turn {
    let breaks = dice.chance(50);
    let options: &[&str] = if breaks { &BREAKING } else { &UNBREAKABLE };
    let thing = *dice.pick(options);
    let scene = "{p} [dropped {a}|let {a} fall] on the [floor|hard floor]. [Did it break?|What \
                 happened to the {t}?|Did the {t} break?|Tell me what happened to the {t}.]";
    let (answer, keys) = match breaks {
        true => (
            "The {t} broke, because it is made of glass.",
            "broke|breaks ! not",
        ),
        false => ("The {t} did not break.", "not break ! broke"),
    };
    turn(dice, person, thing, scene, answer, keys)
}

fn falling(dice: &mut Dice, person: &str) -> Turn {
    let rises = dice.chance(30);
    let thing = if rises {
        "balloon"
    } else {
        *dice.pick(&FALLING)
    };
    let scene = "{p} [held {a} and let go|let go of {a}]. [What happened to the {t}?|Where did the \
                 {t} go?|What did the {t} do?|Did the {t} fall?]";
    let (answer, keys) = match rises {
        true => (
            "The {t} went up, because it is lighter than air.",
            "up ! fell",
        ),
        false => ("The {t} fell down to the ground.", "fell|falls ! up"),
    };
    turn(dice, person, thing, scene, answer, keys)
}

fn turn(dice: &mut Dice, person: &str, thing: &str, scene: &str, answer: &str, keys: &str) -> Turn {
    // What is not counted has no article.
    let mass = matches!(thing, "ice" | "snow" | "butter" | "chocolate");
    let a = if mass {
        thing.to_owned()
    } else {
        with_article(thing)
    };
    let slots = [
        ("p", person),
        ("t", thing),
        ("a", a.as_str()),
        ("the", "the"),
    ];
    Turn {
        kind: Kind::Nature,
        user: say(dice, scene, &slots),
        assistant: say(dice, answer, &slots),
        expected: Some(Expected::phrases(keys).naming(&[&person.to_lowercase(), thing, "river"])),
    }
}

/// Which of two nouns is larger, smaller, heavier or lighter.
fn compared(dice: &mut Dice, split: Split) -> Option<Turn> {
    let by_size = dice.chance(50);
    let rows: &[&[&str]] = if by_size { &SIZES } else { &WEIGHTS };
    let picked = dice.several(2, rows.len());
    let (first, second) = (picked[0], picked[1]);
    let (a, b) = (
        dice.below(rows[first].len()),
        dice.below(rows[second].len()),
    );
    let place = |row: usize, at: usize| (usize::from(by_size) * 10 + row) * 10 + at;
    if split::of_nouns(place(first, a), place(second, b)) != split {
        return None;
    }
    let more = dice.chance(50);
    let (word, by) = match (by_size, more) {
        (true, true) => (*dice.pick(&["bigger", "larger"]), Measure::Larger),
        (true, false) => ("smaller", Measure::Smaller),
        (false, true) => ("heavier", Measure::Heavier),
        (false, false) => ("lighter", Measure::Lighter),
    };
    let (x, y) = (rows[first][a], rows[second][b]);
    let (best, other) = match (first > second) == more {
        true => (x, y),
        false => (y, x),
    };
    let (x, y) = (with_article(x), with_article(y));
    let template = "[[Which|What] is {w}, {x} or {y}?|Is {x} or {y} {w}?|Tell me which is {w}: {x} \
                    or {y}.|{X} or {y}: which is {w}?]";
    let user = say(
        dice,
        template,
        &[("w", word), ("x", &x), ("y", &y), ("X", &capital(&x))],
    );
    Some(Turn {
        kind: Kind::Nature,
        user,
        assistant: capital(&format!("{} is {word}.", with_article(best))),
        expected: Some(Expected::compared(best, other, by)),
    })
}

const fn climate(place: &'static str, source: &'static str, hot: bool) -> Climate {
    Climate { place, source, hot }
}
