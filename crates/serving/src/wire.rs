//! What entries and stages say to each other: protocol [`PROTOCOL`].
//!
//! ```text
//! entry --Open--> stage 0 --Open--> stage 1 --Open--> stage 2      set up once, each hop checks itself
//! entry <-Opened- stage 0 <-Opened- stage 1 <-Opened- stage 2      with the KV pages that all can give
//! entry --Attach----------------------------------> stage 2        the answers go this way
//! entry --Work--> stage 0 --Work--> stage 1 --Work--> stage 2      a batch: ids, then residual rows
//! entry <--------------------------------Answer--- stage 2         scores
//! entry <-Failed- stage 0 <-Failed- stage 1                        whoever fails says so, backwards
//! entry --Ask----------> any stage                                 how it is
//! entry <-----------Told any stage
//! ```
//!
//! A route of one hop is the other mode, hops driven by the client: whatever the slice gives out is
//! answered, residual rows if it has no head.
//!
//! Who may take the answers: a key that the entry alone knows, whose hash travels with `Open`. The
//! stages on the way see the hash, and cannot attach in the entry's place.
//!
//! Every message of a circuit names it and its generation. A stage drops what belongs to another generation;
//! batches are numbered, and every row has its position: any other than the expected one ends the
//! circuit. Encoded canonically ([`skein_base::codec`]); bounded before anything is allocated.

mod codec;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::Duration;

use skein_base::codec::Writer;
use skein_base::{Blake3, ModelId, NodeId, NumericsId, Scores, TraceId};

use crate::view::StageReport;

pub use self::codec::{decode, encode};

/// Name and version of the protocol.
pub const PROTOCOL: &str = "/skein/stage/1";

/// A circuit: drawn at random by its entry, and told only to those on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CircuitId(pub [u8; 16]);

impl std::fmt::Display for CircuitId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Whoever reads a log shall not be able to speak for the circuit.
        self.0[..4]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A circuit at one time: after a fault the same circuit goes on with a higher generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CircuitName {
    /// Which circuit.
    pub circuit: CircuitId,
    /// Which of its lives.
    pub generation: u32,
}

/// A stage on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Who.
    pub node: NodeId,
    /// The layers that it shall run; the embedding belongs to the first, the head to the last.
    pub layers: Range<u32>,
}

/// Sets a circuit up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Its name.
    pub name: CircuitName,
    /// The model.
    pub model: ModelId,
    /// What else fixes the bits.
    pub numerics: NumericsId,
    /// KV pages: the fewest that are of use, and the most that are wanted.
    pub pages: Range<u32>,
    /// Who comes: the receiver first, those behind it after.
    pub route: Vec<Hop>,
    /// Hops before the receiver.
    pub hop: u8,
    /// What pays for it; empty where nothing is to be paid.
    pub voucher: Vec<u8>,
    /// Hash of the key with which the entry attaches itself to the last stage.
    pub back: BackHash,
}

/// Proves who may take the answers of a circuit: drawn by the entry, told to the last stage alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BackKey(pub [u8; 32]);

impl std::fmt::Debug for BackKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BackKey(..)")
    }
}

impl BackKey {
    /// Its hash, which everybody on the way may see.
    pub fn hash(&self) -> BackHash {
        let mut writer = Writer::domain("skein back key v1");
        BackHash(Blake3::of(&writer.raw(&self.0).clone().finish()).0)
    }
}

/// See [`BackKey::hash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackHash(pub [u8; 32]);

/// What a stage says that a batch cost it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Microseconds that it waited for its turn.
    pub waited_us: u32,
    /// Microseconds of its pass over the weights.
    pub computed_us: u32,
}

/// A change of sequences, before the rows of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// `new` begins with the first `len` positions of `of`.
    Fork {
        /// The new sequence.
        new: u64,
        /// The sequence that has them.
        of: u64,
        /// How many.
        len: u32,
    },
    /// The sequence is given up.
    Release {
        /// Which.
        sequence: u64,
    },
}

/// One session's share of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The sequence; new if its position is 0 and it is not known.
    pub sequence: u64,
    /// Where its rows begin.
    pub position: u32,
    /// How many.
    pub rows: u32,
    /// Whether the last of them shall be scored.
    pub scored: bool,
    /// Ids to score beside the best ones.
    pub asked: Vec<u32>,
    /// The request that the sequence is for, where it is another than before.
    pub trace: Option<TraceId>,
}

/// Rows on their way into a slice.
#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    /// Token ids, for the first stage alone.
    Ids(Vec<u32>),
    /// Residual rows.
    Hidden(Vec<f32>),
}

/// A batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// Of which circuit.
    pub name: CircuitName,
    /// Counts the batches of a generation, from 0.
    pub number: u64,
    /// To be done first, in order.
    pub changes: Vec<Change>,
    /// Whose rows they are.
    pub shares: Vec<Share>,
    /// The rows.
    pub rows: Rows,
    /// What the stages before say that it cost them, in their order.
    pub spent: Vec<Spent>,
}

/// What the last stage gives out.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Scores of the shares that asked for them.
    Scores(Vec<Scores>),
    /// Residual rows, from a slice without head.
    Hidden(Vec<f32>),
}

/// Why a stage gave a circuit up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// No KV memory now.
    #[error("the stage is full; retry after {} s", retry_after.as_secs())]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// It has another model, other numerics, or other layers.
    #[error(
        "the stage does not have this slice of this model in these formats (model.format and model.kv_format are the same on all nodes)"
    )]
    OtherSlice,
    /// The next stage does not answer.
    #[error("the stage cannot reach the next one")]
    Unreachable,
    /// A batch out of order, a position not expected, more rows or pages than agreed.
    #[error("a batch broke the protocol")]
    Protocol,
    /// The rows that came hold something that is not a number.
    #[error("the rows that came are not finite")]
    NotFinite,
    /// The model refused the batch.
    #[error("the model refused the batch")]
    Refused,
    /// The stage is leaving.
    #[error("the stage is leaving")]
    Leaving,
    /// Nothing was heard of the circuit for too long, or its entry is gone.
    #[error("the circuit was silent for too long")]
    Silent,
}

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Sets up.
    Open(Open),
    /// It is set up.
    Opened {
        /// Which.
        name: CircuitName,
        /// KV pages that every stage gives.
        pages: u32,
    },
    /// Answers go over the link that this came by.
    Attach {
        /// Which.
        name: CircuitName,
        /// Shows that they may.
        key: BackKey,
    },
    /// A batch.
    Work(Work),
    /// What became of a batch.
    Answer {
        /// Of which circuit.
        name: CircuitName,
        /// Of which batch.
        number: u64,
        /// What came out.
        outcome: Outcome,
        /// What the stages say that it cost them, in their order.
        spent: Vec<Spent>,
    },
    /// The circuit is given up, and all KV with it.
    Close {
        /// Which.
        name: CircuitName,
    },
    /// A stage gave the circuit up.
    Failed {
        /// Which.
        name: CircuitName,
        /// Which hop of its route.
        hop: u8,
        /// Why.
        failure: Failure,
    },
    /// Asks a stage how it is.
    Ask {
        /// Comes back with the report.
        nonce: u64,
    },
    /// How a stage is.
    Told {
        /// Of the question.
        nonce: u64,
        /// What it says of itself.
        report: StageReport,
    },
}
