//! The same training in other ways, and other things that learn.

use std::sync::Arc;

use candle_core::Tensor;
use skein_model::train::{
    Batch, LearnedError, Lora, ParameterSet, TrainConfig, TrainError, Trainer, initial,
};
use skein_model::twin::{Parameters, Rows, Twin};
use skein_model::{Input, KvFormat, KvPages, Output, Pool, ScoreRows, Segment, SliceModel};
use skein_weights::{Part, Slice, WeightSource as _};

use crate::{assert_same_bits, config, feed, fixtures, row, take, trainer, weights};

#[test]
fn neither_threads_nor_recomputing_change_a_bit() {
    for name in ["qwen3", "gpt2"] {
        let set = ParameterSet::default();
        let with = |threads, recompute| {
            let config = TrainConfig {
                recompute,
                dropout: 0.1,
                ..config(4)
            };
            let mut trainer = trainer(name, &set, config, threads);
            let steps = take(&mut trainer, &mut feed(), 4);
            (trainer, steps)
        };
        let (expected, expected_steps) = with(1, false);
        for (threads, recompute) in [(3, false), (1, true), (2, true)] {
            let (found, steps) = with(threads, recompute);
            assert_eq!(steps, expected_steps, "{name}");
            assert_same_bits(&found, &expected, name);
        }
    }
}

#[test]
fn merged_adapters_are_the_same_bits_with_any_threads() {
    let with = |threads| {
        let mut trainer = trainer("qwen3", &lora(&[]), config(3), threads);
        take(&mut trainer, &mut feed(), 3);
        trainer
    };
    let expected = with(1);
    for threads in [2, 3] {
        assert_same_bits(&with(threads), &expected, "merged");
    }
}

#[test]
fn a_trainer_leaves_the_variables_of_another_alone() {
    let set = ParameterSet::default();
    let mut first = trainer("qwen3", &set, config(3), 1);
    let pool = Arc::new(Pool::new(1));
    let (profile, shared) = (first.profile().clone(), first.parameters().clone());
    let mut second = Trainer::new(profile, shared, &lora(&["attn_q"]), config(3), pool).unwrap();
    let held_out = feed().once();
    let loss = second.evaluate(&held_out).unwrap();
    take(&mut first, &mut feed(), 2);
    assert_eq!(second.evaluate(&held_out).unwrap(), loss);
    let before = weights(&first);
    take(&mut second, &mut feed(), 2);
    assert_eq!(weights(&first), before);
}

/// The largest difference of two gradients over the largest value.
fn difference(a: &Tensor, b: &Tensor) -> f32 {
    let list = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1().unwrap();
    fixtures::relative_error(&list(a), &list(b))
}

fn assert_same_gradients(trainer: &Trainer, a: &[Batch], b: &[Batch]) {
    let (loss, ours) = trainer.gradients(a).unwrap();
    let (expected, theirs) = trainer.gradients(b).unwrap();
    assert!((loss - expected).abs() < 1e-6, "{loss}, not {expected}");
    for (name, gradient) in &ours {
        // See the test against PyTorch.
        if !name.ends_with("attn_k.bias") {
            let error = difference(gradient, &theirs[name]);
            assert!(error < 1e-4, "{name}: {error}");
        }
    }
}

const LINES: [&[u32]; 3] = [
    &[5, 9, 200, 31, 7, 7, 120],
    &[64, 3, 8, 250],
    &[11, 12, 13, 90, 91, 200, 17, 4, 5],
];

#[test]
fn several_batches_of_a_step_are_one_large_batch() {
    let [first, second, third] = LINES.map(row);
    for name in ["llama-bias", "gpt2"] {
        let trainer = trainer(name, &ParameterSet::default(), config(1), 2);
        let apart = [first.clone(), second.clone(), third.clone()];
        let width = 9;
        let (mut ids, mut positions, mut targets) = (vec![], vec![], vec![]);
        for batch in &apart {
            let shifted = batch.targets().iter().map(|(at, id)| (at + ids.len(), *id));
            targets.extend(shifted);
            let room = width - batch.ids().len();
            ids.extend(batch.ids().iter().copied().chain(vec![0; room]));
            positions.extend((0..batch.ids().len() as u32).chain(vec![0; room]));
        }
        let rows = Rows::new(width, positions).unwrap();
        let together = [Batch::new(rows, ids, targets).unwrap()];
        assert_same_gradients(&trainer, &apart, &together);
    }
}

#[test]
fn documents_in_one_row_do_not_see_one_another() {
    for name in ["mistral", "gpt2", "qwen2-window"] {
        let trainer = trainer(name, &ParameterSet::default(), config(1), 2);
        let apart = LINES.map(row);
        let (mut ids, mut positions, mut targets) = (vec![], vec![], vec![]);
        for batch in &apart {
            targets.extend(batch.targets().iter().map(|(at, id)| (at + ids.len(), *id)));
            ids.extend_from_slice(batch.ids());
            positions.extend(0..batch.ids().len() as u32);
        }
        let rows = Rows::new(ids.len(), positions).unwrap();
        let packed = [Batch::new(rows, ids, targets).unwrap()];
        assert_same_gradients(&trainer, &apart, &packed);
    }
}

fn lora(targets: &[&str]) -> ParameterSet {
    ParameterSet {
        lora: Some(Lora {
            rank: 4,
            alpha: 8.0,
            targets: targets.iter().map(|&target| target.to_owned()).collect(),
        }),
        ..ParameterSet::default()
    }
}

#[test]
fn adapters_learn_while_the_model_stays() {
    let held_out = feed().once();
    for name in ["qwen2", "gpt2"] {
        let mut config = config(40);
        config.rate = 2e-2;
        let mut trainer = trainer(name, &lora(&[]), config, 2);
        let before = weights(&trainer);
        let start = trainer.evaluate(&held_out).unwrap();
        take(&mut trainer, &mut feed(), 40);
        let end = trainer.evaluate(&held_out).unwrap();
        assert!(end.loss < start.loss - 0.5, "{name}: {start:?} {end:?}");
        // Merged into the weights, the adapters say the same.
        let model = trainer.model().unwrap();
        assert_eq!(model.parameters().adapters().count(), 0);
        let set = ParameterSet::default();
        let merged = Trainer::new(
            model.profile().clone(),
            model.parameters().clone(),
            &set,
            TrainConfig::default(),
            Arc::new(Pool::new(1)),
        );
        let again = merged.unwrap().evaluate(&held_out).unwrap();
        assert!((again.loss - end.loss).abs() < 1e-4, "{name}: {again:?}");
        for ((tensor, now), (_, then)) in weights(&trainer).iter().zip(&before) {
            let adapted = ["attn_q", "attn_k", "attn_v", "attn_o", "mlp_"];
            let adapted = adapted.iter().any(|base| tensor.contains(base))
                && tensor.ends_with(".weight")
                && !tensor.contains("norm");
            assert_eq!(now != then, adapted, "{name}: {tensor}");
        }
    }
}

/// Loss and gradients with adapters are those of the merged weights, led through their factors.
#[test]
fn gradients_of_adapters_follow_from_those_of_the_weights() {
    let mut trainer = trainer("qwen3", &lora(&["attn_v", "mlp_gate"]), config(9), 1);
    take(&mut trainer, &mut feed(), 3);
    let batch = [feed().next_batch()];
    let (_, ours) = trainer.gradients(&batch).unwrap();
    let model = trainer.model().unwrap();
    let whole = Trainer::new(
        model.profile().clone(),
        model.parameters().clone(),
        &ParameterSet::default(),
        TrainConfig::default(),
        Arc::new(Pool::new(1)),
    );
    let (_, theirs) = whole.unwrap().gradients(&batch).unwrap();
    assert_eq!(ours.len(), 2 * 2 * 4);
    for (part, name, adapter) in trainer.parameters().adapters() {
        let Part::Layer(index) = part else {
            panic!("{part} has an adapter");
        };
        let name = format!("layers.{index}.{name}");
        let weight = &theirs[&name];
        let scaled = |tensor: Tensor| (tensor * adapter.scale).unwrap();
        let down = scaled(adapter.up.t().unwrap().matmul(weight).unwrap());
        let up = scaled(weight.matmul(&adapter.down.t().unwrap()).unwrap());
        assert!(difference(&ours[&format!("{name}.down")], &down) < 1e-4);
        assert!(difference(&ours[&format!("{name}.up")], &up) < 1e-4);
    }
}

#[test]
fn frozen_parts_stay() {
    let set = ParameterSet {
        frozen: [Part::Embedding, Part::Layer(0), Part::Layer(2)].into(),
        ..ParameterSet::default()
    };
    let mut trainer = trainer("llama2", &set, config(3), 2);
    let before = weights(&trainer);
    take(&mut trainer, &mut feed(), 3);
    for ((name, now), (_, then)) in weights(&trainer).iter().zip(&before) {
        let frozen = ["embedding", "layer 0", "layer 2"];
        let frozen = frozen.iter().any(|part| name.starts_with(part));
        assert_eq!(now == then, frozen, "{name}");
    }
}

#[test]
fn what_cannot_learn_is_named() {
    let source = fixtures::open("qwen3");
    let refused = |set: &ParameterSet| {
        let parameters = Parameters::load(&source).unwrap();
        let pool = Arc::new(Pool::new(1));
        let made = Trainer::new(source.profile().clone(), parameters, set, config(1), pool);
        match made {
            Err(TrainError::Learned(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let error = refused(&lora(&["attn_x"]));
    assert!(matches!(&error, LearnedError::Target { target, .. } if target == "attn_x"));
    assert!(error.to_string().contains("mlp_up"), "{error}");
    let mut set = lora(&[]);
    set.lora.as_mut().unwrap().rank = 41;
    assert!(matches!(refused(&set), LearnedError::Rank { most: 40, .. }));
    set.lora.as_mut().unwrap().rank = 0;
    assert_eq!(refused(&set), LearnedError::RankZero);
    let far = ParameterSet {
        frozen: [Part::Layer(4)].into(),
        ..ParameterSet::default()
    };
    assert!(matches!(refused(&far), LearnedError::Part { .. }));
    let all = ParameterSet {
        frozen: source.profile().parts().into_iter().collect(),
        ..ParameterSet::default()
    };
    assert_eq!(refused(&all), LearnedError::Nothing);
}

/// Logits of a whole model by the serving path.
fn served(model: &Twin, ids: &[u32]) -> Vec<f32> {
    let profile = model.profile();
    let slice = Slice::whole(profile.layers);
    let mut kv = KvPages::new(profile, &slice, KvFormat::F32, 16 << 20);
    let all: Vec<u32> = (0..profile.vocabulary).collect();
    let loaded = SliceModel::load(model, slice, None, Arc::new(Pool::new(1))).unwrap();
    let mut sequence = kv.sequence();
    kv.reserve(&mut sequence, ids.len()).unwrap();
    let segment = Segment {
        sequence: &mut sequence,
        rows: ids.len(),
        scores: ScoreRows::Last,
        asked: &all,
    };
    let output = loaded.forward(&mut kv, &mut [segment], Input::Ids(ids));
    let Output::Scores(scores) = output.unwrap() else {
        panic!("the last stage gives scores");
    };
    scores[0].asked.iter().map(|(_, logit)| *logit).collect()
}

#[test]
fn what_was_trained_is_served_with_the_same_logits() {
    for name in fixtures::NAMES {
        let mut trainer = trainer(name, &ParameterSet::default(), config(3), 2);
        take(&mut trainer, &mut feed(), 3);
        let model = trainer.model().unwrap();
        let ids = LINES[2];
        let logits: Vec<Vec<f32>> = model.logits(ids).unwrap().to_vec2().unwrap();
        let error = fixtures::relative_error(&served(&model, ids), &logits[ids.len() - 1]);
        assert!(error < fixtures::TOLERANCE, "{name}: {error}");
    }
}

#[test]
fn a_model_from_nothing_starts_at_chance_and_learns() {
    let profile = fixtures::open("llama31-sharded").profile().clone();
    let parameters = initial(&profile, 1).unwrap();
    let again = initial(&profile, 1).unwrap();
    let other = initial(&profile, 2).unwrap();
    let embedding = |parameters: &Parameters| {
        let table = parameters.get(Part::Embedding, "tokens.weight").unwrap();
        table.to_vec2::<f32>().unwrap()
    };
    assert_eq!(embedding(&parameters), embedding(&again));
    assert_ne!(embedding(&parameters), embedding(&other));
    let mut config = config(60);
    config.rate = 3e-3;
    let pool = Arc::new(Pool::new(2));
    let set = ParameterSet::default();
    let mut trainer = Trainer::new(profile.clone(), parameters, &set, config, pool).unwrap();
    let held_out = feed().once();
    let start = trainer.evaluate(&held_out).unwrap().loss;
    assert!(
        (start - f64::from(profile.vocabulary).ln()).abs() < 0.1,
        "{start}"
    );
    take(&mut trainer, &mut feed(), 60);
    let end = trainer.evaluate(&held_out).unwrap().loss;
    assert!(end < start - 0.5, "{start} to {end}");
}
