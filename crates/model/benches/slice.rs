//! Speed of a slice on random weights of Qwen2.5-0.5B's shape, cut to a few layers.
//!
//! Floors. Decode of one row reads every weight once: `bytes / bandwidth` of the memory. Prefill
//! of `n` rows does `2 * n * parameters` operations: `operations / (16 lanes-multiply-adds a cycle)`
//! on AVX2, twice that on AVX-512. The memory is read as fast as it goes before and after decoding,
//! as its speed drifts. Measured on a 2-core Zen 3 guest: see `docs/performance.md`.
//!
//! `cargo bench -p skein-model --bench slice -- [f32|bf16|q8|q4] [threads]`
#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use skein_model::{
    Input, KvFormat, KvPages, Output, Pool, ScoreRows, Segment, Sequence, SliceModel, Stream,
};
use skein_weights::profile::{Biases, Family, Mlp, NormKind, Positions, RopeScaling};
use skein_weights::source::{CanonicalTensor, ReadError, quantise_rows};
use skein_weights::{BlockFormat, Dtype, Part, Profile, Slice, WeightSource};

const LAYERS: u32 = 6;

fn profile() -> Profile {
    Profile {
        family: Family::Qwen2,
        vocabulary: 32_000,
        hidden: 896,
        intermediate: 4864,
        layers: LAYERS,
        heads: 14,
        kv_heads: 2,
        head_dim: 64,
        context: 4096,
        norm: NormKind::Rms,
        norm_epsilon: 1e-6,
        positions: Positions::Rope {
            theta: 1e6,
            scaling: RopeScaling::None,
        },
        mlp: Mlp::GatedSilu,
        biases: Biases {
            qkv: true,
            attention_output: false,
            mlp: false,
        },
        qk_norm: false,
        windows: vec![],
        tied: true,
    }
}

#[derive(Debug)]
struct Weights(Profile, Dtype);

#[derive(Debug)]
struct Tensor(Vec<u64>, Dtype);

impl WeightSource for Weights {
    fn profile(&self) -> &Profile {
        &self.0
    }

    fn tensor(&self, part: Part, name: &str) -> Result<Box<dyn CanonicalTensor + '_>, ReadError> {
        let spec = self.0.tensors(part).into_iter().find(|s| s.name == name);
        Ok(Box::new(Tensor(
            spec.expect("asked by the profile").shape,
            self.1,
        )))
    }
}

fn value(index: u64) -> f32 {
    let bits = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (bits as f32 / (1 << 23) as f32 - 1.0) * 0.05
}

impl CanonicalTensor for Tensor {
    fn dtype(&self) -> Dtype {
        self.1
    }

    fn shape(&self) -> &[u64] {
        &self.0
    }

    fn read_f32(&self, rows: Range<u64>, out: &mut [f32]) -> Result<(), ReadError> {
        out.iter_mut()
            .zip(rows.start * 7919..)
            .for_each(|(o, i)| *o = value(i));
        Ok(())
    }

    fn read_bf16(&self, rows: Range<u64>, out: &mut [u16]) -> Result<(), ReadError> {
        out.iter_mut()
            .zip(rows.start * 7919..)
            .for_each(|(o, i)| *o = (value(i).to_bits() >> 16) as u16);
        Ok(())
    }

    fn read_blocks(
        &self,
        format: BlockFormat,
        rows: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), ReadError> {
        quantise_rows(self, (Part::Head, "random"), format, rows, out)
    }
}

fn step(model: &SliceModel, kv: &mut KvPages, sequences: &mut [Sequence], rows: usize) {
    let ids: Vec<u32> = (0..(rows * sequences.len()) as u32)
        .map(|i| i * 31 % 32_000)
        .collect();
    let mut segments = Vec::new();
    for sequence in sequences.iter_mut() {
        kv.reserve(sequence, sequence.len() + rows).expect("room");
        segments.push(Segment {
            sequence,
            rows,
            scores: ScoreRows::Last,
            asked: &[],
        });
    }
    let output = model
        .forward(kv, &mut segments, Input::Ids(&ids))
        .expect("a good batch");
    assert!(matches!(output, Output::Scores(_)));
}

/// Seconds of wall clock for each of `rounds` calls: the median.
#[expect(clippy::disallowed_methods, reason = "a bench measures the wall clock")]
fn median(rounds: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[rounds / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let dtype = match arguments.first().map(String::as_str) {
        Some("f32") => Dtype::F32,
        Some("q8") => Dtype::Q8,
        Some("q4") => Dtype::Q4,
        _ => Dtype::Bf16,
    };
    let threads = arguments.get(1).and_then(|t| t.parse().ok()).unwrap_or(2);
    let source = Weights(profile(), dtype);
    let pool = Arc::new(Pool::new(threads));
    let whole = Slice::whole(LAYERS);
    let stream = Stream::new(1 << 30, Arc::clone(&pool));
    let memory = || {
        stream.bytes() as f64
            / median(5, || {
                black_box(stream.read());
            })
            / 1e9
    };
    let model = SliceModel::load(&source, whole.clone(), None, pool).expect("loads");
    let mut kv = KvPages::new(&source.0, &whole, KvFormat::F32, 1 << 30);
    println!("{dtype}, {threads} threads, {:?}", model.instruction_set());
    let products = profile().tensors(Part::Layer(0)).into_iter();
    let products = products.filter(|spec| spec.is_product());
    let layer: u64 = products
        .map(|spec| spec.shape.iter().product::<u64>())
        .sum();
    let parameters = f64::from(LAYERS) * layer as f64;
    for rows in [64, 512] {
        let time = median(7, || {
            let mut sequence = [kv.sequence()];
            step(&model, &mut kv, &mut sequence, rows);
            sequence.into_iter().for_each(|s| kv.release(s));
        });
        let operations = 2.0 * rows as f64 * parameters;
        println!(
            "prefill {rows:4}: {:8.1} ms, {:6.1} GFLOP/s",
            time * 1e3,
            operations / time / 1e9
        );
    }
    let before = memory();
    for batch in [1, 2, 4, 8, 16] {
        let mut sequences: Vec<_> = (0..batch).map(|_| kv.sequence()).collect();
        step(&model, &mut kv, &mut sequences, 64);
        let time = median(40, || step(&model, &mut kv, &mut sequences, 1));
        let rate = model.bytes_per_step() as f64 / time / 1e9;
        println!(
            "decode {batch:5}: {:8.2} ms, {rate:6.2} GB/s of weights",
            time * 1e3
        );
        sequences.into_iter().for_each(|s| kv.release(s));
    }
    println!(
        "memory: {before:.2} GB/s before decoding, {:.2} GB/s after",
        memory()
    );
}
