//! Headers of files that Skein writes: one content, one sequence of bytes.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::header::METADATA;

use crate::source::Dtype;

/// Where everything of a file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The first bytes of the file: length and JSON, padded to eight bytes.
    pub header: Vec<u8>,
    /// Indices of the tensors in the order of their data.
    pub order: Vec<usize>,
    /// Size of the whole file.
    pub bytes: u64,
}

#[derive(Serialize)]
struct Entry {
    dtype: &'static str,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

struct Entries<'a> {
    tensors: Vec<(&'a str, Entry)>,
    metadata: &'a BTreeMap<String, String>,
}

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA, self.metadata)?;
        }
        for (name, entry) in &self.tensors {
            map.serialize_entry(name, entry)?;
        }
        map.end()
    }
}

/// How a canonical tensor is stored: the format's name of the element type, and the shape. Blocks are
/// rows of bytes.
pub(crate) fn stored_form(dtype: Dtype, shape: &[u64]) -> (&'static str, Vec<u64>) {
    let mut shape = shape.to_vec();
    let name = match dtype {
        Dtype::F32 => "F32",
        Dtype::Bf16 => "BF16",
        Dtype::Q8 | Dtype::Q4 => {
            if let Some(columns) = shape.last_mut() {
                *columns = dtype.row_bytes(*columns);
            }
            "U8"
        }
    };
    (name, shape)
}

/// Lays out tensors (name, precision, shape), wider elements first so that every tensor is
/// aligned, then by name. The order of `tensors` does not matter.
///
/// # Panics
/// If the sizes overflow: those of a checked profile do not.
pub fn layout(tensors: &[(&str, Dtype, &[u64])]) -> Layout {
    layout_with(tensors, &BTreeMap::new())
}

/// As [`layout`], with texts for the header.
///
/// # Panics
/// If the sizes overflow: those of a checked profile do not.
pub fn layout_with(
    tensors: &[(&str, Dtype, &[u64])],
    metadata: &BTreeMap<String, String>,
) -> Layout {
    let width = |dtype: Dtype| match dtype {
        Dtype::F32 => 4,
        Dtype::Bf16 => 2,
        Dtype::Q8 | Dtype::Q4 => 1,
    };
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&index| {
        let (name, dtype, _) = tensors[index];
        (Reverse(width(dtype)), name)
    });
    let mut end = 0_u64;
    let mut entries = Vec::with_capacity(tensors.len());
    for &index in &order {
        let (name, dtype, shape) = tensors[index];
        let (element, shape) = stored_form(dtype, shape);
        let start = end;
        end = shape
            .iter()
            .try_fold(width(dtype), |bytes: u64, &one| bytes.checked_mul(one))
            .and_then(|bytes| start.checked_add(bytes))
            .expect("the sizes of a checked profile fit 64 bits");
        let entry = Entry {
            dtype: element,
            shape,
            data_offsets: (start, end),
        };
        entries.push((name, entry));
    }
    let entries = Entries {
        tensors: entries,
        metadata,
    };
    let mut json = serde_json::to_vec(&entries).expect("numbers and texts have JSON");
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.extend_from_slice(&json);
    Layout {
        bytes: header.len() as u64 + end,
        header,
        order,
    }
}

/// The bytes of values, as files hold them.
pub fn encode_f32(values: &[f32], out: &mut Vec<u8>) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}
