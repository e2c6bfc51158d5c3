//! Hugging Face folders: names, shapes, shards, settings, and what is refused.

mod common;

use std::sync::Arc;

use common::*;
use serde_json::{Value, json};
use skein_weights::bytes::{Folder as _, MemoryFolder};
use skein_weights::vocabulary::VocabularyKind;
use skein_weights::{Checkpoint as _, HfCheckpoint, OpenError, Part, StoredDtype, open_folder};

type Index = serde_json::Map<String, Value>;

fn open(config: &Value, tensors: &[Tensor]) -> Result<HfCheckpoint, OpenError> {
    HfCheckpoint::open(folder(config, tensors))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|four| f32::from_le_bytes(*four))
        .collect()
}

fn stored(tensors: &[Tensor], name: &str) -> Vec<f32> {
    floats(
        &tensors
            .iter()
            .find(|tensor| tensor.0 == name)
            .expect("it is there")
            .3,
    )
}

#[test]
fn llama_names_with_and_without_prefix() {
    let tensors = llama_tensors(false);
    let with = open(&llama_config(false), &tensors).unwrap();
    let all = values(&with);
    let down = &all[&(Part::Layer(2), "mlp_down.weight")];
    assert_eq!(
        *down,
        stored(&tensors, "model.layers.2.mlp.down_proj.weight")
    );
    assert_eq!(
        all[&(Part::Head, "head.weight")],
        stored(&tensors, "lm_head.weight")
    );
    assert_eq!(
        with.stored_dtype(Part::Head, "norm.weight"),
        Some(StoredDtype::F32)
    );
    assert_eq!(with.stored_dtype(Part::Head, "norm.bias"), None);
    let short: Vec<Tensor> = tensors
        .into_iter()
        .map(|tensor| {
            (
                tensor.0.trim_start_matches("model.").to_owned(),
                tensor.1,
                tensor.2,
                tensor.3,
            )
        })
        .collect();
    assert_eq!(values(&open(&llama_config(false), &short).unwrap()), all);
}

#[test]
fn gpt2_projections_are_turned_and_taken_apart() {
    for prefix in ["", "transformer."] {
        let tensors = gpt2_tensors(prefix);
        let all = values(&open(&gpt2_config(), &tensors).unwrap());
        let fused = stored(&tensors, &format!("{prefix}h.1.attn.c_attn.weight"));
        let bias = stored(&tensors, &format!("{prefix}h.1.attn.c_attn.bias"));
        for (index, name) in ["attn_q", "attn_k", "attn_v"].into_iter().enumerate() {
            let (weight_name, bias_name) = match name {
                "attn_q" => ("attn_q.weight", "attn_q.bias"),
                "attn_k" => ("attn_k.weight", "attn_k.bias"),
                _ => ("attn_v.weight", "attn_v.bias"),
            };
            let weight = &all[&(Part::Layer(1), weight_name)];
            for output in 0..8 {
                for input in 0..8 {
                    assert_eq!(
                        weight[output * 8 + input],
                        fused[input * 24 + index * 8 + output]
                    );
                }
            }
            assert_eq!(all[&(Part::Layer(1), bias_name)], bias[index * 8..][..8]);
        }
        let down = stored(&tensors, &format!("{prefix}h.0.mlp.c_proj.weight"));
        let canonical = &all[&(Part::Layer(0), "mlp_down.weight")];
        assert_eq!(canonical[3 * 32 + 5], down[5 * 8 + 3]);
    }
}

#[test]
fn shards_give_the_same_as_one_file() {
    let tensors = llama_tensors(true);
    let whole = folder(&llama_config(true), &tensors);
    let sharded = folder(&llama_config(true), &tensors);
    sharded.take("model.safetensors");
    let mut map = serde_json::Map::new();
    for (index, shard) in tensors.chunks(9).enumerate() {
        let name = format!("model-{index}.safetensors");
        shard.iter().for_each(|tensor| {
            map.insert(tensor.0.clone(), json!(name));
        });
        sharded.put(&name, safetensors(shard));
    }
    let index = |map: &serde_json::Map<String, Value>| {
        json!({"metadata": {"total_size": 1}, "weight_map": map})
            .to_string()
            .into_bytes()
    };
    const INDEX: &str = "model.safetensors.index.json";
    sharded.put(INDEX, index(&map));
    let expected = values(&HfCheckpoint::open(whole).unwrap());
    assert_eq!(
        values(&HfCheckpoint::open(sharded.clone()).unwrap()),
        expected
    );

    let refused = |changed: &dyn Fn(&mut Index), expected: &str| {
        let mut map = map.clone();
        changed(&mut map);
        sharded.put(INDEX, index(&map));
        let error = HfCheckpoint::open(sharded.clone())
            .expect_err(expected)
            .to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    };
    let norm = "model.norm.weight";
    refused(&|map| map[norm] = json!("../secret"), "no plain file name");
    refused(
        &|map| map[norm] = json!("model-2.safetensors"),
        "is not in model-2.safetensors",
    );
    refused(
        &|map| map[norm] = json!("gone.safetensors"),
        "gone.safetensors is missing",
    );
    refused(&|map| drop(map.remove(norm)), "is not listed");
    sharded.put(INDEX, b"{}".to_vec());
    assert!(matches!(
        HfCheckpoint::open(sharded.clone()),
        Err(OpenError::Index { .. })
    ));
    sharded.take(INDEX);
    assert!(matches!(
        HfCheckpoint::open(sharded),
        Err(OpenError::NoIndex { count: 4 })
    ));
}

#[test]
fn wrong_tensors_are_named() {
    let base = llama_tensors(false);
    let check = |change: &dyn Fn(&mut Vec<Tensor>), expected: &str| {
        let mut tensors = base.clone();
        change(&mut tensors);
        let error = open(&llama_config(false), &tensors)
            .expect_err(expected)
            .to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    };
    check(
        &|list| drop(list.remove(1)),
        "norm.weight is missing, which head needs",
    );
    check(&|list| drop(list.remove(2)), "lm_head.weight is missing");
    check(
        &|list| list.push(f32_tensor("model.layers.3.mlp.up_proj.weight", &[1])),
        "foreign",
    );
    check(
        &|list| list.push(f32_tensor("model.layers.0.self_attn.q_proj.bias", &[8])),
        "foreign",
    );
    check(
        &|list| list[0] = f32_tensor("model.embed_tokens.weight", &[8, 20]),
        "has shape [8, 20]",
    );
    check(
        &|list| list.push(f32_tensor("norm.weight", &[8])),
        "there twice",
    );
    check(&|list| list[1].1 = "I32", "has type I32");
    // Buffers that old exporters stored are ignored, of layers that exist.
    let mut tensors = base.clone();
    tensors.push(f32_tensor(
        "model.layers.2.self_attn.rotary_emb.inv_freq",
        &[1],
    ));
    assert!(open(&llama_config(false), &tensors).is_ok());
    check(
        &|list| {
            list.push(f32_tensor(
                "model.layers.7.self_attn.rotary_emb.inv_freq",
                &[1],
            ))
        },
        "foreign",
    );
}

#[test]
fn a_tied_head_may_be_stored_if_it_is_equal() {
    let mut tensors = llama_tensors(true);
    let mut head = tensors[0].clone();
    head.0 = "lm_head.weight".to_owned();
    tensors.push(head);
    assert_eq!(
        values(&open(&llama_config(true), &tensors).unwrap()),
        values(&llama(true))
    );
    tensors.last_mut().expect("it is there").3[11] ^= 1;
    let error = open(&llama_config(true), &tensors).expect_err("it differs");
    assert!(
        matches!(error, OpenError::TiedHeadDiffers { .. }),
        "{error}"
    );
}

#[test]
fn folders_that_are_no_checkpoint() {
    let files = |list: &[(&str, &[u8])]| {
        Arc::new(MemoryFolder::new(
            list.iter().map(|(n, b)| ((*n).to_owned(), b.to_vec())),
        ))
    };
    let config = llama_config(true).to_string();
    let config = config.as_bytes();
    let check = |list: &[(&str, &[u8])], expected: &str| {
        let error = format!("{:?}", open_folder(files(list)).expect_err(expected));
        assert!(error.starts_with(expected), "{expected}: {error}");
    };
    check(&[], "NoConfig");
    check(&[("config.json", b"{")], "Config(Json");
    check(&[("config.json", config)], "NoWeights");
    check(
        &[("config.json", config), ("pytorch_model.bin", b"")],
        "PickleOnly",
    );
    check(
        &[("config.json", config), ("model.safetensors", b"")],
        "Safetensors",
    );
    check(&[("a.gguf", b""), ("b.gguf", b"")], "SeveralGguf");
    check(&[("a.gguf", b"no")], "Gguf");
    check(&[("skein.json", b"{}")], "Manifest");
}

#[test]
#[expect(clippy::too_many_lines, reason = "one folder, changed step by step")]
fn settings_from_either_place() {
    let folder = folder(&llama_config(true), &llama_tensors(true));
    let open = || HfCheckpoint::open(folder.clone()).unwrap();
    let vocabulary = open().vocabulary().unwrap();
    assert_eq!(
        vocabulary.kind,
        VocabularyKind::TokenizerJson(br#"{"version":"1.0"}"#.to_vec())
    );
    assert_eq!((vocabulary.bos, vocabulary.eos), (Some(1), vec![2]));
    assert_eq!(vocabulary.chat_template, None);

    let settings = json!({"chat_template": [{"name": "tool_use", "template": "T"},
        {"name": "default", "template": "D"}], "bos_token": {"content": "<s>", "lstrip": false},
        "eos_token": "</s>", "pad_token": null, "add_bos_token": true});
    folder.put("tokenizer_config.json", settings.to_string().into_bytes());
    folder.put(
        "special_tokens_map.json",
        br#"{"unk_token":"<unk>","eos_token":"no"}"#.to_vec(),
    );
    let generation = json!({"eos_token_id": [5, 6], "do_sample": false, "top_k": 7, "top_p": 0.5});
    folder.put(
        "generation_config.json",
        generation.to_string().into_bytes(),
    );
    let vocabulary = open().vocabulary().unwrap();
    assert_eq!(vocabulary.chat_template.as_deref(), Some("D"));
    assert_eq!(vocabulary.eos, [5, 6]);
    let special = [
        ("bos_token", "<s>"),
        ("eos_token", "</s>"),
        ("unk_token", "<unk>"),
    ];
    let special = special.map(|(role, text)| (role.to_owned(), text.to_owned()));
    assert_eq!(vocabulary.special_tokens, special);
    let defaults = open().generation_defaults().unwrap();
    assert_eq!(
        (defaults.temperature, defaults.top_k, defaults.top_p),
        (Some(0.0), Some(7), Some(0.5))
    );

    folder.put("chat_template.jinja", b"J".to_vec());
    assert_eq!(
        open().vocabulary().unwrap().chat_template.as_deref(),
        Some("J")
    );
    let names: Vec<String> = open()
        .sidecars()
        .unwrap()
        .into_iter()
        .map(|one| one.name)
        .collect();
    assert!(names.is_sorted() && names.len() == 6, "{names:?}");

    for (file, bad) in [
        ("generation_config.json", r#"{"eos_token_id": "x"}"#),
        ("generation_config.json", "["),
        ("tokenizer_config.json", r#"{"chat_template": 3}"#),
        (
            "tokenizer_config.json",
            r#"{"chat_template": [{"name": "a"}, {"name": "b"}]}"#,
        ),
    ] {
        folder.take("chat_template.jinja");
        let before = folder.open(file).map(|range| {
            let mut bytes = vec![0; range.len() as usize];
            range.read_at(0, &mut bytes).expect("it is in memory");
            bytes
        });
        folder.put(file, bad.as_bytes().to_vec());
        assert!(open().vocabulary().is_err(), "{bad}");
        folder.put(file, before.expect("it is there"));
    }
    folder.take("tokenizer.json");
    assert!(
        open()
            .vocabulary()
            .unwrap_err()
            .to_string()
            .contains("tokenizer.json is needed")
    );
}
