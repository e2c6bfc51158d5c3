//! Inspect, split, verify and describe weights: profiles, safetensors, GGUF, manifests.
//!
//! Pure: works over byte ranges that it is given ([`bytes::ByteRange`], [`bytes::Folder`]); opening
//! and mapping files belongs to others.
#![forbid(unsafe_code)]

pub mod bytes;
pub mod checkpoint;
pub mod gguf;
pub mod part;
pub mod profile;
pub mod sidecar;
pub mod source;
pub mod vocabulary;

pub use checkpoint::{Checkpoint, StoredDtype};
pub use part::{Part, Slice};
pub use profile::Profile;
pub use source::{Dtype, WeightSource};
