use std::collections::BTreeSet;

use skein_base::digest::Blake3;

use super::*;
use crate::checker::judge;
use catalogue::{Entry, Keys};
use words::{COUNTABLE, PERSONS, THINGS};

const COUNT: u64 = 3000;

fn texts(sample: &Sample) -> impl Iterator<Item = &str> {
    sample
        .turns
        .iter()
        .flat_map(|turn| [turn.user.as_str(), turn.assistant.as_str()])
}

fn normal(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric());
    let words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join(" ")
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    skein::facts().chain(talk::entries()).chain(nature::facts())
}

#[test]
fn a_sample_depends_on_seed_and_index_alone() {
    let world = World::new(3);
    let forwards: Vec<Sample> = (0..20)
        .map(|index| world.training(Course::First, index))
        .collect();
    let backwards: Vec<Sample> = (0..20)
        .rev()
        .map(|index| world.training(Course::First, index))
        .collect();
    assert!(forwards.iter().eq(backwards.iter().rev()));
    assert_ne!(World::new(4).training(Course::First, 0), forwards[0]);
    assert_ne!(world.held_out(0).turns, forwards[0].turns);
}

#[test]
fn the_corpus_is_the_same_everywhere() {
    let world = World::new(1);
    let all = (0..200).flat_map(|index| {
        let of_kinds = Kind::ALL.map(|kind| world.held_out_of(kind, index));
        [world.training(Course::First, index), world.held_out(index)]
            .into_iter()
            .chain(of_kinds)
    });
    let text: String = all
        .map(|sample| format!("{:?}\n", sample.messages()))
        .collect();
    // A change of this digest is a change of what the embedded model was trained and judged by.
    let golden = "389cf28e2065d2f21c16dbc92e43e97567da09cb579f14fb3b63de762b67cb66";
    assert_eq!(Blake3::of(text.as_bytes()).to_string(), golden);
    let later = [Course::Late, Course::Last].into_iter();
    let later = later.flat_map(|course| (0..200).map(move |index| world.training(course, index)));
    let text: String = later
        .map(|sample| format!("{:?}\n", sample.messages()))
        .collect();
    let golden = "17032c21a8bb9b26f655e230bbc72aa0e78558b0a792ccec469f45ee1d86bc06";
    assert_eq!(Blake3::of(text.as_bytes()).to_string(), golden);
}

#[test]
fn nothing_of_a_template_is_left_over() {
    let world = World::new(5);
    let all =
        (0..COUNT).flat_map(|index| [world.training(Course::First, index), world.held_out(index)]);
    for sample in all {
        for text in texts(&sample) {
            assert!(!text.contains(['[', ']', '{', '}', '|']), "{text}");
            assert!(!text.contains("  ") && text.trim() == text, "{text:?}");
            assert!(!text.is_empty());
        }
    }
}

#[test]
fn every_wording_of_the_catalogues_expands() {
    for entry in entries() {
        let both = [
            (Split::Training, entry.wordings.training),
            (Split::HeldOut, entry.wordings.held_out),
        ];
        for (split, list) in both {
            assert!(list.len() > 1, "{}", entry.answer);
            for seed in 0..40 {
                let turn = entry.turn(&mut Dice::new(seed, &[9]), Kind::Skein, split);
                let text = format!("{} {}", turn.user, turn.assistant);
                assert!(!text.contains(['[', ']', '{', '}', '|']), "{text}");
            }
        }
    }
}

/// The people and things that a text names, found by looking at its words; independent of
/// [`split::Cast`].
fn cast_of(text: &str) -> (BTreeSet<&'static str>, BTreeSet<&'static str>) {
    let text = normal(text);
    let said = |word: &str| text.split(' ').any(|other| other == word);
    let persons = PERSONS.iter().map(|person| person.name);
    let things = THINGS.iter();
    let things = things.filter(|thing| said(thing.one) || said(thing.many));
    (
        persons.filter(|name| said(name)).collect(),
        things.map(|thing| thing.one).collect(),
    )
}

/// What a turn tells of the world: a story without the question behind it, a wish and what was
/// told, a problem, a scene.
fn told(turn: &Turn) -> Vec<String> {
    match turn.kind {
        Kind::Story if turn.expected.is_some() => {
            let sentences: Vec<&str> = turn.user.split_inclusive(['.', '?']).collect();
            let (_, story) = sentences.split_last().expect("a question");
            vec![story.concat()]
        }
        Kind::Story | Kind::Count | Kind::Nature | Kind::Outside => vec![turn.user.clone()],
        Kind::Tale => vec![turn.user.clone(), turn.assistant.clone()],
        _ => Vec::new(),
    }
}

#[test]
fn no_story_of_training_has_the_cast_of_a_held_out_one() {
    let (world, other) = (World::new(6), World::new(7));
    let trained: BTreeSet<_> = (0..4 * COUNT)
        .flat_map(|index| Course::ALL.map(|course| world.training(course, index)))
        .flat_map(|sample| sample.turns)
        .flat_map(|turn| told(&turn))
        .map(|text| cast_of(&text))
        .filter(|(persons, things)| !persons.is_empty() && !things.is_empty())
        .collect();
    assert!(trained.len() > 10_000, "{}", trained.len());
    // Every person meets every thing that stories have, so that none is a stranger to any.
    let pairs: BTreeSet<_> = trained
        .iter()
        .flat_map(|(persons, things)| {
            persons
                .iter()
                .flat_map(move |person| things.iter().map(move |thing| (person, thing)))
        })
        .filter(|(_, thing)| THINGS[..COUNTABLE].iter().any(|known| known.one == **thing))
        .collect();
    assert_eq!(pairs.len(), PERSONS.len() * COUNTABLE);
    for kind in [Kind::Story, Kind::Tale, Kind::Count] {
        for index in 0..600 {
            let sample = other.held_out_of(kind, index);
            let opening = &told(&sample.turns[0])[0];
            let cast = cast_of(opening);
            assert!(!cast.0.is_empty() && !cast.1.is_empty(), "{opening}");
            assert!(!trained.contains(&cast), "{opening}");
        }
    }
}

/// The two numbers of all calculations of a text, such as `15-8=7`; those of three are left out.
fn calculations(text: &str) -> Vec<(u32, u32)> {
    let terms = text.split([' ', ',', '.', '?']);
    let pair = |term: &str| {
        let (left, _) = term.split_once('=')?;
        let (a, b) = left.split_once(['+', '-'])?;
        Some((a.parse().ok()?, b.parse().ok()?))
    };
    terms.filter_map(pair).collect()
}

#[test]
fn no_training_answer_calculates_what_is_held_out() {
    let world = World::new(17);
    let mut seen = 0;
    for index in 0..20_000 {
        for turn in world.training(Course::First, index).turns {
            for (a, b) in calculations(&turn.assistant) {
                assert_eq!(split::of_numbers(a, b), Split::Training, "{turn:?}");
                seen += 1;
            }
        }
    }
    assert!(seen > 10_000, "{seen}");
}

/// The command that an entry is about.
fn command(entry: &Entry) -> Option<&'static str> {
    match entry.keys {
        Keys::Command(command, _) => Some(command),
        Keys::Phrases(_) => words::COMMANDS
            .into_iter()
            .find(|known| *known == entry.subject),
    }
}

#[test]
fn every_command_that_is_asked_for_is_a_word_of_the_world() {
    for entry in skein::facts() {
        if let Keys::Command(command, _) = entry.keys {
            assert!(words::COMMANDS.contains(&command), "{command}");
        }
    }
    for command in words::COMMANDS {
        assert!(skein::facts().any(|entry| entry.subject == command));
    }
}

#[test]
fn no_answer_about_skein_passes_for_another() {
    let facts: Vec<&Entry> = skein::facts().collect();
    let mut mistaken = Vec::new();
    for asked in &facts {
        let expected = asked.expected();
        assert_eq!(judge(asked.answer, &expected), Ok(()), "{}", asked.answer);
        for answered in &facts {
            let own = std::ptr::eq(*asked, *answered);
            // What a command does and how one does it may be answered alike.
            let twins = command(asked).is_some() && command(asked) == command(answered);
            if !own && !twins && judge(answered.answer, &expected).is_ok() {
                mistaken.push((asked.answer, answered.answer));
            }
        }
        for free in ["Yes.", "No.", "Skein."] {
            assert!(judge(free, &expected).is_err(), "{free} {}", asked.answer);
        }
    }
    assert_eq!(mistaken, []);
}

/// The numbers of calculations, whichever way they are written.
fn operands(turn: &Turn) -> BTreeSet<u32> {
    let numbers = turn.user.split(|c: char| !c.is_ascii_digit());
    numbers.filter_map(|number| number.parse().ok()).collect()
}

#[test]
fn held_out_calculations_never_occur_in_training() {
    let (world, other) = (World::new(8), World::new(9));
    let asked = |sample: Sample, kind: Kind| {
        let turns = sample
            .turns
            .into_iter()
            .filter(move |turn| turn.kind == kind);
        turns.map(|turn| operands(&turn)).collect::<Vec<_>>()
    };
    for kind in [Kind::Sum, Kind::Difference] {
        let trained: BTreeSet<BTreeSet<u32>> = (0..20_000)
            .flat_map(|index| asked(world.training(Course::First, index), kind))
            .collect();
        assert!(trained.len() > 1000, "{}", trained.len());
        for index in 0..500 {
            for pair in asked(other.held_out_of(kind, index), kind) {
                assert!(!trained.contains(&pair), "{pair:?}");
            }
        }
    }
}

#[test]
fn held_out_wordings_never_occur_in_training() {
    let (world, other) = (World::new(10), World::new(11));
    let kinds = [
        Kind::Skein,
        Kind::Talk,
        Kind::Outside,
        Kind::Number,
        Kind::Nature,
    ];
    let judged = |turn: &&Turn| kinds.contains(&turn.kind) && turn.expected.is_some();
    let trained: BTreeSet<String> = (0..20_000)
        .flat_map(|index| {
            let sample = world.training(Course::First, index);
            let turns = sample.turns.iter().filter(judged);
            turns.map(|turn| normal(&turn.user)).collect::<Vec<_>>()
        })
        .collect();
    for kind in kinds {
        for index in 0..500 {
            // In small talk the name that was just said is asked for in the same words as ever.
            let turn = &other.held_out_of(kind, index).turns[0];
            assert!(!trained.contains(&normal(&turn.user)), "{turn:?}");
        }
    }
}

#[test]
fn held_out_wordings_differ_from_all_of_training() {
    // By enumeration of many expansions, not by what a corpus happens to hold.
    let said = |entry: &Entry, split| -> BTreeSet<String> {
        (0..400)
            .map(|seed| entry.turn(&mut Dice::new(seed, &[1]), Kind::Skein, split))
            .map(|turn| normal(&turn.user))
            .collect()
    };
    let trained: BTreeSet<String> = entries()
        .flat_map(|entry| said(entry, Split::Training))
        .collect();
    for entry in entries() {
        for wording in said(entry, Split::HeldOut) {
            assert!(!trained.contains(&wording), "{wording}");
        }
    }
}

#[test]
fn held_out_wordings_use_words_of_training() {
    let world = World::new(12);
    let trained: BTreeSet<String> = (0..20_000)
        .flat_map(|index| {
            let sample = world.training(Course::First, index);
            let words = texts(&sample).flat_map(|text| {
                let words: Vec<String> = normal(text).split(' ').map(str::to_owned).collect();
                words
            });
            words.collect::<Vec<_>>()
        })
        .collect();
    let mut unknown = BTreeSet::new();
    for entry in entries() {
        for seed in 0..60 {
            let turn = entry.turn(&mut Dice::new(seed, &[2]), Kind::Skein, Split::HeldOut);
            let words = normal(&turn.user);
            let new = words.split(' ').filter(|word| !trained.contains(*word));
            unknown.extend(new.map(str::to_owned));
        }
    }
    assert_eq!(unknown, BTreeSet::new());
}

#[test]
fn all_kinds_come_up_as_often_as_they_should() {
    const SAMPLES: u64 = 10_000;
    let world = World::new(13);
    for course in Course::ALL {
        let mut counts = [0_u64; Kind::ALL.len()];
        // The kind of a sample is that of its first part, of which no draw is thrown away for good.
        for index in 0..SAMPLES {
            counts[world.training(course, index).kind as usize] += 1;
        }
        let shares = course.shares();
        assert_eq!(shares.map(|(_, share)| share).iter().sum::<u32>(), 100);
        for (kind, share) in shares {
            let expected = u64::from(*share) * SAMPLES / 100;
            // Four standard deviations are at most 200.
            let off = counts[*kind as usize].abs_diff(expected);
            assert!(off < 205, "{course:?} {kind}: {counts:?}");
        }
    }
}

#[test]
fn choices_are_worth_something_on_both_sides() {
    let world = World::new(14);
    let tale = (0..50).map(|index| world.held_out_of(Kind::Tale, index).bits);
    for bits in tale {
        assert!(bits.answer > 10.0 && bits.prompt > 0.0, "{bits:?}");
    }
    let sum = world.held_out_of(Kind::Sum, 0).bits;
    assert_eq!(sum.answer, 0.0, "a sum has one answer");
    assert!(sum.prompt > 10.0, "{sum:?}");
}
