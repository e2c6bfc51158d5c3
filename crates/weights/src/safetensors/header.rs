//! Reading and checking headers.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use skein_base::limits;

use super::metadata::Texts;
use crate::bytes::ByteRange;
use crate::checkpoint::StoredDtype;

/// The entry of a header that is no tensor.
pub(super) const METADATA: &str = "__metadata__";

/// Why a safetensors file is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The file could not be read.
    #[error("cannot read the header")]
    Io(#[from] io::Error),
    /// Not even the length of the header is there.
    #[error("the file has {found} bytes; a safetensors file has at least 8")]
    TooShort {
        /// Its size.
        found: u64,
    },
    /// The header would be longer than the file or than any real one.
    #[error("the header claims {claimed} bytes; at most {max} are possible (is it safetensors?)")]
    HeaderLength {
        /// What the file claims.
        claimed: u64,
        /// What is possible here.
        max: u64,
    },
    /// The header is no such JSON.
    #[error("the header is invalid: {problem}")]
    Header {
        /// What the parser said.
        problem: String,
    },
    /// A tensor has more dimensions than any real one.
    #[error("tensor {name} has {found} dimensions, over the bound of {max}", max = limits::TENSOR_RANK_MAX)]
    Rank {
        /// The tensor.
        name: String,
        /// Its number of dimensions.
        found: usize,
    },
    /// The element type is unknown.
    #[error("tensor {name} has the unknown element type {dtype:?}")]
    UnknownDtype {
        /// The tensor.
        name: String,
        /// The type found.
        dtype: String,
    },
    /// Shape and element type do not give the number of bytes.
    #[error("tensor {name} of shape {shape:?} and type {dtype} cannot take bytes {start}..{end}")]
    Size {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Its element type.
        dtype: Element,
        /// Begin of its bytes, from the end of the header.
        start: u64,
        /// End of its bytes, from the end of the header.
        end: u64,
    },
    /// Bytes belong to two tensors or to none.
    #[error("tensor {name} begins at byte {start} of the data, where {expected} was expected")]
    NotContiguous {
        /// The tensor.
        name: String,
        /// Where it begins.
        start: u64,
        /// Where the tensor before it ends.
        expected: u64,
    },
    /// The data end before or after the last tensor does.
    #[error(
        "the tensors take {claimed} bytes, but the file has {found} after its header (truncated?)"
    )]
    DataLength {
        /// Bytes that the tensors take.
        claimed: u64,
        /// Bytes that are there.
        found: u64,
    },
}

/// Type of the elements of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// One that weights may have.
    Weight(StoredDtype),
    /// Any other of the format, by its name there and its size in bytes.
    Other(&'static str, u64),
}

impl Element {
    /// The type of this name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        use Element::{Other, Weight};
        Some(match name {
            "F32" => Weight(StoredDtype::F32),
            "F16" => Weight(StoredDtype::F16),
            "BF16" => Weight(StoredDtype::Bf16),
            "BOOL" => Other("BOOL", 1),
            "U8" => Other("U8", 1),
            "I8" => Other("I8", 1),
            "F8_E4M3" => Other("F8_E4M3", 1),
            "F8_E5M2" => Other("F8_E5M2", 1),
            "F8_E8M0" => Other("F8_E8M0", 1),
            "I16" => Other("I16", 2),
            "U16" => Other("U16", 2),
            "I32" => Other("I32", 4),
            "U32" => Other("U32", 4),
            "I64" => Other("I64", 8),
            "U64" => Other("U64", 8),
            "F64" => Other("F64", 8),
            "C64" => Other("C64", 8),
            _ => return None,
        })
    }

    /// Bytes of one element.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Weight(dtype) => dtype.row_bytes(1),
            Self::Other(_, bytes) => bytes,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weight(dtype) => dtype.fmt(f),
            Self::Other(name, _) => f.write_str(name),
        }
    }
}

/// A tensor in a file: checked to lie inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its element type.
    pub dtype: Element,
    /// Its shape, as stored.
    pub shape: Vec<u64>,
    /// Where its bytes begin, from the start of the file.
    pub start: u64,
    /// How many bytes it takes.
    pub bytes: u64,
}

/// A checked header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The tensors by name.
    pub tensors: BTreeMap<String, TensorInfo>,
    /// Texts by name that the writer added; what is no text there is left out.
    pub metadata: BTreeMap<String, String>,
    /// Where the data begin, from the start of the file.
    pub data_start: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Name and entry of every tensor, duplicates refused, and the texts beside them.
#[derive(Debug)]
struct RawHeader {
    tensors: BTreeMap<String, RawTensor>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut tensors = BTreeMap::new();
        let mut metadata = None;
        while let Some(name) = map.next_key::<String>()? {
            let shown = || name.chars().take(120).collect::<String>();
            if name.len() > limits::NAME_BYTES_MAX {
                return Err(A::Error::custom(format!(
                    "the name {}... is too long",
                    shown()
                )));
            }
            if name == METADATA && metadata.is_none() {
                metadata = Some(map.next_value::<Option<Texts>>()?.unwrap_or_default().0);
                continue;
            }
            if tensors.contains_key(&name) || name == METADATA {
                return Err(A::Error::custom(format!("{} is there twice", shown())));
            }
            if tensors.len() == limits::TENSORS_PER_FILE_MAX {
                return Err(A::Error::custom("there are too many tensors"));
            }
            let tensor = map.next_value()?;
            tensors.insert(name, tensor);
        }
        let metadata = metadata.unwrap_or_default();
        Ok(RawHeader { tensors, metadata })
    }
}

/// Reads and checks the header of a safetensors file.
///
/// Allocates no more than a few times the header's real length.
pub fn read_header(file: &dyn ByteRange) -> Result<Header, SafetensorsError> {
    let length = file.len();
    let Some(after_length) = length.checked_sub(8) else {
        return Err(SafetensorsError::TooShort { found: length });
    };
    let mut claimed = [0; 8];
    file.read_at(0, &mut claimed)?;
    let claimed = u64::from_le_bytes(claimed);
    let max = after_length.min(limits::SAFETENSORS_HEADER_BYTES_MAX);
    let wrong_length = || SafetensorsError::HeaderLength { claimed, max };
    if claimed > max {
        return Err(wrong_length());
    }
    let mut json = vec![0; usize::try_from(claimed).map_err(|_| wrong_length())?];
    file.read_at(8, &mut json)?;
    parse_header(&json, length)
}

/// Checks a header's JSON for a file of `length` bytes.
fn parse_header(json: &[u8], length: u64) -> Result<Header, SafetensorsError> {
    let data_start = json.len() as u64 + 8;
    let RawHeader {
        tensors: raw,
        metadata,
    } = serde_json::from_slice(json).map_err(|error| SafetensorsError::Header {
        problem: error.to_string(),
    })?;
    let mut order: Vec<(u64, u64, String)> = Vec::with_capacity(raw.len());
    let mut tensors = BTreeMap::new();
    for (name, raw) in raw {
        let info = check_tensor(&name, raw, data_start)?;
        order.push((info.start - data_start, info.bytes, name.clone()));
        tensors.insert(name, info);
    }
    order.sort();
    let mut expected = 0;
    for (start, bytes, name) in order {
        if start != expected {
            return Err(SafetensorsError::NotContiguous {
                name,
                start,
                expected,
            });
        }
        // check_tensor found that start + bytes fits.
        expected = start + bytes;
    }
    let found = length.saturating_sub(data_start);
    if expected != found {
        return Err(SafetensorsError::DataLength {
            claimed: expected,
            found,
        });
    }
    Ok(Header {
        tensors,
        metadata,
        data_start,
    })
}

fn check_tensor(
    name: &str,
    raw: RawTensor,
    data_start: u64,
) -> Result<TensorInfo, SafetensorsError> {
    if raw.shape.len() > limits::TENSOR_RANK_MAX {
        return Err(SafetensorsError::Rank {
            name: name.to_owned(),
            found: raw.shape.len(),
        });
    }
    let Some(dtype) = Element::parse(&raw.dtype) else {
        let dtype = raw.dtype.chars().take(40).collect();
        return Err(SafetensorsError::UnknownDtype {
            name: name.to_owned(),
            dtype,
        });
    };
    let (start, end) = raw.data_offsets;
    let bytes = raw
        .shape
        .iter()
        .try_fold(1_u64, |product, &one| product.checked_mul(one))
        .and_then(|count| count.checked_mul(dtype.bytes()))
        .filter(|&bytes| end.checked_sub(start) == Some(bytes));
    let absolute = end
        .checked_add(data_start)
        .and(start.checked_add(data_start));
    match (bytes, absolute) {
        (Some(bytes), Some(start)) => Ok(TensorInfo {
            dtype,
            shape: raw.shape,
            start,
            bytes,
        }),
        _ => {
            let name = name.to_owned();
            Err(SafetensorsError::Size {
                name,
                shape: raw.shape,
                dtype,
                start,
                end,
            })
        }
    }
}
