//! Understands a question about a story by the words in it, and answers it from what was read.

use super::lexer::{Words, says, sentences};
use super::tale::{Deed, Scene, Spot, Tale};
use crate::answer::{Class, Expected};
use crate::world::words::{PERSONS, PLACES, THINGS};

/// A message is a story if the grammar accepts this many of its sentences; one alone may be an
/// answer.
const STORY_MIN: usize = 2;

/// The answer to the last sentence of `question`, from the last story that was told before or in
/// it.
pub(super) fn answer(messages: &[&str], question: &str) -> Option<Expected> {
    let tale = messages
        .iter()
        .rev()
        .map(|text| Tale::read(text))
        .find(|tale| tale.grammatical() >= STORY_MIN)?;
    let words = sentences(question).pop()?;
    Question {
        words: &words,
        scene: &tale.scene,
    }
    .answer()
}

struct Question<'a> {
    words: &'a Words,
    scene: &'a Scene,
}

impl Question<'_> {
    fn answer(&self) -> Option<Expected> {
        let person = self.person();
        let thing = self.thing();
        let place = self.place();
        let first = self.words.first()?.as_str();
        if let Some(expected) = self.all() {
            return Some(expected);
        }
        if self.has("why") || self.has("made") {
            return self.why(person?, place.or(thing)?);
        }
        if self.has("colour") {
            let colour = self.scene.colours.get(thing?)?;
            return Some(Expected::one(Class::Colour, colour).naming(&[thing?]));
        }
        if self.has("gave") || self.says("from whom") {
            return self.giver(person?, thing?);
        }
        match (first, person, thing, place) {
            ("is", Some(person), None, Some(place)) => self.is_at(person, place),
            ("is" | "does", Some(person), Some(thing), None) => self.has_thing(person, thing),
            (_, None, Some(thing), None) if self.has("who") => Some(self.holder(thing)),
            (_, Some(person), None, None) if self.is_what() => Some(self.belongings(person)),
            // What is left asks where somebody or something is, be it only by `and Anna?`.
            (_, Some(person), None, None) => Some(self.whereabouts(person)),
            (_, None, Some(thing), None) => Some(self.spot(thing)),
            _ => None,
        }
    }

    /// What is asked about everybody or everything.
    fn all(&self) -> Option<Expected> {
        let everything = self.has("everything") || self.says("all the things");
        if everything {
            return Some(self.all_things());
        }
        let everybody = self.has("everybody") || self.has("everyone") || self.says("they all");
        match (everybody, self.has("where")) {
            (true, true) => Some(Expected::each(
                self.scene.places.iter().map(|(&who, &place)| (who, place)),
            )),
            (true, false) => Some(self.all_belongings()),
            (false, _) => self.says("who has what").then(|| self.all_belongings()),
        }
    }

    fn all_things(&self) -> Expected {
        let spots = &self.scene.spots;
        let pairs = spots.iter().map(|(&thing, spot)| (thing, spot.words()[0]));
        spots.keys().fold(Expected::each(pairs), |expected, thing| {
            expected.naming(&self.described(thing))
        })
    }

    fn all_belongings(&self) -> Expected {
        let mut pairs = Vec::new();
        let mut held = Vec::new();
        for &who in self.scene.places.keys() {
            let has = self.scene.held_by(who);
            match has.is_empty() {
                true => pairs.push((who, "nothing")),
                false => pairs.extend(has.iter().map(|&thing| (who, thing))),
            }
            held.extend(has);
        }
        let expected = Expected::each(pairs.into_iter());
        held.into_iter().fold(expected, |expected, thing| {
            expected.naming(&self.described(thing))
        })
    }

    fn is_what(&self) -> bool {
        self.has("what") || self.has("has") || self.has("have")
    }

    fn is_at(&self, person: &str, asked: &'static str) -> Option<Expected> {
        let place = *self.scene.places.get(person)?;
        let expected = match place == asked {
            true => Expected::yes(true, &[place], &[]),
            false => Expected::yes(false, &[place], &[asked]),
        };
        Some(expected.naming(&[person]))
    }

    fn has_thing(&self, person: &str, thing: &str) -> Option<Expected> {
        let spot = *self.scene.spots.get(thing)?;
        let expected = match spot == Spot::With(self.person()?) {
            true => Expected::yes(true, &spot.words(), &[]),
            false => Expected::yes(false, &spot.words(), &[person]),
        };
        Some(expected.naming(&self.described(thing)))
    }

    fn why(&self, who: &str, what: &str) -> Option<Expected> {
        let fits = |deed: &&Deed| deed.who == who && deed.what == what;
        let cause = self.scene.deeds.iter().find(fits)?.cause?;
        let expected = Expected::one(Class::Cause, cause).naming(&[who]);
        Some(expected.naming(&self.described(what)))
    }

    fn giver(&self, to: &str, thing: &str) -> Option<Expected> {
        let mut gifts = self.scene.gifts.iter();
        let gift = gifts.find(|gift| gift.to == to && gift.thing == thing)?;
        Some(Expected::giver(gift.from, to).naming(&self.described(thing)))
    }

    fn holder(&self, thing: &str) -> Expected {
        let Some(&spot) = self.scene.spots.get(thing) else {
            return unknown(thing);
        };
        let word = match spot {
            Spot::With(who) => who,
            _ => "nobody",
        };
        Expected::one(Class::Person, word)
            .naming(&spot.words())
            .naming(&self.described(thing))
    }

    fn belongings(&self, who: &str) -> Expected {
        let held = self.scene.held_by(who);
        let expected = match held.is_empty() {
            true => Expected::one(Class::Thing, "nothing"),
            false => Expected::named(Class::Thing, &held),
        };
        let described = held.iter().flat_map(|thing| self.described(thing));
        let described: Vec<&str> = described.collect();
        expected.naming(&[who]).naming(&described)
    }

    fn whereabouts(&self, who: &str) -> Expected {
        match self.scene.places.get(who) {
            Some(place) => Expected::one(Class::Place, place).naming(&[who]),
            None => unknown(who),
        }
    }

    fn spot(&self, thing: &str) -> Expected {
        let Some(&spot) = self.scene.spots.get(thing) else {
            return unknown(thing);
        };
        let expected = match spot {
            Spot::At(place) | Spot::In(place, _) => Expected::one(Class::Place, place),
            Spot::With(who) => self.whereabouts(who),
        };
        let expected = expected.naming(&spot.words());
        expected.naming(&self.described(thing))
    }

    /// A thing (or a place) and its colour, if that was told.
    fn described<'b>(&'b self, thing: &'b str) -> Vec<&'b str> {
        let colour = self.scene.colours.get(thing).copied();
        [thing].into_iter().chain(colour).collect()
    }

    fn person(&self) -> Option<&'static str> {
        PERSONS
            .iter()
            .map(|person| person.name)
            .find(|name| self.has(name))
    }

    fn thing(&self) -> Option<&'static str> {
        THINGS
            .iter()
            .map(|thing| thing.one)
            .find(|name| self.has(name))
    }

    fn place(&self) -> Option<&'static str> {
        PLACES
            .iter()
            .map(|place| place.name)
            .find(|name| self.has(name))
    }

    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|other| other == word)
    }

    fn says(&self, phrase: &str) -> bool {
        says(self.words, phrase)
    }
}

fn unknown(asked: &str) -> Expected {
    Expected::phrases("does not say|do not know").naming(&[asked])
}
