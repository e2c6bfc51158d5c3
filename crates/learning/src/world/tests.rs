use std::collections::BTreeSet;

use skein_base::digest::Blake3;

use super::*;
use crate::checker::judge;
use catalogue::{Entry, Keys};
use words::{PERSONS, THINGS};

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
    let forwards: Vec<Sample> = (0..20).map(|index| world.training(index)).collect();
    let backwards: Vec<Sample> = (0..20).rev().map(|index| world.training(index)).collect();
    assert!(forwards.iter().eq(backwards.iter().rev()));
    assert_ne!(World::new(4).training(0), forwards[0]);
    assert_ne!(world.held_out(0).turns, forwards[0].turns);
}

#[test]
fn the_corpus_is_the_same_everywhere() {
    let world = World::new(1);
    let all = (0..200).flat_map(|index| {
        let of_kinds = Kind::ALL.map(|kind| world.held_out_of(kind, index));
        [world.training(index), world.held_out(index)]
            .into_iter()
            .chain(of_kinds)
    });
    let text: String = all
        .map(|sample| format!("{:?}\n", sample.messages()))
        .collect();
    // A change of this digest is a change of what the embedded model was trained and judged by.
    let golden = "73ebf09af65e519ed42011cd2a8929edf772494c64e02f0692864f0db4f084e7";
    assert_eq!(Blake3::of(text.as_bytes()).to_string(), golden);
}

#[test]
fn nothing_of_a_template_is_left_over() {
    let world = World::new(5);
    let all = (0..COUNT).flat_map(|index| [world.training(index), world.held_out(index)]);
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

/// Who shares a sample with what, found by looking at its words; independent of [`Mentions`].
fn pairs(sample: &Sample) -> BTreeSet<(usize, usize)> {
    let words: Vec<String> = texts(sample)
        .flat_map(|text| {
            normal(text)
                .split(' ')
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    let said = |word: &str| words.iter().any(|other| other == word);
    let mut pairs = BTreeSet::new();
    for (p, person) in PERSONS.iter().enumerate() {
        for (t, thing) in THINGS.iter().enumerate() {
            if said(person.name) && (said(thing.one) || said(thing.many)) {
                pairs.insert((p, t));
            }
        }
    }
    pairs
}

#[test]
fn held_out_pairs_never_meet_in_training_and_always_in_held_out_stories() {
    let (world, other) = (World::new(6), World::new(7));
    let trained: BTreeSet<(usize, usize)> = (0..4 * COUNT)
        .flat_map(|index| pairs(&world.training(index)))
        .collect();
    // All pairs that may occur do occur, so the rule is what keeps the others out.
    assert_eq!(trained.len(), PERSONS.len() * THINGS.len() * 7 / 8);
    for kind in [Kind::Story, Kind::Tale, Kind::Count] {
        for index in 0..300 {
            let sample = other.held_out_of(kind, index);
            assert!(!pairs(&sample).is_subset(&trained), "{sample:?}");
        }
    }
}

#[test]
fn held_out_stories_and_wishes_have_such_a_pair_themselves() {
    let world = World::new(16);
    for kind in [Kind::Story, Kind::Tale] {
        for index in 0..300 {
            let sample = world.held_out_of(kind, index);
            let first = &sample.turns[0];
            let told = Sample {
                turns: vec![Turn::unjudged(kind, first.user.clone(), "none".to_owned())],
                ..sample.clone()
            };
            let held_out = pairs(&told)
                .into_iter()
                .any(|(person, thing)| split::never_together(person, thing));
            assert!(held_out, "{first:?}");
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
        for turn in world.training(index).turns {
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
            .flat_map(|index| asked(world.training(index), kind))
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
            let sample = world.training(index);
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
            let sample = world.training(index);
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
    let mut counts = [0_u64; Kind::ALL.len()];
    // The kind of a sample is that of its first part, of which no draw is thrown away for good.
    for index in 0..SAMPLES {
        counts[world.training(index).kind as usize] += 1;
    }
    let shares = SHARES.map(|(_, share)| u64::from(share));
    assert_eq!(shares.iter().sum::<u64>(), 100);
    for (kind, share) in SHARES {
        let expected = u64::from(share) * SAMPLES / 100;
        // Four standard deviations are at most 183.
        let off = counts[kind as usize].abs_diff(expected);
        assert!(off < 190, "{kind}: {counts:?}");
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
