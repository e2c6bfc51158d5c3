//! Canonical tensors, whatever file format and layout they come from.

use std::fmt;
use std::io;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::blocks::{BlockFormat, OutOfRange};
use crate::part::Part;
use crate::profile::Profile;
use crate::stored::{self, StoredDtype};

/// How canonical weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// The upper half of single precision.
    Bf16,
    /// Blocks of eight bits a value: [`BlockFormat::Q8`]. Of matrices only.
    Q8,
    /// Blocks of four bits a value: [`BlockFormat::Q4`]. Of matrices only.
    Q4,
}

impl Dtype {
    /// The form of its blocks, if it is quantised.
    pub const fn blocks(self) -> Option<BlockFormat> {
        match self {
            Self::F32 | Self::Bf16 => None,
            Self::Q8 => Some(BlockFormat::Q8),
            Self::Q4 => Some(BlockFormat::Q4),
        }
    }

    /// Whether every value of this precision is one of `to` as well.
    pub const fn is_exact_in(self, to: Self) -> bool {
        match (self, to) {
            (_, Self::F32) => true,
            (Self::Bf16, Self::Bf16) => true,
            (Self::Q4, Self::Q4 | Self::Q8) | (Self::Q8, Self::Q8) => true,
            (_, Self::Bf16 | Self::Q8 | Self::Q4) => false,
        }
    }

    /// The coarsest format that holds matrices of all these exactly.
    pub fn common(dtypes: impl Iterator<Item = Self> + Clone) -> Self {
        let all = |wanted: &[Self]| dtypes.clone().all(|one| wanted.contains(&one));
        let coarser: [&[Self]; 3] = [&[Self::Q4], &[Self::Q8, Self::Q4], &[Self::Bf16]];
        coarser
            .into_iter()
            .find(|wanted| all(wanted))
            .map_or(Self::F32, |wanted| wanted[0])
    }

    /// Bytes of a row of `columns` values.
    pub const fn row_bytes(self, columns: u64) -> u64 {
        match self {
            Self::F32 => columns.saturating_mul(4),
            Self::Bf16 => columns.saturating_mul(2),
            Self::Q8 => StoredDtype::Q8_0.row_bytes(columns),
            Self::Q4 => StoredDtype::Q4_0.row_bytes(columns),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
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
    /// A weight cannot be expressed in the format asked for.
    #[error("cannot quantise {name} of {part}")]
    Range {
        /// The part asked.
        part: Part,
        /// The canonical name asked for.
        name: String,
        /// Why.
        #[source]
        source: OutOfRange,
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
/// It has one sequence of values, that of its stored precision; all ways of reading give these, rounded
/// where they must be. `f16` sources are exact in `f32` and read as that; blocks of GGUF that are not
/// computed in are rounded to `bf16` first, whatever they are read as. A vector is one row.
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

    /// Reads whole rows as blocks of `format`: as they are where they are stored so, from `Q4` to `Q8`
    /// without loss, else quantised anew. `out` holds `rows.len()` times
    /// [`BlockFormat::row_bytes`].
    fn read_blocks(
        &self,
        format: BlockFormat,
        rows: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), ReadError>;
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

/// How many bytes of `f32` are in memory at once while rows are quantised, unless a single row is
/// longer.
const PIECE_BYTES: u64 = 256 << 10;

/// Quantises rows of `tensor`: [`CanonicalTensor::read_blocks`] for all that is not stored in blocks.
/// `place` is for errors.
pub fn quantise_rows(
    tensor: &dyn CanonicalTensor,
    place: (Part, &str),
    format: BlockFormat,
    rows: Range<u64>,
    out: &mut [u8],
) -> Result<(), ReadError> {
    let (height, columns) = dimensions(tensor);
    let row_bytes = format.row_bytes(columns as usize);
    let (part, name) = (place.0, || place.1.to_owned());
    stored::check(&rows, height, row_bytes, out.len()).map_err(|source| ReadError::Io {
        part,
        name: name(),
        source,
    })?;
    let step = (PIECE_BYTES / (4 * columns)).max(1);
    let mut values = vec![0.0; (step.min(rows.end - rows.start) * columns) as usize];
    let mut first = rows.start;
    for out in out.chunks_mut(step as usize * row_bytes) {
        let count = (out.len() / row_bytes) as u64;
        let values = &mut values[..(count * columns) as usize];
        tensor.read_f32(first..first + count, values)?;
        first += count;
        let pairs = values.chunks_exact(columns as usize);
        for (values, out) in pairs.zip(out.chunks_exact_mut(row_bytes)) {
            format
                .encode_row(values, out)
                .map_err(|source| ReadError::Range {
                    part,
                    name: name(),
                    source,
                })?;
        }
    }
    Ok(())
}

/// Rows and columns; a vector is one row.
pub(crate) fn dimensions(tensor: &dyn CanonicalTensor) -> (u64, u64) {
    match *tensor.shape() {
        [columns] => (1, columns),
        [rows, columns] => (rows, columns),
        _ => unreachable!("canonical tensors have one or two dimensions"),
    }
}

/// The bytes of rows in `dtype`, as files hold them.
pub(crate) fn encoded_rows(
    tensor: &dyn CanonicalTensor,
    dtype: Dtype,
    rows: Range<u64>,
) -> Result<Vec<u8>, ReadError> {
    let (_, columns) = dimensions(tensor);
    let count = (rows.end - rows.start) as usize;
    let values = count * columns as usize;
    let blocks = |format: BlockFormat| {
        let mut bytes = vec![0; count * format.row_bytes(columns as usize)];
        tensor.read_blocks(format, rows.clone(), &mut bytes)?;
        Ok(bytes)
    };
    match dtype {
        Dtype::F32 => {
            let mut piece = vec![0.0_f32; values];
            tensor.read_f32(rows, &mut piece)?;
            Ok(piece.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        Dtype::Bf16 => {
            let mut piece = vec![0_u16; values];
            tensor.read_bf16(rows, &mut piece)?;
            Ok(piece.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        Dtype::Q8 => blocks(BlockFormat::Q8),
        Dtype::Q4 => blocks(BlockFormat::Q4),
    }
}
