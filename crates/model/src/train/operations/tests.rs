//! Every operation against the one composed from candle's, and against finite differences.

use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor, Var};
use skein_weights::profile::Family;

use super::*;
use crate::testing::{self, Random, same_bits};
use crate::twin::{Composed, Network, Parameters, Rows};

type Run = Box<dyn Fn(&dyn Operations, &[Tensor]) -> Result<Tensor>>;

/// An operation with the shapes of what it takes.
struct Case {
    name: &'static str,
    shapes: Vec<Vec<usize>>,
    run: Run,
}

fn case(
    name: &'static str,
    shapes: &[&[usize]],
    run: impl Fn(&dyn Operations, &[Tensor]) -> Result<Tensor> + 'static,
) -> Case {
    Case {
        name,
        shapes: shapes.iter().map(|shape| shape.to_vec()).collect(),
        run: Box::new(run),
    }
}

/// Two rows of 61 positions: one document, then three.
fn rows() -> Rows {
    let first = 0..61;
    let second = (0..7).chain(0..50).chain(0..4);
    Rows::new(61, first.chain(second).collect()).unwrap()
}

/// Two rows of several tiles: a document, and one that ends inside the third tile.
fn long_rows() -> Rows {
    let second = (0..100).chain(0..50);
    Rows::new(150, (0..150).chain(second).collect()).unwrap()
}

/// An attention of this family's kind.
fn attention_of(family: Family, window: Option<usize>, rows: &Rows) -> Attention {
    let mut profile = testing::profile(family);
    (profile.heads, profile.kv_heads, profile.head_dim) = (4, 2, 6);
    let parameters = Parameters::default();
    let network = Network::new(&profile, &parameters, &Composed, rows).unwrap();
    Attention {
        heads: 4,
        kv_heads: 2,
        head_dim: 6,
        window,
        epsilon: 1e-5,
        rows: network.rows(),
        rotary: network.rotary(),
    }
}

fn cases() -> Vec<Case> {
    let plain = attention_of(Family::Gpt2, None, &rows());
    let window = attention_of(Family::Llama, Some(9), &rows());
    let long = attention_of(Family::Llama, Some(9), &long_rows());
    let normed = attention_of(Family::Qwen3, None, &rows());
    let qkv: &[usize] = &[122, 48];
    vec![
        case("linear", &[&[70, 33], &[19, 33]], |ops, x| {
            ops.linear(&x[0], &x[1], None)
        }),
        case("biased", &[&[130, 20], &[37, 20], &[37]], |ops, x| {
            ops.linear(&x[0], &x[1], Some(&x[2]))
        }),
        case("rms norm", &[&[67, 21], &[21]], |ops, x| {
            ops.rms_norm(&x[0], &x[1], 1e-5)
        }),
        case("layer norm", &[&[67, 40], &[40], &[40]], |ops, x| {
            ops.layer_norm(&x[0], &x[1], &x[2], 1e-5)
        }),
        case("gated silu", &[&[40, 38]], |ops, x| ops.gated_silu(&x[0])),
        case("gelu", &[&[40, 19]], |ops, x| ops.gelu_tanh(&x[0])),
        case("attention", &[qkv], move |ops, x| {
            ops.attention(&x[0], None, &plain)
        }),
        case("rotated, with window", &[qkv], move |ops, x| {
            ops.attention(&x[0], None, &window)
        }),
        case("window over tiles", &[&[300, 48]], move |ops, x| {
            ops.attention(&x[0], None, &long)
        }),
        case("normed, rotated", &[qkv, &[6], &[6]], move |ops, x| {
            ops.attention(&x[0], Some([&x[1], &x[2]]), &normed)
        }),
    ]
}

/// Operations over so many values that threads share them.
fn large_cases() -> Vec<Case> {
    vec![
        case("large linear", &[&[400, 70], &[50, 70], &[50]], |ops, x| {
            ops.linear(&x[0], &x[1], Some(&x[2]))
        }),
        case("large rms norm", &[&[400, 60], &[60]], |ops, x| {
            ops.rms_norm(&x[0], &x[1], 1e-5)
        }),
        case("large layer norm", &[&[400, 60], &[60], &[60]], |ops, x| {
            ops.layer_norm(&x[0], &x[1], &x[2], 1e-5)
        }),
        case("large gated silu", &[&[400, 120]], |ops, x| {
            ops.gated_silu(&x[0])
        }),
        case("large gelu", &[&[400, 60]], |ops, x| ops.gelu_tanh(&x[0])),
    ]
}

fn fused(threads: usize, set: InstructionSet) -> Fused {
    Fused {
        workers: Workers {
            pool: Arc::new(Pool::new(threads)),
            set,
        },
        dropout: None,
    }
}

fn variables(case: &Case, dtype: DType) -> Vec<Var> {
    let mut random = Random::new(7);
    let variable = |shape: &Vec<usize>| {
        let values = random.values(shape.iter().product(), 1.5);
        let tensor = Tensor::from_vec(values, shape.as_slice(), &Device::Cpu).unwrap();
        Var::from_tensor(&tensor.to_dtype(dtype).unwrap()).unwrap()
    };
    case.shapes.iter().map(variable).collect()
}

fn tensors(variables: &[Var]) -> Vec<Tensor> {
    variables.iter().map(|v| v.as_tensor().clone()).collect()
}

/// A scalar in which each value of the result has a weight of its own, and the result.
fn weighed(case: &Case, ops: &dyn Operations, variables: &[Var]) -> [Tensor; 2] {
    let result = (case.run)(ops, &tensors(variables)).unwrap();
    let weights = Random::new(9).values(result.elem_count(), 1.0);
    let weights = Tensor::from_vec(weights, result.shape(), &Device::Cpu).unwrap();
    let weights = weights.to_dtype(result.dtype()).unwrap();
    let total = (&result * weights).unwrap().sum_all().unwrap();
    [total, result]
}

fn list(tensor: &Tensor) -> Vec<f64> {
    let wide = tensor.to_dtype(DType::F64).unwrap();
    wide.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let (found, expected) = (list(found), list(expected));
    let largest = expected.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let error = (found - expected).abs() / largest;
        assert!(
            error < tolerance,
            "{what}: value {at} is {found}, not {expected}"
        );
    }
}

#[test]
fn agree_with_operations_composed_from_basic_ones() {
    for case in cases().into_iter().chain(large_cases()) {
        for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-9)] {
            let variables = variables(&case, dtype);
            let ours = fused(2, InstructionSet::detect());
            let [ours, theirs] = [
                weighed(&case, &ours, &variables),
                weighed(&case, &Composed, &variables),
            ];
            assert_close(&ours[1], &theirs[1], tolerance, case.name);
            let grads = [&ours, &theirs].map(|both| both[0].backward().unwrap());
            for variable in &variables {
                let [ours, theirs] = [0, 1].map(|which: usize| grads[which].get(variable).unwrap());
                assert_close(ours, theirs, tolerance, case.name);
            }
        }
    }
}

/// Central differences along each of some values of every input.
#[test]
fn have_the_gradients_that_small_steps_show() {
    let step = 1e-5;
    for case in cases() {
        let variables = variables(&case, DType::F64);
        let ops = fused(1, InstructionSet::detect());
        let grads = weighed(&case, &ops, &variables)[0].backward().unwrap();
        for variable in &variables {
            let expected = list(grads.get(variable).unwrap());
            let largest = expected.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
            let start = list(variable);
            let mut random = Random::new(11);
            for at in (0..12).map(|_| random.below(start.len())) {
                let total = |distance: f64| {
                    let mut moved = start.clone();
                    moved[at] += distance;
                    let moved = Tensor::from_vec(moved, variable.shape(), &Device::Cpu).unwrap();
                    variable.set(&moved).unwrap();
                    list(&weighed(&case, &ops, &variables)[0])[0]
                };
                let found = (total(step) - total(-step)) / (2.0 * step);
                total(0.0);
                let error = (found - expected[at]).abs() / largest;
                assert!(
                    error < 1e-7,
                    "{}: value {at}: {found}, not {}",
                    case.name,
                    expected[at]
                );
            }
        }
    }
}

/// A result and the gradients of a scalar made of it.
fn bits([total, result]: [Tensor; 2], variables: &[Var]) -> Vec<f32> {
    let grads = total.backward().unwrap();
    let mut all: Vec<f32> = result.flatten_all().unwrap().to_vec1().unwrap();
    for variable in variables {
        let grad = grads.get(variable).unwrap().flatten_all().unwrap();
        all.extend(grad.to_vec1::<f32>().unwrap());
    }
    all
}

fn assert_same_everywhere(what: &str, run: impl Fn(&Fused) -> Vec<f32>) {
    let expected = run(&fused(1, InstructionSet::Scalar));
    for set in InstructionSet::available() {
        for threads in [1, 2, 5] {
            same_bits(&run(&fused(threads, set)), &expected, what);
        }
    }
}

#[test]
fn neither_threads_nor_instructions_change_a_bit() {
    for case in cases().into_iter().chain(large_cases()) {
        let variables = variables(&case, DType::F32);
        assert_same_everywhere(case.name, |ops| {
            bits(weighed(&case, ops, &variables), &variables)
        });
    }
    let variables = loss_variables(DType::F32);
    assert_same_everywhere("loss", |ops| {
        let loss = loss(ops, &variables);
        bits([loss.clone(), loss], &variables)
    });
}

/// Rows out of order would be as good; one row is left out.
fn targets() -> Targets {
    Targets {
        list: (0..40)
            .filter(|row| *row != 3)
            .map(|row| (row, row as u32 * 7 % 29))
            .collect(),
        weight: 1.0 / 39.0,
    }
}

fn loss_variables(dtype: DType) -> Vec<Var> {
    let shapes: [&[usize]; 2] = [&[40, 18], &[29, 18]];
    variables(&case("loss", &shapes, |_, x| Ok(x[0].clone())), dtype)
}

fn loss(ops: &Fused, variables: &[Var]) -> Tensor {
    CrossEntropy::apply(&ops.workers, &variables[0], &variables[1], targets()).unwrap()
}

/// Mean cross-entropy of the rows of [`targets`], composed.
fn composed_loss(x: &Tensor, table: &Tensor) -> Tensor {
    let logits = x.matmul(&table.t().unwrap()).unwrap();
    let largest = logits.max_keepdim(D::Minus1).unwrap().detach();
    let shifted = logits.broadcast_sub(&largest).unwrap();
    let sums = shifted.exp().unwrap().sum_keepdim(D::Minus1).unwrap();
    let logs = shifted.broadcast_sub(&sums.log().unwrap()).unwrap();
    let losses = targets().list.into_iter().map(|(row, id)| {
        let one = logs.narrow(0, row, 1).unwrap();
        one.narrow(1, id as usize, 1).unwrap()
    });
    let losses = Tensor::cat(&losses.collect::<Vec<_>>(), 0).unwrap();
    losses.mean_all().unwrap().neg().unwrap()
}

#[test]
fn the_loss_is_the_cross_entropy_and_so_are_its_gradients() {
    for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-9)] {
        let variables = loss_variables(dtype);
        let ours = loss(&fused(2, InstructionSet::detect()), &variables);
        let theirs = composed_loss(&variables[0], &variables[1]);
        assert_close(&ours, &theirs, tolerance, "loss");
        // A factor on top of the loss reaches the gradients.
        let [ours, theirs] = [ours, theirs].map(|loss| (loss * 3.0).unwrap().backward().unwrap());
        for variable in &variables {
            let grads = [&ours, &theirs].map(|grads| grads.get(variable).unwrap());
            assert_close(grads[0], grads[1], tolerance, "gradient of the loss");
        }
    }
}

#[test]
fn frozen_inputs_get_no_gradients() {
    let frozen = Tensor::zeros((5, 3), DType::F32, &Device::Cpu).unwrap();
    let weight = Var::ones((2, 3), DType::F32, &Device::Cpu).unwrap();
    let ops = fused(1, InstructionSet::detect());
    let result = ops.linear(&frozen, &weight, None).unwrap();
    let grads = result.sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&weight).is_some() && grads.get(&frozen).is_none());
}

#[test]
fn a_seed_hands_its_gradient_on() {
    let x = Var::ones((2, 3), DType::F32, &Device::Cpu).unwrap();
    let doubled = (x.as_tensor() * 2.0).unwrap();
    let grad = Tensor::arange(0_f32, 6.0, &Device::Cpu).unwrap();
    let grad = grad.reshape((2, 3)).unwrap();
    let seed = Seed { grad: grad.clone() }.apply(&doubled).unwrap();
    let grads = seed.backward().unwrap();
    assert_close(
        grads.get(&x).unwrap(),
        &(grad * 2.0).unwrap(),
        1e-12,
        "seed",
    );
}

#[test]
fn dropout_keeps_expectation_and_drops_the_same_on_the_way_back() {
    let x = Var::ones((300, 100), DType::F32, &Device::Cpu).unwrap();
    let mut ops = fused(2, InstructionSet::detect());
    let apply = |seed: u64, ops: &mut Fused| {
        ops.dropout = Some(Dropout {
            rate: 0.25,
            seed,
            pass: [0, 0],
        });
        ops.dropout(&x, Part::Layer(1), Site::Mlp).unwrap()
    };
    let first = apply(1, &mut ops);
    let kept = list(&first).iter().filter(|value| **value != 0.0).count();
    assert!(
        (0.74..0.76).contains(&(kept as f64 / 3e4)),
        "{kept} of 30000"
    );
    let grads = first.sum_all().unwrap().backward().unwrap();
    assert_close(grads.get(&x).unwrap(), &first, 1e-12, "way back");
    assert_eq!(list(&apply(1, &mut ops)), list(&first));
    assert_ne!(list(&apply(2, &mut ops)), list(&first));
    ops.dropout = None;
    let whole = ops.dropout(&x, Part::Layer(1), Site::Mlp).unwrap();
    assert_close(&whole, &x, 1e-12, "no dropout");
}
