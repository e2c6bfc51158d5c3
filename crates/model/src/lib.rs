//! Run transformer blocks: tensors in, tensors out, KV beside them.
//!
//! The one crate with `unsafe`: vector instructions, large buffers, threads that write disjoint
//! parts of one buffer. `docs/numerics.md` of the repository fixes the order of every operation.

#[cfg(feature = "cuda")]
pub mod cuda;
mod kernels;
pub mod kv;
mod lanes;
pub mod map;
mod memory;
pub mod pool;
#[cfg(feature = "probe")]
#[doc(hidden)]
pub mod probe;
#[cfg(any(test, feature = "train", feature = "probe", feature = "cuda"))]
mod random;
pub mod rope;
pub mod slice;
pub mod stream;
#[cfg(any(test, feature = "cuda"))]
#[cfg_attr(
    not(test),
    allow(
        dead_code,
        reason = "what compares a card with the CPU draws on a part of it"
    )
)]
mod testing;
#[cfg(feature = "train")]
pub mod train;
#[cfg(feature = "twin")]
pub mod twin;

pub use kv::{KvFormat, KvFull, KvPages, Sequence};
pub use lanes::InstructionSet;
pub use pool::Pool;
pub use slice::{
    ForwardError, Input, LoadError, Output, ScoreRows, Segment, SliceModel, numerics_id,
};
pub use stream::Stream;
