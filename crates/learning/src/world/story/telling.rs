//! How the events of a story are told.

use super::cause::Cause;
use super::plot::Plot;
use super::state::Event;
use crate::world::dice::Dice;
use crate::world::phrase::{capital, say, say_one, with_article, wording};
use crate::world::words::{COLOURS, CONTAINERS, PERSONS, PLACES, THINGS};

/// The sentences of a story.
pub(super) fn tell(dice: &mut Dice, plot: &Plot) -> Vec<String> {
    let mut teller = Teller {
        dice,
        plot,
        subject: None,
        introduced: Vec::new(),
        sentences: Vec::new(),
        deeds: false,
    };
    plot.events.iter().for_each(|event| teller.event(event));
    teller.sentences
}

/// A name as it is written.
pub(super) fn name(person: usize) -> String {
    capital(PERSONS[person].name)
}

/// `in the park`, `at the river`.
pub(super) fn at_place(place: usize) -> String {
    let place = PLACES[place];
    format!("{} the {}", place.at, place.name)
}

/// The clause of a cause, for a person.
pub(super) fn clause(cause: &Cause, person: usize) -> String {
    cause.clause.replace("{he}", pronoun(person))
}

/// `he` or `she`.
pub(super) fn pronoun(person: usize) -> &'static str {
    if PERSONS[person].he { "he" } else { "she" }
}

struct Teller<'a> {
    dice: &'a mut Dice,
    plot: &'a Plot,
    /// Who the last sentence was about; a pronoun may mean nobody else.
    subject: Option<usize>,
    introduced: Vec<usize>,
    sentences: Vec<String>,
    /// Whether something was done already, so that `then` has something to follow.
    deeds: bool,
}

impl Teller<'_> {
    fn event(&mut self, event: &Event) {
        match *event {
            Event::Were { ref who, place } => self.were(who, place),
            Event::Lay { thing, place } => self.lay(thing, place),
            Event::Find { who, thing } => self.act(who, "found {it}", thing, &[]),
            Event::Go { who, place, cause } => {
                let to = format!("the {}", PLACES[place].name);
                let deed = wording(self.dice, "[went|walked|ran] to {to}", &[("to", &to)]);
                self.deed(who, &deed, cause);
            }
            Event::Take { who, thing, cause } => {
                let it = self.mention(thing);
                let deed = wording(self.dice, "[took|picked up] {it}", &[("it", &it)]);
                self.deed(who, &deed, cause);
            }
            Event::Drop { who, thing, place } => {
                let there = at_place(place);
                let template = "[dropped|left|put down] {it} {there}";
                self.act(who, template, thing, &[("there", &there)]);
            }
            Event::Put {
                who,
                thing,
                container,
            } => {
                let box_ = CONTAINERS[container];
                self.act(who, "put {it} [in|into] the {box}", thing, &[("box", box_)]);
            }
            Event::TakeOut {
                who,
                thing,
                container,
            } => {
                let box_ = CONTAINERS[container];
                self.act(who, "took {it} out of the {box}", thing, &[("box", box_)]);
            }
            Event::Give { from, to, thing } => {
                let to_name = name(to);
                let template = "[gave {it} to {to}|handed {it} to {to}|gave {to} {it}]";
                self.act(from, template, thing, &[("to", &to_name)]);
                if PERSONS[from].he == PERSONS[to].he {
                    // A pronoun could mean either.
                    self.subject = None;
                }
            }
        }
    }

    fn were(&mut self, who: &[usize], place: usize) {
        let there = at_place(place);
        let (names, template) = match *who {
            [one] => (name(one), "{names} was {there}."),
            _ => {
                let names: Vec<String> = who.iter().map(|&one| name(one)).collect();
                (names.join(" and "), "{names} were {there}.")
            }
        };
        let slots = [("names", names.as_str()), ("there", there.as_str())];
        let sentence = say(self.dice, template, &slots);
        self.sentences.push(sentence);
        self.subject = match *who {
            [one] => Some(one),
            _ => None,
        };
    }

    fn lay(&mut self, thing: usize, place: usize) {
        let (it, there) = (self.mention(thing), at_place(place));
        let templates = ["There was {it} {there}.", "{it} [lay|was] {there}."];
        let slots = [("it", it.as_str()), ("there", there.as_str())];
        let sentence = say_one(self.dice, &templates, &slots);
        self.sentences.push(sentence);
        self.subject = None;
        self.tell_colour(thing);
    }

    /// A person does something with a thing, without a cause.
    fn act(&mut self, who: usize, template: &str, thing: usize, more: &[(&str, &str)]) {
        let it = self.mention(thing);
        let mut slots = vec![("it", it.as_str())];
        slots.extend(more);
        let deed = wording(self.dice, template, &slots);
        self.deed(who, &deed, None);
        self.tell_colour(thing);
    }

    /// Writes the sentence that a person did something.
    fn deed(&mut self, who: usize, deed: &str, cause: Option<&'static Cause>) {
        let he = pronoun(who);
        let again = self.subject == Some(who) && self.dice.chance(60);
        let full = name(who);
        let subject = if again { he } else { full.as_str() };
        let sentence = match cause {
            None => {
                let linked = self.deeds && self.dice.chance(25);
                let link = match linked {
                    true => *self.dice.pick(&["then ", "after that, ", "later, "]),
                    false => "",
                };
                format!("{link}{subject} {deed}.")
            }
            Some(cause) if self.dice.chance(60) => {
                // The cause first; if it speaks of the person, that names it.
                match cause.clause.strip_prefix("{he} ") {
                    Some(rest) => format!("{subject} {rest}, so {he} {deed}."),
                    None => format!("{}, so {subject} {deed}.", cause.clause),
                }
            }
            Some(cause) => format!("{subject} {deed} because {}.", clause(cause, who)),
        };
        self.sentences.push(capital(&sentence));
        self.subject = Some(who);
        self.deeds = true;
    }

    /// The thing as an object: `a red ball` when it comes in, `the ball` from then on.
    fn mention(&mut self, thing: usize) -> String {
        let noun = THINGS[thing].one;
        let colour = self.colour(thing);
        if self.introduced.contains(&thing) {
            return match colour {
                Some(colour) if self.dice.chance(15) => format!("the {colour} {noun}"),
                _ => format!("the {noun}"),
            };
        }
        match colour {
            Some(colour) if self.dice.chance(75) => {
                self.introduced.push(thing);
                with_article(&format!("{colour} {noun}"))
            }
            _ => with_article(noun),
        }
    }

    /// Says the colour of a thing that came in without it, and notes that it came in.
    fn tell_colour(&mut self, thing: usize) {
        if self.introduced.contains(&thing) {
            return;
        }
        self.introduced.push(thing);
        if let Some(colour) = self.colour(thing) {
            let noun = THINGS[thing].one;
            self.sentences.push(format!("The {noun} was {colour}."));
            self.subject = None;
        }
    }

    fn colour(&self, thing: usize) -> Option<&'static str> {
        let mut things = self.plot.things.iter();
        let (_, colour) = things.find(|&&(other, _)| other == thing)?;
        colour.map(|colour| COLOURS[colour])
    }
}
