//! Run transformer blocks: tensors in, tensors out, KV beside them.

pub mod kv;
pub mod pool;
pub mod slice;

pub use kv::{KvFull, KvPages, Sequence};
pub use pool::Pool;
pub use slice::{ForwardError, Input, LoadError, Output, ScoreRows, Segment, SliceModel};
