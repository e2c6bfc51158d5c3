//! What every fuzz target does with a run of bytes: read it as a file of somebody hostile. No
//! bytes may cause a panic, an overflow or memory out of proportion to their number.
//!
//! A test of `skein-weights` includes this file and runs the same functions over damaged fixtures,
//! so that it stays true without a fuzzer.
#![forbid(unsafe_code)]

use std::sync::Arc;

use skein_weights::gguf::GgufCheckpoint;
use skein_weights::{BlockFormat, Checkpoint, Manifest, Part, WeightSource, config, safetensors};

/// A GGUF file: header, vocabulary, one row of some tensors in every way of reading.
pub fn gguf(data: &[u8]) {
    let checkpoint = match GgufCheckpoint::open(Arc::new(data.to_vec()), "fuzzed") {
        Ok(checkpoint) => checkpoint,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let _ = (
        checkpoint.name(),
        checkpoint.vocabulary(),
        checkpoint.generation_defaults(),
    );
    checkpoint
        .profile()
        .check()
        .expect("an opened file has a checked profile");
    for part in [Part::Embedding, Part::Layer(0), Part::Head] {
        for spec in checkpoint.profile().tensors(part) {
            let tensor = checkpoint
                .tensor(part, spec.name)
                .expect("an opened file has its tensors");
            let columns = spec.shape.last().copied().unwrap_or(0) as usize;
            let mut exact = vec![0.0; columns];
            tensor
                .read_f32(0..1, &mut exact)
                .expect("an opened file has its rows");
            let mut coarse = vec![0; columns];
            tensor
                .read_bf16(0..1, &mut coarse)
                .expect("an opened file has its rows");
            for format in [BlockFormat::Q8, BlockFormat::Q4] {
                let mut blocks = vec![0; format.row_bytes(columns)];
                // What is not finite has no quantised form.
                let quantised = tensor.read_blocks(format, 0..1, &mut blocks);
                let stored = tensor.dtype().blocks() == Some(format);
                assert!(quantised.is_ok() || !stored && !is_small(&exact));
            }
        }
    }
}

/// Whether every value has a scale in both formats of blocks.
fn is_small(values: &[f32]) -> bool {
    values.iter().all(|value| value.abs() <= 8.0 * 65_504.0)
}

/// The header of a safetensors file.
pub fn safetensors(data: &[u8]) {
    let file = data.to_vec();
    if let Ok(header) = safetensors::read_header(&file) {
        assert!(header.data_start <= data.len() as u64);
    }
}

/// A `config.json`.
pub fn config(data: &[u8]) {
    if let Ok(profile) = config::parse(data) {
        profile
            .check()
            .expect("a parsed configuration is a checked profile");
        for part in [Part::Embedding, Part::Layer(0), Part::Head] {
            let _ = profile.tensors(part);
        }
    }
}

/// A manifest: what was accepted is written and read back as the same.
pub fn manifest(data: &[u8]) {
    if let Ok(manifest) = Manifest::parse(data) {
        let json = manifest
            .to_json()
            .expect("a parsed manifest can be written");
        let again = Manifest::parse(&json).expect("a written manifest can be read");
        assert_eq!(again, manifest);
    }
}
