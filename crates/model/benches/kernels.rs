//! Each kernel alone, by criterion: distributions, and changes since the last run.
//!
//! Floors, for each core (`docs/performance.md` has what was measured beside them):
//!
//! - **products**, one row: every weight is read once, so `bytes / bandwidth`; criterion says GB/s, which `benches/product.rs`
//!   compares with a test of the memory in the same rounds. The matrices of this bench fit a last-level cache of 32 MiB
//!   as `q8` and `q4`: what it shows there is the kernel's own limit. 512 rows: `2 * rows * weights` operations, of which a
//!   cycle does 32 (AVX2, floats) or 64 (AVX-512), 256 of bytes with VNNI, less a fifth for the scales of blocks.
//! - **attention**: `4 * positions * heads * dim` operations of floats a row, and one exponential for each position and head;
//!   of one row, keys and values are read once: layers alternate, so that they come from memory.
//! - **norm**: 12 bytes a value pass through the caches (copied, then read twice). **gated SiLU**: 12 bytes a value, about
//!   22 instructions of a vector of 16 and a division of 8 to 16 cycles.
//! - **scores** of a vocabulary of 151,936: 0.6 MB is read twice, and a few blocks again, and there is an exponential for each.
//!
//! Measured on one core of a Zen 5 guest (by instructions alone 200 GFLOP/s of floats and 800 GOP/s of bytes; 640 with
//! the scales), `--quick`: 512 rows of q8 571 and of q4 572 GOP/s (89 % of what scales leave), of bf16 172 (86 %); 8 rows 593, 704
//! and 214; one row of q8 95 and of q4 93 GiB/s, of bf16 40, which come from the last-level cache. Attention of 512 rows 121
//! GFLOP/s (60 %); of one row 31 GiB/s over 190 positions, 35 over 512, and 24 over 4,096, where keys and values come from
//! memory (bytes: 8, 10 and 10). A line of a tile's successor is asked for in each step; by parts of 32 to 64 lines it
//! was 28, 32 and 15. RMSNorm 5.2, gated SiLU 3.9 and scores 3.3 thousand million values a second.
//!
//! `cargo bench -p skein-model --features probe --bench kernels -- [filter]`, with one thread.
#![allow(missing_docs, reason = "made by a macro")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use skein_model::Pool;
use skein_model::kv::KvFormat;
use skein_model::probe::{Attention, Pointwise, Product, Scoring};
use skein_weights::Dtype;

/// One thread: what a core can do.
fn pool() -> Pool {
    Pool::new(1)
}

fn products(criterion: &mut Criterion) {
    let pool = pool();
    let mut group = criterion.benchmark_group("product");
    for dtype in [Dtype::F32, Dtype::Bf16, Dtype::Q8, Dtype::Q4] {
        for rows in [1, 8, 512] {
            let mut product = Product::new(dtype, [9728, 896], rows);
            group.throughput(match rows {
                1 => Throughput::Bytes(product.bytes()),
                _ => Throughput::Elements(product.operations() as u64),
            });
            let id = BenchmarkId::new(dtype.to_string(), rows);
            group.bench_function(id, |bencher| bencher.iter(|| product.run(&pool)));
        }
    }
    group.finish();
}

fn attention(criterion: &mut Criterion) {
    let pool = pool();
    let mut group = criterion.benchmark_group("attention");
    for format in KvFormat::ALL {
        for (positions, rows) in [(190, 1), (512, 1), (4096, 1), (512, 512)] {
            let mut attention = Attention::new(format, positions, rows);
            group.throughput(match rows {
                1 => Throughput::Bytes(attention.bytes()),
                _ => Throughput::Elements(attention.operations() as u64),
            });
            let id = BenchmarkId::new(format.name(), format!("{rows} of {positions}"));
            group.bench_function(id, |bencher| bencher.iter(|| attention.run(&pool)));
        }
    }
    group.finish();
}

fn pointwise(criterion: &mut Criterion) {
    let pool = pool();
    let mut group = criterion.benchmark_group("pointwise");
    for rows in [1, 128] {
        let (mut hidden, mut inner) = (Pointwise::new(rows, 896), Pointwise::new(rows, 4864));
        group.throughput(Throughput::Elements((rows * 896) as u64));
        let id = BenchmarkId::new("rms_norm", rows);
        group.bench_function(id, |bencher| bencher.iter(|| hidden.rms_norm(&pool)));
        group.throughput(Throughput::Elements((rows * 4864) as u64));
        let id = BenchmarkId::new("gated_silu", rows);
        group.bench_function(id, |bencher| bencher.iter(|| inner.gated_silu()));
    }
    group.finish();
}

fn scores(criterion: &mut Criterion) {
    let (pool, mut scoring) = (pool(), Scoring::new(151_936));
    let mut group = criterion.benchmark_group("scores");
    group.throughput(Throughput::Elements(151_936));
    group.bench_function("151936", |bencher| {
        bencher.iter(|| black_box(scoring.run(&pool)));
    });
    group.finish();
}

criterion_group!(kernels, products, attention, pointwise, scores);
criterion_main!(kernels);
