//! A slice of a model as a value: loaded from its parts, called with batches.

mod forward;
mod load;
mod table;

use std::sync::{Arc, Mutex};

use skein_base::codec::Writer;
use skein_base::{Blake3, NumericsId, Scores};
use skein_weights::source::ReadError;
use skein_weights::{Dtype, Part, Profile, Slice, WeightSource};

use crate::kernels::linear::Matrix;
use crate::kernels::pointwise::Norm;
use crate::kv::{KvFormat, PAGE_POSITIONS, Sequence};
use crate::lanes::InstructionSet;
use crate::pool::Pool;

/// Changes whenever a kernel changes the bits of an answer.
pub const KERNEL_REVISION: u32 = 2;

/// Why a slice could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A tensor could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A weight is no number.
    #[error("{name} of {part} holds a value that is not finite")]
    NotFinite {
        /// The part.
        part: Part,
        /// The canonical name.
        name: String,
    },
}

/// Why a batch was refused. No sequence changed its length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// The input does not have the rows that the segments announce, or is of the wrong kind.
    #[error("the input has {found} values, the segments need {expected}")]
    InputShape {
        /// Values found.
        found: usize,
        /// Values needed.
        expected: usize,
    },
    /// A token id outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocabulary}")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// The vocabulary's size.
        vocabulary: u32,
    },
    /// A segment goes beyond the context length.
    #[error("position {position} is beyond the context of {context}")]
    ContextExceeded {
        /// The first position not allowed.
        position: usize,
        /// The context length.
        context: u32,
    },
    /// No room was reserved for a segment.
    #[error("{len} positions are needed, {reserved} are reserved")]
    NotReserved {
        /// Positions needed.
        len: usize,
        /// Positions reserved.
        reserved: usize,
    },
    /// The KV is of another slice or another model.
    #[error("the pages of keys and values were made for another slice")]
    OtherPages,
    /// An activation is no number.
    #[error("row {row} of the input holds a value that is not finite")]
    NotFinite {
        /// The row.
        row: usize,
    },
    /// The activations outgrew `f32` on the way. The new positions are in no sequence, but their
    /// place in its pages holds garbage, which the next call overwrites.
    #[error("row {row} of the output is not finite: the model overflowed")]
    Overflow {
        /// The row.
        row: usize,
    },
}

/// Of which rows of a segment the last stage returns scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreRows {
    /// None: a chunk of a prompt that goes on.
    None,
    /// The last: the next token is wanted.
    Last,
    /// All.
    All,
}

/// One session's share of a batch: `rows` new positions after those already in `sequence`.
#[derive(Debug)]
pub struct Segment<'a> {
    /// The session's KV; [`crate::KvPages::reserve`] must have made room.
    pub sequence: &'a mut Sequence,
    /// New positions.
    pub rows: usize,
    /// Which scores to return.
    pub scores: ScoreRows,
    /// Ids to score beside the best ones.
    pub asked: &'a [u32],
}

/// What goes into a slice: rows of all segments, one after another.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// Token ids, for a slice with the embedding.
    Ids(&'a [u32]),
    /// Residual rows of `hidden` values, for the others.
    Hidden(&'a [f32]),
}

/// What comes out of a slice.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Residual rows of `hidden` values, in the order of the input.
    Hidden(Vec<f32>),
    /// Scores of the rows asked for, in order.
    Scores(Vec<Scores>),
}

/// Consecutive layers, ready to run.
#[derive(Debug)]
pub struct SliceModel {
    profile: Profile,
    slice: Slice,
    format: Option<Dtype>,
    set: InstructionSet,
    pool: Arc<Pool>,
    embedding: Option<Embedding>,
    layers: Vec<Layer>,
    head: Option<Head>,
    frequencies: Vec<f32>,
    /// Buffers kept between calls; a second caller waits.
    workspace: Mutex<forward::Workspace>,
}

/// Token and position embeddings of the first slice.
#[derive(Debug)]
struct Embedding {
    /// Row-major table; `None` if the tied head's packed copy serves.
    table: Option<table::Table>,
    /// Learned positions, `[context, hidden]`; empty with rotary ones.
    positions: Vec<f32>,
}

/// One transformer layer.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attn_norm: Norm,
    /// q, k and v, one after another.
    pub(crate) qkv: Projection,
    pub(crate) q_norm: Option<Norm>,
    pub(crate) k_norm: Option<Norm>,
    pub(crate) attn_o: Projection,
    pub(crate) mlp_norm: Norm,
    /// Sixteen outputs of gate and of up in turn, or up alone.
    pub(crate) up: Projection,
    pub(crate) down: Projection,
    pub(crate) window: Option<usize>,
}

/// A matrix with its bias.
#[derive(Debug)]
pub(crate) struct Projection {
    pub(crate) weight: Matrix,
    pub(crate) bias: Option<Vec<f32>>,
}

/// Final norm and output head of the last slice.
#[derive(Debug)]
struct Head {
    norm: Norm,
    weight: Matrix,
}

impl SliceModel {
    /// Loads `slice` from `source`. `format` converts the matrices; `None` keeps each one's own.
    /// Vectors (norms, biases) are `f32` always.
    pub fn load(
        source: &dyn WeightSource,
        slice: Slice,
        format: Option<Dtype>,
        pool: Arc<Pool>,
    ) -> Result<Self, LoadError> {
        load::load(source, slice, format, pool)
    }

    /// The same slice on another instruction set than the best one: same bits, other speed.
    ///
    /// # Panics
    /// If this machine does not have it.
    pub fn with_instruction_set(mut self, set: InstructionSet) -> Self {
        assert!(
            InstructionSet::available().contains(&set),
            "{set:?} is not available here"
        );
        self.set = set;
        self
    }

    /// The same slice on other threads: same bits, other speed.
    pub fn with_pool(mut self, pool: Arc<Pool>) -> Self {
        self.pool = pool;
        self
    }

    /// The architecture.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Which layers.
    pub fn slice(&self) -> &Slice {
        &self.slice
    }

    /// The instruction set in use.
    pub fn instruction_set(&self) -> InstructionSet {
        self.set
    }

    /// The layers, for whoever else computes them.
    #[cfg(feature = "cuda")]
    pub(crate) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Frequencies of the rotary embedding; none with learned positions.
    #[cfg(feature = "cuda")]
    pub(crate) fn frequencies(&self) -> &[f32] {
        &self.frequencies
    }

    /// The threads in use.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// What fixes the bits of the answers with keys and values held as `kv`, beside the model: kernel revision, conversion
    /// of weights, KV format, tile of attention. Not the instruction set, threads or cut.
    pub fn numerics_id(&self, kv: KvFormat) -> NumericsId {
        numerics_id(self.format, kv)
    }

    /// Bytes of weights held in memory.
    pub fn weight_bytes(&self) -> u64 {
        let layers = self
            .layers
            .iter()
            .flat_map(|l| [&l.qkv, &l.attn_o, &l.up, &l.down]);
        let table = self.embedding.as_ref().and_then(|e| e.table.as_ref());
        layers.map(|p| p.weight.bytes()).sum::<u64>()
            + self.head.as_ref().map_or(0, |h| h.weight.bytes())
            + table.map_or(0, table::Table::bytes)
    }

    /// Bytes of weights that one decode step reads: all but the embedding table.
    pub fn bytes_per_step(&self) -> u64 {
        let table = self.embedding.as_ref().and_then(|e| e.table.as_ref());
        self.weight_bytes() - table.map_or(0, table::Table::bytes)
    }
}

/// What fixes the bits of answers beside the model, for weights held as `format` (or as stored) and keys and values
/// as `kv`: see [`SliceModel::numerics_id`].
pub fn numerics_id(format: Option<Dtype>, kv: KvFormat) -> NumericsId {
    let mut writer = Writer::domain("skein numerics v1");
    // As f32, quantised weights meet activations that are not: another answer than as stored.
    writer.u32(KERNEL_REVISION).bytes(match format {
        Some(Dtype::Bf16) => b"weights bf16".as_slice(),
        Some(Dtype::Q8) => b"weights q8",
        Some(Dtype::Q4) => b"weights q4",
        Some(Dtype::F32) => b"weights f32",
        None => b"weights stored",
    });
    writer
        .bytes(b"activations f32, of blocks int8")
        .bytes(format!("kv {}", kv.name()).as_bytes())
        .u32(PAGE_POSITIONS as u32);
    NumericsId(Blake3::of(&writer.finish()).0)
}

#[cfg(test)]
mod tests;
