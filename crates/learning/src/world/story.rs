//! Stories of people who go places, find, take and give things, with questions about them.

mod cause;
mod plot;
mod query;
mod reply;
mod state;
mod telling;

use std::collections::BTreeSet;

use super::dice::Dice;
use super::phrase::{capital, say, with_article};
use super::sample::{Kind, Turn};
use super::split::{Cast, Split};
use super::words::{COUNTABLE, PERSONS, THINGS};
use crate::answer::{Expected, Form};
use plot::{Plot, Wish};
use query::Query;

/// How many stories in a hundred are short, of those to learn from: who is where and what belongs to
/// whom, which is what a small model finds hard, is all there is to them.
const SHORT_PERCENT: u32 = 30;

fn lesson(dice: &mut Dice) -> Plot {
    if !dice.chance(SHORT_PERCENT) {
        return ordinary(dice);
    }
    let steps = dice.below(2);
    Plot::draw(dice, Wish::default(), steps)
}

fn ordinary(dice: &mut Dice) -> Plot {
    let steps = plot::steps(dice);
    Plot::draw(dice, Wish::default(), steps)
}

/// A story told by the user, and one to six questions about it; `None` if its cast is of the other
/// split.
pub(super) fn asked(dice: &mut Dice, split: Split) -> Option<Vec<Turn>> {
    let plot = match split {
        Split::Training => lesson(dice),
        Split::HeldOut => ordinary(dice),
    };
    let story = telling::tell(dice, &plot).join(" ");
    if Cast::of(&story).split() != split {
        return None;
    }
    let count = 1 + dice.weighted(&[16, 20, 22, 18, 14, 10]);
    // Mostly story and question come in one message.
    let apart = dice.chance(12);
    let intro = match dice.chance(15) {
        true => say(dice, "[Here is a story.|Listen to this.|Read this.] ", &[]),
        false => String::new(),
    };
    let story = format!("{intro}{story}");
    let mut turns = Vec::new();
    if apart {
        dice.answering(true);
        let nod = "[That is a nice story|I have read it|I see]. What do you want to know?";
        let nod = say(dice, nod, &[]);
        dice.answering(false);
        turns.push(Turn::unjudged(Kind::Story, story.clone(), nod));
    }
    let first = if apart { None } else { Some(story) };
    turns.extend(questions(dice, &plot, count, first));
    Some(turns)
}

/// A story told by the assistant, and mostly some questions about it. A held-out one is asked for
/// with a person and a thing that nobody asks for together in training. `None` if this draw is of
/// something else.
pub(super) fn told(dice: &mut Dice, split: Split) -> Option<Vec<Turn>> {
    let (wish, prompt, about) = wish(dice);
    if Cast::of(&prompt).split() != split {
        return None;
    }
    let (plot, turn) = tale(dice, split, (wish, prompt, about))?;
    let mut turns = vec![turn];
    let count = dice.weighted(&[40, 40, 20]);
    turns.extend(questions(dice, &plot, count, None));
    Some(turns)
}

/// Any story, told because somebody said yes to one; `None` if none was found.
pub(super) fn accepted(dice: &mut Dice, split: Split, prompt: String) -> Option<Turn> {
    let (_, turn) = tale(dice, split, (Wish::default(), prompt, BTreeSet::new()))?;
    Some(turn)
}

/// A story by the assistant. In training its cast is one of training.
fn tale(
    dice: &mut Dice,
    split: Split,
    (wish, prompt, about): (Wish, String, BTreeSet<String>),
) -> Option<(Plot, Turn)> {
    dice.answering(true);
    let plot = Plot::wished(dice, wish)?;
    let mut sentences = telling::tell(dice, &plot);
    if let Some(who) = plot.last_actor().filter(|_| dice.chance(50)) {
        let mood = *dice.pick(&["happy", "glad", "proud"]);
        sentences.push(format!("{} was {mood}.", capital(PERSONS[who].name)));
    }
    dice.answering(false);
    let story = sentences.join(" ");
    if split == Split::Training && Cast::of(&story).split() != split {
        return None;
    }
    let turn = Turn {
        kind: Kind::Tale,
        user: prompt,
        assistant: story,
        expected: Some(Expected::new(Form::Story { about })),
    };
    Some((plot, turn))
}

fn wish(dice: &mut Dice) -> (Wish, String, BTreeSet<String>) {
    let person = dice.chance(60).then(|| dice.below(PERSONS.len()));
    let thing = dice.chance(60).then(|| dice.below(COUNTABLE));
    let subject = match (person, thing) {
        (Some(person), Some(thing)) => {
            let thing = with_article(THINGS[thing].one);
            format!(" about {} and {thing}", capital(PERSONS[person].name))
        }
        (Some(person), None) => format!(" about {}", capital(PERSONS[person].name)),
        (None, Some(thing)) => format!(" about {}", with_article(THINGS[thing].one)),
        (None, None) => String::new(),
    };
    let template = "[Please tell me a [short |]story{x}.|Tell me a [short |]story{x}[.|, please.]|\
                    Can you tell me a [short |]story{x}?|I want to hear a story{x}.|\
                    Do you know a story{x}?|Make up a story{x}.]";
    let prompt = say(dice, template, &[("x", &subject)]);
    let about = person
        .map(|person| PERSONS[person].name)
        .into_iter()
        .chain(thing.map(|thing| THINGS[thing].one))
        .map(str::to_owned)
        .collect();
    (Wish { person, thing }, prompt, about)
}

/// Questions about a story; the first one behind `story`, if that is still to be told.
fn questions(dice: &mut Dice, plot: &Plot, count: usize, mut story: Option<String>) -> Vec<Turn> {
    let mut asked: Vec<Query> = Vec::new();
    let mut turns = Vec::new();
    for _ in 0..count {
        let Some(query) = query::choose(dice, plot, &asked) else {
            break;
        };
        let made = query::ask(dice, plot, query, asked.last().copied());
        asked.push(query);
        let user = match story.take() {
            Some(story) => format!("{story} {}", made.question),
            None => made.question,
        };
        turns.push(Turn {
            kind: Kind::Story,
            user,
            assistant: made.answer,
            expected: Some(made.expected),
        });
    }
    turns
}
