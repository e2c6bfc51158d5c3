//! The outer form of a GGUF file: metadata and where the tensors are.

use std::collections::BTreeMap;
use std::ops::Range;

use skein_base::limits::{NAME_BYTES_MAX, TENSORS_PER_FILE_MAX, TOKENIZER_BYTES_MAX};

use crate::bytes::ByteRange;

use super::cursor::Cursor;
use super::error::GgufError;
use super::types::GgmlType;
use super::value::Value;

const MAGIC: [u8; 4] = *b"GGUF";
/// Where tensors begin if the file does not say.
const DEFAULT_ALIGNMENT: u64 = 32;
/// Largest alignment that anything could want.
const ALIGNMENT_MAX: u64 = 1 << 20;
/// Most metadata keys; real files have a few dozen.
const KEYS_MAX: u64 = 1 << 16;
/// ggml's own bound on dimensions.
const RANK_MAX: u32 = 4;

/// Metadata and tensor descriptions of a GGUF file, checked against each other and the length of
/// the file.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufFile {
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorInfo>,
}

/// Where a tensor is and what it looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// ggml's type.
    pub kind: GgmlType,
    /// Dimensions, outermost first (GGUF stores them the other way round).
    pub shape: Vec<u64>,
    /// The bytes, from the beginning of the file.
    pub bytes: Range<u64>,
}

impl GgufFile {
    /// Reads and checks everything but the weights themselves.
    pub fn read(file: &dyn ByteRange) -> Result<Self, GgufError> {
        let mut cursor = Cursor::new(file, TOKENIZER_BYTES_MAX);
        if cursor.array("the magic number")? != MAGIC {
            return Err(GgufError::Magic);
        }
        let version = cursor.u32("the version")?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version { found: version });
        }
        let tensor_count = cursor.u64("the number of tensors")?;
        let key_count = cursor.u64("the number of metadata keys")?;
        bounded(
            "number of tensors",
            tensor_count,
            TENSORS_PER_FILE_MAX as u64,
        )?;
        bounded("number of metadata keys", key_count, KEYS_MAX)?;
        let metadata = read_metadata(&mut cursor, key_count)?;
        let alignment = alignment(&metadata)?;
        let described = (0..tensor_count)
            .map(|_| Described::read(&mut cursor, alignment))
            .collect::<Result<Vec<_>, _>>()?;
        let data = cursor.position().next_multiple_of(alignment);
        let tensors = place(described, data, file.len())?;
        Ok(Self { metadata, tensors })
    }

    /// A metadata value.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// All metadata, by key.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }
}

fn bounded(what: &str, found: u64, max: u64) -> Result<(), GgufError> {
    if found > max {
        return Err(GgufError::TooLarge {
            what: what.to_owned(),
            found,
            max,
        });
    }
    Ok(())
}

fn name(cursor: &mut Cursor<'_>, what: &str) -> Result<String, GgufError> {
    let bytes = cursor.bytes(NAME_BYTES_MAX as u64, what)?;
    String::from_utf8(bytes).map_err(|error| {
        let shown = String::from_utf8_lossy(error.as_bytes()).into_owned();
        GgufError::metadata(&shown, format!("{what} is not UTF-8"))
    })
}

fn read_metadata(
    cursor: &mut Cursor<'_>,
    count: u64,
) -> Result<BTreeMap<String, Value>, GgufError> {
    let mut metadata = BTreeMap::new();
    for _ in 0..count {
        let key = name(cursor, "a metadata key")?;
        let value = Value::read(cursor, &key)?;
        if metadata.contains_key(&key) {
            return Err(GgufError::metadata(&key, "given twice"));
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, GgufError> {
    let key = "general.alignment";
    let Some(value) = metadata.get(key) else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    value
        .as_u64()
        .filter(|alignment| alignment.is_power_of_two() && *alignment <= ALIGNMENT_MAX)
        .ok_or_else(|| GgufError::metadata(key, "must be a power of two, at most 1 MiB"))
}

/// A tensor as the header describes it: its place is relative to the data.
#[derive(Debug)]
struct Described {
    name: String,
    kind: GgmlType,
    shape: Vec<u64>,
    offset: u64,
    size: u64,
}

impl Described {
    fn read(cursor: &mut Cursor<'_>, alignment: u64) -> Result<Self, GgufError> {
        let name = name(cursor, "a tensor name")?;
        let rank = cursor.u32(&name)?;
        if rank == 0 || rank > RANK_MAX {
            let problem = format!("{rank} dimensions, not 1 to {RANK_MAX}");
            return Err(GgufError::tensor(&name, problem));
        }
        let mut shape = (0..rank)
            .map(|_| cursor.u64(&name))
            .collect::<Result<Vec<_>, _>>()?;
        let id = cursor.u32(&name)?;
        let offset = cursor.u64(&name)?;
        let Some(kind) = GgmlType::of_id(id) else {
            return Err(GgufError::TensorType {
                name,
                found: format!("unknown type {id}"),
            });
        };
        if !offset.is_multiple_of(alignment) {
            let problem = format!("offset {offset} is not a multiple of {alignment}");
            return Err(GgufError::tensor(&name, problem));
        }
        let size = size(&shape, kind).map_err(|problem| GgufError::tensor(&name, problem))?;
        shape.reverse();
        Ok(Self {
            name,
            kind,
            shape,
            offset,
            size,
        })
    }
}

/// Bytes of a tensor whose dimensions are given innermost first.
fn size(shape: &[u64], kind: GgmlType) -> Result<u64, String> {
    let shown = || format!("shape {shape:?} (innermost first) of {kind}");
    if shape.contains(&0) {
        return Err(format!("{} is empty", shown()));
    }
    if !shape[0].is_multiple_of(kind.block) {
        return Err(format!(
            "{}: rows are not whole blocks of {}",
            shown(),
            kind.block
        ));
    }
    let elements = shape
        .iter()
        .try_fold(1u64, |product, &dim| product.checked_mul(dim));
    elements
        .and_then(|elements| (elements / kind.block).checked_mul(kind.bytes))
        .ok_or_else(|| format!("{} is too large to exist", shown()))
}

/// Gives every tensor its place in the file, which must hold it and no other.
fn place(
    mut described: Vec<Described>,
    data: u64,
    len: u64,
) -> Result<BTreeMap<String, TensorInfo>, GgufError> {
    described.sort_by_key(|tensor| tensor.offset);
    let mut tensors = BTreeMap::new();
    let (mut before, mut free) = (String::new(), data);
    for Described {
        name,
        kind,
        shape,
        offset,
        size,
    } in described
    {
        let range = data
            .checked_add(offset)
            .and_then(|start| Some(start..start.checked_add(size)?));
        let Some(bytes) = range.filter(|range| range.end <= len) else {
            let problem = format!(
                "{size} bytes at {offset} of the data go beyond the end of the file at {len}: \
                 it is truncated or damaged"
            );
            return Err(GgufError::tensor(&name, problem));
        };
        if bytes.start < free {
            return Err(GgufError::tensor(
                &name,
                format!("shares bytes with {before}"),
            ));
        }
        free = bytes.end;
        before.clone_from(&name);
        if tensors.contains_key(&name) {
            return Err(GgufError::tensor(&name, "given twice"));
        }
        tensors.insert(name, TensorInfo { kind, shape, bytes });
    }
    Ok(tensors)
}
