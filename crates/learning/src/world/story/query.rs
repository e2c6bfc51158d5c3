//! Questions about a story.

use super::cause::Cause;
use super::plot::Plot;
use super::reply::answer;
use super::state::Event;
use super::telling::{at_place, name};
use crate::answer::Expected;
use crate::world::dice::Dice;
use crate::world::phrase::say;
use crate::world::words::{COUNTABLE, PERSONS, PLACES, THINGS};

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Query {
    WherePerson(usize),
    WhereThing(usize),
    WhoHas(usize),
    WhatHas(usize),
    Colour(usize, usize),
    Why {
        who: usize,
        aim: Aim,
        cause: &'static Cause,
    },
    WhoGave {
        from: usize,
        to: usize,
        thing: usize,
    },
    IsAt(usize, usize),
    HasThing(usize, usize),
    EverybodyWhere,
    EverybodyHas,
    EverythingWhere,
    StrangerWhere(usize),
    StrangeThing(usize),
}

/// What somebody did for a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    Go(usize),
    Take(usize),
}

/// A question, its answer, and what an answer must say.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) question: String,
    pub(super) answer: String,
    pub(super) expected: Expected,
}

/// Chooses a question that was not asked yet.
pub(super) fn choose(dice: &mut Dice, plot: &Plot, asked: &[Query]) -> Option<Query> {
    let mut groups = candidates(plot);
    groups
        .iter_mut()
        .for_each(|(_, queries)| queries.retain(|query| !asked.contains(query)));
    groups.retain(|(_, queries)| !queries.is_empty());
    if groups.is_empty() {
        return None;
    }
    let weights: Vec<u32> = groups.iter().map(|&(weight, _)| weight).collect();
    let (_, queries) = &groups[dice.weighted(&weights)];
    let query = *dice.pick(queries);
    Some(match query {
        // Half of these questions are about where somebody is; the other half are elsewhere.
        Query::IsAt(who, _) if dice.chance(50) => Query::IsAt(who, dice.below(PLACES.len())),
        other => other,
    })
}

/// Asks it. `before` is what was asked just before, if it was about the same story.
pub(super) fn ask(dice: &mut Dice, plot: &Plot, query: Query, before: Option<Query>) -> Asked {
    dice.answering(false);
    let question = question(dice, query, before);
    dice.answering(true);
    let (answer, expected) = answer(dice, plot, query);
    dice.answering(false);
    Asked {
        question,
        answer,
        expected,
    }
}

/// All questions that the story answers, or that it plainly does not, by kind and weight.
fn candidates(plot: &Plot) -> Vec<(u32, Vec<Query>)> {
    let persons = || plot.persons.iter().copied();
    let things = || plot.things.iter().map(|&(thing, _)| thing);
    let strangers = (0..PERSONS.len()).filter(|person| !plot.persons.contains(person));
    let strange = (0..COUNTABLE).filter(|&thing| !things().any(|known| known == thing));
    let at = |who: usize| plot.state.place_of(who);
    let colours = plot.things.iter();
    let several = |count: usize, query| if count > 1 { vec![query] } else { Vec::new() };
    let (people, objects) = (plot.persons.len(), plot.things.len());
    let holds = persons().flat_map(|who| things().map(move |thing| Query::HasThing(who, thing)));
    vec![
        (20, persons().map(Query::WherePerson).collect()),
        (22, things().map(Query::WhereThing).collect()),
        (12, things().map(Query::WhoHas).collect()),
        (8, persons().map(Query::WhatHas).collect()),
        (
            10,
            colours
                .filter_map(|&(thing, colour)| Some(Query::Colour(thing, colour?)))
                .collect(),
        ),
        (16, reasons(plot)),
        (6, gifts(plot)),
        (5, persons().map(|who| Query::IsAt(who, at(who))).collect()),
        (5, holds.collect()),
        (8, several(people, Query::EverybodyWhere)),
        (6, several(people, Query::EverybodyHas)),
        (6, several(objects, Query::EverythingWhere)),
        (2, strangers.map(Query::StrangerWhere).collect()),
        (2, strange.map(Query::StrangeThing).collect()),
    ]
}

/// What has a reason that is not in doubt: nobody went to the same place or took the same thing
/// twice.
fn reasons(plot: &Plot) -> Vec<Query> {
    let deed = |event: &Event| match *event {
        Event::Go { who, place, cause } => Some((who, Aim::Go(place), cause)),
        Event::Take { who, thing, cause } => Some((who, Aim::Take(thing), cause)),
        _ => None,
    };
    let deeds: Vec<_> = plot.events.iter().filter_map(deed).collect();
    let once = |who, aim| {
        let same = deeds.iter().filter(|deed| (deed.0, deed.1) == (who, aim));
        same.count() == 1
    };
    deeds
        .iter()
        .filter_map(|&(who, aim, cause)| {
            let cause = cause.filter(|_| once(who, aim))?;
            Some(Query::Why { who, aim, cause })
        })
        .collect()
}

/// Gifts whose giver is not in doubt.
fn gifts(plot: &Plot) -> Vec<Query> {
    let gifts = plot.gifts();
    let once = |&(_, to, thing): &(usize, usize, usize)| {
        let same = gifts.iter().filter(|gift| (gift.1, gift.2) == (to, thing));
        same.count() == 1
    };
    gifts
        .iter()
        .copied()
        .filter(once)
        .map(|(from, to, thing)| Query::WhoGave { from, to, thing })
        .collect()
}

fn question(dice: &mut Dice, query: Query, before: Option<Query>) -> String {
    let mut asking = Asking { dice };
    match (query, before) {
        (Query::WherePerson(who), Some(Query::WherePerson(_))) => asking.with(
            "And {p}?|And where is {p}[| now]?|Where is {p}?",
            &[("p", &name(who))],
        ),
        (Query::WhereThing(thing), Some(Query::WhereThing(_))) => asking.with(
            "And the {t}?|And where is the {t}[| now]?|Where is the {t}?",
            &[("t", THINGS[thing].one)],
        ),
        _ => asking.plain(query),
    }
}

struct Asking<'a> {
    dice: &'a mut Dice,
}

impl Asking<'_> {
    fn with(&mut self, template: &str, slots: &[(&str, &str)]) -> String {
        say(self.dice, &format!("[{template}]"), slots)
    }

    fn plain(&mut self, query: Query) -> String {
        let thing = |thing: usize| THINGS[thing].one;
        match query {
            Query::WherePerson(who) | Query::StrangerWhere(who) => self.with(
                "Where is {p}[| now]?|Tell me where {p} is.|Do you know where {p} is?|Where did {p} \
                 end up?|[In|At] which place is {p}[| now]?",
                &[("p", &name(who))],
            ),
            Query::WhereThing(t) => self.with(
                "Where is the {t}[| now]?|Tell me where the {t} is.|Do you know where the {t} \
                 is?|Where did the {t} end up?|Where can I find the {t}?",
                &[("t", thing(t))],
            ),
            Query::WhoHas(t) | Query::StrangeThing(t) => self.with(
                "Who has the {t}[| now]?|Tell me who has the {t}.|Do you know who has the {t}?|Who \
                 holds the {t}[| now]?",
                &[("t", thing(t))],
            ),
            Query::WhatHas(who) => self.with(
                "What does {p} have[| now]?|Tell me what {p} has.|What is {p} holding?|Do you know \
                 what {p} has?",
                &[("p", &name(who))],
            ),
            Query::Colour(t, _) => self.with(
                "What colour is the {t}?|Which colour does the {t} have?|Tell me the colour of the \
                 {t}.|What is the colour of the {t}?",
                &[("t", thing(t))],
            ),
            Query::Why {
                who,
                aim: Aim::Go(place),
                ..
            } => self.with(
                "Why did {p} go to the {x}?|Why is it that {p} went to the {x}?|Tell me why {p} \
                 went to the {x}.|What made {p} go to the {x}?",
                &[("p", &name(who)), ("x", PLACES[place].name)],
            ),
            Query::Why {
                who,
                aim: Aim::Take(t),
                ..
            } => self.with(
                "Why did {p} take the {x}?|Why is it that {p} took the {x}?|Tell me why {p} took \
                 the {x}.|What made {p} take the {x}?",
                &[("p", &name(who)), ("x", thing(t))],
            ),
            Query::WhoGave { to, thing: t, .. } => self.with(
                "Who gave the {t} to {p}?|Who gave {p} the {t}?|Tell me who gave {p} the {t}.|From \
                 whom did {p} get the {t}?",
                &[("p", &name(to)), ("t", thing(t))],
            ),
            Query::EverybodyWhere | Query::EverybodyHas | Query::EverythingWhere => {
                self.with(about_all(query), &[])
            }
            Query::IsAt(who, place) => self.with(
                "Is {p} {x}[| now]?",
                &[("p", &name(who)), ("x", &at_place(place))],
            ),
            Query::HasThing(who, t) => self.with(
                "Does {p} have the {t}[| now]?|Is it {p} who has the {t}?",
                &[("p", &name(who)), ("t", thing(t))],
            ),
        }
    }
}

/// Questions about everybody or everything.
fn about_all(query: Query) -> &'static str {
    match query {
        Query::EverybodyWhere => {
            "Where is [everybody|everyone][| now]?|Tell me where [everybody|everyone] is.|Where are \
             they all[| now]?"
        }
        Query::EverybodyHas => {
            "What does [everybody|everyone] have[| now]?|Tell me what [everybody|everyone] has.|Who has \
             what[| now]?"
        }
        _ => {
            "Where is everything[| now]?|Tell me where everything is.|Where are all the things[| \
             now]?"
        }
    }
}
