//! Training against PyTorch, and against itself: stopped, cut, spread over threads.
#![cfg(feature = "train")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may say what it measured"
)]

mod fixtures;
#[path = "train/pytorch.rs"]
mod pytorch;
#[path = "train/states.rs"]
mod states;
#[path = "train/variants.rs"]
mod variants;

use std::sync::Arc;

use skein_model::Pool;
use skein_model::train::{
    Batch, Feed, ParameterSet, Sample, Step, TrainConfig, TrainError, Trainer,
};
use skein_model::twin::{Parameters, Rows};
use skein_weights::WeightSource as _;

/// A trainer of a checkpoint of `fixtures/`.
fn trainer(name: &str, set: &ParameterSet, config: TrainConfig, threads: usize) -> Trainer {
    let source = fixtures::open(name);
    let parameters = Parameters::load(&source).unwrap();
    let pool = Arc::new(Pool::new(threads));
    Trainer::new(source.profile().clone(), parameters, set, config, pool).unwrap()
}

/// A configuration for a few steps.
fn config(steps: u64) -> TrainConfig {
    TrainConfig {
        steps,
        warmup: 2,
        seed: 3,
        ..TrainConfig::default()
    }
}

/// Samples of ids that every fixture's vocabulary has, of many lengths.
fn samples() -> Vec<Sample> {
    let one = |index: u32| {
        let tokens = (0..7 + index * 5 % 40).map(|at| (index * 31 + at * at * 7) % 300);
        Sample::text(tokens.collect())
    };
    (0..50).map(one).collect()
}

fn feed() -> Feed {
    Feed::new(samples(), [2, 48], 5).unwrap()
}

fn take(trainer: &mut Trainer, feed: &mut Feed, steps: usize) -> Vec<Step> {
    let step = |_| trainer.step(&[feed.next_batch()]).unwrap();
    (0..steps).map(step).collect()
}

/// Every weight of the model as it is now, adapters merged.
fn weights(trainer: &Trainer) -> Vec<(String, Vec<f32>)> {
    let model = trainer.model().unwrap();
    let list = model.parameters().iter().map(|(part, name, tensor)| {
        let values = tensor.flatten_all().unwrap().to_vec1().unwrap();
        (format!("{part} {name}"), values)
    });
    list.collect()
}

fn assert_same_bits(found: &Trainer, expected: &Trainer, what: &str) {
    for ((name, found), (_, expected)) in weights(found).into_iter().zip(weights(expected)) {
        let same = found
            .iter()
            .zip(&expected)
            .all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same && found.len() == expected.len(), "{what}: {name}");
    }
}

/// One row of these ids, each predicted from those before it.
fn row(ids: &[u32]) -> Batch {
    let targets = ids[1..].iter().copied().enumerate().collect();
    let width = ids.len() - 1;
    Batch::new(Rows::single(width).unwrap(), ids[..width].to_vec(), targets).unwrap()
}

#[test]
fn batches_that_do_not_fit_are_refused_and_change_nothing() {
    let mut trainer = trainer("gpt2", &ParameterSet::default(), config(5), 1);
    let before = weights(&trainer);
    let vocabulary = trainer.profile().vocabulary;
    let empty = Batch::new(Rows::single(3).unwrap(), vec![1, 2, 3], vec![]).unwrap();
    assert!(matches!(trainer.step(&[empty]), Err(TrainError::NoTargets)));
    for ids in [vec![1, vocabulary, 2], vec![1, 2, vocabulary]] {
        let error = trainer.step(&[row(&ids)]).unwrap_err().to_string();
        assert!(error.contains(&vocabulary.to_string()), "{error}");
    }
    let long = vec![1; trainer.profile().context as usize + 2];
    let error = trainer.step(&[row(&long)]).unwrap_err().to_string();
    assert!(error.contains("context"), "{error}");
    assert_eq!((weights(&trainer), trainer.steps_taken()), (before, 0));
}

#[test]
fn a_step_that_diverges_is_not_taken() {
    let mut config = config(50);
    (config.rate, config.warmup, config.clip_norm) = (1e30, 0, None);
    let mut trainer = trainer("llama2", &ParameterSet::default(), config, 1);
    let mut feed = feed();
    let error = loop {
        let taken = trainer.steps_taken();
        match trainer.step(&[feed.next_batch()]) {
            Ok(_) => assert!(taken < 5, "such a rate diverges at once"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
}
