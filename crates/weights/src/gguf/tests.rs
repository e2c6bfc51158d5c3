use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{GgufCheckpoint, GgufError, GgufFile};
use crate::blocks::BlockFormat;
use crate::checkpoint::Checkpoint;
use crate::part::Part;
use crate::profile::{Family, Positions, RopeScaling};
use crate::source::{Dtype, WeightSource};
use crate::vocabulary::VocabularyKind;

const FILES: [&str; 7] = [
    "llama-f16",
    "llama-q8_0",
    "llama-q4_0",
    "llama31-q8_0",
    "qwen2-bf16",
    "qwen3-q8_0",
    "gpt2-f16",
];

/// What `scripts/fixtures/make_gguf.py` recorded.
#[derive(Deserialize)]
struct Record {
    digests: BTreeMap<String, String>,
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/gguf")
        .join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(path(&format!("{name}.gguf"))).expect("the fixture is committed")
}

fn open(name: &str) -> GgufCheckpoint {
    GgufCheckpoint::open(Arc::new(bytes(name)), name).expect("the fixture opens")
}

fn parts(checkpoint: &GgufCheckpoint) -> Vec<Part> {
    let layers = (0..checkpoint.profile().layers).map(Part::Layer);
    [Part::Embedding, Part::Head]
        .into_iter()
        .chain(layers)
        .collect()
}

/// The tensor of transformers that holds a canonical one.
fn transformers_name(family: Family, part: Part, name: &str) -> String {
    let (stem, kind) = name.split_once('.').unwrap();
    let gpt2 = family == Family::Gpt2;
    let outer = match (stem, gpt2) {
        ("tokens", false) => "model.embed_tokens",
        ("tokens", true) => "transformer.wte",
        ("positions", _) => "transformer.wpe",
        ("norm", false) => "model.norm",
        ("norm", true) => "transformer.ln_f",
        ("head", _) => "lm_head",
        _ => "",
    };
    let Part::Layer(layer) = part else {
        return format!("{outer}.{kind}");
    };
    let inner = match (stem, gpt2) {
        ("attn_norm", false) => "input_layernorm",
        ("attn_q", false) => "self_attn.q_proj",
        ("attn_k", false) => "self_attn.k_proj",
        ("attn_v", false) => "self_attn.v_proj",
        ("attn_o", false) => "self_attn.o_proj",
        ("q_norm", false) => "self_attn.q_norm",
        ("k_norm", false) => "self_attn.k_norm",
        ("mlp_norm", false) => "post_attention_layernorm",
        ("mlp_gate", false) => "mlp.gate_proj",
        ("mlp_up", false) => "mlp.up_proj",
        ("mlp_down", false) => "mlp.down_proj",
        ("attn_norm", true) => "ln_1",
        ("attn_q" | "attn_k" | "attn_v", true) => "attn.c_attn",
        ("attn_o", true) => "attn.c_proj",
        ("mlp_norm", true) => "ln_2",
        ("mlp_up", true) => "mlp.c_fc",
        ("mlp_down", true) => "mlp.c_proj",
        other => panic!("{other:?}"),
    };
    let root = if gpt2 {
        "transformer.h"
    } else {
        "model.layers"
    };
    format!("{root}.{layer}.{inner}.{kind}")
}

fn height(shape: &[u64]) -> u64 {
    if shape.len() == 2 { shape[0] } else { 1 }
}

#[test]
fn every_weight_is_that_of_the_original_model() {
    for name in FILES {
        let record = std::fs::read_to_string(path(&format!("{name}.json"))).unwrap();
        let record: Record = serde_json::from_str(&record).unwrap();
        let checkpoint = open(name);
        let family = checkpoint.profile().family;
        let mut found: BTreeMap<String, Sha256> = BTreeMap::new();
        for part in parts(&checkpoint) {
            for spec in checkpoint.profile().tensors(part) {
                let tensor = checkpoint.tensor(part, spec.name).unwrap();
                assert_eq!(tensor.shape(), spec.shape);
                let mut values = vec![0.0; spec.shape.iter().product::<u64>() as usize];
                tensor
                    .read_f32(0..height(&spec.shape), &mut values)
                    .unwrap();
                // q, k and v of GPT-2 come one after another, as they are fused.
                let digest = found
                    .entry(transformers_name(family, part, spec.name))
                    .or_default();
                values
                    .iter()
                    .for_each(|value| digest.update(value.to_le_bytes()));
            }
        }
        let hex = |digest: Sha256| -> String {
            digest
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        };
        let found: BTreeMap<_, _> = found
            .into_iter()
            .map(|(name, digest)| (name, hex(digest)))
            .collect();
        assert_eq!(found, record.digests, "{name}");
    }
}

#[test]
fn rows_read_apart_are_the_rows_read_together() {
    for name in ["llama-f16", "llama-q4_0", "qwen2-bf16", "gpt2-f16"] {
        let checkpoint = open(name);
        for spec in checkpoint.profile().tensors(Part::Layer(1)) {
            let tensor = checkpoint.tensor(Part::Layer(1), spec.name).unwrap();
            let rows = height(&spec.shape);
            let columns = (spec.shape.iter().product::<u64>() / rows) as usize;
            let mut together = vec![0.0; rows as usize * columns];
            tensor.read_f32(0..rows, &mut together).unwrap();
            let mut coarse = vec![0; together.len()];
            tensor.read_bf16(0..rows, &mut coarse).unwrap();
            let rounded = together
                .iter()
                .map(|&value| half::bf16::from_f32(value).to_bits());
            assert!(rounded.eq(coarse.iter().copied()), "{name} {}", spec.name);
            let stored = match name {
                "qwen2-bf16" => Dtype::Bf16,
                "llama-q4_0" => Dtype::Q4,
                _ => Dtype::F32,
            };
            assert_eq!(tensor.dtype(), if rows > 1 { stored } else { Dtype::F32 });
            for start in (0..rows).step_by(7) {
                let end = (start + 7).min(rows);
                let mut apart = vec![0.0; (end - start) as usize * columns];
                tensor.read_f32(start..end, &mut apart).unwrap();
                assert_eq!(
                    apart,
                    together[start as usize * columns..end as usize * columns]
                );
            }
            assert!(
                tensor
                    .read_f32(rows..rows + 1, &mut vec![0.0; columns])
                    .is_err()
            );
            assert!(tensor.read_f32(0..rows, &mut []).is_err());
        }
    }
}

#[test]
fn profiles_and_vocabularies_are_read() {
    let llama = open("llama31-q8_0");
    let Positions::Rope {
        theta,
        scaling: RopeScaling::Divisors { divisors },
    } = &llama.profile().positions
    else {
        panic!("{:?}", llama.profile().positions);
    };
    assert_eq!((*theta, divisors.len(), divisors[0]), (10_000.0, 16, 1.0));
    assert_eq!(divisors.last(), Some(&8.0));
    assert!(llama.profile().tied);
    let vocabulary = llama.vocabulary().unwrap();
    assert!(
        vocabulary
            .chat_template
            .is_some_and(|text| text.contains("<|eot_id|>"))
    );
    assert_eq!((vocabulary.bos, vocabulary.eos.len()), (Some(366), 2));
    let VocabularyKind::Gguf(gguf) = vocabulary.kind else {
        panic!("not a GGUF vocabulary")
    };
    assert_eq!(
        (gguf.model.as_str(), gguf.pre.as_deref()),
        ("gpt2", Some("llama-bpe"))
    );
    assert_eq!(gguf.tokens.len(), 384);

    assert_eq!(llama.name(), "skein-fixture-llama31");
    let qwen = open("qwen3-q8_0");
    assert!(qwen.profile().qk_norm && !qwen.profile().tied && qwen.profile().head_dim == 32);
    assert!(open("qwen2-bf16").profile().biases.qkv);
    let positions = open("gpt2-f16").profile().positions.clone();
    assert_eq!(positions, Positions::Learned { count: 160 });
}

/// Replaces text of the same length in a file.
fn replaced(name: &str, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut file = bytes(name);
    let at = file
        .windows(from.len())
        .position(|window| window == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("{name} has no {from}"));
    file[at..at + from.len()].copy_from_slice(to.as_bytes());
    file
}

#[test]
fn what_is_not_served_is_named() {
    let refuse = |file: Vec<u8>, words: &[&str]| {
        let error = GgufCheckpoint::open(Arc::new(file), "x")
            .unwrap_err()
            .to_string();
        for word in words {
            assert!(error.contains(word), "{error:?} does not contain {word:?}");
        }
    };
    let file = |name| bytes(name);
    refuse(b"GGML".to_vec(), &["GGUF"]);
    refuse(Vec::new(), &["ends"]);
    refuse(
        [b"GGUF".as_slice(), &1u32.to_le_bytes(), &[0; 16]].concat(),
        &["version 1"],
    );
    refuse(
        [b"GGUF".as_slice(), &3u32.to_be_bytes(), &[0; 16]].concat(),
        &["little-endian"],
    );
    let counts = [
        b"GGUF".as_slice(),
        &3u32.to_le_bytes(),
        &u64::MAX.to_le_bytes(),
        &[0; 8],
    ];
    refuse(counts.concat(), &["tensors", "bound"]);
    refuse(
        replaced("qwen3-q8_0", "qwen3", "gemma"),
        &["gemma", "qwen3"],
    );
    refuse(
        replaced("llama-q8_0", "llama.block_count", "llama.block_xount"),
        &["block_xount"],
    );
    refuse(
        replaced("llama-q8_0", "llama.vocab_size", "llama.expert_cnt"),
        &["llama.expert_cnt"],
    );
    refuse(
        replaced("llama-q8_0", "blk.1.ffn_up.", "blk.1.ffn_ub."),
        &["blk.1.ffn_up.weight"],
    );
    refuse(
        replaced("llama31-q8_0", "rope_freqs", "rope_fresh"),
        &["rope_fresh.weight"],
    );
    for cut in [1, 1000, 100_000] {
        let mut cut_off = file("llama-q8_0");
        cut_off.truncate(cut_off.len() - cut);
        refuse(cut_off, &["truncated"]);
    }
    // Another type of the same block size keeps every other number right.
    let mut other = file("llama-q4_0");
    let name = b"blk.0.attn_q.weight";
    let at = other
        .windows(name.len())
        .position(|window| window == name)
        .unwrap();
    let kind = at + name.len() + 4 + 16;
    assert_eq!(other[kind], 2);
    other[kind] = 20;
    refuse(other.clone(), &["blk.0.attn_q.weight", "IQ4_NL", "Q8_0"]);
    other[kind] = 5;
    refuse(other.clone(), &["unknown type 5"]);
    other[kind] = 2;
    other[kind + 4] ^= 1;
    refuse(other.clone(), &["multiple of 32"]);
    other[kind + 4] ^= 33;
    refuse(other, &["shares bytes"]);
}

/// A fixed sequence of numbers that look random (xorshift).
pub(super) fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn damaged_files_are_refused_or_read_but_never_worse() {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for name in ["llama-q4_0", "qwen3-q8_0"] {
        let whole = bytes(name);
        let header = GgufFile::read(&whole).unwrap();
        let header = header
            .tensors()
            .values()
            .map(|info| info.bytes.start)
            .min()
            .unwrap();
        for _ in 0..400 {
            let mut file = whole.clone();
            for _ in 0..=random(&mut state) % 3 {
                let at = (random(&mut state) % header) as usize;
                file[at] = match random(&mut state) % 3 {
                    0 => 0xff,
                    1 => file[at] ^ (1 << (random(&mut state) % 8)),
                    _ => random(&mut state) as u8,
                };
            }
            if random(&mut state).is_multiple_of(8) {
                file.truncate((random(&mut state) % whole.len() as u64) as usize);
            }
            read_everything(file);
        }
    }
}

pub(super) fn read_everything(file: Vec<u8>) {
    let checkpoint = match GgufCheckpoint::open(Arc::new(file), "damaged") {
        Ok(checkpoint) => checkpoint,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let _ = (checkpoint.vocabulary(), checkpoint.generation_defaults());
    for spec in checkpoint.profile().tensors(Part::Layer(0)) {
        let tensor = checkpoint.tensor(Part::Layer(0), spec.name).unwrap();
        let columns = spec.shape.last().copied().unwrap() as usize;
        tensor.read_f32(0..1, &mut vec![0.0; columns]).unwrap();
        for format in [BlockFormat::Q8, BlockFormat::Q4] {
            let mut blocks = vec![0; format.row_bytes(columns)];
            // Damaged scales may have no quantised form.
            let _ = tensor.read_blocks(format, 0..1, &mut blocks);
        }
    }
}

#[test]
fn absurd_lengths_take_no_memory() {
    let head = |keys: u64| {
        [
            b"GGUF".as_slice(),
            &3u32.to_le_bytes(),
            &0u64.to_le_bytes(),
            &keys.to_le_bytes(),
        ]
        .concat()
    };
    let array = [
        head(1).as_slice(),
        &1u64.to_le_bytes(),
        b"k",
        &9u32.to_le_bytes(),
        &8u32.to_le_bytes(),
        &(1u64 << 40).to_le_bytes(),
    ]
    .concat();
    let text = [head(1).as_slice(), &(1u64 << 62).to_le_bytes()].concat();
    let nested = [
        head(1).as_slice(),
        &1u64.to_le_bytes(),
        b"k",
        &9u32.to_le_bytes(),
        &9u32.to_le_bytes(),
        &1u64.to_le_bytes(),
    ]
    .concat();
    assert!(matches!(
        GgufFile::read(&array),
        Err(GgufError::Truncated { .. })
    ));
    assert!(matches!(
        GgufFile::read(&text),
        Err(GgufError::TooLarge { .. })
    ));
    assert!(matches!(
        GgufFile::read(&nested),
        Err(GgufError::Metadata { .. })
    ));
    assert!(matches!(
        GgufFile::read(&head(u64::MAX)),
        Err(GgufError::TooLarge { .. })
    ));
}
