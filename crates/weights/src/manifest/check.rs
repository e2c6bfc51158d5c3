//! Everything that must hold of a manifest before it is used.

use std::collections::BTreeSet;

use serde::Deserialize;
use skein_base::{ModelId, limits};

use super::{MANIFEST_FILE, Manifest, PartEntry, TensorEntry, VERSION, file_name};
use crate::checkpoint::SidecarRole;
use crate::files::{FileError, is_plain_name};
use crate::hashing::{chunk_count, merge_chunks};
use crate::part::Part;
use crate::profile_check::ProfileError;
use crate::safetensors::layout;
use crate::source::Dtype;

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is none.
    #[error("{place} has no {MANIFEST_FILE}; a folder that `skein model split` wrote is expected")]
    Missing {
        /// The folder.
        place: String,
    },
    /// It is larger than any real one.
    #[error("{MANIFEST_FILE} has {found} bytes, over the bound of {max}")]
    TooLarge {
        /// Its size.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// It is no such JSON.
    #[error("{MANIFEST_FILE} is invalid: {problem}")]
    Json {
        /// What the parser said.
        problem: String,
    },
    /// It was written by another version.
    #[error(
        "{MANIFEST_FILE} has version {found}, this program reads version {VERSION}: split the \
         model again, or use the program that wrote it"
    )]
    Version {
        /// The version found.
        found: u64,
    },
    /// Its architecture makes no sense.
    #[error("{MANIFEST_FILE} describes no model that can be served")]
    Profile(#[from] ProfileError),
    /// A file would be outside of the folder, or is named twice or after something else.
    #[error("{MANIFEST_FILE} names the file {name:?}: {problem}")]
    FileName {
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The parts are not those of the profile, in order.
    #[error("{MANIFEST_FILE} has {found} where {expected} was expected")]
    Parts {
        /// The part found.
        found: String,
        /// The part that should be there.
        expected: String,
    },
    /// The tensors of a part are not those of the profile.
    #[error("{MANIFEST_FILE}: {part} must have tensor {expected}, not {found}")]
    Tensors {
        /// The part.
        part: Part,
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
    },
    /// A vector is said to be quantised.
    #[error("{MANIFEST_FILE}: {name} of {part} is a vector, which cannot be {dtype}")]
    Vector {
        /// The part.
        part: Part,
        /// The tensor.
        name: String,
        /// Its precision.
        dtype: Dtype,
    },
    /// A size contradicts the tensors or the chunks.
    #[error("{MANIFEST_FILE}: {file} is said to have {found} bytes; its contents take {expected}")]
    Size {
        /// The file.
        file: String,
        /// The size found.
        found: u64,
        /// The size by the tensors.
        expected: u64,
    },
    /// The chunk hashes do not merge to the root, or their number is wrong.
    #[error("{MANIFEST_FILE}: the chunk hashes of {file} do not belong to its root hash")]
    Chunks {
        /// The file.
        file: String,
    },
    /// The slices have a gap, overlap, or end before the model does.
    #[error("{MANIFEST_FILE}: the slices do not cover the layers one after the other")]
    Slices,
    /// The id is not that of the contents.
    #[error("{MANIFEST_FILE} claims model id {claimed}; its contents have {computed}")]
    Id {
        /// The id in the file.
        claimed: ModelId,
        /// The id of the contents.
        computed: ModelId,
    },
    /// Images are not served yet.
    #[error("{MANIFEST_FILE} has a vision section, which this version does not serve")]
    Vision,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u64,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    let (found, max) = (bytes.len() as u64, limits::MODEL_JSON_BYTES_MAX);
    if found > max {
        return Err(ManifestError::TooLarge { found, max });
    }
    let invalid = |error: serde_json::Error| ManifestError::Json {
        problem: error.to_string(),
    };
    // The version first: another one may have other fields.
    let VersionOnly { version } = serde_json::from_slice(bytes).map_err(invalid)?;
    if version != u64::from(VERSION) {
        return Err(ManifestError::Version { found: version });
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(invalid)?;
    check(&manifest)?;
    Ok(manifest)
}

fn check(manifest: &Manifest) -> Result<(), ManifestError> {
    if manifest.vision.is_some() {
        return Err(ManifestError::Vision);
    }
    manifest.profile.check()?;
    check_names(manifest)?;
    check_parts(manifest)?;
    check_slices(manifest)?;
    let computed = manifest.compute_id();
    if computed != manifest.model {
        return Err(ManifestError::Id {
            claimed: manifest.model,
            computed,
        });
    }
    Ok(())
}

fn check_names(manifest: &Manifest) -> Result<(), ManifestError> {
    let sidecars = manifest.files.iter().map(|entry| &entry.name);
    let parts = manifest.parts.iter().map(|entry| &entry.file);
    let mut seen = BTreeSet::from([MANIFEST_FILE]);
    for name in sidecars.chain(parts) {
        let refuse = |problem| {
            let name = name.chars().take(120).collect();
            Err(ManifestError::FileName { name, problem })
        };
        if !is_plain_name(name) {
            return refuse("it is no plain name inside the folder");
        }
        if !seen.insert(name) {
            return refuse("it is named twice");
        }
    }
    for entry in &manifest.files {
        let max = match entry.role {
            SidecarRole::Tokenizer => limits::TOKENIZER_BYTES_MAX,
            SidecarRole::Settings => limits::MODEL_JSON_BYTES_MAX,
        };
        if entry.bytes > max {
            let (file, found) = (entry.name.clone(), entry.bytes);
            return Err(FileError::TooLarge { file, found, max }.into());
        }
    }
    Ok(())
}

fn check_parts(manifest: &Manifest) -> Result<(), ManifestError> {
    let expected = manifest.profile.parts();
    let nothing = || "nothing".to_owned();
    for index in 0..expected.len().max(manifest.parts.len()) {
        let found = manifest.parts.get(index).map(|entry| entry.part);
        let expected = expected.get(index).copied();
        if found != expected {
            return Err(ManifestError::Parts {
                found: found.map_or_else(nothing, |part| part.to_string()),
                expected: expected.map_or_else(nothing, |part| part.to_string()),
            });
        }
    }
    manifest
        .parts
        .iter()
        .try_for_each(|entry| check_part(manifest, entry))
}

fn check_part(manifest: &Manifest, entry: &PartEntry) -> Result<(), ManifestError> {
    if entry.file != file_name(entry.part) {
        let problem = "a part's file is named after the part";
        return Err(ManifestError::FileName {
            name: entry.file.clone(),
            problem,
        });
    }
    let specs = manifest.profile.tensors(entry.part);
    for index in 0..specs.len().max(entry.tensors.len()) {
        let (found, spec) = (entry.tensors.get(index), specs.get(index));
        if let (Some(found), Some(spec)) = (found, spec)
            && found.name == spec.name
            && found.shape == spec.shape
        {
            continue;
        }
        return Err(ManifestError::Tensors {
            part: entry.part,
            found: found.map_or_else(
                || "nothing".to_owned(),
                |one| format!("{:.120} of shape {:?}", one.name, one.shape),
            ),
            expected: spec.map_or_else(
                || "nothing".to_owned(),
                |one| format!("{} of shape {:?}", one.name, one.shape),
            ),
        });
    }
    let quantised = |one: &&TensorEntry| one.shape.len() == 1 && one.dtype.blocks().is_some();
    if let Some(vector) = entry.tensors.iter().find(quantised) {
        return Err(ManifestError::Vector {
            part: entry.part,
            name: vector.name.clone(),
            dtype: vector.dtype,
        });
    }
    let expected = entry_bytes(entry);
    if entry.bytes != expected {
        return Err(ManifestError::Size {
            file: entry.file.clone(),
            found: entry.bytes,
            expected,
        });
    }
    let chunks = &entry.chunks;
    if chunks.len() as u64 != chunk_count(entry.bytes) || merge_chunks(chunks) != entry.blake3 {
        return Err(ManifestError::Chunks {
            file: entry.file.clone(),
        });
    }
    Ok(())
}

/// Size of the file that holds these tensors; their shapes are the profile's.
fn entry_bytes(entry: &PartEntry) -> u64 {
    let tensors: Vec<_> = entry
        .tensors
        .iter()
        .map(|one| (one.name.as_str(), one.dtype, &*one.shape))
        .collect();
    layout(&tensors).bytes
}

fn check_slices(manifest: &Manifest) -> Result<(), ManifestError> {
    let mut next = 0;
    for slice in &manifest.slices {
        if slice.start != next || slice.end <= slice.start {
            return Err(ManifestError::Slices);
        }
        next = slice.end;
    }
    if next == manifest.profile.layers {
        Ok(())
    } else {
        Err(ManifestError::Slices)
    }
}
