//! Facts about Skein. Each is true of this repository; what is planned is told as such.

/// Wordings, in training and held out.
macro_rules! asked {
    ([$($training:expr),+ $(,)?], [$($held_out:expr),+ $(,)?]) => {
        &Wordings { training: &[$($training),+], held_out: &[$($held_out),+] }
    };
}

mod commands;
mod exactness;
mod network;
mod options;
mod parts;
mod usage;

use super::catalogue::{Entry, Keys, Wordings, entry};
use super::dice::Dice;
use super::sample::{Kind, Turn};
use super::split::Split;

/// All facts, in no order that matters.
pub(super) fn facts() -> impl Iterator<Item = &'static Entry> {
    parts::PARTS
        .iter()
        .chain(&commands::COMMANDS)
        .chain(&exactness::FACTS)
        .chain(&network::FACTS)
        .chain(&usage::FACTS)
        .chain(&options::FACTS)
}

/// One to three questions about Skein.
pub(super) fn asked(dice: &mut Dice, split: Split) -> Vec<Turn> {
    let all: Vec<&Entry> = facts().collect();
    let count = 1 + dice.weighted(&[60, 30, 10]);
    dice.several(count, all.len())
        .into_iter()
        .map(|at| all[at].turn(dice, Kind::Skein, split))
        .collect()
}

const fn fact(wordings: &'static Wordings, answer: &'static str, keys: &'static str) -> Entry {
    entry(wordings, answer, Keys::Phrases(keys))
}
