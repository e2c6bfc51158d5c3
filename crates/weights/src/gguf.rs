//! GGUF, the file format of llama.cpp: one file with weights, architecture and tokenizer.
//!
//! Versions 2 and 3, little-endian; tensors in `F32`, `F16`, `BF16`, `Q8_0`, `Q4_0`, `Q4_1`,
//! `Q5_0`, `Q5_1` and `Q2_K` to `Q6_K`. The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Everything in a file is
//! bounded before memory is taken for it; every refusal names the key or tensor.

mod architecture;
mod checkpoint;
mod cursor;
mod error;
mod file;
mod layout;
mod tensors;
mod tokenizer;
mod types;
mod value;

#[cfg(test)]
mod quantised_tests;
#[cfg(test)]
mod tests;

pub use checkpoint::GgufCheckpoint;
pub use error::GgufError;
pub use file::{GgufFile, TensorInfo};
pub use types::GgmlType;
pub use value::{Array, Value};
