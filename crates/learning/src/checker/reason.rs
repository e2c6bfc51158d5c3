//! Which reasons make sense, in lists of the checker's own.

use crate::world::words::PLACES;

/// What each reason leads to: places to go to, things to take.
const LEADS: [(&str, &str); 17] = [
    ("animals", "barn"),
    ("bread", "coin market"),
    ("cold", "hat house kitchen"),
    ("dark", "candle lamp"),
    ("hot", "beach forest hat river"),
    ("hungry", "apple kitchen market pear"),
    ("learn", "school"),
    ("locked", "key"),
    ("music", "bell drum"),
    ("play", "ball balloon doll garden park"),
    ("rain", "barn house library umbrella"),
    ("read", "book library school"),
    ("swim", "beach river"),
    ("thirsty", "cup kitchen river"),
    ("tired", "house"),
    ("train", "station"),
    ("wind", "barn house kite"),
];

/// Where one feels the weather, and where there are doors.
const ONLY_AT: [(&str, &str); 4] = [
    ("hot", "garden market park"),
    ("locked", "barn house library school station"),
    ("rain", "beach forest garden market park river"),
    ("wind", "beach forest garden market park river"),
];

/// Whether somebody who is `here` goes to a place, or takes a thing, for this reason. Nobody leaves a
/// place for what it has.
pub(super) fn leads(cause: &str, here: Option<&str>, what: &str) -> bool {
    let within = |table: &[(&str, &str)], word: &str| {
        let row = table.iter().find(|(name, _)| *name == cause);
        row.map(|(_, words)| words.split(' ').any(|other| other == word))
    };
    let going = PLACES.iter().any(|place| place.name == what);
    within(&LEADS, what) == Some(true)
        && here.is_none_or(|here| within(&ONLY_AT, here) != Some(false))
        && !(going && here.is_some_and(|here| within(&LEADS, here) == Some(true)))
}

/// Whether two reasons cannot be in one story.
pub(super) fn contrary(one: &str, other: &str) -> bool {
    let hot = |one: &str, other: &str| one == "hot" && ["cold", "dark", "rain"].contains(&other);
    hot(one, other) || hot(other, one)
}
