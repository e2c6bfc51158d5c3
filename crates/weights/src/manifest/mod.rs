//! The manifest of a split model, version 2: `skein.json`.
//!
//! It lists the profile, the tokenizer, and each part's file with its hashes and tensors. The
//! model id is a hash over profile, tokenizer and the BLAKE3 root of each part, so it does not
//! depend on how the model is cut. Slices are suggestions.
//!
//! ```text
//! id = BLAKE3(canonical encoding of
//!        "skein model id 2", profile (floats as bits),
//!        name, size and SHA-256 of each tokenizer file,
//!        BLAKE3 of the embedding, of each layer, of the head)
//! ```
//!
//! A part's file is a safetensors file with a canonical header, so its hash follows from the
//! tensors alone. Per file there are a SHA-256 of the whole, for people and other tools, and one
//! BLAKE3 subtree hash per chunk of 4 MiB, so that a chunk can be checked as it arrives.

mod check;
mod id;
mod json;

pub use check::ManifestError;
pub(crate) use id::write_profile;

use serde::{Deserialize, Serialize};
use skein_base::{Blake3, ModelId, Sha256};

use crate::checkpoint::SidecarRole;
use crate::part::{Part, Slice};
use crate::profile::Profile;
use crate::source::Dtype;

/// Name of the manifest in its folder.
pub const MANIFEST_FILE: &str = "skein.json";
/// The version that is written and read.
pub const VERSION: u32 = 2;

/// A checked description of a split model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`VERSION`].
    pub version: u32,
    /// The model id; equal to [`Manifest::compute_id`].
    #[serde(with = "json::digest")]
    pub model: ModelId,
    /// What people call the model. Not part of the id.
    pub name: String,
    /// The architecture.
    pub profile: Profile,
    /// Tokenizer and settings.
    pub files: Vec<SidecarEntry>,
    /// All parts, in order.
    pub parts: Vec<PartEntry>,
    /// Slices that fit the machines that the model was split for; consecutive, covering all.
    pub slices: Vec<SliceEntry>,
    /// Reserved for models with images; always null in this version.
    pub vision: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A small file beside the weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SidecarEntry {
    /// Plain name of the file.
    pub name: String,
    /// What it is for; tokenizers are part of the model id.
    pub role: SidecarRole,
    /// Its size.
    pub bytes: u64,
    /// Its hash.
    #[serde(with = "json::digest")]
    pub sha256: Sha256,
}

/// A part's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartEntry {
    /// Which part.
    #[serde(with = "json::part")]
    pub part: Part,
    /// Plain name of the file.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of the whole file.
    #[serde(with = "json::digest")]
    pub sha256: Sha256,
    /// BLAKE3 of the whole file.
    #[serde(with = "json::digest")]
    pub blake3: Blake3,
    /// BLAKE3 subtree hashes of its chunks of 4 MiB; they merge to `blake3`.
    #[serde(with = "json::digests")]
    pub chunks: Vec<Blake3>,
    /// Its tensors, in the profile's order.
    pub tensors: Vec<TensorEntry>,
}

/// A tensor of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorEntry {
    /// Canonical name.
    pub name: String,
    /// Stored precision.
    pub dtype: Dtype,
    /// Shape, as the profile says.
    pub shape: Vec<u64>,
}

/// A suggested slice: layers `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceEntry {
    /// The first layer.
    pub start: u32,
    /// The layer after the last.
    pub end: u32,
}

impl Manifest {
    /// The suggested slices.
    pub fn slices(&self) -> Vec<Slice> {
        let of = self.profile.layers;
        let slice = |entry: &SliceEntry| Slice {
            layers: entry.start..entry.end,
            of,
        };
        self.slices.iter().map(slice).collect()
    }

    /// The entry of a part.
    pub fn part(&self, part: Part) -> Option<&PartEntry> {
        self.parts.iter().find(|entry| entry.part == part)
    }

    /// The model id that follows from profile, tokenizer and weights.
    pub fn compute_id(&self) -> ModelId {
        id::model_id(&self.profile, &self.files, &self.parts)
    }

    /// Reads and checks a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        check::parse(bytes)
    }

    /// The bytes of `skein.json`. Fails if they would not read back as the same manifest.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        let invalid = |problem: String| ManifestError::Json { problem };
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|e| invalid(e.to_string()))?;
        bytes.push(b'\n');
        match Self::parse(&bytes)? == *self {
            true => Ok(bytes),
            false => Err(invalid(
                "a number does not survive being written".to_owned(),
            )),
        }
    }
}

/// Name of a part's file.
pub fn file_name(part: Part) -> String {
    format!("{}.safetensors", part_name(part))
}

/// Whether a file is named like one of a part.
pub(crate) fn is_part_file(name: &str) -> bool {
    name.strip_suffix(".safetensors")
        .and_then(parse_part)
        .is_some()
}

/// `embedding`, `layer-0007` or `head`.
fn part_name(part: Part) -> String {
    match part {
        Part::Embedding => "embedding".to_owned(),
        Part::Layer(index) => format!("layer-{index:04}"),
        Part::Head => "head".to_owned(),
    }
}

fn parse_part(name: &str) -> Option<Part> {
    let part = match name {
        "embedding" => Part::Embedding,
        "head" => Part::Head,
        layer => Part::Layer(layer.strip_prefix("layer-")?.parse().ok()?),
    };
    (part_name(part) == name).then_some(part)
}
