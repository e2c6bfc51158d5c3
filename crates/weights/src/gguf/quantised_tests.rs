//! A model with every type of blocks, as files of llama.cpp mix them.

use std::sync::Arc;

use half::bf16;

use super::GgufCheckpoint;
use super::tests::{random, read_everything};
use crate::blocks::BlockFormat;
use crate::checkpoint::{Checkpoint as _, StoredDtype};
use crate::part::Part;
use crate::source::{CanonicalTensor, Dtype, WeightSource as _};
use crate::stored::Order;
use crate::stored::tests::{tensor, values};

const WIDTH: u64 = 256;
const HEAD: u64 = 128;

/// Tensors of one layer: name, type, rows (none of a vector).
const TENSORS: [(&str, &str, u64); 12] = [
    ("token_embd.weight", "Q6_K", 4),
    ("output_norm.weight", "F32", 0),
    ("output.weight", "Q8_0", 4),
    ("blk.0.attn_norm.weight", "Q8_0", 0),
    ("blk.0.attn_q.weight", "Q4_K", WIDTH),
    ("blk.0.attn_k.weight", "Q4_0", WIDTH),
    ("blk.0.attn_v.weight", "Q5_K", WIDTH),
    ("blk.0.attn_output.weight", "Q2_K", WIDTH),
    ("blk.0.ffn_norm.weight", "Q5_1", 0),
    ("blk.0.ffn_gate.weight", "Q3_K", WIDTH),
    ("blk.0.ffn_up.weight", "Q4_1", WIDTH),
    ("blk.0.ffn_down.weight", "Q5_0", WIDTH),
];

/// ggml's number of a type, and a row of 256 values of it: from the fixture of blocks, so that the
/// values are known; `row` tells rows apart.
fn stored(kind: &str, row: u64) -> (u32, Vec<u8>, Vec<f32>) {
    let number = match kind {
        "F32" => {
            let values: Vec<f32> = (0..WIDTH).map(|i| i as f32 / 8.0).collect();
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            return (0, bytes.collect(), values);
        }
        "Q4_0" => 2,
        "Q4_1" => 3,
        "Q5_0" => 6,
        "Q5_1" => 7,
        "Q8_0" => 8,
        "Q2_K" => 10,
        "Q3_K" => 11,
        "Q4_K" => 12,
        "Q5_K" => 13,
        "Q6_K" => 14,
        other => panic!("{other}"),
    };
    let (bytes, values) = (
        tensor(&format!("{kind}.bytes")),
        values(&format!("{kind}.values")),
    );
    // The fixture has two rows: which is where, each row says in binary.
    let second = row % 3 == 1;
    let half = |all: usize| if second { all / 2..all } else { 0..all / 2 };
    (
        number,
        bytes[half(bytes.len())].to_vec(),
        values[half(values.len())].to_vec(),
    )
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A llama of one layer with the given tensors.
fn file(tensors: &[(&str, &str, u64)]) -> Vec<u8> {
    let numbers = [
        ("block_count", 1),
        ("embedding_length", WIDTH as u32),
        ("feed_forward_length", WIDTH as u32),
        ("attention.head_count", (WIDTH / HEAD) as u32),
        ("context_length", 64),
    ];
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((numbers.len() as u64 + 2).to_le_bytes());
    text(&mut out, "general.architecture");
    out.extend(8_u32.to_le_bytes());
    text(&mut out, "llama");
    text(&mut out, "llama.attention.layer_norm_rms_epsilon");
    out.extend(6_u32.to_le_bytes());
    out.extend(1e-5_f32.to_le_bytes());
    for (key, number) in numbers {
        text(&mut out, &format!("llama.{key}"));
        out.extend(4_u32.to_le_bytes());
        out.extend(u32::to_le_bytes(number));
    }
    let mut data: Vec<u8> = Vec::new();
    for &(name, kind, rows) in tensors {
        text(&mut out, name);
        let (number, ..) = stored(kind, 0);
        out.extend((1 + u32::from(rows > 0)).to_le_bytes());
        out.extend(WIDTH.to_le_bytes());
        if rows > 0 {
            out.extend(rows.to_le_bytes());
        }
        out.extend(number.to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        (0..rows.max(1)).for_each(|row| data.extend(stored(kind, row).1));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(data);
    out
}

fn open() -> GgufCheckpoint {
    GgufCheckpoint::open(Arc::new(file(&TENSORS)), "mixed").expect("it is served")
}

/// Canonical name, part, and the name in the file.
fn places() -> Vec<(Part, &'static str, &'static str, u64)> {
    let parts = ["tokens.weight", "norm.weight", "head.weight"];
    let parts = parts
        .into_iter()
        .zip([Part::Embedding, Part::Head, Part::Head]);
    let layer = [
        "attn_norm.weight",
        "attn_q.weight",
        "attn_k.weight",
        "attn_v.weight",
        "attn_o.weight",
        "mlp_norm.weight",
        "mlp_gate.weight",
        "mlp_up.weight",
        "mlp_down.weight",
    ];
    let names = parts.chain(layer.into_iter().map(|name| (name, Part::Layer(0))));
    let all = names.zip(TENSORS);
    all.map(|((name, part), (_, kind, rows))| (part, name, kind, rows))
        .collect()
}

fn read(tensor: &dyn CanonicalTensor, rows: u64) -> Vec<f32> {
    let mut out = vec![f32::NAN; (rows.max(1) * WIDTH) as usize];
    tensor.read_f32(0..rows.max(1), &mut out).unwrap();
    out
}

#[test]
fn every_type_is_read_in_its_canonical_precision() {
    let model = open();
    for (part, name, kind, rows) in places() {
        let tensor = model.tensor(part, name).unwrap();
        let expected = match (kind, rows) {
            ("F32", _) | ("Q8_0", 0) => Dtype::F32,
            ("Q8_0", _) => Dtype::Q8,
            ("Q4_0", _) => Dtype::Q4,
            _ => Dtype::Bf16,
        };
        assert_eq!(tensor.dtype(), expected, "{name}");
        let found = read(tensor.as_ref(), rows);
        let order = match name {
            "attn_q.weight" | "attn_k.weight" => Order::Interleaved { head_dim: HEAD },
            _ => Order::Plain,
        };
        for (row, found) in found.chunks_exact(WIDTH as usize).enumerate() {
            let (_, _, mut values) = stored(kind, order.stored_row(row as u64));
            if expected == Dtype::Bf16 {
                let round = |value: &mut f32| *value = bf16::from_f32(*value).to_f32();
                values.iter_mut().for_each(round);
            }
            assert_eq!(found, values, "{name} row {row}");
        }
        let mut narrow = vec![0; found.len()];
        tensor.read_bf16(0..rows.max(1), &mut narrow).unwrap();
        let rounded = found.iter().map(|value| bf16::from_f32(*value).to_bits());
        assert!(rounded.eq(narrow), "{name}");
    }
    assert_eq!(
        model.stored_dtype(Part::Embedding, "tokens.weight"),
        Some(StoredDtype::Q6K)
    );
}

#[test]
fn blocks_pass_through_or_are_made_of_the_canonical_values() {
    let model = open();
    for (part, name, kind, rows) in places() {
        let tensor = model.tensor(part, name).unwrap();
        let exact = read(tensor.as_ref(), rows);
        for format in [BlockFormat::Q8, BlockFormat::Q4] {
            let row_bytes = format.row_bytes(WIDTH as usize);
            let mut found = vec![0; rows.max(1) as usize * row_bytes];
            let read = tensor.read_blocks(format, 0..rows.max(1), &mut found);
            read.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            let mut back = vec![0.0; exact.len()];
            format.decode_row(&found, &mut back);
            match (kind, format) {
                ("Q8_0", BlockFormat::Q8) | ("Q4_0", _) if rows > 0 => {
                    assert_eq!(back, exact, "{name} {format:?}");
                }
                _ => {
                    let mut again = vec![0; found.len()];
                    format.encode_row(&exact, &mut again).unwrap();
                    assert!(found == again, "{name} {format:?}");
                }
            }
        }
        let stored_bytes = |format: BlockFormat| {
            let mut bytes = vec![0; 4 * format.row_bytes(WIDTH as usize)];
            tensor.read_blocks(format, 0..4, &mut bytes).unwrap();
            bytes
        };
        if name == "head.weight" {
            let whole: Vec<u8> = (0..4).flat_map(|row| stored(kind, row).1).collect();
            assert_eq!(stored_bytes(BlockFormat::Q8), whole);
        }
    }
}

#[test]
fn rows_that_are_not_there_are_refused() {
    let model = open();
    for name in ["tokens.weight", "positions.weight"] {
        let Ok(tensor) = model.tensor(Part::Embedding, name) else {
            assert_eq!(name, "positions.weight");
            continue;
        };
        let mut out = vec![0; BlockFormat::Q8.row_bytes(WIDTH as usize)];
        let read = |rows, out: &mut [u8]| tensor.read_blocks(BlockFormat::Q8, rows, out);
        assert!(read(3..4, &mut out).is_ok());
        assert!(read(4..5, &mut out).is_err());
        assert!(read(0..2, &mut out).is_err());
        assert!(read(0..1, &mut []).is_err());
        #[expect(clippy::reversed_empty_ranges, reason = "that is what is tried")]
        let backwards = 2..1;
        assert!(read(backwards, &mut out).is_err());
    }
}

#[test]
fn types_that_are_not_served_say_what_to_do() {
    // Rows of IQ4_XS are as long as those of no type that is served.
    let mut bytes = file(&TENSORS);
    let name = b"blk.0.ffn_up.weight";
    let mut windows = bytes.windows(name.len());
    let at = windows.position(|window| window == name).unwrap() + name.len() + 4 + 16;
    assert_eq!(bytes[at], 3);
    bytes[at] = 23;
    let error = GgufCheckpoint::open(Arc::new(bytes), "x").unwrap_err();
    let error = error.to_string();
    for word in ["blk.0.ffn_up.weight", "IQ4_XS", "Q4_K", "llama-quantize"] {
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn damaged_blocks_are_refused_or_read_but_never_worse() {
    let whole = file(&TENSORS);
    let mut state = 0x2545_f491_4f6c_dd1d;
    for _ in 0..300 {
        let mut damaged = whole.clone();
        for _ in 0..=random(&mut state) % 8 {
            let at = (random(&mut state) % damaged.len() as u64) as usize;
            let len = (random(&mut state) % 64) as usize;
            let end = damaged.len().min(at + len);
            damaged[at..end].fill(random(&mut state) as u8);
        }
        read_everything(damaged);
    }
}
