//! A grammar of story sentences, written as a parser.
//!
//! ```text
//! sentence := [then | later | after that] (deed | reason so deed | deed because reason)
//!           | there was object at | object (lay | was) at | the THING was COLOUR
//! deed     := who act
//! who      := NAME | NAME and NAME | he | she
//! act      := (went | walked | ran) to the PLACE | (was | were) at | was (happy | glad | proud)
//!           | found object | (took | picked up) object | took object out of the CONTAINER
//!           | (dropped | left | put down) object at | put object (in | into) the CONTAINER
//!           | (gave | handed) object to NAME | gave NAME object
//! object   := (a | an | the) [COLOUR] THING
//! at       := (in | at) the PLACE
//! reason   := who (was hungry ... | wanted to swim ...) | it began to rain | it was dark | ...
//! ```

use crate::world::words::{CAUSES, COLOURS, CONTAINERS, PERSONS, PLACES, THINGS};

/// Who does something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    Names(Vec<&'static str>),
    He,
    She,
}

/// A thing in a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) thing: &'static str,
    pub(super) colour: Option<&'static str>,
    /// Whether it comes in with `a`.
    pub(super) new: bool,
}

/// What somebody does or is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    Be { place: &'static str },
    Feel,
    Go { place: &'static str },
    Find(Object),
    Take(Object),
    TakeOut(Object, &'static str),
    Leave(Object, &'static str),
    Put(Object, &'static str),
    Give(Object, &'static str),
}

/// A sentence of a story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sentence {
    Deed {
        who: Who,
        act: Act,
        /// The word of `CAUSES` that says why.
        cause: Option<&'static str>,
    },
    Lie(Object, &'static str),
    Coloured(&'static str, &'static str),
}

/// The sentence that the words are, if they are one.
pub(super) fn parse(words: &[String]) -> Option<Sentence> {
    let mut reader = Reader { words, at: 0 };
    reader
        .whole(Reader::described)
        .or_else(|| reader.whole(Reader::told))
}

/// What a reader makes of the next words.
type Rule<R> = fn(&mut R) -> Option<Act>;

struct Reader<'a> {
    words: &'a [String],
    at: usize,
}

impl Reader<'_> {
    /// What `rule` makes of all words.
    fn whole<T>(&mut self, rule: impl Fn(&mut Self) -> Option<T>) -> Option<T> {
        self.at = 0;
        let found = rule(self)?;
        (self.at == self.words.len()).then_some(found)
    }

    /// What `rule` makes of the next words; none are taken if it fails.
    fn maybe<T>(&mut self, rule: impl Fn(&mut Self) -> Option<T>) -> Option<T> {
        let start = self.at;
        let found = rule(self);
        if found.is_none() {
            self.at = start;
        }
        found
    }

    fn next(&mut self) -> Option<&str> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        Some(word)
    }

    fn word(&mut self, word: &str) -> Option<()> {
        (self.next()? == word).then_some(())
    }

    fn words(&mut self, phrase: &str) -> Option<()> {
        phrase.split(' ').try_for_each(|word| self.word(word))
    }

    /// One of some phrases.
    fn any(&mut self, phrases: &[&'static str]) -> Option<&'static str> {
        phrases
            .iter()
            .copied()
            .find(|&phrase| self.maybe(|reader| reader.words(phrase)).is_some())
    }

    fn described(&mut self) -> Option<Sentence> {
        let lie = self.maybe(|r| {
            r.words("there was")?;
            let object = r.object()?;
            Some(Sentence::Lie(object, r.at_place()?))
        });
        lie.or_else(|| {
            self.maybe(|r| {
                let object = r.object()?;
                r.any(&["lay", "was"])?;
                Some(Sentence::Lie(object, r.at_place()?))
            })
        })
        .or_else(|| {
            self.maybe(|r| {
                r.word("the")?;
                let thing = r.thing()?;
                r.word("was")?;
                Some(Sentence::Coloured(thing, r.colour()?))
            })
        })
    }

    fn told(&mut self) -> Option<Sentence> {
        self.any(&["then", "later", "after that"]);
        self.maybe(Self::reason_first).or_else(|| {
            let who = self.who()?;
            let act = self.act_of(&who)?;
            let cause = self.maybe(|r| {
                r.word("because")?;
                let (of, cause) = r.reason()?;
                fits(of.as_ref(), &who).then_some(cause)
            });
            Some(Sentence::Deed { who, act, cause })
        })
    }

    fn reason_first(&mut self) -> Option<Sentence> {
        let (of, cause) = self.reason()?;
        self.word("so")?;
        let who = self.who()?;
        let act = self.act_of(&who)?;
        // The reason names the person, the deed says `he`.
        let fitting = of.as_ref().is_none_or(|of| fits(Some(&who), of));
        let who = of.unwrap_or(who);
        fitting.then_some(Sentence::Deed {
            who,
            act,
            cause: Some(cause),
        })
    }

    /// A reason: whom it is about, if anybody, and its word.
    fn reason(&mut self) -> Option<(Option<Who>, &'static str)> {
        const WORLD: [&str; 5] = [
            "it began to rain",
            "it was dark",
            "the wind was strong",
            "the sun was hot",
            "the door was locked",
        ];
        const OWN: [&str; 12] = [
            "was hungry",
            "was thirsty",
            "was tired",
            "was cold",
            "wanted to read",
            "wanted to swim",
            "wanted to play",
            "wanted to learn",
            "wanted to buy bread",
            "wanted to make music",
            "wanted to see the train",
            "wanted to see the animals",
        ];
        if let Some(phrase) = self.any(&WORLD) {
            return Some((None, cause_in(phrase)?));
        }
        let who = self.who()?;
        let phrase = self.any(&OWN)?;
        Some((Some(who), cause_in(phrase)?))
    }

    fn who(&mut self) -> Option<Who> {
        if let Some(pronoun) = self.any(&["he", "she"]) {
            return Some(if pronoun == "he" { Who::He } else { Who::She });
        }
        let first = self.person()?;
        let second = self.maybe(|r| {
            r.word("and")?;
            r.person()
        });
        Some(Who::Names(
            [Some(first), second].into_iter().flatten().collect(),
        ))
    }

    /// What one or more do: `was` and `were` agree with how many they are.
    fn act_of(&mut self, who: &Who) -> Option<Act> {
        let verb = self.words.get(self.at)?;
        let several = matches!(who, Who::Names(names) if names.len() > 1);
        let wrong = if several { "was" } else { "were" };
        if verb == wrong {
            return None;
        }
        self.act()
    }

    fn act(&mut self) -> Option<Act> {
        let rules: [Rule<Self>; 9] = [
            |r| {
                r.any(&["went", "walked", "ran"])?;
                r.word("to")?;
                Some(Act::Go {
                    place: r.the_place()?,
                })
            },
            |r| {
                r.any(&["was", "were"])?;
                Some(Act::Be {
                    place: r.at_place()?,
                })
            },
            |r| {
                r.word("was")?;
                r.any(&["happy", "glad", "proud"]).map(|_| Act::Feel)
            },
            |r| {
                r.word("found")?;
                Some(Act::Find(r.object()?))
            },
            |r| {
                r.word("took")?;
                let object = r.object()?;
                r.words("out of")?;
                Some(Act::TakeOut(object, r.the_container()?))
            },
            |r| {
                r.any(&["took", "picked up"])?;
                Some(Act::Take(r.object()?))
            },
            |r| {
                r.any(&["dropped", "left", "put down"])?;
                let object = r.object()?;
                Some(Act::Leave(object, r.at_place()?))
            },
            |r| {
                r.word("put")?;
                let object = r.object()?;
                r.any(&["into", "in"])?;
                Some(Act::Put(object, r.the_container()?))
            },
            Self::gift,
        ];
        rules.into_iter().find_map(|rule| self.maybe(rule))
    }

    fn gift(&mut self) -> Option<Act> {
        self.any(&["gave", "handed"])?;
        let to_first = self.maybe(|r| {
            let to = r.person()?;
            Some(Act::Give(r.object()?, to))
        });
        to_first.or_else(|| {
            let object = self.object()?;
            self.word("to")?;
            Some(Act::Give(object, self.person()?))
        })
    }

    fn object(&mut self) -> Option<Object> {
        let article = self.any(&["a", "an", "the"])?;
        let colour = self.maybe(Self::colour);
        let first = self
            .words
            .get(self.at)?
            .starts_with(['a', 'e', 'i', 'o', 'u']);
        let first = if colour.is_some() { false } else { first };
        let thing = self.thing()?;
        let fits = match article {
            "a" => !first,
            "an" => first,
            _ => true,
        };
        fits.then_some(Object {
            thing,
            colour,
            new: article != "the",
        })
    }

    fn at_place(&mut self) -> Option<&'static str> {
        let at = self.any(&["in", "at"])?;
        let place = self.the_place()?;
        let known = PLACES.iter().find(|known| known.name == place)?;
        (known.at == at).then_some(place)
    }

    fn the_place(&mut self) -> Option<&'static str> {
        self.word("the")?;
        let word = self.next()?;
        PLACES
            .iter()
            .map(|place| place.name)
            .find(|name| *name == word)
    }

    fn the_container(&mut self) -> Option<&'static str> {
        self.word("the")?;
        let word = self.next()?;
        CONTAINERS.into_iter().find(|name| *name == word)
    }

    fn person(&mut self) -> Option<&'static str> {
        let word = self.next()?;
        PERSONS
            .iter()
            .map(|person| person.name)
            .find(|name| *name == word)
    }

    fn thing(&mut self) -> Option<&'static str> {
        let word = self.next()?;
        THINGS
            .iter()
            .map(|thing| thing.one)
            .find(|name| *name == word)
    }

    fn colour(&mut self) -> Option<&'static str> {
        let word = self.next()?;
        COLOURS.into_iter().find(|name| *name == word)
    }
}

/// Whether a pronoun, or the same name, can mean `who`.
fn fits(pronoun: Option<&Who>, who: &Who) -> bool {
    let he = |names: &[&str]| {
        let person = PERSONS.iter().find(|person| names == [person.name]);
        person.map(|person| person.he)
    };
    match (pronoun, who) {
        (None, _) => true,
        (Some(Who::He), Who::Names(names)) => he(names) == Some(true),
        (Some(Who::She), Who::Names(names)) => he(names) == Some(false),
        (Some(own), other) => own == other,
    }
}

fn cause_in(phrase: &str) -> Option<&'static str> {
    CAUSES
        .into_iter()
        .find(|cause| phrase.split(' ').any(|word| word == *cause))
}
