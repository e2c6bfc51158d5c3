//! Name things and put them on the wire: ids, digests, sizes, canonical codec, exact arithmetic
//! that every machine agrees on.
//!
//! Pure: no clock, thread, I/O or randomness. The same input gives the same bytes everywhere.
#![forbid(unsafe_code)]

pub mod codec;
pub mod digest;
pub mod id;
pub mod limits;
pub mod math;
pub mod scores;
pub mod size;
pub mod splitmix;

pub use digest::{Blake3, Sha256};
pub use id::{ModelId, NodeId, NumericsId, TraceId};
pub use scores::Scores;
pub use size::ByteSize;
