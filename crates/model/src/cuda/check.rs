//! A device against the CPU, bit by bit: kernels alone over awkward values and shapes, then layers of every family.
//!
//! Not part of the API: `examples/cuda.rs` runs it on a card, `scripts/test-cuda` on an emulated one.

mod heads;

use std::sync::Arc;

use skein_base::math;
use skein_weights::blocks::BLOCK;
use skein_weights::profile::{Family, NormKind};
use skein_weights::{BlockFormat, Dtype, Profile, Slice};

use super::operations::{
    Before, Projection, Quantised, Rows, elementary, floats, product, quantise, uploaded,
};
use super::{CudaError, Device, Memory, OnDevice, Room, Session};
use crate::kernels::linear::{self, Epilogue, Machine, Matrix, Operand, linear};
use crate::kernels::pointwise::{self, Norm};
use crate::kernels::quantised::activations::Activations;
use crate::kv::{KvFormat, KvPages, PAGE_POSITIONS, Sequence};
use crate::lanes::{InstructionSet, LANES};
use crate::pool::Pool;
use crate::slice::{Input, Output, ScoreRows, Segment, SliceModel};
use crate::testing::{Random, RandomModel, any_blocks, pack, profile};

/// Why a device did not pass.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It could not compute.
    #[error(transparent)]
    Device(#[from] CudaError),
    /// It computed something else.
    #[error("{what}: value {index} is {found:e} ({found_bits:#010x}), not {expected:e}")]
    Different {
        /// Where.
        what: String,
        /// Which value.
        index: usize,
        /// What the device says.
        found: f32,
        /// Its bits.
        found_bits: u32,
        /// What the CPU says.
        expected: f32,
    },
}

/// All checks. `say` hears what was compared, line by line.
pub fn all<D: Device>(device: &mut D, say: &mut dyn FnMut(String)) -> Result<(), CheckError> {
    say(format!("exp and silu: {} values", functions(device)?));
    say(format!("norms and products: {} values", norms(device)?));
    say(format!("products: {} values", products(device)?));
    say(format!("no numbers: {} values", no_numbers(device)?));
    say(format!("heads: {} values", heads::heads(device)?));
    for case in cases() {
        let values = case.run(device)?;
        say(format!("two layers, {}: {values} values", case.name()));
    }
    Ok(())
}

/// Equality of bits; one NaN is as good as another, since no answer is made of them.
fn same(found: &[f32], expected: &[f32], what: &str) -> Result<usize, CheckError> {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let both_nan = found.is_nan() && expected.is_nan();
        if found.to_bits() != expected.to_bits() && !both_nan {
            return Err(CheckError::Different {
                what: what.to_owned(),
                index,
                found: *found,
                found_bits: found.to_bits(),
                expected: *expected,
            });
        }
    }
    Ok(found.len())
}

fn download<D: Device>(device: &mut D, from: Memory, count: usize) -> Result<Vec<f32>, CudaError> {
    let mut bytes = vec![0; count * 4];
    device.download(from, &mut bytes)?;
    let (values, _) = bytes.as_chunks::<4>();
    Ok(values.iter().map(|v| f32::from_ne_bytes(*v)).collect())
}

/// exp and silu over their whole range, with the edges of it and what is no number.
fn functions<D: Device>(device: &mut D) -> Result<usize, CheckError> {
    let mut x: Vec<f32> = (0..200_000).map(|i| i as f32 * 1.03e-3 - 107.0).collect();
    let edges = [
        0.0,
        f32::MIN_POSITIVE,
        1e-41,
        1e-45,
        88.722_83,
        88.73,
        89.0,
        103.9,
        104.0,
        1e9,
        f32::MAX,
        f32::INFINITY,
        f32::NAN,
    ];
    x.extend(edges.iter().flat_map(|edge| [*edge, -*edge]));
    let input = uploaded(device, &floats(&x))?;
    let outputs = [device.allocate(x.len() * 4)?, device.allocate(x.len() * 4)?];
    elementary(device, input, outputs, x.len())?;
    let twins: [fn(f32) -> f32; 2] = [math::exp, math::silu];
    let mut compared = 0;
    for (output, (twin, name)) in outputs
        .into_iter()
        .zip(twins.into_iter().zip(["exp", "silu"]))
    {
        let expected: Vec<f32> = x.iter().map(|x| twin(*x)).collect();
        compared += same(&download(device, output, x.len())?, &expected, name)?;
    }
    Ok(compared)
}

/// Rows of activations with a matrix of random blocks, on a device and on the CPU.
struct Multiplied {
    matrix: Matrix,
    projection: Projection,
    bias: Option<Vec<f32>>,
    pool: Pool,
}

impl Multiplied {
    fn new<D: Device>(
        device: &mut D,
        random: &mut Random,
        format: BlockFormat,
        [outputs, inputs]: [usize; 2],
        biased: bool,
    ) -> Result<Self, CudaError> {
        let rows = any_blocks(random, outputs * inputs.div_ceil(BLOCK), format);
        let matrix = pack(&rows, outputs, inputs, format);
        let bias = biased.then(|| random.awkward(outputs));
        let blocks = matrix.blocks().expect("packed in blocks");
        let projection = Projection::upload(device, blocks, [outputs, inputs], bias.as_deref())?;
        Ok(Self {
            matrix,
            projection,
            bias,
            pool: Pool::new(1),
        })
    }

    /// The CPU's answer, added to what `out` holds with `accumulate`.
    fn on_cpu(&self, x: &[f32], accumulate: bool, out: &mut [f32]) {
        let machine = Machine {
            pool: &self.pool,
            set: InstructionSet::detect(),
        };
        let epilogue = Epilogue {
            bias: self.bias.as_deref(),
            accumulate,
            ..Epilogue::STORE
        };
        let x = linear::Rows::new(x, self.matrix.inputs());
        let mut scratch = Activations::default();
        let x = Operand::Values(x, &mut scratch);
        linear(machine, x, &self.matrix, epilogue, out);
    }

    /// Compares one product, of rows that `before` is done to on the device; `x` is what it makes of them.
    fn compare<D: Device>(
        &self,
        device: &mut D,
        (given, before): (&[f32], Before),
        x: &[f32],
        accumulate: bool,
        what: &str,
    ) -> Result<usize, CheckError> {
        let (inputs, outputs) = (self.matrix.inputs(), self.matrix.outputs());
        let rows = x.len() / inputs;
        let mut out = vec![0.25; rows * outputs];
        let memory = uploaded(device, &floats(given))?;
        let target = uploaded(device, &floats(&out))?;
        let bytes = Quantised::allocate(device, rows, inputs)?;
        let given = Rows {
            memory,
            count: rows,
            width: given.len() / rows,
        };
        quantise(device, given, before, inputs, &bytes)?;
        product(device, (&bytes, rows), &self.projection, accumulate, target)?;
        self.on_cpu(x, accumulate, &mut out);
        same(&download(device, target, out.len())?, &out, what)
    }
}

const FORMATS: [BlockFormat; 2] = [BlockFormat::Q8, BlockFormat::Q4];

/// Products of one, a few and many rows, in shapes of less than a block, a panel, a group of blocks, and more.
fn products<D: Device>(device: &mut D) -> Result<usize, CheckError> {
    let mut random = Random::new(41);
    let mut compared = 0;
    let shapes = [
        (1, 1),
        (16, 64),
        (40, 72),
        (130, 200),
        (24, 2080),
        (48, 4200),
    ];
    for (index, (outputs, inputs)) in shapes.into_iter().enumerate() {
        for format in FORMATS {
            let biased = index % 2 == 1;
            let shape = [outputs, inputs];
            let multiplied = Multiplied::new(device, &mut random, format, shape, biased)?;
            for rows in [1, 3, 8, 17] {
                let x = random.awkward(rows * inputs);
                let what = format!("{outputs}x{inputs} {format:?}, {rows} rows");
                let given = (x.as_slice(), Before::Nothing);
                compared += multiplied.compare(device, given, &x, rows % 2 == 1, &what)?;
            }
        }
    }
    Ok(compared)
}

/// Norms, of rows longer than shared memory too, and gates, before a product that shows all of their bits that count.
fn norms<D: Device>(device: &mut D) -> Result<usize, CheckError> {
    let mut random = Random::new(43);
    let (pool, set) = (Pool::new(1), InstructionSet::detect());
    let mut compared = 0;
    for width in [1, 40, 896, 4100] {
        let shape = [LANES, width];
        let multiplied = Multiplied::new(device, &mut random, BlockFormat::Q8, shape, false)?;
        let weight = random.awkward(width);
        let norm = Norm {
            kind: NormKind::Rms,
            epsilon: 1e-6,
            bias: Vec::new(),
            weight,
        };
        let before = Before::Norm {
            weight: uploaded(device, &floats(&norm.weight))?,
            epsilon: norm.epsilon,
        };
        for rows in [1, 3] {
            let mut x = vec![0.0; rows * width];
            let given = random.awkward(rows * width);
            pointwise::norm(&pool, set, &norm, &given, &mut x);
            let what = format!("norm of {rows} rows of {width}");
            compared += multiplied.compare(device, (&given, before), &x, false, &what)?;
            let pairs = 2 * width.next_multiple_of(LANES);
            let given = random.awkward(rows * pairs);
            for (given, x) in given.chunks(pairs).zip(x.chunks_mut(width)) {
                // SAFETY: the set was detected.
                unsafe { pointwise::gated_silu(set, given, x) };
            }
            let what = format!("gate of {rows} rows of {width}");
            compared += multiplied.compare(device, (&given, Before::Gate), &x, false, &what)?;
        }
    }
    Ok(compared)
}

/// A row that holds no number must not pass for one.
fn no_numbers<D: Device>(device: &mut D) -> Result<usize, CheckError> {
    let mut random = Random::new(47);
    let (outputs, inputs) = (16, 96);
    let mut compared = 0;
    for format in FORMATS {
        let multiplied = Multiplied::new(device, &mut random, format, [outputs, inputs], false)?;
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, 31, 50, 95] {
                let mut x = random.values(inputs, 1.0);
                x[place] = bad;
                let what = format!("{format:?} {bad} at {place}");
                let given = (x.as_slice(), Before::Nothing);
                compared += multiplied.compare(device, given, &x, false, &what)?;
            }
        }
    }
    Ok(compared)
}

/// A model of two layers, the middle ones of four.
struct Case {
    source: RandomModel,
}

/// Every family that has RMS norms and rotary positions, both formats, and heads from less than a block to more than a run
/// of a product.
fn cases() -> Vec<Case> {
    let cases = [
        (Family::Llama, Dtype::Q8, 64),
        (Family::Llama, Dtype::Q4, 128),
        (Family::Mistral, Dtype::Q8, 20),
        (Family::Mistral, Dtype::Q4, 64),
        (Family::Qwen2, Dtype::Q8, 32),
        (Family::Qwen2, Dtype::Q8, 128),
        (Family::Qwen3, Dtype::Q8, 128),
        (Family::Qwen3, Dtype::Q4, 32),
    ];
    let case = |(family, dtype, head_dim)| Case {
        source: RandomModel {
            profile: Profile {
                head_dim,
                hidden: 104,
                intermediate: 200,
                ..profile(family)
            },
            dtype,
        },
    };
    cases.map(case).into()
}

/// Batches of two sessions: rows of each. Prompts, single tokens, both at once; contexts of several pages.
const BATCHES: [[usize; 2]; 7] = [[17, 0], [1, 0], [3, 40], [1, 1], [50, 0], [1, 1], [0, 33]];
/// Pages of the sessions on the device: apart and out of order, as they come to be.
const PAGES: [[u32; 3]; 2] = [[5, 0, 3], [1, 6, 2]];

impl Case {
    fn name(&self) -> String {
        let Profile {
            family, head_dim, ..
        } = self.source.profile;
        format!("{family:?} {} with heads of {head_dim}", self.source.dtype)
    }

    fn run<D: Device>(&self, device: &mut D) -> Result<usize, CheckError> {
        let profile = &self.source.profile;
        let slice = Slice::new(1..3, profile.layers).expect("two of four layers");
        let mut kv = KvPages::new(profile, &slice, KvFormat::F32, 64 << 20);
        let pool = Arc::new(Pool::new(1));
        let model = SliceModel::load(&self.source, slice, None, pool).expect("random weights load");
        let room = Room { pages: 7, rows: 50 };
        let mut on_device = OnDevice::upload(device, &model, room)?;
        let mut sequences = [kv.sequence(), kv.sequence()];
        let mut random = Random::new(53);
        let mut compared = 0;
        for (step, rows) in BATCHES.into_iter().enumerate() {
            let width = profile.hidden as usize;
            let hidden = random.awkward(rows.iter().sum::<usize>() * width);
            let positions = [sequences[0].len(), sequences[1].len()];
            let sessions: [Session<'_>; 2] = std::array::from_fn(|session| Session {
                position: positions[session],
                rows: rows[session],
                pages: &PAGES[session],
            });
            on_device.enter(&sessions, &hidden)?;
            // Of few rows, every other batch computes tiles apart.
            on_device.set_tiles_apart(if step % 2 == 1 { 1 } else { usize::MAX });
            on_device.run()?;
            let expected = on_cpu(&model, &mut kv, &mut sequences, rows, &hidden);
            let what = format!("{}, batch {step} of {rows:?} at {positions:?}", self.name());
            compared += same(&on_device.leave()?, &expected, &what)?;
        }
        Ok(compared)
    }
}

/// The same batch on the CPU.
fn on_cpu(
    model: &SliceModel,
    kv: &mut KvPages,
    sequences: &mut [Sequence; 2],
    rows: [usize; 2],
    hidden: &[f32],
) -> Vec<f32> {
    let mut segments = Vec::new();
    for (sequence, rows) in sequences.iter_mut().zip(rows) {
        assert!(sequence.len() + rows <= PAGES[0].len() * PAGE_POSITIONS);
        kv.reserve(sequence, sequence.len() + rows).expect("room");
        segments.push(Segment {
            sequence,
            rows,
            scores: ScoreRows::None,
            asked: &[],
        });
    }
    match model.forward(kv, &mut segments, Input::Hidden(hidden)) {
        Ok(Output::Hidden(values)) => values,
        other => unreachable!("a slice without a head gives residual rows: {other:?}"),
    }
}
