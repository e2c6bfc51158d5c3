//! Speed of training on random weights of a small Llama's shape, against candle's products.
//!
//! Floor: a token costs `6 * parameters` operations of matrix products, forward and backward (the
//! embedding looked up costs none, the tied head does), and attention `6 * layers * hidden *
//! (context + 1)` more, of which only pairs that are seen are counted. Products of the model's own
//! shapes through candle give the rate to hold that against. Times are of the fastest third: other
//! work on the machine only ever adds.
//!
//! `cargo bench -p skein-model --features train --bench train -- [threads] [rows] [rounds]`
#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use skein_model::Pool;
use skein_model::train::{Batch, ParameterSet, TrainConfig, Trainer, initial};
use skein_model::twin::Rows;
use skein_weights::Profile;
use skein_weights::profile::{Biases, Family, Mlp, NormKind, Positions, RopeScaling};

const CONTEXT: usize = 256;

fn profile() -> Profile {
    Profile {
        family: Family::Llama,
        vocabulary: 2048,
        hidden: 256,
        intermediate: 576,
        layers: 6,
        heads: 4,
        kv_heads: 4,
        head_dim: 64,
        context: CONTEXT as u32,
        norm: NormKind::Rms,
        norm_epsilon: 1e-5,
        positions: Positions::Rope {
            theta: 10_000.0,
            scaling: RopeScaling::None,
        },
        mlp: Mlp::GatedSilu,
        biases: Biases {
            qkv: false,
            attention_output: false,
            mlp: false,
        },
        qk_norm: false,
        windows: vec![],
        tied: true,
    }
}

fn batch(rows: usize) -> Batch {
    let count = rows * CONTEXT;
    let positions = (0..count).map(|at| (at % CONTEXT) as u32);
    let ids: Vec<u32> = (0..count).map(|at| (at * 31 % 2048) as u32).collect();
    let targets = ids.iter().map(|id| (id + 31) % 2048).enumerate().collect();
    let rows = Rows::new(CONTEXT, positions.collect()).expect("whole rows");
    Batch::new(rows, ids, targets).expect("ids and targets fit")
}

/// Mean of the fastest third of `rounds` runs.
#[expect(
    clippy::disallowed_methods,
    reason = "a bench measures the machine's own time"
)]
fn time(rounds: usize, mut work: impl FnMut()) -> Duration {
    let run = |_| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    let mut times: Vec<Duration> = (0..rounds).map(run).collect();
    times.sort();
    let fastest = &times[..rounds.div_ceil(3)];
    fastest.iter().sum::<Duration>() / fastest.len() as u32
}

/// Operations a second of candle's products, over the shapes of a layer, forward and backward.
fn candle_rate(rows: usize, rounds: usize) -> f64 {
    let random = |rows: usize, columns: usize| {
        Tensor::randn(0_f32, 1.0, (rows, columns), &Device::Cpu).expect("a small tensor")
    };
    let (mut operations, mut seconds) = (0.0, 0.0);
    let n = rows * CONTEXT;
    for (inputs, outputs) in [(256, 768), (256, 256), (256, 1152), (576, 256)] {
        let (x, w, g) = (
            random(n, inputs),
            random(outputs, inputs),
            random(n, outputs),
        );
        let product = |a: &Tensor, b: &Tensor| a.matmul(b).expect("shapes match");
        let turned = |a: &Tensor| a.t().expect("a matrix");
        for times in [
            time(rounds, || drop(product(&x, &turned(&w)))),
            time(rounds, || drop(product(&g, &w))),
            time(rounds, || drop(product(&turned(&g), &x))),
        ] {
            operations += 2.0 * (n * inputs * outputs) as f64;
            seconds += times.as_secs_f64();
        }
    }
    operations / seconds
}

fn main() {
    let numbers = std::env::args()
        .skip(1)
        .filter_map(|text| text.parse().ok());
    let numbers: Vec<usize> = numbers.collect();
    let number = |index: usize, otherwise| numbers.get(index).copied().unwrap_or(otherwise);
    let (threads, rows, rounds) = (number(0, 2), number(1, 8), number(2, 15));
    let profile = profile();
    let parameters = initial(&profile, 1).expect("a small model");
    let pool = Arc::new(Pool::new(threads));
    for recompute in [false, true] {
        let config = TrainConfig {
            recompute,
            ..TrainConfig::default()
        };
        let set = ParameterSet::default();
        let trainer = Trainer::new(
            profile.clone(),
            parameters.clone(),
            &set,
            config,
            pool.clone(),
        );
        let mut trainer = trainer.expect("the configuration makes sense");
        let count = trainer.learned_count();
        let seen = profile.layers as f64 * f64::from(profile.hidden) * (CONTEXT + 1) as f64;
        let operations = 6.0 * count as f64 + 6.0 * seen;
        let batches = [batch(rows)];
        let tokens = (rows * CONTEXT) as f64;
        let step = time(rounds, || {
            trainer.step(&batches).expect("a good step");
        });
        let forward = time(rounds, || {
            trainer.evaluate(&batches).expect("a good pass");
        });
        let rate = tokens * operations / step.as_secs_f64();
        let candle = candle_rate(rows, rounds);
        println!(
            "{count} parameters, {threads} threads, {rows} rows of {CONTEXT}, recompute {recompute}: \
             step {:.1} ms, {:.0} tokens/s, forward {:.1} ms; {:.1} GFLOP/s of {:.1} by candle's \
             products ({:.0} %)",
            step.as_secs_f64() * 1e3,
            tokens / step.as_secs_f64(),
            forward.as_secs_f64() * 1e3,
            rate / 1e9,
            candle / 1e9,
            100.0 * rate / candle,
        );
    }
}
