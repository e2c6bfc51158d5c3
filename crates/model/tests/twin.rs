//! The twin against transformers, and its gradients against finite differences.
#![cfg(feature = "twin")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may say what it measured"
)]

mod fixtures;

use candle_core::{Tensor, Var};
use fixtures::{TOLERANCE, best, cases, open, relative_error};
use skein_model::twin::{Parameters, Twin, TwinError};
use skein_weights::WeightSource as _;

/// One pass over prompt and answer: each row's best logit is the next id of the answer, so greedy
/// decoding step by step gives the same ids (a row only sees what is before it).
fn agrees(name: &str) {
    let twin = Twin::load(&open(name)).unwrap();
    let mut worst: f32 = 0.0;
    for case in cases(name) {
        let logits: Vec<Vec<f32>> = twin.logits(&case.ids()).unwrap().to_vec2().unwrap();
        let answer: Vec<u32> = logits[case.prompt.len() - 1..]
            .iter()
            .map(|row| best(row))
            .collect();
        assert_eq!(answer, case.greedy, "{name}/{}", case.name);
        for (row, expected) in case.rows.iter().zip(&case.logits) {
            let error = relative_error(&logits[*row], expected);
            assert!(error < TOLERANCE, "{name}/{} row {row}: {error}", case.name);
            worst = worst.max(error);
        }
    }
    println!("{name}: worst relative error of the twin's logits {worst:.1e}");
}

#[test]
fn agrees_with_transformers() {
    for name in fixtures::NAMES {
        agrees(name);
    }
}

#[test]
fn a_row_does_not_see_what_follows() {
    let twin = Twin::load(&open("mistral")).unwrap();
    let whole: Vec<Vec<f32>> = twin.logits(&[5, 9, 11, 40]).unwrap().to_vec2().unwrap();
    let part: Vec<Vec<f32>> = twin.logits(&[5, 9]).unwrap().to_vec2().unwrap();
    assert!(relative_error(&whole[1], &part[1]) < 1e-5);
}

#[test]
fn wrong_ids_are_refused_by_name() {
    let twin = Twin::load(&open("gpt2")).unwrap();
    let (vocabulary, context) = (twin.profile().vocabulary, twin.profile().context);
    assert!(matches!(twin.logits(&[]), Err(TwinError::Empty)));
    let found = twin.logits(&[1, vocabulary]);
    assert!(matches!(found, Err(TwinError::TokenOutOfRange { id, .. }) if id == vocabulary));
    let long = vec![1; context as usize + 1];
    assert!(matches!(
        twin.logits(&long),
        Err(TwinError::ContextExceeded { .. })
    ));
    let bare = Twin::new(twin.profile().clone(), Parameters::default());
    assert!(matches!(bare.logits(&[1]), Err(TwinError::Missing { .. })));
}

const IDS: [u32; 7] = [7, 19, 23, 7, 41, 3, 19];

/// A smooth function of the logits that no parameter drops out of.
fn loss(twin: &Twin) -> Tensor {
    twin.logits(&IDS)
        .unwrap()
        .sin()
        .unwrap()
        .sqr()
        .unwrap()
        .mean_all()
        .unwrap()
}

/// The model with every parameter a variable.
fn trainable(name: &str) -> (Twin, Vec<(String, Var)>) {
    let source = open(name);
    let mut parameters = Parameters::load(&source).unwrap();
    let mut variables = Vec::new();
    for (part, name, tensor) in parameters.clone().iter() {
        let variable = Var::from_tensor(tensor).unwrap();
        parameters.set(part, name, variable.as_tensor().clone());
        variables.push((format!("{part} {name}"), variable));
    }
    (Twin::new(source.profile().clone(), parameters), variables)
}

#[test]
fn every_parameter_has_the_gradient_that_a_small_step_shows() {
    for name in ["gpt2", "llama-bias", "qwen3", "qwen2-window"] {
        let (twin, variables) = trainable(name);
        let gradients = loss(&twin).backward().unwrap();
        for (label, variable) in &variables {
            let gradient = gradients
                .get(variable)
                .unwrap_or_else(|| panic!("{name}: {label} has no gradient"));
            let expected = norm(gradient);
            // The bias of k shifts all scores of a query alike unless positions rotate it.
            if expected < 1e-6 {
                assert!(
                    label.contains("attn_k.bias"),
                    "{name}: {label} has no gradient"
                );
                continue;
            }
            let found = slope(&twin, variable, gradient, expected);
            assert!(
                (found / expected - 1.0).abs() < 0.05,
                "{name}: {label} has slope {found}, its gradient says {expected}"
            );
        }
    }
}

fn norm(tensor: &Tensor) -> f32 {
    tensor
        .sqr()
        .unwrap()
        .sum_all()
        .unwrap()
        .to_scalar::<f32>()
        .unwrap()
        .sqrt()
}

/// Slope of the loss along the gradient, by a central difference.
fn slope(twin: &Twin, variable: &Var, gradient: &Tensor, norm: f32) -> f32 {
    let start = variable.as_tensor().copy().unwrap();
    let step = 2e-3;
    let at = |distance: f32| {
        let moved = (gradient * f64::from(distance / norm)).unwrap();
        variable.set(&(&start + moved).unwrap()).unwrap();
        loss(twin).to_scalar::<f32>().unwrap()
    };
    let found = (at(step) - at(-step)) / (2.0 * step);
    variable.set(&start).unwrap();
    found
}
