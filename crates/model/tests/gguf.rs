//! The serving path on GGUF files against llama.cpp's answers.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may say what it measured"
)]

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use skein_model::{Input, KvPages, Output, Pool, ScoreRows, Segment, SliceModel};
use skein_weights::gguf::GgufCheckpoint;
use skein_weights::{Slice, WeightSource as _};

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

fn greedy(source: &GgufCheckpoint, prompt: &[u32], steps: usize) -> Vec<u32> {
    let slice = Slice::whole(source.profile().layers);
    let mut kv = KvPages::new(source.profile(), &slice, 16 << 20);
    let model = SliceModel::load(source, slice, None, Arc::new(Pool::new(1))).unwrap();
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

#[test]
fn gives_the_tokens_of_llama_cpp() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/gguf");
    for name in NAMES {
        let record = std::fs::read(folder.join(format!("{name}.json"))).unwrap();
        let record: Record = serde_json::from_slice(&record).unwrap();
        let bytes = std::fs::read(folder.join(format!("{name}.gguf"))).unwrap();
        let source = GgufCheckpoint::open(Arc::new(bytes), name).unwrap();
        assert!(record.greedy_ids.len() >= 48);
        let answer = greedy(&source, &record.prompt_ids, record.greedy_ids.len());
        assert_eq!(answer, record.greedy_ids, "{name}");
    }
}
