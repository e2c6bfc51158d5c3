//! Makes up what happens in a story, step by step from how things stand.

use super::cause::{Cause, ERRANDS, NEEDS, contrary};
use super::state::{Event, Spot, State};
use crate::world::dice::Dice;
use crate::world::words::{COLOURS, CONTAINERS, COUNTABLE, PERSONS, PLACES, THINGS};

/// A story before it is told.
#[derive(Debug, Clone)]
pub(super) struct Plot {
    /// The people in it, in no order that matters.
    pub(super) persons: Vec<usize>,
    /// The things in it, with the colour that some have.
    pub(super) things: Vec<(usize, Option<usize>)>,
    /// What happens.
    pub(super) events: Vec<Event>,
    /// How it ends.
    pub(super) state: State,
}

/// Who and what a story must have in it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wish {
    pub(super) person: Option<usize>,
    pub(super) thing: Option<usize>,
}

impl Plot {
    /// Makes up a story in which this many things happen after its opening.
    pub(super) fn draw(dice: &mut Dice, wish: Wish, steps: usize) -> Self {
        let mut author = Author::cast(dice, wish);
        author.open(wish.thing);
        (0..steps).for_each(|_| author.step());
        author.plot
    }

    /// Makes up a story of what is wished: the person does something, the thing is taken or found.
    /// `None` if this draw was of something else.
    pub(super) fn wished(dice: &mut Dice, wish: Wish) -> Option<Self> {
        let steps = steps(dice);
        let plot = Self::draw(dice, wish, steps);
        let acts = |person| {
            plot.events
                .iter()
                .any(|event| event.actor() == Some(person))
        };
        let got = |thing| {
            plot.events.iter().any(|event| {
                matches!(*event, Event::Find { thing: t, .. } | Event::Take { thing: t, .. }
                    if t == thing)
            })
        };
        let fits = wish.person.is_none_or(acts) && wish.thing.is_none_or(got);
        fits.then_some(plot)
    }

    /// Who did the last deed.
    pub(super) fn last_actor(&self) -> Option<usize> {
        self.events.iter().rev().find_map(Event::actor)
    }

    /// The gifts in it: from, to, thing.
    pub(super) fn gifts(&self) -> Vec<(usize, usize, usize)> {
        let gift = |event: &Event| match *event {
            Event::Give { from, to, thing } => Some((from, to, thing)),
            _ => None,
        };
        self.events.iter().filter_map(gift).collect()
    }
}

/// What happens after the opening of an ordinary story.
pub(super) fn steps(dice: &mut Dice) -> usize {
    2 + dice.below(3)
}

/// What a person can do next.
#[derive(Clone, Copy, PartialEq)]
enum Act {
    Go,
    Errand,
    Visit,
    Find,
    Take,
    Drop,
    Put,
    TakeOut,
    Give,
}

/// All acts, with how often each is chosen where it is possible.
const ACTS: [(Act, u32); 9] = [
    (Act::Go, 4),
    (Act::Errand, 3),
    (Act::Visit, 3),
    (Act::Find, 4),
    (Act::Take, 6),
    (Act::Drop, 2),
    (Act::Put, 2),
    (Act::TakeOut, 3),
    (Act::Give, 5),
];

struct Author<'a> {
    dice: &'a mut Dice,
    plot: Plot,
    /// The one container, once something is put into it.
    container: Option<usize>,
    /// How many things may still come in.
    unseen: usize,
    actor: usize,
    causes: Vec<&'static str>,
}

impl<'a> Author<'a> {
    fn cast(dice: &'a mut Dice, wish: Wish) -> Self {
        let count = 1 + dice.weighted(&[25, 60, 15]);
        let persons = chosen(dice, wish.person, count, PERSONS.len());
        let unseen = 1 + dice.weighted(&[55, 45]);
        let actor = persons[0];
        let plot = Plot {
            persons,
            things: Vec::new(),
            events: Vec::new(),
            state: State::default(),
        };
        Self {
            dice,
            plot,
            container: None,
            unseen,
            actor,
            causes: Vec::new(),
        }
    }

    fn open(&mut self, wish: Option<usize>) {
        let persons = self.plot.persons.clone();
        let together = if persons.len() > 1 && self.dice.chance(55) {
            2
        } else {
            1
        };
        let place = self.dice.below(PLACES.len());
        let who = persons[..together].to_vec();
        self.happen(Event::Were { who, place });
        for &person in &persons[together..] {
            let taken = &self.plot.state.places;
            let free: Vec<usize> = (0..PLACES.len())
                .filter(|place| !taken.values().any(|other| other == place))
                .collect();
            let place = *self.dice.pick(&free);
            let who = vec![person];
            self.happen(Event::Were { who, place });
        }
        let thing = self.thing(wish);
        if self.dice.chance(40) {
            let near = self.dice.chance(70);
            let place = if near {
                place
            } else {
                self.dice.below(PLACES.len())
            };
            self.happen(Event::Lay { thing, place });
        } else {
            let who = *self.dice.pick(&persons);
            self.actor = who;
            self.happen(Event::Find { who, thing });
        }
    }

    fn step(&mut self) {
        let persons = self.plot.persons.clone();
        let weights: Vec<u32> = persons
            .iter()
            .map(|&person| if person == self.actor { 3 } else { 2 })
            .collect();
        let actor = persons[self.dice.weighted(&weights)];
        let last = self.plot.events.last();
        // Nobody goes twice in a row: the first way would say nothing.
        let resting = matches!(last, Some(&Event::Go { who, .. }) if who == actor);
        self.actor = actor;
        let weights = ACTS.map(|(act, weight)| {
            let moves = matches!(act, Act::Go | Act::Errand | Act::Visit);
            let impossible = (moves && resting) || !self.can(act);
            if impossible { 0 } else { weight }
        });
        if weights.iter().all(|&weight| weight == 0) {
            return;
        }
        let (act, _) = ACTS[self.dice.weighted(&weights)];
        match act {
            Act::Put if self.container.is_none() => {
                self.container = Some(self.dice.below(CONTAINERS.len()));
            }
            Act::Find => {
                let thing = self.thing(None);
                return self.happen(Event::Find { who: actor, thing });
            }
            _ => {}
        }
        let mut options = self.options(act);
        let event = options.swap_remove(self.dice.below(options.len()));
        if let Event::Go {
            cause: Some(cause), ..
        }
        | Event::Take {
            cause: Some(cause), ..
        } = event
        {
            self.causes.push(cause.key);
        }
        self.happen(event);
    }

    /// Brings a thing in, in a colour or in none.
    fn thing(&mut self, wish: Option<usize>) -> usize {
        let known = &self.plot.things;
        let new: Vec<usize> = (0..COUNTABLE)
            .filter(|thing| !known.iter().any(|(other, _)| other == thing))
            .collect();
        let free: Vec<usize> = (0..COLOURS.len())
            .filter(|&colour| !known.iter().any(|&(_, other)| other == Some(colour)))
            .collect();
        let thing = wish.unwrap_or_else(|| *self.dice.pick(&new));
        let colour = self.dice.chance(60).then(|| *self.dice.pick(&free));
        self.plot.things.push((thing, colour));
        self.unseen -= 1;
        thing
    }

    fn can(&self, act: Act) -> bool {
        match act {
            Act::Find => self.unseen > 0,
            other => !self.options(other).is_empty(),
        }
    }

    /// Everything of one kind that the actor can do now, but for what is found: that is drawn.
    fn options(&self, act: Act) -> Vec<Event> {
        let mut events = self.possible(act);
        let last = self.plot.events.last();
        events.retain(|event| last.is_none_or(|last| !event.undoes(last)));
        events
    }

    fn possible(&self, act: Act) -> Vec<Event> {
        let who = self.actor;
        let here = self.here(who);
        let state = &self.plot.state;
        let held = || state.held_by(who).into_iter();
        let go = |place, cause| Event::Go { who, place, cause };
        // Which one is drawn only when something is put into it.
        let container = self.container.unwrap_or_default();
        match act {
            Act::Go => (0..PLACES.len())
                .filter(|&place| place != here)
                .map(|place| go(place, None))
                .collect(),
            Act::Errand => self.errands(here),
            Act::Visit => self
                .others(|place| place != here)
                .map(|other| go(self.here(other), None))
                .collect(),
            Act::Find => Vec::new(),
            Act::Take => self.takes(here),
            Act::Drop => held()
                .map(|thing| Event::Drop {
                    who,
                    thing,
                    place: here,
                })
                .collect(),
            Act::Put => held()
                .map(|thing| Event::Put {
                    who,
                    thing,
                    container,
                })
                .collect(),
            Act::TakeOut => state
                .where_spot(|spot| {
                    spot == Spot::Container {
                        container,
                        place: here,
                    }
                })
                .into_iter()
                .map(|thing| Event::TakeOut {
                    who,
                    thing,
                    container,
                })
                .collect(),
            Act::Give => held()
                .flat_map(|thing| {
                    let give = move |to| Event::Give {
                        from: who,
                        to,
                        thing,
                    };
                    self.others(move |place| place == here).map(give)
                })
                .collect(),
        }
    }

    fn errands(&self, here: usize) -> Vec<Event> {
        let who = self.actor;
        let mut events = Vec::new();
        for errand in ERRANDS
            .iter()
            .filter(|e| self.is_new(&e.cause) && e.arises_at(PLACES[here].name))
        {
            for (place, there) in PLACES.iter().enumerate() {
                // A second reason for the same way could not be told from the first.
                let again = self.plot.events.iter().any(|event| {
                    matches!(*event, Event::Go { who: w, place: p, .. } if w == who && p == place)
                });
                if place != here && !again && errand.places.contains(&there.name) {
                    let cause = Some(&errand.cause);
                    events.push(Event::Go { who, place, cause });
                }
            }
        }
        events
    }

    /// Each thing that lies here, once without and once with each reason to take it.
    fn takes(&self, here: usize) -> Vec<Event> {
        let who = self.actor;
        let mut events = Vec::new();
        for thing in self.plot.state.where_spot(|spot| spot == Spot::Place(here)) {
            events.push(Event::Take {
                who,
                thing,
                cause: None,
            });
            let name = THINGS[thing].one;
            let taken = self.plot.events.iter().any(|event| {
                matches!(*event, Event::Take { who: w, thing: t, .. } if w == who && t == thing)
            });
            let fits = |need: &&super::cause::Need| {
                !taken
                    && need.things.contains(&name)
                    && need.arises_at(PLACES[here].name)
                    && self.is_new(&need.cause)
            };
            for need in NEEDS.iter().filter(fits) {
                let cause = Some(&need.cause);
                events.push(Event::Take { who, thing, cause });
            }
        }
        events
    }

    fn is_new(&self, cause: &Cause) -> bool {
        let mut told = self.causes.iter();
        !told.any(|told| *told == cause.key || contrary(told, cause.key))
    }

    /// The other people, by where they are.
    fn others(&self, place: impl Fn(usize) -> bool) -> impl Iterator<Item = usize> {
        let persons = self.plot.persons.iter().copied();
        persons.filter(move |&other| other != self.actor && place(self.here(other)))
    }

    fn here(&self, who: usize) -> usize {
        self.plot.state.place_of(who)
    }

    fn happen(&mut self, event: Event) {
        self.plot.state.apply(&event);
        self.plot.events.push(event);
    }
}

/// `count` different numbers below `n`, the wished one first.
fn chosen(dice: &mut Dice, wish: Option<usize>, count: usize, n: usize) -> Vec<usize> {
    let mut list = dice.several(count, n);
    if let Some(wish) = wish {
        list.retain(|&other| other != wish);
        list.insert(0, wish);
        list.truncate(count);
    }
    list
}
