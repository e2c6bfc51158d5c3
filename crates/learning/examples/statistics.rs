//! Prints what the corpus is made of: shares of kinds, tokens, distinct stories, worth of choices.
//!
//!     cargo run --release -p skein-learning --example statistics -- 10000
//!
//! The argument is how many training conversations to look at.
#![expect(clippy::print_stdout, reason = "a program whose output is a table")]
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::error::Error;

use skein_learning::chat::{CONTEXT, ENTRIES, TOKENIZER_SAMPLES, Writer, tokenizer};
use skein_learning::entropy::{Counted, entropy_per_token};
use skein_learning::{Course, Kind, Split, World};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count: u64 = arguments
        .first()
        .ok_or("say how many conversations")?
        .parse()?;
    let world = World::new(1);
    println!("| entries | learned | tokens a conversation | longer than {CONTEXT} |");
    println!("|---|---|---|---|");
    for entries in [768, 1024, 1536, ENTRIES, 3072] {
        let files = tokenizer(world, TOKENIZER_SAMPLES, entries)?;
        let writer = Writer::new(files.load()?)?;
        let lengths = lengths(&writer, world, count)?;
        let mean = lengths.iter().sum::<usize>() as f64 / lengths.len() as f64;
        let long = lengths.iter().filter(|&&length| length > CONTEXT).count();
        println!(
            "| {entries} | {} | {mean:.1} | {long} |",
            writer.vocabulary()
        );
    }
    let files = tokenizer(world, TOKENIZER_SAMPLES, ENTRIES)?;
    let writer = Writer::new(files.load()?)?;
    kinds(&writer, world, count)?;
    worth(&writer, world)?;
    Ok(())
}

fn lengths(writer: &Writer, world: World, count: u64) -> Result<Vec<usize>, Box<dyn Error>> {
    let mut lengths = Vec::new();
    for index in 0..count {
        lengths.push(
            writer
                .write(&world.training(Course::First, index))?
                .ids
                .len(),
        );
    }
    Ok(lengths)
}

fn kinds(writer: &Writer, world: World, count: u64) -> Result<(), Box<dyn Error>> {
    println!(
        "\n| kind | turns | share | tokens a held-out sample | distinct first questions of {count} |"
    );
    println!("|---|---|---|---|---|");
    let mut turns = [0_usize; Kind::ALL.len()];
    for index in 0..count {
        for turn in world.training(Course::First, index).turns {
            turns[turn.kind as usize] += 1;
        }
    }
    let all: usize = turns.iter().sum();
    for kind in Kind::ALL {
        let (mut tokens, mut distinct) = (0, BTreeSet::new());
        for index in 0..count {
            let sample = world.held_out_of(kind, index);
            tokens += writer.write(&sample)?.ids.len();
            distinct.insert(sample.turns[0].user.to_lowercase());
        }
        let own = turns[kind as usize];
        println!(
            "| {kind} | {own} | {:.1} % | {:.1} | {} |",
            100.0 * own as f64 / all as f64,
            tokens as f64 / count as f64,
            distinct.len()
        );
    }
    Ok(())
}

fn worth(writer: &Writer, world: World) -> Result<(), Box<dyn Error>> {
    println!();
    for (counted, name) in [(Counted::All, "all"), (Counted::Answers, "answers")] {
        let nats = entropy_per_token(writer, world, Split::HeldOut, counted, 5000)?;
        println!("worth of choices, {name}: {nats:.4} nats a token");
    }
    Ok(())
}
