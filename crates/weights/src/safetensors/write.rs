//! Headers of files that Skein writes: one content, one sequence of bytes.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

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
struct Entry<'a> {
    dtype: &'static str,
    shape: &'a [u64],
    data_offsets: (u64, u64),
}

struct Entries<'a>(Vec<(&'a str, Entry<'a>)>);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, entry) in &self.0 {
            map.serialize_entry(name, entry)?;
        }
        map.end()
    }
}

/// Lays out tensors (name, precision, shape), wider elements first so that every tensor is
/// aligned, then by name. The order of `tensors` does not matter.
///
/// # Panics
/// If the sizes overflow: those of a checked profile do not.
pub fn layout(tensors: &[(&str, Dtype, &[u64])]) -> Layout {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&index| {
        let (name, dtype, _) = tensors[index];
        (std::cmp::Reverse(dtype.bytes()), name)
    });
    let mut end = 0_u64;
    let mut entries = Vec::with_capacity(tensors.len());
    for &index in &order {
        let (name, dtype, shape) = tensors[index];
        let start = end;
        end = shape
            .iter()
            .try_fold(dtype.bytes() as u64, |bytes, &one| bytes.checked_mul(one))
            .and_then(|bytes| start.checked_add(bytes))
            .expect("the sizes of a checked profile fit 64 bits");
        let dtype = match dtype {
            Dtype::F32 => "F32",
            Dtype::Bf16 => "BF16",
        };
        entries.push((
            name,
            Entry {
                dtype,
                shape,
                data_offsets: (start, end),
            },
        ));
    }
    let mut json = serde_json::to_vec(&Entries(entries)).expect("numbers and texts have JSON");
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
