//! A split folder as a source of weights.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use skein_base::{ModelId, limits};

use crate::blocks::BlockFormat;
use crate::bytes::{ByteRange, Folder};
use crate::checkpoint::{Checkpoint, Sidecar, SidecarRole, StoredDtype, VocabularyError};
use crate::files::{read_json, read_small};
use crate::hf::{OpenError, Settings, read_vocabulary};
use crate::manifest::{MANIFEST_FILE, Manifest, ManifestError, PartEntry};
use crate::part::Part;
use crate::profile::Profile;
use crate::safetensors::{Element, Header, SafetensorsError, read_header, stored_form};
use crate::sidecar;
use crate::source::{CanonicalTensor, Dtype, ReadError, WeightSource, quantise_rows};
use crate::stored::{Order, Rows};
use crate::vocabulary::{GenerationDefaults, Vocabulary};

/// Why a part's file is not what the manifest says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartError {
    /// It could not be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// It has another size.
    #[error("it has {found} bytes; the manifest says {expected}")]
    Length {
        /// Its size.
        found: u64,
        /// The size by the manifest.
        expected: u64,
    },
    /// It is damaged.
    #[error("it is no valid safetensors file")]
    Safetensors(#[from] SafetensorsError),
    /// A tensor of the manifest is not there.
    #[error("tensor {name} is missing")]
    Missing {
        /// The tensor.
        name: String,
    },
    /// A tensor is there that the manifest does not list.
    #[error("tensor {name} is foreign")]
    Foreign {
        /// The tensor.
        name: String,
    },
    /// A tensor has another type or shape.
    #[error("tensor {name} is {found}; the manifest says {expected}")]
    Differs {
        /// The tensor.
        name: String,
        /// Type and shape in the file.
        found: String,
        /// Type and shape by the manifest.
        expected: String,
    },
}

/// A folder that [`super::split`] wrote, or the part of one that a node holds.
///
/// Sizes, names, types and shapes of the parts that are there have been checked; hashes have not
/// ([`crate::verify`] does that).
#[derive(Debug)]
pub struct SplitCheckpoint {
    folder: Arc<dyn Folder>,
    manifest: Manifest,
    /// As in the manifest; `None` for parts that are not there.
    parts: Vec<Option<OpenPart>>,
}

#[derive(Debug)]
struct OpenPart {
    file: Arc<dyn ByteRange>,
    header: Header,
}

impl SplitCheckpoint {
    /// Opens what is there of a split model. Parts may be absent, but not damaged.
    pub fn open(folder: Arc<dyn Folder>) -> Result<Self, OpenError> {
        let manifest = read_manifest(&*folder)?;
        let mut parts = Vec::with_capacity(manifest.parts.len());
        for entry in &manifest.parts {
            let wrong = |source| OpenError::Part {
                file: entry.file.clone(),
                source,
            };
            parts.push(match folder.open(&entry.file) {
                Ok(file) => {
                    let header = check_part(&*file, entry).map_err(wrong)?;
                    Some(OpenPart { file, header })
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(wrong(error.into())),
            });
        }
        Ok(Self {
            folder,
            manifest,
            parts,
        })
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The parts that are there, in order.
    pub fn present(&self) -> Vec<Part> {
        let present = self.manifest.parts.iter().zip(&self.parts);
        present
            .filter(|(_, open)| open.is_some())
            .map(|(entry, _)| entry.part)
            .collect()
    }

    fn index(&self, part: Part) -> Option<usize> {
        self.manifest
            .parts
            .iter()
            .position(|entry| entry.part == part)
    }

    fn has_sidecar(&self, name: &str) -> bool {
        self.manifest.files.iter().any(|entry| entry.name == name)
    }

    fn own_settings(&self) -> Result<Option<(Vocabulary, GenerationDefaults)>, VocabularyError> {
        if !self.has_sidecar(sidecar::GGUF_TOKENIZER_FILE) {
            return Ok(None);
        }
        let read = |name| {
            let bytes = read_small(&*self.folder, name, limits::TOKENIZER_BYTES_MAX)?;
            let missing = || VocabularyError::Missing {
                place: self.folder.describe(),
                hint: "a file that the manifest lists is not there; split the model again",
            };
            bytes.ok_or_else(missing)
        };
        let tokenizer = read(sidecar::GGUF_TOKENIZER_FILE)?;
        sidecar::parse(&tokenizer, &read(sidecar::SETTINGS_FILE)?).map(Some)
    }
}

/// Reads and checks the manifest of a folder.
pub fn read_manifest(folder: &dyn Folder) -> Result<Manifest, ManifestError> {
    let bytes = read_json(folder, MANIFEST_FILE)?;
    let missing = || ManifestError::Missing {
        place: folder.describe(),
    };
    Manifest::parse(&bytes.ok_or_else(missing)?)
}

/// Compares size, names, types and shapes of a part's file with the manifest.
pub(crate) fn check_part(file: &dyn ByteRange, entry: &PartEntry) -> Result<Header, PartError> {
    let (found, expected) = (file.len(), entry.bytes);
    if found != expected {
        return Err(PartError::Length { found, expected });
    }
    let header = read_header(file)?;
    for tensor in &entry.tensors {
        let name = || tensor.name.clone();
        let found = header.tensors.get(&tensor.name);
        let found = found.ok_or_else(|| PartError::Missing { name: name() })?;
        let (element, shape) = stored_form(tensor.dtype, &tensor.shape);
        if Element::parse(element) != Some(found.dtype) || found.shape != shape {
            return Err(PartError::Differs {
                name: name(),
                found: format!("{} {:?}", found.dtype, found.shape),
                expected: format!("{element} {shape:?} ({})", tensor.dtype),
            });
        }
    }
    let known = |name: &String| entry.tensors.iter().any(|tensor| tensor.name == *name);
    match header.tensors.keys().find(|name| !known(name)) {
        Some(name) => Err(PartError::Foreign { name: name.clone() }),
        None => Ok(header),
    }
}

#[derive(Debug)]
struct SplitTensor<'a> {
    part: Part,
    name: &'static str,
    shape: &'a [u64],
    dtype: Dtype,
    rows: Rows<'a>,
}

impl SplitTensor<'_> {
    fn read<T>(
        &self,
        rows: Range<u64>,
        out: &mut [T],
        decode: fn(StoredDtype, &[u8], &mut [T]),
    ) -> Result<(), ReadError> {
        let width = self.rows.columns as usize;
        let decode = |bytes: &[u8], out: &mut [T]| decode(self.rows.dtype, bytes, out);
        let done = self.rows.read(rows, width, out, decode);
        done.map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> ReadError {
        ReadError::Io {
            part: self.part,
            name: self.name.to_owned(),
            source,
        }
    }
}

impl CanonicalTensor for SplitTensor<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[u64] {
        self.shape
    }

    fn read_f32(&self, rows: Range<u64>, out: &mut [f32]) -> Result<(), ReadError> {
        self.read(rows, out, StoredDtype::decode_f32)
    }

    fn read_bf16(&self, rows: Range<u64>, out: &mut [u16]) -> Result<(), ReadError> {
        self.read(rows, out, StoredDtype::decode_bf16)
    }

    fn read_blocks(
        &self,
        format: BlockFormat,
        rows: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), ReadError> {
        match self.rows.read_stored_blocks(format, rows.clone(), out) {
            Some(done) => done.map_err(|source| self.error(source)),
            None => quantise_rows(self, (self.part, self.name), format, rows, out),
        }
    }
}

impl WeightSource for SplitCheckpoint {
    fn profile(&self) -> &Profile {
        &self.manifest.profile
    }

    fn tensor(&self, part: Part, name: &str) -> Result<Box<dyn CanonicalTensor + '_>, ReadError> {
        let missing = || ReadError::Missing {
            part,
            name: name.to_owned(),
        };
        let index = self.index(part).ok_or_else(missing)?;
        let Some(open) = &self.parts[index] else {
            let file = self.manifest.parts[index].file.clone();
            return Err(ReadError::PartAbsent { part, file });
        };
        let name = self
            .profile()
            .canonical_name(part, name)
            .ok_or_else(missing)?;
        let entry = &self.manifest.parts[index];
        let entry = entry.tensors.iter().find(|tensor| tensor.name == name);
        let info = open.header.tensors.get(name);
        let (entry, info) = entry.zip(info).ok_or_else(missing)?;
        let (height, columns) = match entry.shape[..] {
            [rows, columns] => (rows, columns),
            _ => (1, entry.shape[0]),
        };
        let rows = Rows {
            file: &*open.file,
            dtype: entry.dtype.into(),
            start: info.start,
            first: 0,
            order: Order::Plain,
            height,
            columns,
        };
        Ok(Box::new(SplitTensor {
            part,
            name,
            shape: &entry.shape,
            dtype: entry.dtype,
            rows,
        }))
    }
}

impl Checkpoint for SplitCheckpoint {
    fn name(&self) -> String {
        self.manifest.name.clone()
    }

    fn model_id(&self) -> Option<ModelId> {
        Some(self.manifest.model)
    }

    fn vocabulary(&self) -> Result<Vocabulary, VocabularyError> {
        match self.own_settings()? {
            Some((vocabulary, _)) => Ok(vocabulary),
            None => read_vocabulary(&*self.folder),
        }
    }

    fn generation_defaults(&self) -> Result<GenerationDefaults, VocabularyError> {
        match self.own_settings()? {
            Some((_, defaults)) => Ok(defaults),
            None => Settings::read(&*self.folder)?.generation_defaults(),
        }
    }

    fn stored_dtype(&self, part: Part, name: &str) -> Option<StoredDtype> {
        let entry = self.manifest.part(part)?;
        let tensor = entry.tensors.iter().find(|tensor| tensor.name == name)?;
        Some(tensor.dtype.into())
    }

    fn sidecars(&self) -> Result<Vec<Sidecar>, VocabularyError> {
        let mut list = Vec::new();
        for entry in &self.manifest.files {
            let max = match entry.role {
                SidecarRole::Tokenizer => limits::TOKENIZER_BYTES_MAX,
                SidecarRole::Settings => limits::MODEL_JSON_BYTES_MAX,
            };
            if let Some(bytes) = read_small(&*self.folder, &entry.name, max)? {
                list.push(Sidecar {
                    name: entry.name.clone(),
                    role: entry.role,
                    bytes,
                });
            }
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }
}
