//! Tiny checkpoints made by hand.
#![allow(dead_code, reason = "each test program uses a part of this")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use skein_weights::bytes::{ByteRange, Folder, MemoryFolder};
use skein_weights::{Checkpoint, HfCheckpoint, Part};

/// A folder on disk, its files read whole.
#[derive(Debug)]
pub(crate) struct Disk(pub(crate) PathBuf);

impl Folder for Disk {
    fn names(&self) -> io::Result<Vec<String>> {
        let name =
            |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        let mut names = fs::read_dir(&self.0)?
            .map(name)
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn ByteRange>> {
        Ok(Arc::new(fs::read(self.0.join(name))?))
    }

    fn describe(&self) -> String {
        self.0.display().to_string()
    }
}

/// A small Llama: two key heads, llama3 scaling, tied or not.
pub(crate) fn llama_config(tied: bool) -> Value {
    json!({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 20,
        "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": tied,
        "eos_token_id": 2, "bos_token_id": 1})
}

pub(crate) fn gpt2_config() -> Value {
    json!({"model_type": "gpt2", "vocab_size": 20, "n_embd": 8, "n_head": 2, "n_layer": 2,
        "n_positions": 16})
}

/// A tensor of a file: name, type (`F32`, `F16`, `BF16`, ...), shape, bytes.
pub(crate) type Tensor = (String, &'static str, Vec<u64>, Vec<u8>);

/// An `f32` tensor whose values are small, distinct and depend on the name.
pub(crate) fn f32_tensor(name: &str, shape: &[u64]) -> Tensor {
    let count: u64 = shape.iter().product();
    let seed = name.bytes().fold(7_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    let value = |index: u64| ((seed % 1000) as f32 + index as f32) / 64.0;
    let bytes = (0..count)
        .flat_map(|index| value(index).to_le_bytes())
        .collect();
    (name.to_owned(), "F32", shape.to_vec(), bytes)
}

pub(crate) fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let start = data.len();
        data.extend_from_slice(bytes);
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name.clone(), entry);
    }
    let json = Value::Object(header).to_string();
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(json.as_bytes());
    file.extend_from_slice(&data);
    file
}

pub(crate) fn llama_tensors(tied: bool) -> Vec<Tensor> {
    let mut list = vec![
        f32_tensor("model.embed_tokens.weight", &[20, 8]),
        f32_tensor("model.norm.weight", &[8]),
    ];
    if !tied {
        list.push(f32_tensor("lm_head.weight", &[20, 8]));
    }
    for layer in 0..3 {
        for (name, shape) in [
            ("input_layernorm", &[8][..]),
            ("self_attn.q_proj", &[8, 8]),
            ("self_attn.k_proj", &[4, 8]),
            ("self_attn.v_proj", &[4, 8]),
            ("self_attn.o_proj", &[8, 8]),
            ("post_attention_layernorm", &[8]),
            ("mlp.gate_proj", &[12, 8]),
            ("mlp.up_proj", &[12, 8]),
            ("mlp.down_proj", &[8, 12]),
        ] {
            list.push(f32_tensor(
                &format!("model.layers.{layer}.{name}.weight"),
                shape,
            ));
        }
    }
    list
}

pub(crate) fn gpt2_tensors(prefix: &str) -> Vec<Tensor> {
    let mut list = vec![
        f32_tensor(&format!("{prefix}wte.weight"), &[20, 8]),
        f32_tensor(&format!("{prefix}wpe.weight"), &[16, 8]),
        f32_tensor(&format!("{prefix}ln_f.weight"), &[8]),
        f32_tensor(&format!("{prefix}ln_f.bias"), &[8]),
    ];
    for layer in 0..2 {
        for (name, shape) in [
            ("ln_1.weight", &[8][..]),
            ("ln_1.bias", &[8]),
            ("attn.c_attn.weight", &[8, 24]),
            ("attn.c_attn.bias", &[24]),
            ("attn.c_proj.weight", &[8, 8]),
            ("attn.c_proj.bias", &[8]),
            ("ln_2.weight", &[8]),
            ("ln_2.bias", &[8]),
            ("mlp.c_fc.weight", &[8, 32]),
            ("mlp.c_fc.bias", &[32]),
            ("mlp.c_proj.weight", &[32, 8]),
            ("mlp.c_proj.bias", &[8]),
            // An old exporter's mask.
            ("attn.bias", &[1, 1, 16, 16]),
        ] {
            list.push(f32_tensor(&format!("{prefix}h.{layer}.{name}"), shape));
        }
    }
    list
}

pub(crate) fn folder(config: &Value, tensors: &[Tensor]) -> Arc<MemoryFolder> {
    Arc::new(MemoryFolder::new([
        ("config.json".to_owned(), config.to_string().into_bytes()),
        ("model.safetensors".to_owned(), safetensors(tensors)),
        (
            "tokenizer.json".to_owned(),
            br#"{"version":"1.0"}"#.to_vec(),
        ),
        (
            "generation_config.json".to_owned(),
            br#"{"temperature":0.5}"#.to_vec(),
        ),
    ]))
}

pub(crate) fn llama(tied: bool) -> HfCheckpoint {
    HfCheckpoint::open(folder(&llama_config(tied), &llama_tensors(tied))).expect("it is complete")
}

/// All values of a checkpoint, by part and name.
pub(crate) fn values(checkpoint: &dyn Checkpoint) -> BTreeMap<(Part, &'static str), Vec<f32>> {
    let profile = checkpoint.profile().clone();
    let mut all = BTreeMap::new();
    for part in profile.parts() {
        for spec in profile.tensors(part) {
            let tensor = checkpoint
                .tensor(part, spec.name)
                .expect("the profile has it");
            assert_eq!(tensor.shape(), spec.shape);
            let rows = if spec.shape.len() == 1 {
                1
            } else {
                spec.shape[0]
            };
            let mut out = vec![0.0; spec.shape.iter().product::<u64>() as usize];
            tensor.read_f32(0..rows, &mut out).expect("it can be read");
            all.insert((part, spec.name), out);
        }
    }
    all
}
