use super::*;
use crate::lanes::InstructionSet;
use crate::memory::Buffer;
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
    format: KvFormat,
}

impl Case {
    fn new(seed: u64, window: Option<usize>, format: KvFormat) -> Self {
        let mut random = Random::new(seed);
        Self {
            keys: random.values(POSITIONS * KV_HEADS * DIM, 3.0),
            values: random.values(POSITIONS * KV_HEADS * DIM, 2.0),
            queries: random.values(POSITIONS * HEADS * DIM, 3.0),
            window,
            format,
        }
    }

    fn shape(&self) -> Shape {
        let padded_dim = DIM.next_multiple_of(LANES);
        let layout = PageLayout {
            layers: 2,
            kv_heads: KV_HEADS,
            head_dim: DIM,
            padded_dim,
            format: self.format,
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
        let size = shape.layout.page_bytes();
        // All ones are NaN as a float: what was not written must not be read.
        let mut pages: Vec<Buffer<u8>> = (0..POSITIONS.div_ceil(PAGE_POSITIONS))
            .map(|_| Buffer::zeroed(size))
            .collect();
        let pages = pages.iter_mut().map(Buffer::as_mut_slice);
        let pointers: Vec<*mut u8> = pages
            .map(|page| {
                page.fill(u8::MAX);
                page.as_mut_ptr()
            })
            .collect();
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

    /// A stored vector as attention sees it, in double precision.
    fn stored(&self, values: &[f32]) -> Vec<f64> {
        let wide = values.iter().map(|value| f64::from(*value));
        match self.format {
            KvFormat::F32 => wide.collect(),
            KvFormat::Int8 => {
                let largest = wide.clone().fold(0.0, |a: f64, b| a.max(b.abs()));
                let step = largest / 127.0;
                wide.map(|value| (value / step).round() * step).collect()
            }
        }
    }

    /// The textbook, in double precision.
    fn exact(&self, position: usize, head: usize) -> Vec<f64> {
        let start = self.window.map_or(0, |w| (position + 1).saturating_sub(w));
        let kv_head = head / (HEADS / KV_HEADS);
        let row = |data: &[f32], p: usize| -> Vec<f64> {
            let at = (p * KV_HEADS + kv_head) * DIM;
            self.stored(&data[at..at + DIM])
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

fn of_both(window: Option<usize>) -> [(Option<usize>, KvFormat); 2] {
    [KvFormat::F32, KvFormat::Int8].map(|format| (window, format))
}

#[test]
fn agrees_with_the_textbook() {
    let windows = [None, Some(1), Some(31), Some(32), Some(33), Some(70)];
    for (window, format) in windows.into_iter().flat_map(of_both) {
        let case = Case::new(1, window, format);
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
    for (window, format) in [None, Some(45)].into_iter().flat_map(of_both) {
        let case = Case::new(2, window, format);
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
