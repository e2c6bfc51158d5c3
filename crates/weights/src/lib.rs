//! Inspect, split, verify and describe weights: profiles, safetensors, GGUF, manifests.
//!
//! Pure: works over byte ranges that it is given ([`bytes::ByteRange`], [`bytes::Folder`]); opening
//! and mapping files belongs to others.
#![forbid(unsafe_code)]

pub mod blocks;
pub mod bytes;
pub mod checkpoint;
pub mod config;
pub mod export;
pub mod files;
pub mod gguf;
pub mod hashing;
pub mod hf;
pub mod inspect;
pub mod manifest;
pub mod open;
pub mod part;
pub mod profile;
pub mod profile_check;
pub mod safetensors;
pub mod sidecar;
pub mod slices;
pub mod source;
pub mod split;
mod stored;
pub mod verify;
pub mod vocabulary;

pub use blocks::BlockFormat;
pub use checkpoint::{Checkpoint, StoredDtype};
pub use hf::{HfCheckpoint, OpenError};
pub use manifest::Manifest;
pub use open::{open_folder, open_gguf};
pub use part::{Part, Slice};
pub use profile::Profile;
pub use source::{Dtype, WeightSource};
