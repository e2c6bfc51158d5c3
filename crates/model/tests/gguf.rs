//! The serving path on GGUF files against llama.cpp's answers.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may say what it measured"
)]

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use skein_model::{Input, KvFormat, KvPages, Output, Pool, ScoreRows, Segment, SliceModel};
use skein_weights::gguf::GgufCheckpoint;
use skein_weights::{Dtype, Slice, WeightSource as _};

const NAMES: [&str; 7] = [
    "llama-f16",
    "llama-q8_0",
    "llama-q4_0",
    "llama31-q8_0",
    "qwen2-bf16",
    "qwen3-q8_0",
    "gpt2-f16",
];

/// What `scripts/fixtures/make_gguf.py` recorded.
#[derive(Deserialize)]
struct Record {
    prompt_ids: Vec<u32>,
    greedy_ids: Vec<u32>,
}

fn load(source: &GgufCheckpoint, format: Option<Dtype>) -> (SliceModel, KvPages) {
    let slice = Slice::whole(source.profile().layers);
    let kv = KvPages::new(source.profile(), &slice, KvFormat::F32, 16 << 20);
    let model = SliceModel::load(source, slice, format, Arc::new(Pool::new(1))).unwrap();
    (model, kv)
}

/// The greedy answer with the file's weights, exactly: llama.cpp rounds activations in another way than blocks do
/// here, and these models of random weights amplify it.
fn greedy(source: &GgufCheckpoint, prompt: &[u32], steps: usize) -> Vec<u32> {
    let (model, mut kv) = load(source, Some(Dtype::F32));
    let mut sequence = kv.sequence();
    let (mut ids, mut answer) = (prompt.to_vec(), Vec::new());
    for _ in 0..steps {
        let len = sequence.len() + ids.len();
        kv.reserve(&mut sequence, len).unwrap();
        let segment = Segment {
            sequence: &mut sequence,
            rows: ids.len(),
            scores: ScoreRows::Last,
            asked: &[],
        };
        let output = model.forward(&mut kv, &mut [segment], Input::Ids(&ids));
        let Output::Scores(scores) = output.unwrap() else {
            panic!("the last stage gives scores");
        };
        ids = vec![scores[0].top[0].0];
        answer.extend(&ids);
    }
    kv.release(sequence);
    answer
}

/// All logits of all positions.
fn logits(source: &GgufCheckpoint, format: Option<Dtype>, ids: &[u32]) -> Vec<f32> {
    let (model, mut kv) = load(source, format);
    let asked: Vec<u32> = (0..source.profile().vocabulary).collect();
    let mut sequence = kv.sequence();
    kv.reserve(&mut sequence, ids.len()).unwrap();
    let segment = Segment {
        sequence: &mut sequence,
        rows: ids.len(),
        scores: ScoreRows::All,
        asked: &asked,
    };
    let output = model.forward(&mut kv, &mut [segment], Input::Ids(ids));
    let Output::Scores(scores) = output.unwrap() else {
        panic!("the last stage gives scores");
    };
    kv.release(sequence);
    let asked = scores.into_iter().flat_map(|scores| scores.asked);
    asked.map(|(_, logit)| logit).collect()
}

fn open(name: &str) -> (GgufCheckpoint, Record) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/gguf");
    let record = std::fs::read(folder.join(format!("{name}.json"))).unwrap();
    let bytes = std::fs::read(folder.join(format!("{name}.gguf"))).unwrap();
    let source = GgufCheckpoint::open(Arc::new(bytes), name).unwrap();
    (source, serde_json::from_slice(&record).unwrap())
}

/// With the same weights, blocks differ from f32 by the rounding of activations alone: eight bits.
#[test]
fn blocks_stay_near_their_exact_values() {
    for name in NAMES {
        let (source, record) = open(name);
        let ids = [record.prompt_ids, record.greedy_ids].concat();
        let (exact, found) = (
            logits(&source, Some(Dtype::F32), &ids),
            logits(&source, None, &ids),
        );
        let square = |values: &mut dyn Iterator<Item = f32>| {
            values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
        };
        let error = square(&mut exact.iter().zip(&found).map(|(a, b)| a - b))
            / square(&mut exact.iter().copied());
        println!("{name}: relative error {error:.5}");
        let blocks = name.contains("q8_0") || name.contains("q4_0");
        assert!(error < if blocks { 0.1 } else { 1e-9 }, "{name}: {error}");
        assert_eq!(error > 0.0, blocks, "{name}");
    }
}

#[test]
fn gives_the_tokens_of_llama_cpp() {
    for name in NAMES {
        let (source, record) = open(name);
        assert!(record.greedy_ids.len() >= 48);
        let answer = greedy(&source, &record.prompt_ids, record.greedy_ids.len());
        assert_eq!(answer, record.greedy_ids, "{name}");
    }
}
