//! What the tests of this crate share: seeded values, profiles, a model made of random weights.

use std::ops::Range;
use std::sync::Mutex;

use skein_base::Blake3;
use skein_weights::profile::{Biases, Family, Mlp, NormKind, Positions, RopeScaling};
use skein_weights::source::{CanonicalTensor, ReadError, quantise_rows};
use skein_weights::{BlockFormat, Dtype, Part, Profile, WeightSource};

use crate::kernels::linear::{Finished, Matrix, PART_PANELS};
use crate::lanes::LANES;
use crate::random;

/// A generator with what tests draw.
pub(crate) struct Random(random::Random);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(random::Random::new(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next()
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// In `-scale..scale`.
    pub(crate) fn value(&mut self, scale: f32) -> f32 {
        ((self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale
    }

    pub(crate) fn values(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.value(scale)).collect()
    }

    /// Values that kernels stumble over: outliers, zeros of both signs, subnormals.
    pub(crate) fn awkward(&mut self, count: usize) -> Vec<f32> {
        let mut values = self.values(count, 2.0);
        for value in &mut values {
            match self.below(23) {
                0 => *value *= 1000.0,
                1 => *value = 0.0,
                2 => *value = -0.0,
                3 => *value = 1e-41,
                4 => *value = -3e-39,
                _ => {}
            }
        }
        values
    }
}

/// Blocks of any bytes: every value of a weight occurs, -128 included, with finite scales of both signs.
pub(crate) fn any_blocks(random: &mut Random, count: usize, format: BlockFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..count {
        let scale = (random.next() as u16 & 0x83ff) | (random.below(30) as u16) << 10;
        bytes.extend(scale.to_le_bytes());
        bytes.extend((2..format.block_bytes()).map(|_| match random.below(40) {
            0 => 0x80,
            _ => random.next() as u8,
        }));
    }
    bytes
}

/// A matrix of blocks as they are stored.
pub(crate) fn pack(rows: &[u8], outputs: usize, inputs: usize, format: BlockFormat) -> Matrix {
    let dtype = match format {
        BlockFormat::Q8 => Dtype::Q8,
        BlockFormat::Q4 => Dtype::Q4,
    };
    let mut matrix = Matrix::zeroed(outputs, inputs, dtype);
    let packer = matrix.packer();
    // SAFETY: this thread alone packs, in the matrix's own format.
    unsafe { packer.pack_blocks(0, rows) };
    matrix
}

/// Asserts equality bit by bit.
pub(crate) fn same_bits(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert_eq!(
            a.to_bits(),
            b.to_bits(),
            "{what}: value {i} is {a}, not {b}"
        );
    }
}

/// A digest of bits.
pub(crate) fn digest(values: &[f32]) -> String {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|v| v.to_bits().to_le_bytes())
        .collect();
    Blake3::of(&bytes).to_string()[..16].to_owned()
}

/// A small profile of each family, with widths that are no multiples of anything where the
/// family allows it.
pub(crate) fn profile(family: Family) -> Profile {
    let gpt2 = family == Family::Gpt2;
    let rope = |scaling: RopeScaling| Positions::Rope {
        theta: 10_000.0,
        scaling,
    };
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_frequency_factor: 1.0,
        high_frequency_factor: 4.0,
        original_context: 64,
    };
    let layers = 4;
    Profile {
        family,
        vocabulary: 307,
        hidden: if gpt2 { 48 } else { 40 },
        intermediate: 72,
        layers,
        heads: 4,
        kv_heads: if gpt2 { 4 } else { 2 },
        head_dim: if gpt2 { 12 } else { 20 },
        context: 512,
        norm: if gpt2 { NormKind::Layer } else { NormKind::Rms },
        norm_epsilon: 1e-5,
        positions: match family {
            Family::Gpt2 => Positions::Learned { count: 512 },
            Family::Llama => rope(llama3),
            _ => rope(RopeScaling::None),
        },
        mlp: if gpt2 { Mlp::GeluTanh } else { Mlp::GatedSilu },
        biases: Biases {
            qkv: gpt2 || family == Family::Qwen2,
            attention_output: gpt2,
            mlp: gpt2,
        },
        qk_norm: family == Family::Qwen3,
        windows: match family {
            Family::Mistral => vec![Some(37); layers as usize],
            Family::Qwen2 => vec![None, None, Some(9), Some(33)],
            _ => vec![],
        },
        tied: matches!(family, Family::Gpt2 | Family::Qwen2),
    }
}

pub(crate) const FAMILIES: [Family; 5] = [
    Family::Llama,
    Family::Mistral,
    Family::Qwen2,
    Family::Qwen3,
    Family::Gpt2,
];

/// A model whose weights come out of a generator.
#[derive(Debug)]
pub(crate) struct RandomModel {
    pub(crate) profile: Profile,
    pub(crate) dtype: Dtype,
}

#[derive(Debug)]
pub(crate) struct RandomTensor {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    pub(crate) values: Vec<f32>,
}

impl WeightSource for RandomModel {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    fn tensor(&self, part: Part, name: &str) -> Result<Box<dyn CanonicalTensor + '_>, ReadError> {
        let specs = self.profile.tensors(part);
        let spec = specs
            .iter()
            .find(|s| s.name == name)
            .ok_or_else(|| ReadError::Missing {
                part,
                name: name.to_owned(),
            })?;
        let seed = Blake3::of(format!("{part} {name}").as_bytes()).0;
        let mut random = Random::new(u64::from_le_bytes(seed[..8].try_into().expect("8 bytes")));
        let count = spec.shape.iter().product::<u64>() as usize;
        let width = *spec.shape.last().expect("tensors have dimensions") as f32;
        let is_norm = name.contains("norm.weight");
        let scale = if spec.shape.len() == 2 {
            2.5 / width.sqrt()
        } else {
            0.3
        };
        let values = (0..count)
            .map(|_| {
                let value = random.value(scale) + if is_norm { 1.0 } else { 0.0 };
                // Truncated, so that both formats hold the same.
                f32::from_bits(value.to_bits() & 0xffff_0000)
            })
            .collect();
        Ok(Box::new(RandomTensor {
            dtype: self.dtype,
            shape: spec.shape.clone(),
            values,
        }))
    }
}

impl RandomTensor {
    fn rows(&self, rows: Range<u64>) -> &[f32] {
        let width = *self.shape.last().expect("tensors have dimensions") as usize;
        &self.values[rows.start as usize * width..rows.end as usize * width]
    }
}

impl CanonicalTensor for RandomTensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[u64] {
        &self.shape
    }

    fn read_f32(&self, rows: Range<u64>, out: &mut [f32]) -> Result<(), ReadError> {
        out.copy_from_slice(self.rows(rows));
        Ok(())
    }

    fn read_bf16(&self, rows: Range<u64>, out: &mut [u16]) -> Result<(), ReadError> {
        for (out, value) in out.iter_mut().zip(self.rows(rows)) {
            *out = (value.to_bits() >> 16) as u16;
        }
        Ok(())
    }

    fn read_blocks(
        &self,
        format: BlockFormat,
        rows: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), ReadError> {
        quantise_rows(self, (Part::Head, "random"), format, rows, out)
    }
}

/// Outputs of a part of a product.
const PART: usize = PART_PANELS * LANES;

/// Copies the parts of a product as they are finished, each once.
pub(crate) struct Parts {
    outputs: usize,
    copy: Mutex<Vec<Option<u32>>>,
}

impl Parts {
    pub(crate) fn new(rows: usize, outputs: usize) -> Self {
        Self {
            outputs,
            copy: Mutex::new(vec![None; rows * outputs]),
        }
    }

    pub(crate) fn take(&self, mut part: Finished<'_>) {
        let mut copy = self.copy.lock().expect("no panic before");
        assert!(part.outputs().start.is_multiple_of(PART), "whole parts");
        let ends = part.outputs().end == self.outputs || part.outputs().end.is_multiple_of(PART);
        assert!(ends, "whole parts");
        for row in part.rows() {
            let places = row * self.outputs + part.outputs().start..;
            for (place, value) in places.zip(part.row(row)) {
                let before = copy[place].replace(value.to_bits());
                assert_eq!(before, None, "each once");
            }
        }
    }

    /// All have come, as they are in `out`.
    pub(crate) fn check(&self, out: &[f32]) {
        let copy = self.copy.lock().expect("no panic before");
        assert!(
            copy.iter()
                .copied()
                .eq(out.iter().map(|v| Some(v.to_bits())))
        );
    }
}
