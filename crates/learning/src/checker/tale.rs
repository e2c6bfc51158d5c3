//! Reads a story and follows what happens in it.

use std::collections::{BTreeMap, BTreeSet};

use super::grammar::{Act, Object, Sentence, Who, parse};
use super::lexer::sentences;
use super::reason::{contrary, leads};
use crate::world::words::PERSONS;

/// Where a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    At(&'static str),
    With(&'static str),
    /// In a container, which stands at a place, if that is known.
    In(&'static str, Option<&'static str>),
}

impl Spot {
    /// What says where it is.
    pub(super) fn words(self) -> Vec<&'static str> {
        match self {
            Self::At(word) | Self::With(word) => vec![word],
            Self::In(container, place) => [container].into_iter().chain(place).collect(),
        }
    }
}

/// Something that somebody did once, with its reason if one was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deed {
    pub(super) who: &'static str,
    /// The place that was gone to, or the thing that was taken.
    pub(super) what: &'static str,
    pub(super) cause: Option<&'static str>,
}

/// A gift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gift {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) thing: &'static str,
}

/// How things are after what was read.
#[derive(Debug, Clone, Default)]
pub(super) struct Scene {
    pub(super) places: BTreeMap<&'static str, &'static str>,
    pub(super) spots: BTreeMap<&'static str, Spot>,
    pub(super) colours: BTreeMap<&'static str, &'static str>,
    pub(super) deeds: Vec<Deed>,
    pub(super) gifts: Vec<Gift>,
    /// Who did something.
    pub(super) actors: BTreeSet<&'static str>,
    /// What was found or taken.
    pub(super) taken: BTreeSet<&'static str>,
    causes: Vec<&'static str>,
    /// Whom a pronoun means.
    subject: Option<&'static str>,
}

/// A story as it was understood.
#[derive(Debug, Clone, Default)]
pub(super) struct Tale {
    /// Sentences in all.
    pub(super) sentences: usize,
    pub(super) ungrammatical: Vec<String>,
    /// Grammatical ones that cannot be true after those before them.
    pub(super) impossible: Vec<String>,
    pub(super) scene: Scene,
}

impl Tale {
    /// Reads all sentences of a text.
    pub(super) fn read(text: &str) -> Self {
        let mut tale = Self::default();
        let mut told = BTreeSet::new();
        for words in sentences(text) {
            tale.sentences += 1;
            let text = words.join(" ");
            let Some(sentence) = parse(&words) else {
                tale.ungrammatical.push(text);
                continue;
            };
            // The same words about somebody else are another sentence.
            let meant = match &sentence {
                Sentence::Deed {
                    who: Who::He | Who::She,
                    ..
                } => tale.scene.subject,
                _ => None,
            };
            let new = told.insert((text.clone(), meant));
            let possible = tale.scene.follow(sentence).is_some();
            if !possible || !new {
                tale.impossible.push(text);
            }
        }
        tale
    }

    /// Sentences that the grammar accepts.
    pub(super) fn grammatical(&self) -> usize {
        self.sentences - self.ungrammatical.len()
    }
}

impl Scene {
    /// What a person has.
    pub(super) fn held_by(&self, who: &str) -> Vec<&'static str> {
        let held = self.spots.iter();
        held.filter(|&(_, &spot)| matches!(spot, Spot::With(other) if other == who))
            .map(|(&thing, _)| thing)
            .collect()
    }

    /// Lets a sentence happen; `None` if it cannot be.
    fn follow(&mut self, sentence: Sentence) -> Option<()> {
        match sentence {
            Sentence::Lie(object, place) => {
                self.subject = None;
                self.introduce(object)?;
                self.spots.insert(object.thing, Spot::At(place));
                Some(())
            }
            Sentence::Coloured(thing, colour) => {
                self.subject = None;
                self.spots.get(thing)?;
                self.paint(thing, colour)
            }
            Sentence::Deed { who, act, cause } => {
                let people = self.people(&who)?;
                self.subject = match *people {
                    [one] => Some(one),
                    _ => None,
                };
                match (&people[..], act) {
                    (_, Act::Be { place }) => {
                        people.iter().try_for_each(|&who| self.be(who, place))
                    }
                    (&[who], act) => self.act(who, &act, cause),
                    _ => None,
                }
            }
        }
    }

    fn people(&self, who: &Who) -> Option<Vec<&'static str>> {
        let he = match who {
            Who::Names(names) => return Some(names.clone()),
            Who::He => true,
            Who::She => false,
        };
        let subject = self.subject?;
        (is_he(subject) == Some(he)).then(|| vec![subject])
    }

    /// Says where somebody is; once for each.
    fn be(&mut self, who: &'static str, place: &'static str) -> Option<()> {
        let known = self.places.insert(who, place);
        known.is_none().then_some(())
    }

    /// Notes a deed with its reason, which must fit it, the place, and what was told of the world.
    fn reasoned(&mut self, deed: Deed) -> Option<()> {
        let here = self.places.get(deed.who).copied();
        self.deeds.push(deed);
        let Some(cause) = deed.cause else {
            return Some(());
        };
        let told = self.causes.iter().any(|told| contrary(told, cause));
        self.causes.push(cause);
        (!told && leads(cause, here, deed.what)).then_some(())
    }

    fn act(&mut self, who: &'static str, act: &Act, cause: Option<&'static str>) -> Option<()> {
        let here = self.places.get(who).copied();
        match act {
            Act::Be { place } => return self.be(who, place),
            Act::Feel => return Some(()),
            _ => self.actors.insert(who),
        };
        if cause.is_some() && !matches!(act, Act::Go { .. } | Act::Take(_)) {
            return None;
        }
        match *act {
            Act::Be { .. } | Act::Feel => Some(()),
            Act::Go { place } => {
                let what = place;
                let fitting = self.reasoned(Deed { who, what, cause });
                self.places.insert(who, place);
                fitting.filter(|()| here != Some(place))
            }
            Act::Find(object) => {
                self.taken.insert(object.thing);
                self.introduce(object)?;
                self.move_to(object, Spot::With(who), object.new)
            }
            Act::Take(object) => {
                let what = object.thing;
                self.taken.insert(what);
                let fitting = self.reasoned(Deed { who, what, cause });
                self.known(object)?;
                let lies = self.spots.get(what).copied()? == Spot::At(here?);
                self.move_to(object, Spot::With(who), lies && fitting.is_some())
            }
            Act::TakeOut(object, container) => {
                self.known(object)?;
                let inside = self.spots.get(object.thing).copied()? == Spot::In(container, here);
                self.move_to(object, Spot::With(who), inside)
            }
            Act::Leave(object, place) => {
                self.known(object)?;
                let can = self.holds(who, object.thing) && here == Some(place);
                self.move_to(object, Spot::At(place), can)
            }
            Act::Put(object, container) => {
                self.known(object)?;
                let can = self.holds(who, object.thing);
                self.move_to(object, Spot::In(container, here), can)
            }
            Act::Give(object, to) => {
                self.known(object)?;
                let near = here.is_some() && here == self.places.get(to).copied();
                let can = self.holds(who, object.thing) && near && who != to;
                let thing = object.thing;
                let from = who;
                self.gifts.push(Gift { from, to, thing });
                if is_he(from) == is_he(to) {
                    // A pronoun could mean either.
                    self.subject = None;
                }
                self.move_to(object, Spot::With(to), can)
            }
        }
    }

    fn holds(&self, who: &str, thing: &str) -> bool {
        matches!(self.spots.get(thing), Some(&Spot::With(other)) if other == who)
    }

    /// Moves a thing even where that was not possible, so that one slip is counted once.
    fn move_to(&mut self, object: Object, spot: Spot, possible: bool) -> Option<()> {
        self.spots.insert(object.thing, spot);
        possible.then_some(())
    }

    /// A thing comes in, with `a`.
    fn introduce(&mut self, object: Object) -> Option<()> {
        let new = object.new && !self.spots.contains_key(object.thing);
        if let Some(colour) = object.colour {
            self.paint(object.thing, colour)?;
        }
        new.then_some(())
    }

    /// A thing that came in before, with `the`.
    fn known(&mut self, object: Object) -> Option<()> {
        let known = !object.new && self.spots.contains_key(object.thing);
        if let Some(colour) = object.colour {
            self.paint(object.thing, colour)?;
        }
        known.then_some(())
    }

    fn paint(&mut self, thing: &'static str, colour: &'static str) -> Option<()> {
        let before = *self.colours.entry(thing).or_insert(colour);
        (before == colour).then_some(())
    }
}

fn is_he(name: &str) -> Option<bool> {
    let person = PERSONS.iter().find(|person| person.name == name)?;
    Some(person.he)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> (usize, usize) {
        let tale = Tale::read(text);
        (tale.ungrammatical.len(), tale.impossible.len())
    }

    #[test]
    fn good_stories_have_no_faults() {
        for text in [
            "Tom and Anna were in the park. Tom found a red ball. He gave the ball to Anna.",
            "There was an apple in the garden. The apple was green. Mia was in the garden. She was \
             hungry, so she took the apple. Then she put the green apple into the box. Mia was glad.",
            "Leo was at the river. It began to rain, so he ran to the house. Later, Leo found a key.",
            "Nick was in the park. Paul was in the garden. He went to the river. Nick went to the house. He went \
             to the river.",
            "Leo was at the beach. He found a cup. He left the cup at the beach. After that, he went \
             to the river because he was thirsty",
        ] {
            assert_eq!(faults(text), (0, 0), "{text}");
        }
    }

    #[test]
    fn bad_sentences_are_found() {
        for text in [
            "Tom were in the park.",
            "Tom and Anna was in the park.",
            "Tom goed to the park.",
            "Tom found a umbrella.",
            "Tom found an ball.",
            "Tom was at the kitchen.",
            "Tom gave Anna.",
            "Tom went to the park because.",
            "Tom went to the park because she was hungry.",
            "Zorro went to the park.",
            "Tom went to the the park.",
        ] {
            assert_eq!(faults(text).0, 1, "{text}");
        }
    }

    #[test]
    fn impossible_sentences_are_found() {
        for text in [
            "Tom was in the park. She went to the river.",
            "Tom was in the park. Tom was in the house.",
            "Tom was in the park. Tom gave the ball to Anna.",
            "Tom was in the park. Tom took the ball.",
            "Tom was in the park. There was a ball at the river. Tom took the ball.",
            "Tom was in the park. Tom found a ball. Tom found a ball.",
            "Tom was in the park. Tom found a ball. Tom left the ball at the river.",
            "Tom was in the park. Tom found a red ball. Tom dropped the blue ball in the park.",
            "Tom was in the park. Anna was at the river. Tom found a ball. Tom gave Anna the ball.",
            "Tom was in the park. Tom went to the park.",
            "Tom was in the park. Tom was in the park.",
            "Tom and Ben were in the park. Tom found a ball. Tom gave the ball to Ben. He went to the \
             river.",
            "Tom was in the park. Tom went to the river because he was tired.",
            "Tom was at the beach. Tom went to the river because he wanted to swim.",
            "Tom was in the house. The wind was strong, so Tom went to the barn.",
            "Tom was in the park. There was a hat in the park. It began to rain, so Tom went to the \
             house. The sun was hot, so Tom went to the river.",
            "Tom was in the park. Tom found a ball because he wanted to play.",
            "Tom was in the park. Tom found a ball. He put the ball in the box. He went to the \
             river. He took the ball out of the box.",
        ] {
            assert_eq!(faults(text), (0, 1), "{text}");
        }
    }
}
