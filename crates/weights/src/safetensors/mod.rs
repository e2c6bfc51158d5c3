//! The safetensors format: a length, a JSON header, then the data without gaps.
//!
//! Own reader, so that every bound is checked before memory is allocated for what it bounds, and
//! so that duplicate names (which a JSON map hides) are seen.

mod header;
mod metadata;
mod tensor;
#[cfg(test)]
mod tests;
mod write;

pub use header::{Element, Header, SafetensorsError, TensorInfo, read_header};
pub(crate) use tensor::Block;
pub(crate) use write::stored_form;
pub use write::{Layout, encode_f32, layout, layout_with};
