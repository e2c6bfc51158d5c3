//! Writes into a folder what the training of the embedded model takes: the tokenizer, training and
//! held-out conversations, and a file that says where they are from.
//!
//!     cargo run --release -p skein-learning --example genesis -- target/genesis/data 1 400000 120000
//!
//! The arguments are the folder, the seed, and how many training conversations there are, for the first course
//! of the training and for the late one.
#![expect(clippy::print_stderr, reason = "a program that tells how far it is")]
#![forbid(unsafe_code)]

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use serde_json::json;
use skein_learning::chat::{ENTRIES, TOKENIZER_SAMPLES, Writer, tokenizer};
use skein_learning::{Course, Sample, World};

/// Conversations of the last course.
const LAST: u64 = 15_000;
/// Held-out conversations whose loss is measured during training.
const HELD_OUT: u64 = 500;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, seed, count, late] = arguments.as_slice() else {
        return Err("give a folder, a seed, and how many conversations first and late".into());
    };
    let (folder, world) = (Path::new(folder), World::new(seed.parse()?));
    fs::create_dir_all(folder)?;
    eprintln!("learning the tokenizer from {TOKENIZER_SAMPLES} conversations");
    let files = tokenizer(world, TOKENIZER_SAMPLES, ENTRIES)?;
    fs::write(folder.join("tokenizer.json"), &files.tokenizer)?;
    fs::write(folder.join("tokenizer_config.json"), &files.config)?;
    let (count, late) = (count.parse()?, late.parse()?);
    eprintln!("writing {count} conversations, then {late} and {LAST}");
    let writer = Writer::new(files.load()?)?;
    let courses = [
        (Course::First, "training.jsonl", count),
        (Course::Late, "late.jsonl", late),
        (Course::Last, "last.jsonl", LAST),
    ];
    for (course, file, count) in courses {
        let samples = (0..count).map(|index| world.training(course, index));
        write(&folder.join(file), &writer, samples)?;
    }
    let held_out = (0..HELD_OUT).map(|index| world.held_out(index));
    write(&folder.join("held-out.jsonl"), &writer, held_out)
}

/// Each conversation as its tokens and the ranges of them that the assistant says.
fn write(
    path: &Path,
    writer: &Writer,
    samples: impl Iterator<Item = Sample>,
) -> Result<(), Box<dyn Error>> {
    let mut file = BufWriter::new(File::create(path)?);
    for sample in samples {
        let document = writer.write(&sample)?;
        let learned = ranges(&document.answer);
        let line = json!({"tokens": document.ids, "learned": learned});
        writeln!(file, "{line}")?;
    }
    Ok(file.into_inner()?.sync_all()?)
}

/// Where runs of `true` begin and end.
fn ranges(marks: &[bool]) -> Vec<[usize; 2]> {
    let mut ranges = Vec::new();
    let mut start = 0;
    for run in marks.chunk_by(|a, b| a == b) {
        let end = start + run.len();
        if run[0] {
            ranges.push([start, end]);
        }
        start = end;
    }
    ranges
}
