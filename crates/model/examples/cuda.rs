//! Layers on an NVIDIA card: whether their bits are those of the CPU, and how fast they are.
//!
//! `cargo run --release -p skein-model --features cuda --example cuda -- COMMAND`:
//!
//! - `card`: compares a card with the CPU, bit by bit.
//! - `bench`: time of a decode step of one row, on random weights.
//! - `ptx FOLDER`: compiles the kernels for several architectures, reads the result for what may change bits, and
//!   leaves it in the folder.
//! - `emulator PROGRAM`: compares the kernels as a C++ program with the CPU; `scripts/test-cuda` compiles it.
//!
//! Ends with 0 where all is well, 1 where something differs or fails, 2 where it was called wrongly, and 3 where
//! nothing was checked since there is no driver, compiler or card: a line on standard error says which.
//!
//! The floor of a decode step is `bytes of weights / bandwidth`, the bandwidth being that of a kernel that only reads, in
//! the same run. A layer of Qwen2.5-0.5B has 15 MB, less than many a card's cache, so all layers are walked through:
//! 24 of it, and four of the 7B model's 28.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example prints what it found"
)]

use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use skein_model::cuda::{
    Card, CudaError, Device, Emulator, OnDevice, Room, Session, check, check_ptx, compile,
    read_memory,
};
use skein_model::{Pool, SliceModel};
use skein_weights::profile::{Biases, Family, Mlp, NormKind, Positions, RopeScaling};
use skein_weights::source::{CanonicalTensor, ReadError};
use skein_weights::{BlockFormat, Dtype, Part, Profile, Slice, WeightSource};

/// Compute capabilities that `ptx` compiles for.
const ARCHITECTURES: [u32; 4] = [75, 80, 89, 90];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["card"] => on_card(),
        ["bench"] => bench(),
        ["ptx", folder] => ptx(folder.as_ref()),
        ["emulator", program] => emulated(program),
        _ => {
            eprintln!("usage: cuda card | bench | ptx FOLDER | emulator PROGRAM");
            return ExitCode::from(2);
        }
    };
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let absent = matches!(
        error.downcast_ref(),
        Some(CudaError::NoDriver | CudaError::NoCompiler | CudaError::NoCard { .. })
    );
    if absent {
        eprintln!("nothing was checked: {error}");
        return ExitCode::from(3);
    }
    eprintln!("FAILED: {error}");
    ExitCode::FAILURE
}

type Outcome = Result<(), Box<dyn Error>>;

/// Passes what the device could not do on as it is, so that `main` sees which it was.
fn compare<D: Device>(device: &mut D) -> Outcome {
    match check::all(device, &mut |line| println!("same bits: {line}")) {
        Ok(()) => Ok(()),
        Err(check::CheckError::Device(error)) => Err(error.into()),
        Err(different) => Err(different.into()),
    }
}

fn on_card() -> Outcome {
    let mut card = Card::open(0)?;
    println!("{}", card.description());
    compare(&mut card)
}

fn emulated(program: &str) -> Outcome {
    compare(&mut Emulator::start(program.as_ref())?)
}

fn ptx(folder: &Path) -> Outcome {
    for architecture in ARCHITECTURES {
        for fused in [true, false] {
            let text = compile(architecture, fused)?;
            check_ptx(&text, fused)?;
            if fused {
                std::fs::write(folder.join(format!("sm_{architecture}.ptx")), &text)?;
            }
            let lines = text.lines().count();
            let fused = if fused { "as it is" } else { "nothing fused" };
            println!("compute_{architecture}, {fused}: {lines} lines of PTX are in order");
        }
    }
    Ok(())
}

/// Widths of a model.
struct Shape {
    name: &'static str,
    hidden: u32,
    intermediate: u32,
    layers: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
}

const SHAPES: [Shape; 2] = [
    Shape {
        name: "Qwen2.5-0.5B, 24 layers",
        hidden: 896,
        intermediate: 4864,
        layers: 24,
        heads: 14,
        kv_heads: 2,
        head_dim: 64,
    },
    Shape {
        name: "Qwen2.5-7B, 4 of 28 layers",
        hidden: 3584,
        intermediate: 18_944,
        layers: 4,
        heads: 28,
        kv_heads: 4,
        head_dim: 128,
    },
];

impl Shape {
    /// With a layer before and behind, so that a slice of those between has neither embedding nor head.
    fn profile(&self) -> Profile {
        Profile {
            family: Family::Qwen2,
            vocabulary: 32,
            hidden: self.hidden,
            intermediate: self.intermediate,
            layers: self.layers + 2,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            context: 32_768,
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
}

/// Weights made on the spot, in blocks: random bytes under one small scale.
#[derive(Debug)]
struct Weights(Profile, BlockFormat);

#[derive(Debug)]
struct Tensor(Vec<u64>, Dtype);

impl WeightSource for Weights {
    fn profile(&self) -> &Profile {
        &self.0
    }

    fn tensor(&self, part: Part, name: &str) -> Result<Box<dyn CanonicalTensor + '_>, ReadError> {
        let spec = self.0.tensors(part).into_iter().find(|s| s.name == name);
        let dtype = match self.1 {
            BlockFormat::Q8 => Dtype::Q8,
            BlockFormat::Q4 => Dtype::Q4,
        };
        Ok(Box::new(Tensor(
            spec.expect("asked by the profile").shape,
            dtype,
        )))
    }
}

impl CanonicalTensor for Tensor {
    fn dtype(&self) -> Dtype {
        self.1
    }

    fn shape(&self) -> &[u64] {
        &self.0
    }

    fn read_f32(&self, _: Range<u64>, out: &mut [f32]) -> Result<(), ReadError> {
        out.fill(0.5);
        Ok(())
    }

    fn read_bf16(&self, _: Range<u64>, out: &mut [u16]) -> Result<(), ReadError> {
        out.fill(0x3f00);
        Ok(())
    }

    fn read_blocks(
        &self,
        format: BlockFormat,
        rows: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), ReadError> {
        let mut state = rows.start;
        for block in out.chunks_mut(format.block_bytes()) {
            for byte in block.iter_mut() {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
            // About 0.0002 as a half: rows neither vanish nor overflow.
            block[..2].copy_from_slice(&[0x80, 0x0a]);
        }
        Ok(())
    }
}

/// Seconds of wall clock for each of `rounds` calls: the median.
#[expect(clippy::disallowed_methods, reason = "a bench measures the wall clock")]
fn median(
    rounds: usize,
    mut work: impl FnMut() -> Result<(), CudaError>,
) -> Result<f64, CudaError> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[rounds / 2])
}

/// Bytes a second of a kernel that reads 2 GiB.
fn bandwidth(card: &mut Card) -> Result<f64, CudaError> {
    let (memory, out) = (card.allocate(2 << 30)?, card.allocate(4 << 20)?);
    let mut bytes = 0;
    let seconds = median(10, || {
        bytes = read_memory(card, memory, out)?;
        card.finish()
    })?;
    Ok(bytes as f64 / seconds)
}

fn bench() -> Outcome {
    let mut card = Card::open(0)?;
    println!("{}", card.description());
    let bandwidth = bandwidth(&mut card)?;
    println!("memory alone: {:.0} GB/s", bandwidth / 1e9);
    for format in [BlockFormat::Q8, BlockFormat::Q4] {
        for shape in &SHAPES {
            decode(&mut card, shape, format, bandwidth)?;
        }
    }
    Ok(())
}

/// Positions before the row that is decoded.
const CONTEXTS: [usize; 3] = [0, 512, 4000];

fn decode(card: &mut Card, shape: &Shape, format: BlockFormat, bandwidth: f64) -> Outcome {
    let source = Weights(shape.profile(), format);
    let slice = Slice::new(1..shape.layers + 1, shape.layers + 2).ok_or("too few layers")?;
    let model = SliceModel::load(&source, slice, None, Arc::new(Pool::new(2)))?;
    let bytes = model.bytes_per_step() as f64;
    let room = Room {
        pages: 128,
        rows: 512,
    };
    let mut layers = OnDevice::upload(card, &model, room)?;
    let pages: Vec<u32> = (0..128).collect();
    let hidden = shape.hidden as usize;
    for position in CONTEXTS {
        for rows in [1, 8, 64, 512] {
            if position + rows > 4096 || (rows > 1 && position > 512) {
                continue;
            }
            let session = Session {
                position,
                rows,
                pages: &pages,
            };
            let seconds = median(15, || {
                layers.enter(&[session], &vec![0.1; rows * hidden])?;
                layers.finish()
            })?;
            let both = median(15, || {
                layers.enter(&[session], &vec![0.1; rows * hidden])?;
                layers.run()?;
                layers.finish()
            })?;
            let seconds = both - seconds;
            println!(
                "{} {format:?}, {rows} rows at {position}: {:.1} us a layer, {:.0} % of the floor's \
                 bandwidth, {:.1} TOPS",
                shape.name,
                seconds * 1e6 / f64::from(shape.layers),
                100.0 * bytes / bandwidth / seconds,
                2.0 * bytes * rows as f64 / (format.block_bytes() as f64 / 32.0) / seconds / 1e12,
            );
        }
    }
    Ok(())
}
