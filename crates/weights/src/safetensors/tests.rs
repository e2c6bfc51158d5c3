//! Headers, good and hostile; rows of stored tensors.

use proptest::prelude::*;

use super::*;
use crate::checkpoint::StoredDtype;
use crate::source::Dtype;

fn file(json: &str, data: usize) -> Vec<u8> {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn a_header_as_published() {
    let json = r#"{"__metadata__":{"format":"pt"},
        "b":{"dtype":"BF16","shape":[3],"data_offsets":[8,14]},
        "a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},
        "mask":{"dtype":"BOOL","shape":[],"data_offsets":[14,15]},
        "none":{"dtype":"I64","shape":[0,4],"data_offsets":[15,15]}}"#;
    let header = read_header(&file(json, 15)).unwrap();
    assert_eq!(header.data_start, json.len() as u64 + 8);
    assert_eq!(header.tensors.len(), 4);
    let b = &header.tensors["b"];
    assert_eq!(
        (b.dtype, b.start, b.bytes),
        (Element::Weight(StoredDtype::Bf16), header.data_start + 8, 6)
    );
    assert!(read_header(&file("{}", 0)).unwrap().tensors.is_empty());
}

#[test]
fn only_texts_are_kept_of_metadata() {
    let json = r#"{"__metadata__":{"a":"x","b":1,"c":-1,"d":1.5,"e":true,"f":null,"g":[1,["y"]],
        "h":{"i":"z"},"j":"\u00f6"}}"#;
    let header = read_header(&file(json, 0)).unwrap();
    let texts =
        [("a", "x"), ("j", "\u{f6}")].map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(header.metadata, texts.into());
    let none = read_header(&file(r#"{"__metadata__":null}"#, 0)).unwrap();
    assert!(none.metadata.is_empty());
    let text = |index: usize| format!(r#""{index}":"""#);
    let many: Vec<String> = (0..70_000).map(text).collect();
    let many = format!(r#"{{"__metadata__":{{{}}}}}"#, many.join(","));
    for hostile in [
        &*many,
        r#"{"__metadata__":[]}"#,
        r#"{"__metadata__":{},"__metadata__":{}}"#,
    ] {
        let error = read_header(&file(hostile, 0)).unwrap_err();
        assert!(matches!(error, SafetensorsError::Header { .. }), "{error}");
    }
}

#[test]
fn hostile_headers_are_named() {
    let tensor = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let check = |bytes: &Vec<u8>, expected: &str| {
        let error = format!("{:?}", read_header(bytes).expect_err(expected));
        assert!(error.starts_with(expected), "{expected}: {error}");
    };
    check(&vec![], "TooShort");
    check(&vec![1; 7], "TooShort");
    check(&u64::MAX.to_le_bytes().to_vec(), "HeaderLength");
    check(&file("{}", 0)[..9].to_vec(), "HeaderLength");
    for json in [
        "",
        "[]",
        "{",
        "{} x",
        r#"{"t":1}"#,
        r#"{"t":{"dtype":"F32"}}"#,
        "\u{0}",
    ] {
        check(&file(json, 0), "Header");
    }
    let twice = r#"{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
        "t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    check(&file(twice, 2), "Header { problem: \"t is there twice");
    let long = format!(r#"{{"{}":1}}"#, "n".repeat(2000));
    check(&file(&long, 0), "Header");
    let extra = r#"{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}"#;
    check(&file(extra, 1), "Header");
    check(&file(&tensor("Q7", "[1]", "[0,1]"), 1), "UnknownDtype");
    check(
        &file(&tensor("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4),
        "Rank",
    );
    check(&file(&tensor("F32", "[2]", "[0,4]"), 4), "Size");
    check(&file(&tensor("F32", "[1]", "[4,0]"), 4), "Size");
    let huge = "[4294967296,4294967296,4294967296]";
    check(&file(&tensor("F32", huge, "[0,4]"), 4), "Size");
    check(
        &file(
            &tensor("U8", "[18446744073709551615]", "[0,18446744073709551615]"),
            4,
        ),
        "Size",
    );
    check(&file(&tensor("F32", "[-1]", "[0,4]"), 4), "Header");
    check(&file(&tensor("F32", "[1]", "[0,4]"), 3), "DataLength");
    check(&file(&tensor("F32", "[1]", "[0,4]"), 5), "DataLength");
    check(&file(&tensor("F32", "[1]", "[4,8]"), 8), "NotContiguous");
    let overlap = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
        "b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#;
    check(&file(overlap, 6), "NotContiguous");
    // As deep as a parser's stack might not like.
    check(
        &file(&format!(r#"{{"__metadata__":{}"#, "[".repeat(100_000)), 0),
        "Header",
    );
}

#[test]
fn layouts_are_canonical_and_read_back() {
    let (one, two) = ([3_u64], [2_u64, 2]);
    let tensors = [
        ("b", Dtype::Bf16, &one[..]),
        ("z", Dtype::F32, &two[..]),
        ("a", Dtype::Bf16, &two[..]),
    ];
    let first = layout(&tensors);
    assert_eq!(first.order, [1, 2, 0]);
    let turned = [tensors[2], tensors[0], tensors[1]];
    assert_eq!(layout(&turned).header, first.header);
    let mut bytes = first.header.clone();
    assert_eq!(bytes.len() % 8, 0);
    bytes.resize(first.bytes as usize, 0);
    let header = read_header(&bytes).unwrap();
    let starts = ["z", "a", "b"].map(|name| header.tensors[name].start - header.data_start);
    assert_eq!(starts, [0, 16, 24]);
}

#[test]
fn rows_are_read_in_every_type_and_layout() {
    // A stored matrix [4, 6] of small integers, exact in every type.
    let values: Vec<f32> = (0..24).map(|index| index as f32 - 7.0).collect();
    for dtype in [StoredDtype::F32, StoredDtype::F16, StoredDtype::Bf16] {
        let bytes: Vec<u8> = match dtype {
            StoredDtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            StoredDtype::F16 => values
                .iter()
                .flat_map(|v| half::f16::from_f32(*v).to_le_bytes())
                .collect(),
            _ => values
                .iter()
                .flat_map(|v| half::bf16::from_f32(*v).to_le_bytes())
                .collect(),
        };
        let straight = Block {
            dtype,
            start: 0,
            first: 0,
            columns: 6,
            row_step: 6,
            column_step: 1,
        };
        let mut out = vec![0.0; 12];
        straight
            .read(&bytes, 1..3, StoredDtype::decode_f32, &mut out)
            .unwrap();
        assert_eq!(out, values[6..18]);
        // Columns 2..5 of it as rows: what a transposed, fused projection is.
        let turned = Block {
            dtype,
            start: 0,
            first: 2,
            columns: 4,
            row_step: 1,
            column_step: 6,
        };
        let mut out = vec![0_u16; 8];
        turned
            .read(&bytes, 1..3, StoredDtype::decode_bf16, &mut out)
            .unwrap();
        let found: Vec<f32> = out
            .iter()
            .map(|bits| half::bf16::from_bits(*bits).to_f32())
            .collect();
        let expected: Vec<f32> = [3, 4]
            .iter()
            .flat_map(|c| (0..4).map(|r| values[r * 6 + c]).collect::<Vec<_>>())
            .collect();
        assert_eq!(found, expected);
        assert!(
            straight
                .read(&bytes, 3..5, StoredDtype::decode_f32, &mut [0.0; 12])
                .is_err()
        );
    }
}

#[test]
fn bf16_rounds_to_nearest_even() {
    // 1 + 2^-8 lies between two bf16 values; the even one is 1. Three quarters round up.
    let values = [
        1.0 + 2.0_f32.powi(-8),
        1.0 + 3.0 * 2.0_f32.powi(-9),
        f32::INFINITY,
        -0.0,
    ];
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let mut out = [0_u16; 4];
    StoredDtype::F32.decode_bf16(&bytes, &mut out);
    assert_eq!(out, [0x3f80, 0x3f81, 0x7f80, 0x8000]);
}

proptest! {
    #[test]
    fn mutations_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let json = r#"{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},
            "b":{"dtype":"BF16","shape":[3],"data_offsets":[8,14]}}"#;
        let mut bytes = file(json, 14);
        for (index, byte) in &edits {
            let at = index.index(bytes.len());
            bytes[at] = *byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok(header) = read_header(&bytes) {
            for info in header.tensors.values() {
                prop_assert!(info.start + info.bytes <= bytes.len() as u64);
            }
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_header(&bytes);
    }
}
