//! The serving path against transformers, on every checkpoint of `fixtures/`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may say what it measured"
)]

mod fixtures;

use std::sync::Arc;

use fixtures::{Case, TOLERANCE, best, cases, open, relative_error};
use skein_model::{Input, KvFormat, KvPages, Output, Pool, ScoreRows, Segment, SliceModel};
use skein_weights::{Slice, WeightSource as _};

/// A whole model with the KV of one session.
struct Session {
    model: SliceModel,
    kv: KvPages,
    all: Vec<u32>,
}

impl Session {
    fn new(name: &str) -> Self {
        let source = open(name);
        let slice = Slice::whole(source.profile().layers);
        let kv = KvPages::new(source.profile(), &slice, KvFormat::F32, 16 << 20);
        let all = (0..source.profile().vocabulary).collect();
        let model = SliceModel::load(&source, slice, None, Arc::new(Pool::new(1))).unwrap();
        Self { model, kv, all }
    }

    /// Decodes the case greedily, id by id after one pass over the prompt; returns the logits of
    /// prompt's end and every step.
    fn decode(&mut self, case: &Case) -> Vec<Vec<f32>> {
        let mut sequence = self.kv.sequence();
        let mut ids = case.prompt.clone();
        let mut rows = Vec::new();
        for _ in 0..case.greedy.len() {
            let len = sequence.len() + ids.len();
            self.kv.reserve(&mut sequence, len).unwrap();
            let segment = Segment {
                sequence: &mut sequence,
                rows: ids.len(),
                scores: ScoreRows::Last,
                asked: &self.all,
            };
            let output = self
                .model
                .forward(&mut self.kv, &mut [segment], Input::Ids(&ids));
            let Output::Scores(scores) = output.unwrap() else {
                panic!("the last stage gives scores");
            };
            let row: Vec<f32> = scores[0].asked.iter().map(|(_, logit)| *logit).collect();
            assert_eq!(scores[0].top[0].0, best(&row));
            ids = vec![best(&row)];
            rows.push(row);
        }
        self.kv.release(sequence);
        rows
    }
}

#[test]
fn agrees_with_transformers() {
    for name in fixtures::NAMES {
        let mut session = Session::new(name);
        let mut worst: f32 = 0.0;
        for case in cases(name) {
            let logits = session.decode(&case);
            let answer: Vec<u32> = logits.iter().map(|row| best(row)).collect();
            assert_eq!(answer, case.greedy, "{name}/{}", case.name);
            for (row, expected) in case.rows.iter().zip(&case.logits) {
                let step = row + 1 - case.prompt.len();
                let error = relative_error(&logits[step], expected);
                assert!(error < TOLERANCE, "{name}/{} row {row}: {error}", case.name);
                worst = worst.max(error);
            }
        }
        println!("{name}: worst relative error of the served logits {worst:.1e}");
    }
}
