//! A GGUF file as a checkpoint.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::bytes::ByteRange;
use crate::checkpoint::{Checkpoint, VocabularyError};
use crate::part::Part;
use crate::profile::{Profile, TensorSpec};
use crate::source::{CanonicalTensor, ReadError, WeightSource};
use crate::stored::StoredDtype;
use crate::vocabulary::{GenerationDefaults, Vocabulary};

use super::architecture::{self, Architecture, ROPE_FREQS};
use super::error::GgufError;
use super::file::{GgufFile, TensorInfo};
use super::layout::{self, Stored};
use super::tensors::GgufTensor;
use super::tokenizer;

/// Most divisors of rotary frequencies: half the widest head.
const DIVISORS_MAX: u64 = 1 << 16;

/// A whole model in one GGUF file: weights, architecture, tokenizer.
#[derive(Debug)]
pub struct GgufCheckpoint {
    bytes: Arc<dyn ByteRange>,
    file: GgufFile,
    architecture: Architecture,
    profile: Profile,
    place: String,
}

impl GgufCheckpoint {
    /// Reads the header and checks every tensor against the architecture. `place` is what to call
    /// the file in messages and where the file has no name of its own.
    pub fn open(bytes: Arc<dyn ByteRange>, place: &str) -> Result<Self, GgufError> {
        let file = GgufFile::read(bytes.as_ref())?;
        let architecture = Architecture::of(&file)?;
        let divisors = match architecture {
            Architecture::Llama => rope_divisors(&file, bytes.as_ref())?,
            _ => None,
        };
        let profile = architecture::profile(&file, architecture, divisors)?;
        profile.check()?;
        check_tensors(&file, architecture, &profile)?;
        Ok(Self {
            bytes,
            file,
            architecture,
            profile,
            place: place.to_owned(),
        })
    }

    /// Metadata and tensor descriptions, as found.
    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    fn find(
        &self,
        part: Part,
        name: &str,
    ) -> Option<(TensorSpec, Stored, &TensorInfo, StoredDtype)> {
        if matches!(part, Part::Layer(layer) if layer >= self.profile.layers) {
            return None;
        }
        let spec = self
            .profile
            .tensors(part)
            .into_iter()
            .find(|spec| spec.name == name)?;
        let stored = layout::stored(&self.profile, self.architecture, part, &spec);
        let info = self.file.tensors().get(&stored.name)?;
        let dtype = info.kind.served()?;
        Some((spec, stored, info, dtype))
    }
}

/// The divisors of rotary frequencies that llama.cpp's converter computed.
fn rope_divisors(file: &GgufFile, bytes: &dyn ByteRange) -> Result<Option<Vec<f32>>, GgufError> {
    let Some(info) = file.tensors().get(ROPE_FREQS) else {
        return Ok(None);
    };
    let count = info.shape.iter().product::<u64>();
    if info.kind.served() != Some(StoredDtype::F32) || count > DIVISORS_MAX {
        let problem = format!("{count} divisors of type {}", info.kind);
        return Err(GgufError::tensor(ROPE_FREQS, problem));
    }
    let mut raw = vec![0; (count * 4) as usize];
    let offset = info.bytes.start;
    bytes
        .read_at(offset, &mut raw)
        .map_err(|source| GgufError::Io { offset, source })?;
    let mut divisors = vec![0.0; count as usize];
    StoredDtype::F32.decode_f32(&raw, &mut divisors);
    Ok(Some(divisors))
}

/// Every tensor that the profile needs is there, in a shape and type that are served, and no
/// other is.
fn check_tensors(
    file: &GgufFile,
    architecture: Architecture,
    profile: &Profile,
) -> Result<(), GgufError> {
    let mut used = BTreeSet::new();
    let layers = (0..profile.layers).map(Part::Layer);
    for part in [Part::Embedding, Part::Head].into_iter().chain(layers) {
        for spec in profile.tensors(part) {
            let stored = layout::stored(profile, architecture, part, &spec);
            let Some(info) = file.tensors().get(&stored.name) else {
                return Err(GgufError::MissingTensor { name: stored.name });
            };
            if info.shape != stored.shape {
                let problem = format!(
                    "shape {:?}, but the metadata say {:?}",
                    info.shape, stored.shape
                );
                return Err(GgufError::tensor(&stored.name, problem));
            }
            if info.kind.served().is_none() {
                let found = info.kind.to_string();
                return Err(GgufError::TensorType {
                    name: stored.name,
                    found,
                });
            }
            used.insert(stored.name);
        }
    }
    if architecture == Architecture::Llama {
        used.insert(ROPE_FREQS.to_owned());
    }
    match file.tensors().keys().find(|name| !used.contains(*name)) {
        Some(name) => Err(GgufError::ForeignTensor { name: name.clone() }),
        None => Ok(()),
    }
}

impl WeightSource for GgufCheckpoint {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    fn tensor(&self, part: Part, name: &str) -> Result<Box<dyn CanonicalTensor + '_>, ReadError> {
        let Some((spec, stored, info, dtype)) = self.find(part, name) else {
            return Err(ReadError::Missing {
                part,
                name: name.to_owned(),
            });
        };
        Ok(Box::new(GgufTensor::new(
            (part, spec),
            stored,
            dtype,
            (self.bytes.as_ref(), info.bytes.start),
        )))
    }
}

impl Checkpoint for GgufCheckpoint {
    fn name(&self) -> String {
        let name = self
            .file
            .value("general.name")
            .and_then(|name| name.as_text());
        name.filter(|name| !name.is_empty())
            .unwrap_or(&self.place)
            .to_owned()
    }

    fn vocabulary(&self) -> Result<Vocabulary, VocabularyError> {
        tokenizer::vocabulary(&self.file, self.profile.vocabulary).map_err(|error| self.say(&error))
    }

    fn generation_defaults(&self) -> Result<GenerationDefaults, VocabularyError> {
        tokenizer::generation_defaults(&self.file).map_err(|error| self.say(&error))
    }

    fn stored_dtype(&self, part: Part, name: &str) -> Option<StoredDtype> {
        let (_, _, _, dtype) = self.find(part, name)?;
        Some(dtype)
    }
}

impl GgufCheckpoint {
    fn say(&self, error: &GgufError) -> VocabularyError {
        VocabularyError::Invalid {
            file: self.place.clone(),
            problem: error.to_string(),
        }
    }
}
