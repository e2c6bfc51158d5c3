//! Kernels alone, for benches: not part of the API.

use skein_weights::Dtype;
use skein_weights::blocks::BLOCK;

use skein_weights::profile::NormKind;

use crate::kernels::attention::{self, Item, Shape, Span, write_kv};
use crate::kernels::linear::{Epilogue, Machine, Matrix, Operand, Rows, linear};
use crate::kernels::pointwise::{self, Norm};
use crate::kernels::quantised::activations::Activations;
use crate::kernels::score;
use crate::kv::{KvFormat, PAGE_POSITIONS, PageLayout};
use crate::lanes::{InstructionSet, LANES};
use crate::memory::Buffer;
use crate::pool::Pool;
use crate::random::Random;

/// A product of random activations with a random matrix.
#[derive(Debug)]
pub struct Product {
    set: InstructionSet,
    matrix: Matrix,
    rows: usize,
    x: Vec<f32>,
    out: Vec<f32>,
    scratch: Activations,
}

/// `bf16` weights about as they are in models: sums of four uniform values.
fn normal(random: &mut Random, count: usize) -> Vec<u16> {
    let uniform = |bits: u64| (bits & 0xffff) as f32 / 65_536.0 - 0.5;
    let value = |bits: u64| (0..4).map(|part| uniform(bits >> (16 * part))).sum::<f32>();
    let mut values = || ((value(random.next()) * 0.02).to_bits() >> 16) as u16;
    (0..count).map(|_| values()).collect()
}

impl Product {
    /// `outputs * inputs` weights of a format, for `rows` rows of activations.
    pub fn new(dtype: Dtype, [outputs, inputs]: [usize; 2], rows: usize) -> Self {
        let mut random = Random::new(7);
        let mut matrix = match dtype {
            Dtype::Bf16 => Matrix::compact(outputs, inputs),
            _ => Matrix::zeroed(outputs, inputs, dtype),
        };
        let packer = matrix.packer();
        for first in (0..outputs).step_by(LANES) {
            let count = LANES.min(outputs - first);
            // SAFETY: this thread alone packs, in the matrix's own format.
            unsafe {
                match dtype.blocks() {
                    Some(format) => {
                        let blocks = count * inputs.div_ceil(BLOCK);
                        let mut bytes = vec![0; blocks * format.block_bytes()];
                        for block in bytes.chunks_mut(format.block_bytes()) {
                            block.fill_with(|| random.next() as u8);
                            // A scale of about 0.004.
                            block[..2].copy_from_slice(&[0, 0x1c]);
                        }
                        packer.pack_blocks(first, &bytes);
                    }
                    None if dtype == Dtype::Bf16 => {
                        let fits = packer.pack_bf16(first, &normal(&mut random, count * inputs));
                        assert!(fits, "as weights of models are");
                    }
                    None => packer.pack_f32(first, &vec![0.01; count * inputs]),
                }
            }
        }
        let x = values(&mut random, rows * inputs);
        Self {
            set: InstructionSet::detect(),
            matrix,
            rows,
            x,
            out: vec![0.0; rows * outputs],
            scratch: Activations::default(),
        }
    }

    /// Bytes of weights.
    pub fn bytes(&self) -> u64 {
        self.matrix.bytes()
    }

    /// Multiplications and additions of one run.
    pub fn operations(&self) -> f64 {
        2.0 * (self.rows * self.matrix.inputs() * self.matrix.outputs()) as f64
    }

    /// Computes it once.
    pub fn run(&mut self, pool: &Pool) {
        let machine = Machine {
            pool,
            set: self.set,
        };
        let x = Rows::new(&self.x, self.matrix.inputs());
        linear(
            machine,
            Operand::Values(x, &mut self.scratch),
            &self.matrix,
            Epilogue::STORE,
            &mut self.out,
        );
    }
}

/// Values between -0.8 and 0.8 or so.
fn values(random: &mut Random, count: usize) -> Vec<f32> {
    let value = |bits: u64| (bits >> 40) as f32 / 1e7 - 0.8;
    (0..count).map(|_| value(random.next())).collect()
}

/// Attention of the last rows of one session, in one layer after another, in the shape of Qwen2.5-0.5B: 14 heads of 64, two of
/// keys and values.
#[derive(Debug)]
pub struct Attention {
    set: InstructionSet,
    layout: PageLayout,
    layer: usize,
    /// The session's pages, together as those of a model are, on huge pages; the span has pointers to them.
    pages: Buffer<u8>,
    span: [Span; 1],
    items: Vec<Item>,
    q: Vec<f32>,
    out: Vec<f32>,
}

impl Attention {
    const HEADS: usize = 14;
    const KV_HEADS: usize = 2;
    const DIM: usize = 64;
    const LAYERS: usize = 24;

    /// `rows` queries at the end of `positions`.
    pub fn new(format: KvFormat, positions: usize, rows: usize) -> Self {
        let layout = PageLayout {
            layers: Self::LAYERS,
            kv_heads: Self::KV_HEADS,
            head_dim: Self::DIM,
            padded_dim: Self::DIM,
            format,
        };
        let size = layout.page_bytes();
        let mut pages = Buffer::zeroed(positions.div_ceil(PAGE_POSITIONS) * size);
        let span = Span {
            row: 0,
            rows,
            position: positions - rows,
            pages: pages
                .as_mut_slice()
                .chunks_exact_mut(size)
                .map(<[u8]>::as_mut_ptr)
                .collect(),
        };
        let mut random = Random::new(3);
        let mut items = Vec::new();
        let span = [span];
        attention::cut([Self::HEADS, Self::KV_HEADS], &span, &mut items);
        let mut made = Self {
            set: InstructionSet::detect(),
            layout,
            layer: 0,
            pages,
            span,
            items,
            q: values(&mut random, rows * Self::HEADS * Self::DIM),
            out: vec![0.0; rows * Self::HEADS * Self::DIM],
        };
        for layer in 0..Self::LAYERS {
            made.layer = layer;
            for position in 0..positions {
                for head in 0..Self::KV_HEADS {
                    let (k, v) = (
                        values(&mut random, Self::DIM),
                        values(&mut random, Self::DIM),
                    );
                    // SAFETY: the pages are ours, and one thread writes.
                    unsafe { write_kv(&made.shape(), &made.span[0], head, position, &k, &v) };
                }
            }
        }
        made
    }

    fn shape(&self) -> Shape {
        Shape {
            layout: self.layout,
            layer: self.layer,
            heads: Self::HEADS,
            window: None,
            scale: 0.125,
        }
    }

    /// Bytes of keys and values of one layer.
    pub fn bytes(&self) -> u64 {
        (self.pages.as_slice().len() / Self::LAYERS) as u64
    }

    /// Multiplications and additions of one run: of queries with keys, and of weights with values.
    pub fn operations(&self) -> f64 {
        let span = &self.span[0];
        let seen: usize = (span.position..span.position + span.rows)
            .map(|position| position + 1)
            .sum();
        4.0 * (seen * Self::HEADS * Self::DIM) as f64
    }

    /// One layer, the next one each time.
    pub fn run(&mut self, pool: &Pool) {
        self.layer = (self.layer + 1) % Self::LAYERS;
        let (shape, machine) = (
            self.shape(),
            Machine {
                pool,
                set: self.set,
            },
        );
        let work = (self.span.as_slice(), self.items.as_slice());
        attention::attention(machine, shape, work, &self.q, &mut self.out);
    }
}

/// What is done to each value between products.
#[derive(Debug)]
pub struct Pointwise {
    set: InstructionSet,
    norm: Norm,
    x: Vec<f32>,
    out: Vec<f32>,
}

impl Pointwise {
    /// Room for rows of `width` outputs.
    pub fn new(rows: usize, width: usize) -> Self {
        let mut random = Random::new(5);
        Self {
            set: InstructionSet::detect(),
            norm: Norm {
                kind: NormKind::Rms,
                epsilon: 1e-6,
                weight: vec![1.0; width],
                bias: Vec::new(),
            },
            x: values(&mut random, 2 * rows * width.next_multiple_of(LANES)),
            out: vec![0.0; rows * width],
        }
    }

    /// RMSNorm of every row.
    pub fn rms_norm(&mut self, pool: &Pool) {
        let x = &self.x[..self.out.len()];
        pointwise::norm(pool, self.set, &self.norm, x, &mut self.out);
    }

    /// The gated activation: two values in, one out.
    pub fn gated_silu(&mut self) {
        let width = self.norm.weight.len();
        let pairs = self.x.chunks(2 * width.next_multiple_of(LANES));
        for (pairs, out) in pairs.zip(self.out.chunks_mut(width)) {
            // SAFETY: the set was detected.
            unsafe { pointwise::gated_silu(self.set, pairs, out) };
        }
    }
}

/// The best of a row of logits, and the sum of their exponentials.
#[derive(Debug)]
pub struct Scoring {
    set: InstructionSet,
    logits: Vec<f32>,
    scratch: score::Scratch,
}

impl Scoring {
    /// A vocabulary of so many.
    pub fn new(vocabulary: usize) -> Self {
        Self {
            set: InstructionSet::detect(),
            logits: values(&mut Random::new(9), vocabulary),
            scratch: score::Scratch::default(),
        }
    }

    /// Scores once; the best id.
    pub fn run(&mut self, pool: &Pool) -> u32 {
        let machine = Machine {
            pool,
            set: self.set,
        };
        let scores = score::scores(machine, &mut self.scratch, &self.logits, &[]);
        scores.top[0].0
    }
}
