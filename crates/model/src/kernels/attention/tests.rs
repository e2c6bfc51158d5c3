use super::*;
use crate::lanes::InstructionSet;
use crate::pool::Pool;
use crate::testing::{Random, same_bits};

const HEADS: usize = 6;
const KV_HEADS: usize = 2;
const DIM: usize = 20;
const POSITIONS: usize = 150;

struct Case {
    keys: Vec<f32>,
    values: Vec<f32>,
    queries: Vec<f32>,
    window: Option<usize>,
}

impl Case {
    fn new(seed: u64, window: Option<usize>) -> Self {
        let mut random = Random::new(seed);
        Self {
            keys: random.values(POSITIONS * KV_HEADS * DIM, 3.0),
            values: random.values(POSITIONS * KV_HEADS * DIM, 2.0),
            queries: random.values(POSITIONS * HEADS * DIM, 3.0),
            window,
        }
    }

    fn shape(&self) -> Shape {
        let padded_dim = DIM.next_multiple_of(LANES);
        let layout = PageLayout {
            layers: 2,
            kv_heads: KV_HEADS,
            head_dim: DIM,
            padded_dim,
        };
        Shape {
            layout,
            layer: 1,
            heads: HEADS,
            window: self.window,
            scale: 0.2236,
        }
    }

    /// All positions, computed in calls of `chunk` rows at a time.
    fn run(&self, set: InstructionSet, threads: usize, chunk: usize) -> Vec<f32> {
        let shape = self.shape();
        let size = 2 * KV_HEADS * PAGE_POSITIONS * (DIM + shape.layout.padded_dim);
        let mut pages: Vec<Vec<f32>> = (0..POSITIONS.div_ceil(PAGE_POSITIONS))
            .map(|_| vec![f32::NAN; size])
            .collect();
        let pointers: Vec<*mut f32> = pages.iter_mut().map(|p| p.as_mut_ptr()).collect();
        let pool = Pool::new(threads);
        let mut out = Vec::new();
        for start in (0..POSITIONS).step_by(chunk) {
            let rows = chunk.min(POSITIONS - start);
            let span = Span {
                row: 0,
                rows,
                position: start,
                pages: pointers.clone(),
            };
            for position in start..start + rows {
                for head in 0..KV_HEADS {
                    let at = (position * KV_HEADS + head) * DIM;
                    let (k, v) = (&self.keys[at..at + DIM], &self.values[at..at + DIM]);
                    // SAFETY: the pages are this test's own, and one thread writes.
                    unsafe { write_kv(&shape, &span, head, position, k, v) };
                }
            }
            let q = &self.queries[start * HEADS * DIM..][..rows * HEADS * DIM];
            let mut part = vec![f32::NAN; q.len()];
            let (mut items, spans) = (Vec::new(), [span]);
            cut([HEADS, KV_HEADS], &spans, &mut items);
            let machine = Machine { pool: &pool, set };
            attention(machine, shape, (&spans, &items), q, &mut part);
            out.extend(part);
        }
        out
    }

    /// The textbook, in double precision.
    fn exact(&self, position: usize, head: usize) -> Vec<f64> {
        let start = self.window.map_or(0, |w| (position + 1).saturating_sub(w));
        let kv_head = head / (HEADS / KV_HEADS);
        let row = |data: &[f32], p: usize| -> Vec<f64> {
            let at = (p * KV_HEADS + kv_head) * DIM;
            data[at..at + DIM].iter().map(|v| f64::from(*v)).collect()
        };
        let q = &self.queries[(position * HEADS + head) * DIM..][..DIM];
        let weights: Vec<f64> = (start..=position)
            .map(|p| {
                let k = row(&self.keys, p);
                let dot: f64 = q.iter().zip(k).map(|(q, k)| f64::from(*q) * k).sum();
                (dot * 0.2236).exp()
            })
            .collect();
        let total: f64 = weights.iter().sum();
        let mut out = vec![0.0; DIM];
        for (weight, p) in weights.iter().zip(start..) {
            for (out, v) in out.iter_mut().zip(row(&self.values, p)) {
                *out += weight / total * v;
            }
        }
        out
    }
}

#[test]
fn agrees_with_the_textbook() {
    for window in [None, Some(1), Some(31), Some(32), Some(33), Some(70)] {
        let case = Case::new(1, window);
        let found = case.run(InstructionSet::detect(), 1, POSITIONS);
        for position in [0, 1, 30, 31, 32, 33, 63, 64, 100, 149] {
            for head in 0..HEADS {
                let found = &found[(position * HEADS + head) * DIM..][..DIM];
                for (found, exact) in found.iter().zip(case.exact(position, head)) {
                    let error = (f64::from(*found) - exact).abs();
                    assert!(
                        error < 2e-5,
                        "{window:?} {position} {head}: {found} {exact}"
                    );
                }
            }
        }
    }
}

#[test]
fn invariance_over_chunks_threads_and_instruction_sets() {
    for window in [None, Some(45)] {
        let case = Case::new(2, window);
        let reference = case.run(InstructionSet::Scalar, 1, POSITIONS);
        for set in InstructionSet::available() {
            for (threads, chunk) in [(1, 1), (1, 7), (2, 32), (3, 33), (2, 150)] {
                let found = case.run(set, threads, chunk);
                same_bits(
                    &found,
                    &reference,
                    &format!("{set:?} {threads} threads, chunk {chunk}"),
                );
            }
        }
    }
}
