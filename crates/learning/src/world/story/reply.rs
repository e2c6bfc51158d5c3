//! Answers to questions about a story, and what any answer must say.

use super::cause::Cause;
use super::plot::Plot;
use super::query::{Aim, Query};
use super::state::Spot;
use super::telling::{at_place, clause, name, pronoun};
use crate::answer::{Class, Expected};
use crate::world::dice::Dice;
use crate::world::phrase::{capital, listed, say, with_article};
use crate::world::words::{COLOURS, CONTAINERS, PERSONS, PLACES, THINGS};

/// The answer to a question, and what it must say.
pub(super) fn answer(dice: &mut Dice, plot: &Plot, query: Query) -> (String, Expected) {
    match query {
        Query::WherePerson(who) => {
            let place = plot.state.place_of(who);
            let answer = format!("{} is {}.", name(who), at_place(place));
            let expected = Expected::one(Class::Place, PLACES[place].name);
            (answer, expected.naming(&[PERSONS[who].name]))
        }
        Query::WhereThing(thing) => where_thing(plot, thing),
        Query::WhoHas(thing) => who_has(plot, thing),
        Query::WhatHas(who) => what_has(plot, who),
        Query::Colour(thing, colour) => {
            let (noun, colour) = (THINGS[thing].one, COLOURS[colour]);
            let answer = format!("The {noun} is {colour}.");
            (answer, Expected::one(Class::Colour, colour).naming(&[noun]))
        }
        Query::Why { who, aim, cause } => why(dice, plot, (who, aim, cause)),
        Query::WhoGave { from, to, thing } => {
            let noun = THINGS[thing].one;
            let answer = format!("{} got the {noun} from {}.", name(to), name(from));
            let expected = Expected::giver(PERSONS[from].name, PERSONS[to].name);
            (answer, expected.naming(&words_of(plot, thing)))
        }
        Query::IsAt(who, place) => is_at(plot, who, place),
        Query::HasThing(who, thing) => has_thing(plot, who, thing),
        Query::EverybodyWhere => everybody_where(plot),
        Query::EverybodyHas => everybody_has(plot),
        Query::EverythingWhere => everything_where(plot),
        Query::StrangerWhere(who) => {
            let answer = format!("The story does not say where {} is.", name(who));
            (answer, untold(PERSONS[who].name))
        }
        Query::StrangeThing(thing) => {
            let noun = THINGS[thing].one;
            let answer = format!("The story does not say who has {}.", with_article(noun));
            (answer, untold(noun))
        }
    }
}

fn untold(asked: &str) -> Expected {
    Expected::phrases("does not say|do not know").naming(&[asked])
}

/// A thing, and its colour if it has one.
fn words_of(plot: &Plot, thing: usize) -> Vec<&'static str> {
    let mut things = plot.things.iter();
    let known = things.find(|(other, _)| *other == thing);
    let colour = known.and_then(|&(_, colour)| colour);
    let colour = colour.map(|colour| COLOURS[colour]);
    [THINGS[thing].one].into_iter().chain(colour).collect()
}

/// What says where a thing is: who has it, or the place, or the container and its place.
fn spot_words(spot: Spot) -> Vec<&'static str> {
    match spot {
        Spot::Person(who) => vec![PERSONS[who].name],
        Spot::Container { container, place } => vec![CONTAINERS[container], PLACES[place].name],
        Spot::Place(place) => vec![PLACES[place].name],
    }
}

fn is_at(plot: &Plot, who: usize, asked: usize) -> (String, Expected) {
    let place = plot.state.place_of(who);
    let is = place == asked;
    let word = if is { "yes" } else { "no" };
    let answer = format!("{} is {}, so {word}.", name(who), at_place(place));
    let denied = [PLACES[asked].name];
    let denied = if is { &[][..] } else { &denied };
    let expected = Expected::yes(is, &[PLACES[place].name], denied);
    (answer, expected.naming(&[PERSONS[who].name]))
}

fn has_thing(plot: &Plot, who: usize, thing: usize) -> (String, Expected) {
    let spot = plot.state.spot_of(thing);
    let has = spot == Spot::Person(who);
    let word = if has { "yes" } else { "no" };
    let answer = format!("{}, so {word}.", capital(&whereabouts(plot, thing)));
    let denied = [PERSONS[who].name];
    let denied = if has { &[][..] } else { &denied };
    let expected = Expected::yes(has, &spot_words(spot), denied);
    (answer, expected.naming(&words_of(plot, thing)))
}

/// Where a thing is; if somebody has it, by way of where that person is.
fn where_thing(plot: &Plot, thing: usize) -> (String, Expected) {
    let noun = THINGS[thing].one;
    let known = whereabouts(plot, thing);
    let spot = plot.state.spot_of(thing);
    let (answer, word) = match spot {
        Spot::Person(who) => {
            let place = plot.state.place_of(who);
            let (who, there) = (name(who), at_place(place));
            let answer = format!("{known}, and {who} is {there}. So the {noun} is {there}.");
            (answer, PLACES[place].name)
        }
        Spot::Container { container, .. } => (format!("{known}."), CONTAINERS[container]),
        Spot::Place(place) => (format!("{known}."), PLACES[place].name),
    };
    let expected = Expected::one(Class::Place, word).naming(&spot_words(spot));
    (capital(&answer), expected.naming(&words_of(plot, thing)))
}

/// `the ball is with Tom`, `the ball is in the box`: first what is asked about, which leads to the
/// rest.
fn whereabouts(plot: &Plot, thing: usize) -> String {
    let noun = THINGS[thing].one;
    match plot.state.spot_of(thing) {
        Spot::Person(who) => format!("the {noun} is with {}", name(who)),
        Spot::Container { container, .. } => {
            format!("the {noun} is in the {}", CONTAINERS[container])
        }
        Spot::Place(place) => format!("the {noun} is {}", at_place(place)),
    }
}

fn who_has(plot: &Plot, thing: usize) -> (String, Expected) {
    let known = capital(&whereabouts(plot, thing));
    let spot = plot.state.spot_of(thing);
    let (answer, word) = match spot {
        Spot::Person(who) => (format!("{known}."), PERSONS[who].name),
        _ => (format!("{known}, so nobody has it."), "nobody"),
    };
    let expected = Expected::one(Class::Person, word).naming(&spot_words(spot));
    (answer, expected.naming(&words_of(plot, thing)))
}

fn what_has(plot: &Plot, who: usize) -> (String, Expected) {
    let held = held_by(plot, who);
    let answer = format!("{}.", having(plot, who));
    let expected = Expected::named(Class::Thing, &nouns(&held)).naming(&[PERSONS[who].name]);
    (answer, expected.naming(&colours(plot, &held)))
}

/// What somebody has, as it came into the story.
fn held_by(plot: &Plot, who: usize) -> Vec<usize> {
    let things = plot.things.iter().map(|&(thing, _)| thing);
    things
        .filter(|&thing| plot.state.spot_of(thing) == Spot::Person(who))
        .collect()
}

/// The words for things that are held, `nothing` for none.
fn nouns(held: &[usize]) -> Vec<&'static str> {
    match held {
        [] => vec!["nothing"],
        _ => held.iter().map(|&thing| THINGS[thing].one).collect(),
    }
}

fn colours(plot: &Plot, things: &[usize]) -> Vec<&'static str> {
    let things = things.iter();
    things.flat_map(|&thing| words_of(plot, thing)).collect()
}

/// `Tom has the ball and the cup`, `Tom has nothing`.
fn having(plot: &Plot, who: usize) -> String {
    let held = held_by(plot, who);
    let each = held
        .iter()
        .map(|&thing| format!("the {}", THINGS[thing].one));
    let words = match held.is_empty() {
        true => "nothing".to_owned(),
        false => listed(&each.collect::<Vec<_>>()),
    };
    format!("{} has {words}", name(who))
}

fn everybody_where(plot: &Plot) -> (String, Expected) {
    let place = |&who: &usize| plot.state.place_of(who);
    let said = plot.persons.iter();
    let said = said.map(|who| format!("{} is {}", name(*who), at_place(place(who))));
    let pairs = plot.persons.iter();
    let pairs = pairs.map(|who| (PERSONS[*who].name, PLACES[place(who)].name));
    (clauses(&said.collect::<Vec<_>>()), Expected::each(pairs))
}

fn everybody_has(plot: &Plot) -> (String, Expected) {
    let said = plot.persons.iter().map(|&who| having(plot, who));
    let pairs = plot.persons.iter().flat_map(|&who| {
        let nouns = nouns(&held_by(plot, who)).into_iter();
        nouns.map(move |noun| (PERSONS[who].name, noun))
    });
    let held: Vec<usize> = plot
        .persons
        .iter()
        .flat_map(|&who| held_by(plot, who))
        .collect();
    let expected = Expected::each(pairs).naming(&colours(plot, &held));
    (clauses(&said.collect::<Vec<_>>()), expected)
}

fn everything_where(plot: &Plot) -> (String, Expected) {
    let things: Vec<usize> = plot.things.iter().map(|&(thing, _)| thing).collect();
    let said = things.iter().map(|&thing| whereabouts(plot, thing));
    let pairs = things.iter().map(|&thing| {
        let spot = spot_words(plot.state.spot_of(thing));
        (THINGS[thing].one, spot[0])
    });
    let answer = clauses(&said.collect::<Vec<_>>());
    (
        answer,
        Expected::each(pairs).naming(&colours(plot, &things)),
    )
}

/// Clauses as one sentence: `A, b, and c.`
fn clauses(said: &[String]) -> String {
    let (last, start) = said.split_last().expect("several were asked about");
    capital(&format!("{}, and {last}.", start.join(", ")))
}

fn why(
    dice: &mut Dice,
    plot: &Plot,
    (who, aim, cause): (usize, Aim, &Cause),
) -> (String, Expected) {
    let (deed, words) = match aim {
        Aim::Go(place) => {
            let place = PLACES[place].name;
            (format!("went to the {place}"), vec![place])
        }
        Aim::Take(thing) => {
            let deed = format!("took the {}", THINGS[thing].one);
            (deed, words_of(plot, thing))
        }
    };
    let expected = Expected::one(Class::Cause, cause.key).naming(&[PERSONS[who].name]);
    let clause = clause(cause, who);
    let (who, he) = (name(who), pronoun(who));
    let slots = [
        ("who", who.as_str()),
        ("he", he),
        ("deed", deed.as_str()),
        ("clause", clause.as_str()),
    ];
    let answer = say(
        dice,
        "[Because {clause}.|{who} {deed} because {clause}.]",
        &slots,
    );
    (answer, expected.naming(&words))
}
