//! A slice of a model as a value: loaded from its parts, called with batches.

use std::sync::Arc;

use skein_base::{NumericsId, Scores};
use skein_weights::source::ReadError;
use skein_weights::{Dtype, Part, Profile, Slice, WeightSource};

use crate::kv::{KvPages, Sequence};
use crate::pool::Pool;

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

/// Why a batch was refused. Nothing was computed and no sequence changed.
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
    /// An activation is no number.
    #[error("row {row} of the input holds a value that is not finite")]
    NotFinite {
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
    /// The session's KV; [`KvPages::reserve`] must have made room.
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
    _private: (),
}

impl SliceModel {
    /// Loads `slice` from `source`. `format` converts the weights; `None` keeps each tensor's own.
    pub fn load(
        _source: &dyn WeightSource,
        _slice: Slice,
        _format: Option<Dtype>,
        _pool: Arc<Pool>,
    ) -> Result<Self, LoadError> {
        unimplemented!()
    }

    /// The architecture.
    pub fn profile(&self) -> &Profile {
        unimplemented!()
    }

    /// Which layers.
    pub fn slice(&self) -> &Slice {
        unimplemented!()
    }

    /// What fixes the bits of the answers, beside the model.
    pub fn numerics_id(&self) -> NumericsId {
        unimplemented!()
    }

    /// Bytes of weights held in memory.
    pub fn weight_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Runs one batch: appends the new positions to every sequence's KV and returns residual rows
    /// or scores. The bits of a row depend on its own session alone: not on the batch, its order,
    /// the chunking of the prompt or the number of threads.
    pub fn forward(
        &self,
        _kv: &mut KvPages,
        _segments: &mut [Segment<'_>],
        _input: Input<'_>,
    ) -> Result<Output, ForwardError> {
        unimplemented!()
    }
}
