//! Gradients and losses against what `scripts/fixtures/training.py` wrote down.

use std::fs;

use serde::Deserialize;
use skein_model::train::{Batch, ParameterSet, TrainConfig};
use skein_model::twin::Rows;

use crate::{fixtures, trainer};

/// Largest error of a gradient over the norm of the tensor's gradient.
const GRADIENT_TOLERANCE: f64 = 1e-4;
/// Largest difference of a loss.
const LOSS_TOLERANCE: f64 = 1e-3;

/// `training.json`.
#[derive(Debug, Deserialize)]
struct Recorded {
    ids: Vec<Vec<u32>>,
    learn: Vec<Vec<u8>>,
    loss: f64,
    run: Option<Run>,
}

#[derive(Debug, Deserialize)]
struct Run {
    settings: Settings,
    samples: Vec<Vec<u32>>,
    losses: Vec<f64>,
}

#[derive(Debug, Deserialize)]
struct Settings {
    steps: u64,
    warmup: u64,
    batch: usize,
    rate: f64,
    final_share: f64,
    weight_decay: f64,
    clip_norm: f64,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
}

fn recorded(name: &str) -> Recorded {
    let text = fs::read(fixtures::path(name).join("training.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Rows of equal length as a batch; `learn` says which tokens are targets.
fn batch(rows: &[&Vec<u32>], learn: impl Fn(usize, usize) -> bool) -> Batch {
    let width = rows[0].len() - 1;
    let (mut ids, mut positions, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    for (index, row) in rows.iter().enumerate() {
        for at in 0..width {
            if learn(index, at + 1) {
                targets.push((ids.len(), row[at + 1]));
            }
            ids.push(row[at]);
            positions.push(at as u32);
        }
    }
    let rows = Rows::new(width, positions).unwrap();
    Batch::new(rows, ids, targets).unwrap()
}

/// The sign that `scripts/fixtures/training.py` gives value `index` in projection `which` of 8.
fn sign(index: usize, which: usize) -> f64 {
    let z = (index * 8 + which) as u64;
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) & 1) as f64 * 2.0 - 1.0
}

/// Errors of a gradient, whole or projected, over its norm.
fn error(found: &[f32], name: &str, expected: &fixtures::Vectors) -> f64 {
    let found: Vec<f64> = found.iter().copied().map(f64::from).collect();
    let length = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>().sqrt();
    if let Some(whole) = expected.get(name) {
        let whole: Vec<f64> = whole.iter().copied().map(f64::from).collect();
        let difference: Vec<f64> = found.iter().zip(&whole).map(|(a, b)| a - b).collect();
        assert_eq!(found.len(), whole.len(), "{name}");
        return length(&difference) / length(&whole).max(1e-9);
    }
    let projected = &expected[&format!("{name}/projected")];
    let norm = f64::from(projected[0]);
    let along = |which| -> f64 {
        let terms = found.iter().enumerate();
        terms.map(|(at, value)| value * sign(at, which)).sum()
    };
    let errors = (0..8).map(|which| (along(which) - f64::from(projected[which + 1])).abs());
    let worst = errors.fold((length(&found) - norm).abs(), f64::max);
    worst / norm
}

#[test]
fn gradients_of_every_family_are_pytorch_s() {
    for name in fixtures::NAMES {
        let recorded = recorded(name);
        let trainer = trainer(name, &ParameterSet::default(), TrainConfig::default(), 2);
        let rows: Vec<&Vec<u32>> = recorded.ids.iter().collect();
        let batch = batch(&rows, |row, at| recorded.learn[row][at] == 1);
        let (loss, gradients) = trainer.gradients(&[batch]).unwrap();
        assert!((loss - recorded.loss).abs() < 1e-4, "{name}: loss {loss}");
        let expected = fixtures::vectors(&fixtures::path(name).join("training.safetensors"));
        assert_eq!(gradients.len(), expected.len(), "{name}");
        let mut worst: f64 = 0.0;
        for (tensor, gradient) in gradients {
            let found: Vec<f32> = gradient.flatten_all().unwrap().to_vec1().unwrap();
            // Without rotation a bias of keys shifts all scores of a query alike: its gradient is
            // what rounding leaves of zero.
            if name == "gpt2" && tensor.ends_with("attn_k.bias") {
                assert!(found.iter().all(|value| value.abs() < 1e-6), "{tensor}");
                continue;
            }
            let error = error(&found, &tensor, &expected);
            assert!(error < GRADIENT_TOLERANCE, "{name}: {tensor}: {error:.1e}");
            worst = worst.max(error);
        }
        println!("{name}: worst relative error of a gradient {worst:.1e}");
    }
}

#[test]
fn losses_of_two_hundred_steps_are_pytorch_s() {
    for name in ["qwen3", "gpt2"] {
        let Run {
            settings,
            samples,
            losses,
        } = recorded(name).run.unwrap();
        let config = TrainConfig {
            steps: settings.steps,
            warmup: settings.warmup,
            rate: settings.rate,
            final_share: settings.final_share,
            weight_decay: settings.weight_decay,
            clip_norm: Some(settings.clip_norm),
            beta1: settings.beta1,
            beta2: settings.beta2,
            epsilon: settings.epsilon,
            ..TrainConfig::default()
        };
        let mut trainer = trainer(name, &ParameterSet::default(), config, 2);
        let mut worst: f64 = 0.0;
        for (step, expected) in losses.iter().enumerate() {
            let rows = (0..settings.batch).map(|row| (step * settings.batch + row) % samples.len());
            let rows: Vec<&Vec<u32>> = rows.map(|row| &samples[row]).collect();
            let found = trainer.step(&[batch(&rows, |_, _| true)]).unwrap().loss;
            worst = worst.max((found - expected).abs());
            assert!(
                worst < LOSS_TOLERANCE,
                "{name}: step {step}: {found}, not {expected}"
            );
        }
        assert!(losses.len() == 200 && losses[199] < losses[0] - 1.5);
        println!("{name}: worst difference of a loss in 200 steps {worst:.1e}");
    }
}
