//! What is in a checkpoint, for people and (by serde) for scripts.

use std::collections::BTreeMap;
use std::error::Error;

use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::part::{Part, Slice};
use crate::profile::{Profile, TensorSpec};
use crate::slices::{PartSizes, SliceError, SlicePlan};
use crate::source::Dtype;

/// What is in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// What the model is called.
    pub name: String,
    /// Whether Skein serves it.
    pub servable: bool,
    /// Why not, from the outside to the cause.
    pub refusal: Option<String>,
    /// Everything else; absent if the checkpoint could not be understood.
    pub contents: Option<Contents>,
}

/// What is in a checkpoint that can be served.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contents {
    /// The architecture.
    pub profile: Profile,
    /// Number of weights, a tied head counted once.
    pub parameters: u64,
    /// How the tensors are stored, by name of the type.
    pub dtypes: BTreeMap<String, DtypeUse>,
    /// What each part takes.
    pub parts: Vec<PartInfo>,
    /// What all parts take.
    pub memory: Memory,
    /// Bytes of keys and values that one token of a session takes over all layers, in f32.
    pub kv_bytes_per_token: u64,
    /// The same in int8: a byte for each value, and a scale in f32 for the keys and one for the values of each head.
    pub kv_bytes_per_token_int8: u64,
    /// The slices, if some were asked for.
    pub slices: Vec<SliceInfo>,
}

/// How much is stored in one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct DtypeUse {
    /// Tensors.
    pub tensors: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Bytes of weights by format. Vectors are never quantised: they count as f32 there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Memory {
    /// As stored in this checkpoint.
    pub stored: u64,
    /// In f32.
    pub f32: u64,
    /// In bf16.
    pub bf16: u64,
    /// In blocks of eight bits.
    pub q8: u64,
    /// In blocks of four bits.
    pub q4: u64,
}

impl Memory {
    fn add(&mut self, other: Self) {
        self.stored = self.stored.saturating_add(other.stored);
        self.f32 = self.f32.saturating_add(other.f32);
        self.bf16 = self.bf16.saturating_add(other.bf16);
        self.q8 = self.q8.saturating_add(other.q8);
        self.q4 = self.q4.saturating_add(other.q4);
    }
}

/// One part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartInfo {
    /// `embedding`, `layer 7` or `head`.
    pub part: String,
    /// Number of weights.
    pub parameters: u64,
    /// What they take.
    pub memory: Memory,
}

/// One slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SliceInfo {
    /// The first layer.
    pub start: u32,
    /// The layer after the last.
    pub end: u32,
    /// Number of weights, with a tied embedding where the slice needs it.
    pub parameters: u64,
    /// What they take.
    pub memory: Memory,
}

/// Looks into an open checkpoint; `slices` cuts it by its stored sizes.
pub fn inspect(
    checkpoint: &dyn Checkpoint,
    slices: Option<&SlicePlan>,
) -> Result<Inspection, SliceError> {
    let profile = checkpoint.profile().clone();
    let mut dtypes: BTreeMap<String, DtypeUse> = BTreeMap::new();
    let mut parts = Vec::new();
    let mut memory = Memory::default();
    for part in profile.parts() {
        let mut info = PartInfo {
            part: part.to_string(),
            parameters: 0,
            memory: Memory::default(),
        };
        for spec in profile.tensors(part) {
            let count = elements(&spec);
            info.parameters += count;
            let mut stored = 0;
            if let Some(dtype) = checkpoint.stored_dtype(part, spec.name) {
                stored = bytes(&spec, |columns| dtype.row_bytes(columns));
                let used = dtypes.entry(dtype.to_string()).or_default();
                used.tensors += 1;
                used.bytes += stored;
            }
            let size = |dtype: Dtype| bytes(&spec, |columns| dtype.row_bytes(columns));
            let quantised = |dtype| match spec.shape.len() {
                1 => size(Dtype::F32),
                _ => size(dtype),
            };
            info.memory.add(Memory {
                stored,
                f32: size(Dtype::F32),
                bf16: size(Dtype::Bf16),
                q8: quantised(Dtype::Q8),
                q4: quantised(Dtype::Q4),
            });
        }
        memory.add(info.memory);
        parts.push(info);
    }
    let slices = match slices {
        None => Vec::new(),
        Some(plan) => plan.resolve(&sizes(&profile, &parts))?,
    };
    let slices = slices
        .iter()
        .map(|slice| slice_info(&profile, &parts, slice))
        .collect();
    let kv_values = 2 * u64::from(profile.kv_width()) * u64::from(profile.layers);
    let kv_scales = 2 * u64::from(profile.kv_heads) * u64::from(profile.layers);
    let contents = Contents {
        parameters: parts.iter().map(|part| part.parameters).sum(),
        kv_bytes_per_token: 4 * kv_values,
        kv_bytes_per_token_int8: kv_values + 4 * kv_scales,
        profile,
        dtypes,
        parts,
        memory,
        slices,
    };
    let name = checkpoint.name();
    Ok(Inspection {
        name,
        servable: true,
        refusal: None,
        contents: Some(contents),
    })
}

/// What to say about a checkpoint that could not be opened.
pub fn refused(name: &str, error: &dyn Error) -> Inspection {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts.dedup();
    let refusal = Some(texts.join(": "));
    Inspection {
        name: name.to_owned(),
        servable: false,
        refusal,
        contents: None,
    }
}

fn elements(spec: &TensorSpec) -> u64 {
    // At most 2^20 by 2^26 in a checked profile.
    spec.shape.iter().product()
}

/// Bytes of a tensor whose rows take `row_bytes` each; a vector is one row.
fn bytes(spec: &TensorSpec, row_bytes: impl Fn(u64) -> u64) -> u64 {
    match spec.shape[..] {
        [rows, columns] => rows.saturating_mul(row_bytes(columns)),
        _ => row_bytes(elements(spec)),
    }
}

fn sizes(profile: &Profile, parts: &[PartInfo]) -> PartSizes {
    let stored: Vec<u64> = parts.iter().map(|part| part.memory.stored).collect();
    // Embedding, layers, head: the order of Profile::parts.
    let (embedding, layers, head) = match stored.as_slice() {
        [embedding, layers @ .., head] => (*embedding, layers.to_vec(), *head),
        _ => (0, Vec::new(), 0),
    };
    PartSizes {
        embedding,
        layers,
        head,
        tied: profile.tied,
    }
}

fn slice_info(profile: &Profile, parts: &[PartInfo], slice: &Slice) -> SliceInfo {
    let mut info = SliceInfo {
        start: slice.layers.start,
        end: slice.layers.end,
        parameters: 0,
        memory: Memory::default(),
    };
    for part in slice.parts(profile.tied) {
        let index = match part {
            Part::Embedding => 0,
            Part::Layer(layer) => layer as usize + 1,
            Part::Head => parts.len() - 1,
        };
        info.parameters += parts[index].parameters;
        info.memory.add(parts[index].memory);
    }
    info
}
