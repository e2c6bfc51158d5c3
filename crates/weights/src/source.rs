//! Canonical tensors, whatever file format and layout they come from.

use std::fmt;
use std::io;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::part::Part;
use crate::profile::Profile;

/// How canonical weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// The upper half of single precision.
    Bf16,
}

impl Dtype {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// Why a canonical tensor could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no such tensor.
    #[error("{part} has no tensor {name}")]
    Missing {
        /// The part asked.
        part: Part,
        /// The canonical name asked for.
        name: String,
    },
    /// The file of the part is not here, as on a node that holds another slice.
    #[error("{part} is not here: {file} is missing")]
    PartAbsent {
        /// The part asked.
        part: Part,
        /// The file that would hold it.
        file: String,
    },
    /// The bytes could not be read.
    #[error("cannot read {name} of {part}")]
    Io {
        /// The part asked.
        part: Part,
        /// The canonical name asked for.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A tensor in canonical layout, readable row by row.
///
/// `f16`, `Q8_0` and `Q4_0` sources are exact in `f32` and read as that. A vector is one row.
pub trait CanonicalTensor: Send + Sync + fmt::Debug {
    /// Its stored precision.
    fn dtype(&self) -> Dtype;

    /// `[rows, columns]`, or `[columns]` of a vector.
    fn shape(&self) -> &[u64];

    /// Reads whole rows as `f32`; `out` holds `rows.len() * columns` values.
    fn read_f32(&self, rows: Range<u64>, out: &mut [f32]) -> Result<(), ReadError>;

    /// Reads whole rows as the bits of `bf16`, rounding to nearest even where the source is
    /// finer; `out` holds `rows.len() * columns` values.
    fn read_bf16(&self, rows: Range<u64>, out: &mut [u16]) -> Result<(), ReadError>;
}

/// A whole model whose tensors can be asked for by part and canonical name.
///
/// Shapes have been checked against the profile; [`Profile::tensors`] says which names exist.
pub trait WeightSource: Send + Sync + fmt::Debug {
    /// The architecture.
    fn profile(&self) -> &Profile;

    /// One tensor.
    fn tensor(&self, part: Part, name: &str) -> Result<Box<dyn CanonicalTensor + '_>, ReadError>;
}
