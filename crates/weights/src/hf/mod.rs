//! Hugging Face folders: `config.json`, safetensors in one file or several, tokenizer and
//! generation settings.
//!
//! Tensor names are accepted with or without the prefix of the whole model (`model.`,
//! `transformer.`). GPT-2 stores projections as `[inputs, outputs]` and q, k and v in one tensor;
//! both are undone while reading, without copying a tensor whole.

mod error;
pub(crate) mod names;
mod render;
mod settings;

pub use error::OpenError;
pub use render::render;
pub(crate) use settings::{CONFIG, Settings, TOKENIZER, is_sidecar_file};
pub use settings::{read_vocabulary, sidecars};

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use skein_base::limits;

use crate::blocks::BlockFormat;
use crate::bytes::{ByteRange, Folder};
use crate::checkpoint::{Checkpoint, Sidecar, StoredDtype, VocabularyError};
use crate::config;
use crate::files::{is_plain_name, read_json};
use crate::part::Part;
use crate::profile::Profile;
use crate::safetensors::{Block, Element, TensorInfo, read_header};
use crate::source::{CanonicalTensor, Dtype, ReadError, WeightSource, quantise_rows};
use crate::vocabulary::{GenerationDefaults, Vocabulary};
use names::Origin;

/// Which tensor is in which file, where there are several.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// The file of the weights, where there is one alone.
pub(crate) const SINGLE: &str = "model.safetensors";

/// A Hugging Face folder, checked: every tensor that the profile asks for is there in the right
/// shape, and no other that would change results.
#[derive(Debug)]
pub struct HfCheckpoint {
    folder: Arc<dyn Folder>,
    profile: Profile,
    files: Vec<Arc<dyn ByteRange>>,
    tensors: BTreeMap<(Part, &'static str), Located>,
}

/// Where a canonical tensor is.
#[derive(Debug)]
struct Located {
    file: usize,
    block: Block,
    shape: Vec<u64>,
}

/// A tensor as found, with the file it is in.
#[derive(Debug)]
struct Found {
    file: usize,
    full_name: String,
    info: TensorInfo,
}

impl HfCheckpoint {
    /// Opens a folder and checks names, shapes and types of all tensors; reads no weights, except
    /// to compare a head that is stored beside the embedding it is tied to.
    pub fn open(folder: Arc<dyn Folder>) -> Result<Self, OpenError> {
        let config = read_json(&*folder, "config.json")?.ok_or_else(|| OpenError::NoConfig {
            place: folder.describe(),
        })?;
        let profile = config::parse(&config)?;
        let names = weight_files(&*folder)?;
        let mut files = Vec::with_capacity(names.len());
        let mut found = BTreeMap::new();
        for name in &names {
            files.push(open_file(&*folder, name, files.len(), &mut found)?);
        }
        check_index(&*folder, &names, &found)?;
        let mut checkpoint = Self {
            folder,
            profile,
            files,
            tensors: BTreeMap::new(),
        };
        checkpoint.locate_all(found)?;
        Ok(checkpoint)
    }

    fn locate_all(&mut self, found: BTreeMap<String, Found>) -> Result<(), OpenError> {
        let mut used = BTreeSet::new();
        for part in self.profile.parts() {
            for spec in self.profile.tensors(part) {
                let origin = names::origin(&self.profile, part, spec.name);
                let tensor = found
                    .get(&origin.name)
                    .ok_or_else(|| OpenError::MissingTensor {
                        name: origin.name.clone(),
                        part,
                    })?;
                let located = locate(tensor, &origin, &spec.shape)?;
                self.tensors.insert((part, spec.name), located);
                used.insert(origin.name);
            }
        }
        for (name, tensor) in &found {
            if used.contains(name) || names::is_ignorable(&self.profile, name) {
                continue;
            }
            let tied_head = self.profile.tied && name == "lm_head.weight";
            if !tied_head {
                return Err(OpenError::ForeignTensor {
                    name: tensor.full_name.clone(),
                });
            }
            self.check_tied_head(tensor)?;
        }
        Ok(())
    }

    /// Some exporters store the tied head too. If it differs, then it is not tied.
    fn check_tied_head(&self, head: &Found) -> Result<(), OpenError> {
        let tokens = &self.tensors[&(Part::Embedding, "tokens.weight")];
        let differs = || OpenError::TiedHeadDiffers {
            name: head.full_name.clone(),
        };
        let same_kind = head.info.dtype == Element::Weight(tokens.block.dtype);
        if head.info.shape != tokens.shape || !same_kind {
            return Err(differs());
        }
        let mut ours = vec![0; 1 << 20];
        let mut theirs = vec![0; 1 << 20];
        let mut done = 0;
        while done < head.info.bytes {
            let length = (head.info.bytes - done).min(1 << 20) as usize;
            let read = |file: usize, start: u64, out: &mut [u8]| {
                self.files[file]
                    .read_at(start + done, out)
                    .map_err(|source| OpenError::Io {
                        file: head.full_name.clone(),
                        source,
                    })
            };
            read(tokens.file, tokens.block.start, &mut ours[..length])?;
            read(head.file, head.info.start, &mut theirs[..length])?;
            if ours[..length] != theirs[..length] {
                return Err(differs());
            }
            done += length as u64;
        }
        Ok(())
    }
}

/// Names of the files that hold the weights.
fn weight_files(folder: &dyn Folder) -> Result<Vec<String>, OpenError> {
    if let Some(index) = read_index(folder)? {
        let names: BTreeSet<String> = index.into_values().collect();
        return Ok(names.into_iter().collect());
    }
    let io = |source| OpenError::Io {
        file: folder.describe(),
        source,
    };
    let all = folder.names().map_err(io)?;
    if all.iter().any(|name| name == SINGLE) {
        return Ok(vec![SINGLE.to_owned()]);
    }
    let ends = |end: &str| {
        all.iter()
            .filter(|name| name.ends_with(end))
            .collect::<Vec<_>>()
    };
    match ends(".safetensors").as_slice() {
        [only] => Ok(vec![(*only).clone()]),
        [] => match [".bin", ".pt", ".pth", ".ckpt"]
            .iter()
            .find_map(|end| ends(end).pop())
        {
            Some(file) => Err(OpenError::PickleOnly { file: file.clone() }),
            None => Err(OpenError::NoWeights {
                place: folder.describe(),
            }),
        },
        several => Err(OpenError::NoIndex {
            count: several.len(),
        }),
    }
}

fn read_index(folder: &dyn Folder) -> Result<Option<BTreeMap<String, String>>, OpenError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let Some(bytes) = read_json(folder, INDEX)? else {
        return Ok(None);
    };
    let invalid = |problem| OpenError::Index { problem };
    let index: Index = serde_json::from_slice(&bytes).map_err(|e| invalid(e.to_string()))?;
    if let Some(bad) = index.weight_map.values().find(|name| !is_plain_name(name)) {
        let name: String = bad.chars().take(120).collect();
        return Err(invalid(format!(
            "{name:?} is no plain file name inside the folder"
        )));
    }
    Ok(Some(index.weight_map))
}

/// Every tensor of the index is where it says, and the files have no others.
fn check_index(
    folder: &dyn Folder,
    files: &[String],
    found: &BTreeMap<String, Found>,
) -> Result<(), OpenError> {
    let Some(index) = read_index(folder)? else {
        return Ok(());
    };
    let invalid = |problem| Err(OpenError::Index { problem });
    let real: BTreeMap<&str, &str> = found
        .values()
        .map(|tensor| (tensor.full_name.as_str(), files[tensor.file].as_str()))
        .collect();
    for (name, file) in &index {
        if real.get(name.as_str()) != Some(&file.as_str()) {
            return invalid(format!("tensor {name} is not in {file}"));
        }
    }
    match real.iter().find(|(name, _)| !index.contains_key(**name)) {
        Some((name, file)) => invalid(format!("tensor {name} of {file} is not listed")),
        None => Ok(()),
    }
}

fn open_file(
    folder: &dyn Folder,
    name: &str,
    index: usize,
    found: &mut BTreeMap<String, Found>,
) -> Result<Arc<dyn ByteRange>, OpenError> {
    if index >= limits::FILES_PER_MODEL_MAX {
        return Err(OpenError::TooManyFiles {
            max: limits::FILES_PER_MODEL_MAX,
        });
    }
    let file = folder.open(name).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => OpenError::MissingFile {
            file: name.to_owned(),
        },
        _ => OpenError::Io {
            file: name.to_owned(),
            source,
        },
    })?;
    let header = read_header(&*file).map_err(|source| OpenError::Safetensors {
        file: name.to_owned(),
        source,
    })?;
    for (full_name, info) in header.tensors {
        let short = names::without_prefix(&full_name).to_owned();
        let tensor = Found {
            file: index,
            full_name,
            info,
        };
        if let Some(other) = found.insert(short, tensor) {
            return Err(OpenError::DuplicateTensor {
                name: other.full_name,
            });
        }
    }
    Ok(file)
}

/// Checks a stored tensor and finds the canonical one in it.
fn locate(found: &Found, origin: &Origin, shape: &[u64]) -> Result<Located, OpenError> {
    let name = || found.full_name.clone();
    let Element::Weight(dtype) = found.info.dtype else {
        return Err(OpenError::Dtype {
            name: name(),
            dtype: found.info.dtype.to_string(),
        });
    };
    let (rows, columns) = match *shape {
        [columns] => (1, columns),
        [rows, columns] => (rows, columns),
        _ => unreachable!("canonical tensors have one or two dimensions"),
    };
    // The stored tensor holds `share.of` canonical ones side by side.
    let outputs = |one: u64| one * origin.share.of;
    let is_vector = shape.len() == 1;
    let expected = match (is_vector, origin.transposed) {
        (true, _) => vec![outputs(columns)],
        (false, true) => vec![columns, outputs(rows)],
        (false, false) => vec![outputs(rows), columns],
    };
    if found.info.shape != expected {
        return Err(OpenError::WrongShape {
            name: name(),
            expected,
            found: found.info.shape.clone(),
        });
    }
    let index = origin.share.index;
    let (first, row_step, column_step) = match (is_vector, origin.transposed) {
        (true, _) => (index * columns, columns, 1),
        (false, true) => (index * rows, 1, outputs(rows)),
        (false, false) => (index * rows * columns, columns, 1),
    };
    let start = found.info.start;
    let block = Block {
        dtype,
        start,
        first,
        columns,
        row_step,
        column_step,
    };
    Ok(Located {
        file: found.file,
        block,
        shape: shape.to_vec(),
    })
}

/// A view of one canonical tensor.
#[derive(Debug)]
struct HfTensor<'a> {
    part: Part,
    name: &'static str,
    file: &'a dyn ByteRange,
    located: &'a Located,
}

impl HfTensor<'_> {
    fn read<T: Copy + Default>(
        &self,
        rows: Range<u64>,
        decode: fn(StoredDtype, &[u8], &mut [T]),
        out: &mut [T],
    ) -> Result<(), ReadError> {
        let read = self.located.block.read(self.file, rows, decode, out);
        read.map_err(|source| ReadError::Io {
            part: self.part,
            name: self.name.to_owned(),
            source,
        })
    }
}

impl CanonicalTensor for HfTensor<'_> {
    fn dtype(&self) -> Dtype {
        self.located.block.dtype.canonical_of(&self.located.shape)
    }

    fn shape(&self) -> &[u64] {
        &self.located.shape
    }

    fn read_f32(&self, rows: Range<u64>, out: &mut [f32]) -> Result<(), ReadError> {
        self.read(rows, StoredDtype::decode_f32, out)
    }

    fn read_bf16(&self, rows: Range<u64>, out: &mut [u16]) -> Result<(), ReadError> {
        self.read(rows, StoredDtype::decode_bf16, out)
    }

    fn read_blocks(
        &self,
        format: BlockFormat,
        rows: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), ReadError> {
        quantise_rows(self, (self.part, self.name), format, rows, out)
    }
}

impl WeightSource for HfCheckpoint {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    fn tensor(&self, part: Part, name: &str) -> Result<Box<dyn CanonicalTensor + '_>, ReadError> {
        let found = self.profile.canonical_name(part, name);
        let found = found.and_then(|name| Some((name, self.tensors.get(&(part, name))?)));
        let missing = || ReadError::Missing {
            part,
            name: name.to_owned(),
        };
        let (name, located) = found.ok_or_else(missing)?;
        Ok(Box::new(HfTensor {
            part,
            name,
            file: &*self.files[located.file],
            located,
        }))
    }
}

impl Checkpoint for HfCheckpoint {
    fn name(&self) -> String {
        settings::name(&*self.folder)
    }

    fn vocabulary(&self) -> Result<Vocabulary, VocabularyError> {
        read_vocabulary(&*self.folder)
    }

    fn generation_defaults(&self) -> Result<GenerationDefaults, VocabularyError> {
        Settings::read(&*self.folder)?.generation_defaults()
    }

    fn stored_dtype(&self, part: Part, name: &str) -> Option<StoredDtype> {
        let name = self.profile.canonical_name(part, name)?;
        Some(self.tensors.get(&(part, name))?.block.dtype)
    }

    fn sidecars(&self) -> Result<Vec<Sidecar>, VocabularyError> {
        sidecars(&*self.folder)
    }
}
