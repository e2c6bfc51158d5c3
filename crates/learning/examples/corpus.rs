//! Prints conversations of the world as JSON lines, each with its `messages`:
//!
//!     cargo run --release -p skein-learning --example corpus -- training 1 1000
//!
//! The arguments are the list (`training`, `late` or `last`, which are the courses of the training; `held-out`, or a
//! kind such as `story`, whose samples are held out), the seed, and how many.
#![expect(clippy::print_stdout, reason = "a program whose output is the corpus")]
#![forbid(unsafe_code)]

use serde_json::{Value, json};
use skein_learning::{Course, Kind, Sample, World};

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [list, seed, count] = arguments.as_slice() else {
        return Err(
            "give three arguments: training, late, last, held-out or a kind; a seed; how many"
                .into(),
        );
    };
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|error| format!("{text}: {error}"))
    };
    let (world, count) = (World::new(number(seed)?), number(count)?);
    for index in 0..count {
        let sample = match list.as_str() {
            "training" => world.training(Course::First, index),
            "late" => world.training(Course::Late, index),
            "last" => world.training(Course::Last, index),
            "held-out" => world.held_out(index),
            name => {
                let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
                let kind = kind.ok_or_else(|| format!("there is no list {name}"))?;
                world.held_out_of(kind, index)
            }
        };
        println!("{}", line(&sample));
    }
    Ok(())
}

fn line(sample: &Sample) -> Value {
    let messages = sample.messages();
    let messages = messages
        .iter()
        .map(|message| json!({"role": message.role.name(), "content": message.content}));
    let turns = sample.turns.iter().map(|turn| {
        let expected = turn.expected.as_ref().map(ToString::to_string);
        json!({"kind": turn.kind.name(), "expected": expected})
    });
    json!({
        "messages": messages.collect::<Vec<_>>(),
        "turns": turns.collect::<Vec<_>>(),
        "bits": {"prompt": sample.bits.prompt, "answer": sample.bits.answer},
    })
}
