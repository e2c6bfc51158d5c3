//! A small world to learn: people who go places and carry things, numbers below a hundred, how
//! things behave, Skein, and good manners.
//!
//! [`World`] makes conversations from a seed, any number of them, each by its index alone, the same
//! on every platform (integers only; nothing depends on the order of a hash table).
//!
//! **Held out by rule.** What a model is judged by cannot occur in training, whatever the seeds
//! ([`split`]): each held-out story has a cast (its people and things together) that no story of
//! training has; calculations and comparisons are split by their two operands in
//! either order; facts, small talk and refusals are asked in wordings, and about subjects, that
//! training never uses; of the words to be said again one row in four is kept back.
//!
//! **Worth of choices.** [`Bits`] says how improbable the choices were that made a sample. Its mean
//! is the entropy of the choices, which is at least the entropy of the text that they make
//! (different choices may make the same text, and choices that were thrown away to respect the
//! split are not counted back in). So no model can have a mean loss below the entropy of the text,
//! and a perfect one comes out at or slightly below the mean of the bits: it is the mark that a
//! held-out loss, summed over the tokens of a sample, is compared with. `answer` is the same for
//! the tokens of answers given their prompts.

mod catalogue;
mod counting;
mod dice;
mod echo;
mod nature;
mod numbers;
mod outside;
mod phrase;
mod rewording;
mod sample;
mod skein;
pub mod split;
mod story;
mod talk;
#[cfg(test)]
mod tests;
pub mod words;

pub use dice::Bits;
pub use sample::{Kind, Message, Role, Sample, Turn};
pub use split::Split;

use dice::Dice;
use phrase::say_one;
use split::Cast;

/// How often a kind comes up, in percent of the parts of conversations.
type Shares = [(Kind, u32); Kind::ALL.len()];

/// One of the consecutive parts of the training; they differ in how often each kind comes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Most of it.
    First,
    /// Its end.
    Late,
    /// Its last steps.
    Last,
}

impl Course {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::First, Self::Late, Self::Last];

    fn shares(self) -> &'static Shares {
        match self {
            Self::First => &SHARES,
            Self::Late => &LATE_SHARES,
            Self::Last => &LAST_SHARES,
        }
    }

    fn list(self) -> List {
        match self {
            Self::First => List::First,
            Self::Late => List::Late,
            Self::Last => List::Last,
        }
    }
}

/// Of most of the training: stories are what takes longest to learn.
const SHARES: Shares = [
    (Kind::Story, 47),
    (Kind::Tale, 5),
    (Kind::Count, 4),
    (Kind::Sum, 5),
    (Kind::Difference, 4),
    (Kind::Number, 4),
    (Kind::Nature, 4),
    (Kind::Skein, 16),
    (Kind::Talk, 3),
    (Kind::Outside, 5),
    (Kind::Echo, 3),
];

/// Of its end: more of what came up too seldom.
const LATE_SHARES: Shares = [
    (Kind::Story, 40),
    (Kind::Tale, 8),
    (Kind::Count, 3),
    (Kind::Sum, 4),
    (Kind::Difference, 4),
    (Kind::Number, 11),
    (Kind::Nature, 3),
    (Kind::Skein, 17),
    (Kind::Talk, 3),
    (Kind::Outside, 5),
    (Kind::Echo, 2),
];

/// Of its last steps: tales, in which nobody may go where he is.
const LAST_SHARES: Shares = [
    (Kind::Story, 25),
    (Kind::Tale, 40),
    (Kind::Count, 2),
    (Kind::Sum, 3),
    (Kind::Difference, 3),
    (Kind::Number, 5),
    (Kind::Nature, 2),
    (Kind::Skein, 12),
    (Kind::Talk, 2),
    (Kind::Outside, 4),
    (Kind::Echo, 2),
];

/// Words, digits and marks of the longest conversation to which another part is added, for most and
/// for long ones. With the part that follows, most stay well below the context, and nearly all of the
/// long ones within it.
const PIECES_MAX: [usize; 2] = [120, 350];

/// How many conversations in a hundred are long: else a model would know nothing of the later
/// positions.
const LONG_PERCENT: u32 = 12;

/// Parts of a long conversation, at most.
const PARTS_LONG: usize = 10;

const SYSTEM: [&str; 4] = [
    "You are [|Skein, ]a [small|helpful|friendly] [model|assistant].",
    "Be kind.",
    "Answer kindly.",
    "You are the small model inside Skein.",
];

/// All conversations of one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct World {
    seed: u64,
}

/// Which list a sample is from: part of the path of its dice.
#[derive(Debug, Clone, Copy)]
enum List {
    First = 1,
    HeldOut = 2,
    HeldOutOf = 3,
    Late = 4,
    Last = 5,
}

impl World {
    /// The world of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The conversation number `index` of a course of training, of as many as anybody wants.
    #[must_use]
    pub fn training(&self, course: Course, index: u64) -> Sample {
        let mut dice = self.dice(course.list(), &[index]);
        conversation(&mut dice, Split::Training, course.shares())
    }

    /// The held-out conversation number `index`: mixed as in training, each part held out. For
    /// losses.
    #[must_use]
    pub fn held_out(&self, index: u64) -> Sample {
        let mut dice = self.dice(List::HeldOut, &[index]);
        conversation(&mut dice, Split::HeldOut, &SHARES)
    }

    /// The held-out sample number `index` of one kind: one part, nothing before or after it. For
    /// questions.
    #[must_use]
    pub fn held_out_of(&self, kind: Kind, index: u64) -> Sample {
        let mut dice = self.dice(List::HeldOutOf, &[kind as u64, index]);
        let turns = part(&mut dice, kind, Split::HeldOut, Cast::default())
            .expect("one draw in forty at least is on the held-out side");
        finished(&mut dice, Split::HeldOut, kind, None, turns)
    }

    fn dice(&self, list: List, path: &[u64]) -> Dice {
        let mut full = vec![list as u64];
        full.extend(path);
        Dice::new(self.seed, &full)
    }
}

/// Parts of different kinds after each other, perhaps with a system message, a greeting, a
/// farewell.
fn conversation(dice: &mut Dice, split: Split, shares: &Shares) -> Sample {
    let system = dice.chance(6).then(|| say_one(dice, &SYSTEM, &[]));
    let mut turns = Vec::new();
    if dice.chance(8) {
        turns.push(talk::hello(dice, split));
    }
    let (count, most) = if dice.chance(LONG_PERCENT) {
        (PARTS_LONG, PIECES_MAX[1])
    } else {
        (1 + dice.weighted(&[45, 33, 22]), PIECES_MAX[0])
    };
    let mut main = None;
    for _ in 0..count {
        if pieces(&turns) > most {
            break;
        }
        let (kind, _) = shares[dice.weighted(&shares.map(|(_, share)| share))];
        if let Some(more) = part(dice, kind, split, cast(&turns)) {
            main = main.or(Some(kind));
            turns.extend(more);
        }
    }
    if dice.chance(10) || turns.is_empty() {
        turns.push(talk::bye(dice, split));
    }
    finished(dice, split, main.unwrap_or(Kind::Talk), system, turns)
}

/// A part of one kind that may follow `before`; `None` if none was found.
fn part(dice: &mut Dice, kind: Kind, split: Split, before: Cast) -> Option<Vec<Turn>> {
    dice.until(|dice| attempt(dice, kind, split, before))
}

fn attempt(dice: &mut Dice, kind: Kind, split: Split, before: Cast) -> Option<Vec<Turn>> {
    let one = |turn: Option<Turn>| turn.map(|turn| vec![turn]);
    match kind {
        Kind::Story => story::asked(dice, split),
        Kind::Tale => story::told(dice, split),
        Kind::Count => one(counting::problem(dice, split)),
        Kind::Sum => one(numbers::sum(dice, split)),
        Kind::Difference => one(numbers::difference(dice, split)),
        Kind::Number => one(numbers::order(dice, split)),
        Kind::Nature => one(nature::asked(dice, split)),
        Kind::Skein => Some(skein::asked(dice, split)),
        Kind::Talk => Some(talk::chat(dice, split)),
        Kind::Echo => one(echo::asked(dice, split)),
        Kind::Outside => one(outside::asked(dice, split, before == Cast::default())),
    }
}

/// Who and what was mentioned so far.
fn cast(turns: &[Turn]) -> Cast {
    let texts = turns.iter().flat_map(|turn| [&turn.user, &turn.assistant]);
    Cast::of(&texts.map(String::as_str).collect::<Vec<_>>().join(" "))
}

fn finished(
    dice: &mut Dice,
    split: Split,
    kind: Kind,
    system: Option<String>,
    mut turns: Vec<Turn>,
) -> Sample {
    for turn in &mut turns {
        turn.user = typed(dice, &turn.user);
    }
    Sample {
        split,
        kind,
        system,
        turns,
        bits: dice.bits(),
    }
}

/// A message as people type it: now and then without capitals or the last mark.
fn typed(dice: &mut Dice, text: &str) -> String {
    let without_mark = |text: &str| text.trim_end_matches(['.', '?', '!']).to_owned();
    match dice.weighted(&[82, 6, 6, 6]) {
        0 => text.to_owned(),
        1 => text.to_lowercase(),
        2 => without_mark(text),
        _ => without_mark(&text.to_lowercase()),
    }
}

/// Words, digits and marks: about as many tokens.
fn pieces(turns: &[Turn]) -> usize {
    let count = |text: &str| {
        let words = text.split_ascii_whitespace().count();
        let marks = text
            .bytes()
            .filter(|byte| !byte.is_ascii_alphabetic() && *byte != b' ');
        words + marks.count()
    };
    let turn = |turn: &Turn| 4 + count(&turn.user) + count(&turn.assistant);
    turns.iter().map(turn).sum()
}
