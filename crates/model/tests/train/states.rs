//! Stopping and going on; files that are not what they should be.

use std::collections::BTreeMap;

use skein_model::train::{
    Ended, Evaluation, Feed, Flow, Lora, Observer, ParameterSet, Plan, Position, StateError,
    StateFile, Step, TrainConfig, TrainError, Trainer, run, write_state,
};

use crate::{assert_same_bits, config, feed, take, trainer};

fn state(trainer: &Trainer, position: Position) -> Vec<u8> {
    let mut bytes = Vec::new();
    let notes = BTreeMap::from([("data".to_owned(), "stories".to_owned())]);
    let mut write = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    write_state(trainer, position, &notes, &mut write).unwrap();
    bytes
}

fn lora() -> ParameterSet {
    ParameterSet {
        lora: Some(Lora {
            rank: 4,
            alpha: 8.0,
            targets: ["attn_q", "mlp_down"].map(str::to_owned).into(),
        }),
        ..ParameterSet::default()
    }
}

/// Every way to train goes on from a state as if it had never stopped.
#[test]
fn a_restored_state_goes_on_with_the_same_bits() {
    let dropout = TrainConfig {
        dropout: 0.1,
        ..config(9)
    };
    for (set, config) in [
        (ParameterSet::default(), config(9)),
        (ParameterSet::default(), dropout),
        (lora(), config(9)),
    ] {
        let (mut whole, mut whole_feed) = (trainer("qwen3", &set, config.clone(), 2), feed());
        let mut steps = take(&mut whole, &mut whole_feed, 9);
        let (mut first, mut first_feed) = (trainer("qwen3", &set, config, 2), feed());
        take(&mut first, &mut first_feed, 4);
        let bytes = state(&first, first_feed.position());
        drop((first, first_feed));

        let file = StateFile::open(&bytes).unwrap();
        let (mut second, mut second_feed) =
            (trainer("qwen3", &set, file.config().clone(), 1), feed());
        file.restore(&mut second).unwrap();
        second_feed.seek(file.position()).unwrap();
        assert_eq!((file.step(), file.notes()["data"].as_str()), (4, "stories"));
        let rest = take(&mut second, &mut second_feed, 5);
        assert_eq!(rest, steps.split_off(4));
        assert_same_bits(&second, &whole, "restored");
        assert_eq!(
            state(&second, second_feed.position()),
            state(&whole, whole_feed.position())
        );
    }
}

/// Until the rate falls, how many steps there will be makes no difference.
#[test]
fn a_training_can_be_made_longer_before_its_decay() {
    let config = |steps| TrainConfig {
        decay: 3,
        ..config(steps)
    };
    let all = ParameterSet::default();
    let (mut whole, mut whole_feed) = (trainer("qwen3", &all, config(9), 1), feed());
    take(&mut whole, &mut whole_feed, 9);
    let (mut short, mut short_feed) = (trainer("qwen3", &all, config(7), 1), feed());
    take(&mut short, &mut short_feed, 4);
    let bytes = state(&short, short_feed.position());
    let file = StateFile::open(&bytes).unwrap();
    let mut longer = trainer("qwen3", &all, config(9), 1);
    file.restore(&mut longer).unwrap();
    take(&mut longer, &mut short_feed, 5);
    assert_same_bits(&longer, &whole, "made longer");

    take(&mut short, &mut feed(), 1);
    let bytes = state(&short, Position::default());
    let file = StateFile::open(&bytes).unwrap();
    let error = file.restore(&mut longer).unwrap_err();
    let expected = |error: &StateError| matches!(error, StateError::Steps { since: 5, steps: 7 });
    assert!(expected(&error), "{error}");
}

#[test]
fn a_state_of_another_training_is_refused() {
    let mut begun = trainer("qwen3", &ParameterSet::default(), config(9), 1);
    take(&mut begun, &mut feed(), 3);
    let bytes = state(&begun, Position::default());
    let file = StateFile::open(&bytes).unwrap();
    let refused = |mut other: Trainer| file.restore(&mut other).unwrap_err().to_string();
    let error = refused(trainer("qwen3", &ParameterSet::default(), config(10), 1));
    assert!(
        error.contains("since step 3, so it stays at 9 steps"),
        "{error}"
    );
    let other = TrainConfig {
        beta1: 0.5,
        ..config(9)
    };
    let error = refused(trainer("qwen3", &ParameterSet::default(), other, 1));
    assert!(
        error.contains("beta1 = 0.9") && error.contains("beta1 = 0.5"),
        "{error}"
    );
    let error = refused(trainer("qwen3", &lora(), config(9), 1));
    assert!(error.contains("lora of rank 4"), "{error}");
    let error = refused(trainer("llama2", &ParameterSet::default(), config(9), 1));
    assert!(error.contains("does not fit"), "{error}");
}

#[test]
fn damaged_states_are_refused_without_panic() {
    let mut trainer = trainer("qwen3", &lora(), config(9), 1);
    let bytes = state(&trainer, Position::default());
    let mut outcomes = Vec::new();
    for cut in (0..bytes.len()).step_by(997).chain([bytes.len() - 1]) {
        let cut = bytes[..cut].to_vec();
        assert!(matches!(
            StateFile::open(&cut),
            Err(StateError::Safetensors(_))
        ));
    }
    // A bit flipped in each of some bytes: refused, or read as another number.
    for at in (0..bytes.len()).step_by(1009).chain(0..1500) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x40;
        let file = StateFile::open(&flipped);
        outcomes.push(file.and_then(|file| file.restore(&mut trainer)).is_ok());
    }
    assert!(outcomes.contains(&true) && outcomes.contains(&false));
    let mut bad = bytes.clone();
    let end = bad.len() - 4;
    bad[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    let error = StateFile::open(&bad).unwrap().restore(&mut trainer);
    assert!(matches!(error, Err(StateError::NotFinite { .. })));
}

/// Counts what it is told; stops after so many steps.
struct Counter {
    stop_after: u64,
    steps: u64,
    evaluated: Vec<u64>,
    saved: Vec<u64>,
    losses: Vec<f64>,
}

impl Observer for Counter {
    type Error = TrainError;

    fn stepped(&mut self, step: &Step) -> Flow {
        self.steps = step.step;
        match step.step < self.stop_after {
            true => Flow::Continue,
            false => Flow::Stop,
        }
    }

    fn evaluated(&mut self, step: u64, evaluation: &Evaluation) {
        self.evaluated.push(step);
        self.losses.push(evaluation.loss);
    }

    fn save(&mut self, trainer: &Trainer, _: &Feed) -> Result<(), TrainError> {
        self.saved.push(trainer.steps_taken());
        Ok(())
    }
}

#[test]
fn a_run_evaluates_and_saves_as_planned() {
    let plan = Plan {
        accumulate: 2,
        evaluate_every: 4,
        save_every: 3,
        until: None,
    };
    let held_out = feed().once();
    let go = |trainer: &mut Trainer, feed: &mut Feed, (plan, stop_after): (Plan, u64)| {
        let mut counter = Counter {
            stop_after,
            steps: 0,
            evaluated: vec![],
            saved: vec![],
            losses: vec![],
        };
        let ended = run(trainer, feed, &held_out, &plan, &mut counter).unwrap();
        (ended, counter)
    };
    let begin = || trainer("qwen2", &ParameterSet::default(), config(10), 2);
    let start = |stop_after| go(&mut begin(), &mut feed(), (plan, stop_after));
    let (ended, counter) = start(u64::MAX);
    assert_eq!((ended, counter.steps), (Ended::Finished, 10));
    assert_eq!(
        (counter.evaluated, counter.saved),
        (vec![4, 8, 10], vec![3, 6, 9, 10])
    );
    assert!(
        counter.losses.is_sorted_by(|a, b| a > b),
        "{:?}",
        counter.losses
    );
    let (ended, counter) = start(5);
    assert_eq!((ended, counter.saved), (Ended::Stopped, vec![3, 5]));
    assert_eq!(counter.evaluated, [4]);
    for (until, steps) in [(5, 5), (99, 10)] {
        let until = Some(until);
        let plan = Plan { until, ..plan };
        let (ended, counter) = go(&mut begin(), &mut feed(), (plan, u64::MAX));
        assert_eq!((ended, counter.steps), (Ended::Finished, steps));
        let ends = (counter.saved.last(), counter.evaluated.last());
        let last = steps;
        assert_eq!(ends, (Some(&last), Some(&last)));
    }
    // Stopped where an evaluation is due: it is made by whoever goes on.
    let (mut trainer, mut feed) = (begin(), feed());
    let (_, first) = go(&mut trainer, &mut feed, (plan, 8));
    assert_eq!((first.evaluated, first.saved), (vec![4], vec![3, 6, 8]));
    let (_, second) = go(&mut trainer, &mut feed, (plan, u64::MAX));
    assert_eq!((second.evaluated, second.saved), (vec![8, 10], vec![9, 10]));
}
