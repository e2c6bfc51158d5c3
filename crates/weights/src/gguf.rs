//! GGUF, the file format of llama.cpp: one file with weights, architecture and tokenizer.
//!
//! Versions 2 and 3, little-endian; tensors in `F32`, `F16`, `BF16`, `Q8_0` and `Q4_0`. The
//! format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Everything in a file is
//! bounded before memory is taken for it; every refusal names the key or tensor.

mod architecture;
mod blocks;
mod checkpoint;
mod cursor;
mod error;
mod file;
mod layout;
mod tensors;
mod tokenizer;
mod value;

#[cfg(test)]
mod tests;

pub use blocks::GgmlType;
pub use checkpoint::GgufCheckpoint;
pub use error::GgufError;
pub use file::{GgufFile, TensorInfo};
pub use value::{Array, Value};
