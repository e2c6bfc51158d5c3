//! What is kept out of training, by rule and not by chance: the rules know no seed, so no corpus
//! for training, of whatever seed, can contain what any held-out set asks about.

use super::dice::mix;
use super::words::{PERSONS, THINGS};

/// On which side of the rules a sample lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// To learn from.
    Training,
    /// To be judged by: never in training.
    HeldOut,
}

/// On which side a calculation with these two numbers lies; the order does not count. One in eight
/// is held out, but none of the tables that all others are worked with: a one-digit number with one
/// up to 18.
#[must_use]
pub fn of_numbers(a: u32, b: u32) -> Split {
    let (low, high) = (a.min(b), a.max(b));
    let table = low < 10 && high < 19;
    held_out_if(!table && mix(u64::from(low) * 1000 + u64::from(high)).is_multiple_of(8))
}

/// On which side the comparison of two nouns, by their places in a list, lies; the order does not
/// count. One in six is held out.
#[must_use]
pub fn of_nouns(a: usize, b: usize) -> Split {
    let (low, high) = (a.min(b) as u64, a.max(b) as u64);
    held_out_if(mix(low * 1000 + high).is_multiple_of(6))
}

/// On which side an invented word, or several words that are to be said again, lie. One in four is held out.
#[must_use]
pub fn of_word(word: &str) -> Split {
    let hash = word
        .bytes()
        .fold(0_u64, |hash, byte| mix(hash ^ u64::from(byte)));
    held_out_if(hash.is_multiple_of(4))
}

/// Who and what is mentioned somewhere, such as in a story, a wish for one or a little problem: bit
/// sets over [`PERSONS`] and [`THINGS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cast {
    persons: u32,
    things: u32,
}

impl Cast {
    /// Those in a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut cast = Self::default();
        for word in text.split(|c: char| !c.is_ascii_alphabetic()) {
            if word.is_empty() {
                continue;
            }
            let is = |other: &str| word.eq_ignore_ascii_case(other);
            if let Some(at) = PERSONS.iter().position(|person| is(person.name)) {
                cast.persons |= 1 << at;
            }
            if let Some(at) = THINGS
                .iter()
                .position(|thing| is(thing.one) || is(thing.many))
            {
                cast.things |= 1 << at;
            }
        }
        cast
    }

    /// On which side what has just these people and things lies. One in eight of the casts with
    /// people and things is held out.
    ///
    /// The rule is about the cast as a whole. Were it about pairs (somebody who never meets some
    /// thing), training would teach that such a person is never the answer to who has that thing.
    #[must_use]
    pub fn split(self) -> Split {
        let both = self.persons != 0 && self.things != 0;
        let hash = mix(u64::from(self.persons) << 32 | u64::from(self.things));
        held_out_if(both && hash.is_multiple_of(8))
    }
}

fn held_out_if(held_out: bool) -> Split {
    match held_out {
        true => Split::HeldOut,
        false => Split::Training,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eighth_of_the_casts_is_held_out() {
        let cast = |persons, things| Cast { persons, things };
        let casts = (1..1 << 8).flat_map(|persons| (1..1 << 8).map(move |t| cast(persons, t)));
        let held_out = casts.filter(|cast| cast.split() == Split::HeldOut).count();
        assert!((7900..8350).contains(&held_out), "{held_out}");
        assert_eq!(cast(0, 5).split(), Split::Training);
        assert_eq!(cast(5, 0).split(), Split::Training);
    }

    #[test]
    fn numbers_are_split_in_both_orders_alike() {
        let mut held_out = 0;
        for a in 0..100 {
            for b in 0..100 {
                assert_eq!(of_numbers(a, b), of_numbers(b, a));
                held_out += u32::from(of_numbers(a, b) == Split::HeldOut);
                let table = a.min(b) < 10 && a.max(b) < 19;
                assert!(!table || of_numbers(a, b) == Split::Training);
            }
        }
        assert!((1000..1500).contains(&held_out), "{held_out}");
    }

    #[test]
    fn a_cast_is_found_in_any_form() {
        let text = "TOM had 3 leaves; (apple) and a tomcat";
        let cast = Cast::of(text);
        assert_eq!(cast.persons, 1);
        assert_eq!(cast.things, (1 << 19) | (1 << 4));
    }
}
