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

/// Who must not meet what in training. Of the things, each person has an eighth that it never
/// meets; each thing has two people.
#[must_use]
pub fn never_together(person: usize, thing: usize) -> bool {
    (5 * person + 3 * thing).is_multiple_of(8)
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

/// On which side an invented word lies. One in four is held out.
#[must_use]
pub fn of_word(word: &str) -> Split {
    let hash = word
        .bytes()
        .fold(0_u64, |hash, byte| mix(hash ^ u64::from(byte)));
    held_out_if(hash.is_multiple_of(4))
}

/// Who and what is mentioned somewhere: bit sets over [`PERSONS`] and [`THINGS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mentions {
    persons: u32,
    things: u32,
}

impl Mentions {
    /// Those in a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut mentions = Self::default();
        for word in text.split(|c: char| !c.is_ascii_alphabetic()) {
            if word.is_empty() {
                continue;
            }
            let is = |other: &str| word.eq_ignore_ascii_case(other);
            if let Some(at) = PERSONS.iter().position(|person| is(person.name)) {
                mentions.persons |= 1 << at;
            }
            if let Some(at) = THINGS
                .iter()
                .position(|thing| is(thing.one) || is(thing.many))
            {
                mentions.things |= 1 << at;
            }
        }
        mentions
    }

    /// Those of both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            persons: self.persons | other.persons,
            things: self.things | other.things,
        }
    }

    /// Whether somebody is here together with what it never meets in training.
    #[must_use]
    pub fn hold_out(self) -> bool {
        (0..PERSONS.len())
            .filter(|person| self.persons >> person & 1 == 1)
            .any(|person| {
                (0..THINGS.len())
                    .any(|thing| self.things >> thing & 1 == 1 && never_together(person, thing))
            })
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
    fn every_thing_is_kept_from_two_people() {
        for thing in 0..THINGS.len() {
            let kept = (0..PERSONS.len()).filter(|&p| never_together(p, thing));
            assert_eq!(kept.count(), 2);
        }
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
    fn mentions_are_found_in_any_form() {
        let text = "TOM had 3 leaves; (apple) and a tomcat";
        let mentions = Mentions::of(text);
        assert_eq!(mentions.persons, 1);
        assert_eq!(mentions.things, (1 << 19) | (1 << 4));
        assert!(Mentions::of("Tom had a ball").hold_out());
        assert!(!Mentions::of("Tom had a book").hold_out());
        let both = Mentions::of("Tom slept").with(Mentions::of("a ball"));
        assert!(both.hold_out());
    }
}
