//! What can happen in a story, and what follows from it.

use std::collections::BTreeMap;

use super::cause::Cause;

/// Something that happens. Numbers are places in the lists of [`words`](crate::world::words).
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// At the beginning people are somewhere.
    Were { who: Vec<usize>, place: usize },
    /// At the beginning a thing lies somewhere.
    Lay { thing: usize, place: usize },
    /// A person finds a thing, where it is.
    Find { who: usize, thing: usize },
    /// A person goes somewhere.
    Go {
        who: usize,
        place: usize,
        cause: Option<&'static Cause>,
    },
    /// A person takes a thing that lies there.
    Take {
        who: usize,
        thing: usize,
        cause: Option<&'static Cause>,
    },
    /// A person leaves a thing where it is.
    Drop {
        who: usize,
        thing: usize,
        place: usize,
    },
    /// A person puts a thing into a container.
    Put {
        who: usize,
        thing: usize,
        container: usize,
    },
    /// A person takes a thing out of a container.
    TakeOut {
        who: usize,
        thing: usize,
        container: usize,
    },
    /// A person gives a thing to another, who is there too.
    Give {
        from: usize,
        to: usize,
        thing: usize,
    },
}

impl Event {
    /// Who does it; nobody where it says only how things are.
    pub(super) fn actor(&self) -> Option<usize> {
        match *self {
            Self::Were { .. } | Self::Lay { .. } => None,
            Self::Find { who, .. }
            | Self::Go { who, .. }
            | Self::Take { who, .. }
            | Self::Drop { who, .. }
            | Self::Put { who, .. }
            | Self::TakeOut { who, .. } => Some(who),
            Self::Give { from, .. } => Some(from),
        }
    }

    /// Whether it only takes back what has just happened.
    pub(super) fn undoes(&self, last: &Self) -> bool {
        match (self, last) {
            (Self::Give { to, thing, .. }, Self::Give { from, thing: t, .. }) => {
                to == from && thing == t
            }
            (Self::Take { thing, .. }, Self::Drop { thing: t, .. })
            | (Self::Drop { thing, .. }, Self::Take { thing: t, .. })
            | (Self::TakeOut { thing, .. }, Self::Put { thing: t, .. })
            | (Self::Put { thing, .. }, Self::TakeOut { thing: t, .. }) => {
                thing == t && self.actor() == last.actor()
            }
            _ => false,
        }
    }
}

/// Where a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    /// It lies somewhere.
    Place(usize),
    /// Somebody has it.
    Person(usize),
    /// It is in a container, which somebody filled at a place.
    Container { container: usize, place: usize },
}

/// Where everybody and everything is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    pub(super) places: BTreeMap<usize, usize>,
    pub(super) spots: BTreeMap<usize, Spot>,
}

impl State {
    /// Where a person of the story is.
    pub(super) fn place_of(&self, who: usize) -> usize {
        let place = self.places.get(&who);
        *place.expect("a story begins with where everybody is")
    }

    /// Where a thing of the story is.
    pub(super) fn spot_of(&self, thing: usize) -> Spot {
        let spot = self.spots.get(&thing);
        *spot.expect("a story keeps only the things that came into it")
    }

    /// Things that are there.
    pub(super) fn where_spot(&self, spot: impl Fn(Spot) -> bool) -> Vec<usize> {
        let there = self.spots.iter().filter(|&(_, &at)| spot(at));
        there.map(|(&thing, _)| thing).collect()
    }

    /// What somebody has.
    pub(super) fn held_by(&self, who: usize) -> Vec<usize> {
        self.where_spot(|spot| spot == Spot::Person(who))
    }

    /// Lets something happen.
    pub(super) fn apply(&mut self, event: &Event) {
        match *event {
            Event::Were { ref who, place } => {
                self.places
                    .extend(who.iter().map(|&person| (person, place)));
            }
            Event::Go { who, place, .. } => {
                self.places.insert(who, place);
            }
            Event::Lay { thing, place } | Event::Drop { thing, place, .. } => {
                self.spots.insert(thing, Spot::Place(place));
            }
            Event::Find { who, thing }
            | Event::Take { who, thing, .. }
            | Event::TakeOut { who, thing, .. } => {
                self.spots.insert(thing, Spot::Person(who));
            }
            Event::Give { to, thing, .. } => {
                self.spots.insert(thing, Spot::Person(to));
            }
            Event::Put {
                who,
                thing,
                container,
            } => {
                let place = self.place_of(who);
                self.spots
                    .insert(thing, Spot::Container { container, place });
            }
        }
    }
}
