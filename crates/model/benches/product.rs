//! Speed of one product with a weight matrix, in every format, on the shapes of Qwen2.5-0.5B's layers.
//!
//! Floors. One row reads every weight once: `bytes / bandwidth` of the memory, measured in the same rounds; the
//! matrices together are larger than any cache. A weight has 4 bytes in `f32`, 1.5 in `bf16` (as packed in memory), 1.06 in `q8` and
//! 0.56 in `q4`. Many rows do `2 * rows * weights` operations. AVX2 does two
//! instructions with eight fused multiply-adds a cycle for floats; for `q8` a multiplication of sixteen pairs and an
//! addition of eight sums together, for `q4` twice as many products with the same two. On the guest of
//! `docs/performance.md` that measured, for each core and nanosecond, 6.3 fused multiply-adds (100 GFLOP/s), and 4.2 to
//! 4.8 pairs of multiplication and addition (134 to 154 GOP/s for `q8`, twice that for `q4`).
//!
//! `cargo bench -p skein-model --features probe --bench product -- [threads [format [rows]]]`
#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use skein_model::probe::Product;
use skein_model::{Pool, Stream};
use skein_weights::Dtype;

/// Outputs and inputs of a layer's four products.
const SHAPES: [[usize; 2]; 4] = [[1152, 896], [896, 896], [9728, 896], [896, 4864]];
/// Layers read one after another, so that no cache holds them.
const LAYERS: usize = 12;
const ROUNDS: usize = 9;

#[expect(clippy::disallowed_methods, reason = "a bench measures the wall clock")]
fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let threads = arguments.first().and_then(|t| t.parse().ok()).unwrap_or(2);
    let pool = Arc::new(Pool::new(threads));
    let stream = Stream::new(1 << 29, Arc::clone(&pool));
    let all = [Dtype::Q8, Dtype::Q4, Dtype::Bf16, Dtype::F32];
    let asked = |dtype: &Dtype| arguments.get(1).is_none_or(|one| *one == dtype.to_string());
    for dtype in all.into_iter().filter(asked) {
        let counts = match arguments.get(2).and_then(|rows| rows.parse().ok()) {
            Some(rows) => vec![rows],
            None => vec![1, 2, 4, 8, 16, 64, 512],
        };
        for rows in counts {
            let layers = if rows > 16 { 1 } else { LAYERS };
            let mut products: Vec<_> = (0..layers)
                .flat_map(|_| SHAPES.map(|shape| Product::new(dtype, shape, rows)))
                .collect();
            let bytes: u64 = products.iter().map(Product::bytes).sum();
            let operations: f64 = products.iter().map(Product::operations).sum();
            let (mut times, mut memory) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                memory.push(seconds(|| {
                    black_box(stream.read());
                }));
                times.push(seconds(|| products.iter_mut().for_each(|p| p.run(&pool))));
            }
            let (time, gigabytes) = (median(times), bytes as f64 / 1e9);
            let floor = stream.bytes() as f64 / median(memory) / 1e9;
            println!(
                "{dtype:5} {rows:4} rows: {:9.2} ms, {:6.1} GOP/s, {:5.1} GB/s, {:4.0} % of the stream",
                time * 1e3,
                operations / time / 1e9,
                gigabytes / time,
                100.0 * gigabytes / time / floor,
            );
        }
    }
}
