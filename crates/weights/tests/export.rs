//! An exported folder holds the same model, whatever it was made from.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Disk, values};
use skein_weights::bytes::{ByteRange, Folder, MemoryFolder};
use skein_weights::checkpoint::Checkpoint;
use skein_weights::export::{Export, ExportError, Exported, SHARD_BYTES};
use skein_weights::profile::{Family, RopeScaling};
use skein_weights::safetensors::read_header;
use skein_weights::{Dtype, HfCheckpoint, Profile, config, open_folder, open_gguf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn open(name: &str) -> Box<dyn Checkpoint> {
    open_folder(Arc::new(Disk(root().join(name)))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

const NAMES: [&str; 9] = [
    "gpt2",
    "llama-bias",
    "llama2",
    "llama31-sharded",
    "mistral",
    "qwen2",
    "qwen2-f16",
    "qwen2-window",
    "qwen3",
];

fn export(
    source: &dyn Checkpoint,
    format: Option<Dtype>,
    shard_bytes: u64,
) -> (Arc<MemoryFolder>, Exported) {
    let folder = Arc::new(MemoryFolder::default());
    let sidecars = source.sidecars().expect("they are read");
    let export = Export {
        weights: source,
        sidecars: &sidecars,
        format,
        shard_bytes,
        replace: false,
    };
    let mut last = (0, 0);
    let exported = export
        .write(&*folder, &mut |now| last = (now.done, now.total))
        .expect("it is written");
    assert_eq!(last, (exported.bytes, exported.bytes));
    (folder, exported)
}

#[test]
fn every_fixture_comes_back_as_it_was() {
    for name in NAMES {
        let source = open(name);
        for shard_bytes in [SHARD_BYTES, 200_000] {
            let (folder, exported) = export(source.as_ref(), None, shard_bytes);
            let weights = exported
                .files
                .iter()
                .filter(|file| file.ends_with("tensors"));
            assert_eq!(weights.count() > 1, shard_bytes < SHARD_BYTES, "{name}");
            assert!(exported.has_tokenizer);
            let again = HfCheckpoint::open(folder.clone()).unwrap();
            let again: &dyn Checkpoint = &again;
            assert_eq!(again.profile(), source.profile(), "{name}");
            assert_eq!(values(again), values(source.as_ref()), "{name}");
            assert_eq!(again.vocabulary().unwrap(), source.vocabulary().unwrap());
            assert_eq!(
                again.generation_defaults().unwrap(),
                source.generation_defaults().unwrap()
            );
        }
    }
}

/// Tensors are named and shaped as the checkpoint that transformers itself wrote.
#[test]
fn names_and_shapes_are_those_of_transformers() {
    for name in NAMES {
        if name == "llama31-sharded" {
            continue;
        }
        let source = open(name);
        let (folder, _) = export(source.as_ref(), None, SHARD_BYTES);
        let shapes = |file: &dyn ByteRange| {
            let tensors = read_header(file).unwrap().tensors.into_iter();
            tensors
                .map(|(name, info)| (name, info.shape))
                .collect::<Vec<_>>()
        };
        let ours = folder.open("model.safetensors").unwrap();
        let theirs = fs::read(root().join(name).join("model.safetensors")).unwrap();
        assert_eq!(shapes(&*ours), shapes(&theirs), "{name}");
    }
}

#[test]
fn matrices_take_the_precision_asked_for() {
    for name in ["gpt2", "qwen3"] {
        let source = open(name);
        let (folder, _) = export(source.as_ref(), Some(Dtype::Bf16), SHARD_BYTES);
        let again = HfCheckpoint::open(folder.clone()).unwrap();
        for ((part, tensor), found) in values(&again as &dyn Checkpoint) {
            let stored = source.tensor(part, tensor).unwrap();
            if stored.shape().len() == 1 {
                continue;
            }
            let mut expected = vec![0; found.len()];
            stored
                .read_bf16(0..stored.shape()[0], &mut expected)
                .unwrap();
            let widened = expected.iter().map(|&bits| u32::from(bits) << 16);
            assert!(
                found.iter().map(|value| value.to_bits()).eq(widened),
                "{name} {tensor}"
            );
        }
        let config = folder.open("config.json").unwrap();
        let mut bytes = vec![0; config.len() as usize];
        config.read_at(0, &mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains(r#"type": "bfloat16""#), "{text}");
    }
}

#[test]
fn a_gguf_file_becomes_a_folder_without_tokenizer() {
    for name in ["gpt2-f16", "llama-q8_0", "qwen2-bf16", "qwen3-q8_0"] {
        let file = fs::read(root().join("gguf").join(format!("{name}.gguf"))).unwrap();
        let source = open_gguf(Arc::new(file), name).unwrap();
        let (folder, exported) = export(source.as_ref(), None, SHARD_BYTES);
        assert!(!exported.has_tokenizer);
        assert_eq!(exported.files, ["config.json", "model.safetensors"]);
        let again = HfCheckpoint::open(folder).unwrap();
        let again: &dyn Checkpoint = &again;
        assert_eq!(again.profile(), source.profile(), "{name}");
        assert_eq!(values(again), values(source.as_ref()), "{name}");
    }
}

#[test]
fn frequencies_of_a_gguf_file_have_no_form() {
    let file = fs::read(root().join("gguf/llama31-q8_0.gguf")).unwrap();
    let source = open_gguf(Arc::new(file), "llama31").unwrap();
    let export = Export {
        weights: source.as_ref(),
        sidecars: &[],
        format: None,
        shard_bytes: SHARD_BYTES,
        replace: false,
    };
    let folder = MemoryFolder::default();
    for refused in [
        export.check().unwrap_err(),
        export.write(&folder, &mut |_| ()).unwrap_err(),
    ] {
        assert!(matches!(refused, ExportError::Render(_)), "{refused}");
    }
    assert!(folder.names().unwrap().is_empty());
}

#[test]
fn a_folder_that_holds_something_is_left_alone() {
    let source = open("qwen3");
    let (folder, _) = export(source.as_ref(), None, SHARD_BYTES);
    let sidecars = source.sidecars().expect("they are read");
    let export = Export {
        weights: source.as_ref(),
        sidecars: &sidecars,
        format: None,
        shard_bytes: SHARD_BYTES,
        replace: false,
    };
    let error = export.write(&*folder, &mut |_| ()).unwrap_err();
    assert!(matches!(error, ExportError::NotEmpty { .. }), "{error}");
    let other = open("qwen2").sidecars().unwrap();
    let mixed = Export {
        sidecars: &other,
        ..export
    };
    let error = mixed
        .write(&MemoryFolder::default(), &mut |_| ())
        .unwrap_err();
    assert!(matches!(error, ExportError::OtherModel), "{error}");
}

#[test]
fn of_an_older_export_nothing_stays() {
    let (older, newer) = (open("qwen2"), open("llama2"));
    let (folder, exported) = export(older.as_ref(), None, 200_000);
    assert!(
        exported
            .files
            .iter()
            .any(|file| file.ends_with("index.json"))
    );
    folder.put("notes.txt", b"mine".to_vec());
    let sidecars = newer.sidecars().expect("they are read");
    let export = Export {
        weights: newer.as_ref(),
        sidecars: &sidecars,
        format: None,
        shard_bytes: SHARD_BYTES,
        replace: true,
    };
    export.check().unwrap();
    let written = export.write(&*folder, &mut |_| ()).unwrap();
    let mut expected = written.files;
    expected.push("notes.txt".to_owned());
    expected.sort();
    assert_eq!(folder.names().unwrap(), expected);
    let again = HfCheckpoint::open(folder).unwrap();
    assert_eq!(values(&again), values(newer.as_ref()));
}

#[test]
fn a_rendered_configuration_is_read_as_the_same_profile() {
    let mut profiles: Vec<Profile> = NAMES.map(|name| open(name).profile().clone()).into();
    let mut other = profiles[1].clone();
    assert_eq!(other.family, Family::Llama);
    other.norm_epsilon = 1.234_567e-7;
    profiles.push(other);
    for profile in profiles {
        let text = serde_json::to_vec(&config::render(&profile).unwrap()).unwrap();
        assert_eq!(config::parse(&text).as_ref(), Ok(&profile));
    }
    let mut odd = open("llama2").profile().clone();
    odd.windows = vec![Some(8); odd.layers as usize];
    assert!(config::render(&odd).is_err());
    odd.windows.clear();
    let skein_weights::profile::Positions::Rope { scaling, .. } = &mut odd.positions else {
        panic!("Llama rotates");
    };
    *scaling = RopeScaling::Divisors {
        divisors: vec![1.0; 8],
    };
    assert!(config::render(&odd).is_err());
}
