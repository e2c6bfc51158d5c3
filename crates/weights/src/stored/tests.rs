use std::path::Path;

use super::*;
use crate::bytes::ByteRange as _;
use crate::safetensors::read_header;

/// The bytes of one tensor of the blocks that `scripts/fixtures/make_blocks.py` made.
pub(crate) fn tensor(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/gguf/blocks.safetensors");
    let file = std::fs::read(path).expect("the fixture is committed");
    let header = read_header(&file).expect("the fixture is a safetensors file");
    let info = &header.tensors[name];
    let mut bytes = vec![0; info.bytes as usize];
    file.read_at(info.start, &mut bytes)
        .expect("the fixture is whole");
    bytes
}

/// Its values, of a tensor of `f32`.
pub(crate) fn values(name: &str) -> Vec<f32> {
    let bytes = tensor(name);
    let values = bytes.as_chunks::<4>().0.iter();
    values.map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

const QUANTISED: [(&str, StoredDtype); 10] = [
    ("Q8_0", StoredDtype::Q8_0),
    ("Q4_0", StoredDtype::Q4_0),
    ("Q4_1", StoredDtype::Q4_1),
    ("Q5_0", StoredDtype::Q5_0),
    ("Q5_1", StoredDtype::Q5_1),
    ("Q2_K", StoredDtype::Q2K),
    ("Q3_K", StoredDtype::Q3K),
    ("Q4_K", StoredDtype::Q4K),
    ("Q5_K", StoredDtype::Q5K),
    ("Q6_K", StoredDtype::Q6K),
];

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The expected values are gguf-py's.
#[test]
fn blocks_mean_what_they_mean_to_ggml() {
    for (name, dtype) in QUANTISED {
        let bytes = tensor(&format!("{name}.bytes"));
        let expected = values(&format!("{name}.values"));
        assert_eq!(dtype.row_bytes(expected.len() as u64), bytes.len() as u64);
        let mut found = vec![f32::NAN; expected.len()];
        match dtype.blocks() {
            Some(format) => format.decode_row(&bytes, &mut found),
            None => ggml::decode(dtype, &bytes, &mut found),
        }
        // Zeros have signs there by chance: minus zero where a minimum is taken from nothing.
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found.to_bits(), expected.to_bits(), "{name}: value {index}");
        }
    }
}

/// Whoever reads a matrix as `f32`, through `bf16` or in parts has the same model.
#[test]
fn every_way_of_reading_gives_the_same_values() {
    for (name, dtype) in QUANTISED {
        let bytes = tensor(&format!("{name}.bytes"));
        let exact = values(&format!("{name}.values"));
        let mut wide = vec![f32::NAN; exact.len()];
        dtype.decode_f32(&bytes, &mut wide);
        let mut narrow = vec![0; exact.len()];
        dtype.decode_bf16(&bytes, &mut narrow);
        let rounded: Vec<f32> = exact.iter().map(|v| bf16::from_f32(*v).to_f32()).collect();
        let widened: Vec<f32> = narrow
            .iter()
            .map(|v| bf16::from_bits(*v).to_f32())
            .collect();
        assert_eq!(bits(&widened), bits(&rounded), "{name}");
        let expected = match dtype.canonical() {
            Dtype::Bf16 => rounded,
            _ => exact,
        };
        assert_eq!(bits(&wide), bits(&expected), "{name}");
        let part = &mut wide[..5];
        part.fill(f32::NAN);
        dtype.decode_f32(&bytes[..dtype.row_bytes(5) as usize], part);
        assert_eq!(bits(part), bits(&expected[..5]), "{name}");
    }
}

#[test]
fn vectors_are_never_served_in_blocks() {
    for (name, dtype) in QUANTISED {
        assert!(dtype.canonical_of(&[64]).blocks().is_none(), "{name}");
        let exact = matches!(dtype, StoredDtype::Q8_0 | StoredDtype::Q4_0);
        assert_eq!(dtype.canonical().blocks().is_some(), exact, "{name}");
        assert_eq!(dtype.canonical_of(&[2, 64]), dtype.canonical(), "{name}");
    }
    assert_eq!(StoredDtype::Bf16.canonical_vector(), Dtype::Bf16);
    assert_eq!(StoredDtype::Q8_0.canonical_vector(), Dtype::F32);
}
