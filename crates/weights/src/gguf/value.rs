//! Metadata values.

use super::cursor::Cursor;
use super::error::GgufError;

/// Longest single string, in bytes; chat templates take some ten thousand.
const STRING_BYTES_MAX: u64 = 16 << 20;
/// Longest token, merge or other element of an array of strings, in bytes.
const ELEMENT_BYTES_MAX: u64 = 64 << 10;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A signed integer of any width.
    Int(i64),
    /// An unsigned integer of any width.
    Uint(u64),
    /// A float; `f32` values are kept exactly.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    Text(String),
    /// Several values of one type.
    Array(Array),
}

/// Several values of one type.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// 32- and 64-bit integers. Unsigned 64-bit values above the signed range are saturated: no
    /// key that is read has such.
    Ints(Vec<i64>),
    /// Floats.
    Floats(Vec<f32>),
    /// Texts.
    Texts(Vec<String>),
    /// A type that no key that is read has: 8- and 16-bit integers, truth values, doubles.
    Other(u64),
}

impl Value {
    /// The value as a message shows it.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Int(value) => value.to_string(),
            Self::Uint(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Text(value) => format!("{:?}", value.chars().take(40).collect::<String>()),
            Self::Array(_) => "an array".to_owned(),
        }
    }

    pub(super) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(value) => u64::try_from(*value).ok(),
            Self::Uint(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            Self::Int(value) => Some(*value as f64),
            Self::Uint(value) => Some(*value as f64),
            _ => None,
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self, GgufError> {
        let kind = cursor.u32(key)?;
        Ok(match kind {
            0 => Self::Uint(cursor.array(key).map(u8::from_le_bytes)?.into()),
            1 => Self::Int(cursor.array(key).map(i8::from_le_bytes)?.into()),
            2 => Self::Uint(cursor.array(key).map(u16::from_le_bytes)?.into()),
            3 => Self::Int(cursor.array(key).map(i16::from_le_bytes)?.into()),
            4 => Self::Uint(cursor.u32(key)?.into()),
            5 => Self::Int(cursor.array(key).map(i32::from_le_bytes)?.into()),
            6 => Self::Float(cursor.array(key).map(f32::from_le_bytes)?.into()),
            7 => Self::Bool(cursor.array(key).map(u8::from_le_bytes)? != 0),
            8 => {
                let bytes = cursor.bytes(STRING_BYTES_MAX, key)?;
                Self::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
            9 => Self::Array(Array::read(cursor, key)?),
            10 => Self::Uint(cursor.u64(key)?),
            11 => Self::Int(cursor.array(key).map(i64::from_le_bytes)?),
            12 => Self::Float(cursor.array(key).map(f64::from_le_bytes)?),
            _ => {
                return Err(GgufError::metadata(
                    key,
                    format!("unknown value type {kind}"),
                ));
            }
        })
    }
}

impl Array {
    fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self, GgufError> {
        let kind = cursor.u32(key)?;
        let count = cursor.u64(key)?;
        let each = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            // A string takes at least its length.
            8 | 10..=12 => 8,
            9 => {
                return Err(GgufError::metadata(
                    key,
                    "arrays inside arrays are not served",
                ));
            }
            _ => {
                return Err(GgufError::metadata(
                    key,
                    format!("unknown element type {kind}"),
                ));
            }
        };
        cursor.expect_left(count, each, key)?;
        Ok(match kind {
            4 => Self::Ints(collect(count, || cursor.u32(key).map(i64::from))?),
            5 => Self::Ints(collect(count, || {
                cursor
                    .array(key)
                    .map(|bytes| i32::from_le_bytes(bytes).into())
            })?),
            6 => Self::Floats(collect(count, || {
                cursor.array(key).map(f32::from_le_bytes)
            })?),
            8 => Self::Texts(collect(count, || {
                let bytes = cursor.bytes(ELEMENT_BYTES_MAX, key)?;
                String::from_utf8(bytes).map_err(|_| GgufError::metadata(key, "text is not UTF-8"))
            })?),
            10 => Self::Ints(collect(count, || {
                cursor
                    .u64(key)
                    .map(|value| i64::try_from(value).unwrap_or(i64::MAX))
            })?),
            11 => Self::Ints(collect(count, || {
                cursor.array(key).map(i64::from_le_bytes)
            })?),
            _ => {
                cursor.skip(count, each, key)?;
                Self::Other(count)
            }
        })
    }
}

/// `count` is known to fit into what is left of the header.
fn collect<T>(
    count: u64,
    mut next: impl FnMut() -> Result<T, GgufError>,
) -> Result<Vec<T>, GgufError> {
    (0..count).map(|_| next()).collect()
}
