//! Kernels alone, for benches: not part of the API.

use skein_weights::Dtype;
use skein_weights::blocks::BLOCK;

use crate::kernels::linear::{Epilogue, Machine, Matrix, Rows, linear};
use crate::kernels::quantised::activations::Activations;
use crate::lanes::{InstructionSet, LANES};
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
        let x = (0..rows * inputs).map(|_| (random.next() >> 40) as f32 / 1e7 - 0.8);
        Self {
            set: InstructionSet::detect(),
            matrix,
            rows,
            x: x.collect(),
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
        let epilogue = Epilogue {
            bias: None,
            accumulate: false,
        };
        let machine = Machine {
            pool,
            set: self.set,
        };
        let x = Rows::new(&self.x, self.matrix.inputs());
        linear(
            machine,
            &mut self.scratch,
            x,
            &self.matrix,
            epilogue,
            &mut self.out,
        );
    }
}
