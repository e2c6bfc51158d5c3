//! Models in blocks: split, read back, resumed, exported, refused.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::*;
use skein_weights::blocks::BlockFormat;
use skein_weights::bytes::{Folder as _, MemoryFolder};
use skein_weights::export::{Export, ExportError, SHARD_BYTES};
use skein_weights::inspect::inspect;
use skein_weights::manifest::{MANIFEST_FILE, Manifest, ManifestError};
use skein_weights::slices::SlicePlan;
use skein_weights::source::ReadError;
use skein_weights::split::{Outcome, PartError, SplitCheckpoint, SplitError, SplitOptions, split};
use skein_weights::verify::verify;
use skein_weights::{
    Checkpoint, Dtype, HfCheckpoint, OpenError, Part, StoredDtype, WeightSource as _, open_folder,
    open_gguf,
};

fn gguf(name: &str) -> Box<dyn Checkpoint> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/gguf");
    let file = fs::read(root.join(format!("{name}.gguf"))).expect("the fixture is committed");
    open_gguf(Arc::new(file), name).expect("it opens")
}

fn split_as(source: &dyn Checkpoint, format: Option<Dtype>) -> (Arc<MemoryFolder>, Outcome) {
    let target = Arc::new(MemoryFolder::default());
    let options = SplitOptions {
        name: Some("tiny".to_owned()),
        format,
        slices: SlicePlan::Even(1),
    };
    let outcome = split(source, &options, &*target, &mut |_| ()).expect("it can be split");
    let report = verify(&*target, &mut |_| ());
    assert!(report.is_good(), "{:?}", report.problems);
    (target, outcome)
}

fn bytes_of(folder: &MemoryFolder, name: &str) -> Vec<u8> {
    let range = folder.open(name).expect("it is there");
    let mut bytes = vec![0; range.len() as usize];
    range.read_at(0, &mut bytes).expect("it is in memory");
    bytes
}

/// All blocks of the matrices of a checkpoint.
fn blocks(checkpoint: &dyn Checkpoint, format: BlockFormat) -> Vec<u8> {
    let mut all = Vec::new();
    for part in checkpoint.profile().parts() {
        for spec in checkpoint.profile().tensors(part) {
            let [rows, columns] = spec.shape[..] else {
                continue;
            };
            let tensor = checkpoint
                .tensor(part, spec.name)
                .expect("the profile has it");
            let mut bytes = vec![0; rows as usize * format.row_bytes(columns as usize)];
            tensor
                .read_blocks(format, 0..rows, &mut bytes)
                .expect("it has a quantised form");
            all.extend(bytes);
        }
    }
    all
}

const FORMATS: [(Dtype, BlockFormat); 2] =
    [(Dtype::Q8, BlockFormat::Q8), (Dtype::Q4, BlockFormat::Q4)];

/// Widths of 8 and 12 are no whole blocks; GPT-2's projections are transposed and fused.
#[test]
fn quantised_when_split_or_when_loaded_is_the_same() {
    let gpt2 = HfCheckpoint::open(folder(&gpt2_config(), &gpt2_tensors(""))).unwrap();
    let sources: [&dyn Checkpoint; 2] = [&llama(true), &gpt2];
    for source in sources {
        for (dtype, format) in FORMATS {
            let (target, outcome) = split_as(source, Some(dtype));
            let opened = SplitCheckpoint::open(target).unwrap();
            assert_eq!(blocks(&opened, format), blocks(source, format));
            for (part, tensor) in outcome.manifest.parts.iter().flat_map(|part| {
                let tensors = part.tensors.iter();
                tensors.map(|tensor| (part.part, tensor))
            }) {
                let is_product = tensor.shape.len() == 2 && tensor.name != "positions.weight";
                let expected = if is_product { dtype } else { Dtype::F32 };
                assert_eq!(tensor.dtype, expected, "{}", tensor.name);
                let read = opened.tensor(part, &tensor.name).unwrap();
                assert_eq!((read.dtype(), read.shape()), (expected, &*tensor.shape));
                assert_eq!(
                    opened.stored_dtype(part, &tensor.name),
                    Some(StoredDtype::from(expected))
                );
            }
            // What is split again keeps every byte.
            let (_, again) = split_as(&opened, None);
            assert_eq!(again.manifest.parts, outcome.manifest.parts);
            assert_eq!(again.loss.relative(), 0.0);
        }
    }
}

#[test]
fn formats_are_different_models_with_different_losses() {
    let source = gguf("llama-f16");
    let mut ids = Vec::new();
    let formats = [
        None,
        Some(Dtype::F32),
        Some(Dtype::Bf16),
        Some(Dtype::Q8),
        Some(Dtype::Q4),
    ];
    let losses = formats.map(|format| {
        let (_, outcome) = split_as(source.as_ref(), format);
        ids.push(outcome.manifest.model);
        outcome.loss.relative()
    });
    assert_eq!(ids[0], ids[1]);
    ids.dedup();
    assert_eq!(ids.len(), 4);
    assert_eq!(losses[..2], [0.0, 0.0]);
    let [_, _, bf16, q8, q4] = losses;
    // Of normally distributed weights.
    assert!(0.001 < bf16 && bf16 < 0.002, "{losses:?}");
    assert!(0.004 < q8 && q8 < 0.006, "{losses:?}");
    assert!(0.07 < q4 && q4 < 0.09, "{losses:?}");
}

/// By the definition, from outside.
#[test]
fn the_loss_is_that_of_all_matrices_together() {
    let source = llama(true);
    let (target, outcome) = split_as(&source, Some(Dtype::Q4));
    let after = values(&SplitCheckpoint::open(target).unwrap());
    let (mut error, mut energy) = (0.0, 0.0);
    for (key, before) in values(&source) {
        let matrix = source.tensor(key.0, key.1).unwrap().shape().len() == 2;
        for (before, after) in before.iter().zip(&after[&key]).filter(|_| matrix) {
            error += (f64::from(*before) - f64::from(*after)).powi(2);
            energy += f64::from(*before).powi(2);
        }
    }
    let expected = f64::sqrt(error / energy);
    assert!((outcome.loss.relative() / expected - 1.0).abs() < 1e-9);
}

#[test]
fn blocks_of_a_gguf_file_are_kept_bit_for_bit() {
    for (name, dtype, format) in [
        ("llama-q8_0", Dtype::Q8, BlockFormat::Q8),
        ("llama-q4_0", Dtype::Q4, BlockFormat::Q4),
        ("qwen3-q8_0", Dtype::Q8, BlockFormat::Q8),
    ] {
        let source = gguf(name);
        let (target, outcome) = split_as(source.as_ref(), None);
        assert_eq!(outcome.loss.relative(), 0.0);
        let opened = SplitCheckpoint::open(target).unwrap();
        assert_eq!(blocks(&opened, format), blocks(source.as_ref(), format));
        assert_eq!(values(&opened), values(source.as_ref()), "{name}");
        let tensor = opened.tensor(Part::Layer(0), "attn_q.weight").unwrap();
        assert_eq!(tensor.dtype(), dtype);
        // Asking for what it is changes nothing, and four bits fit into eight.
        let (_, asked) = split_as(source.as_ref(), Some(dtype));
        assert_eq!(asked.manifest.model, outcome.manifest.model);
        let (wide, outcome) = split_as(source.as_ref(), Some(Dtype::Q8));
        assert_eq!(outcome.loss.relative(), 0.0);
        let wide = SplitCheckpoint::open(wide).unwrap();
        assert_eq!(values(&wide), values(source.as_ref()), "{name}");
    }
}

#[test]
fn an_export_is_exact_unless_asked_otherwise() {
    let (target, _) = split_as(&llama(true), Some(Dtype::Q4));
    let source = open_folder(target).unwrap();
    let sidecars = source.sidecars().unwrap();
    let export = |format| {
        let folder = Arc::new(MemoryFolder::default());
        let export = Export {
            weights: source.as_ref(),
            sidecars: &sidecars,
            format,
            shard_bytes: SHARD_BYTES,
            replace: false,
        };
        export.write(&*folder, &mut |_| ()).map(|_| folder)
    };
    let exact = HfCheckpoint::open(export(None).unwrap()).unwrap();
    assert_eq!(values(&exact), values(source.as_ref()));
    let stored = exact.stored_dtype(Part::Layer(0), "attn_q.weight");
    assert_eq!(stored, Some(StoredDtype::F32));
    let rounded = HfCheckpoint::open(export(Some(Dtype::Bf16)).unwrap()).unwrap();
    let stored = rounded.stored_dtype(Part::Layer(0), "attn_q.weight");
    assert_eq!(stored, Some(StoredDtype::Bf16));
    let refused = export(Some(Dtype::Q8)).unwrap_err();
    assert!(matches!(refused, ExportError::Format { .. }), "{refused}");
    // Quantised again, the export has the weights that it was made from.
    let (target, outcome) = split_as(&exact, Some(Dtype::Q4));
    assert_eq!(outcome.loss.relative(), 0.0);
    let again = SplitCheckpoint::open(target).unwrap();
    assert_eq!(values(&again), values(source.as_ref()));
}

#[test]
fn weights_without_quantised_form_are_named() {
    for (value, place) in [(f32::NAN, 5), (1e30, 0), (f32::INFINITY, 95)] {
        let mut tensors = llama_tensors(true);
        let name = "model.layers.1.mlp.up_proj.weight";
        let tensor = tensors.iter_mut().find(|one| one.0 == name).unwrap();
        tensor.3[4 * place..4 * place + 4].copy_from_slice(&value.to_le_bytes());
        let source = HfCheckpoint::open(folder(&llama_config(true), &tensors)).unwrap();
        let options = SplitOptions {
            name: None,
            format: Some(Dtype::Q8),
            slices: SlicePlan::Even(1),
        };
        let target = MemoryFolder::default();
        let error = split(&source, &options, &target, &mut |_| ()).unwrap_err();
        let SplitError::Read(ReadError::Range { part, name, .. }) = error else {
            panic!("{error}");
        };
        assert_eq!((part, &*name), (Part::Layer(1), "mlp_up.weight"));
    }
}

#[test]
fn manifests_and_files_of_blocks_are_cross_checked() {
    let (target, _) = split_as(&llama(true), Some(Dtype::Q8));
    let good: serde_json::Value =
        serde_json::from_slice(&bytes_of(&target, MANIFEST_FILE)).unwrap();
    let tensors = good["parts"][1]["tensors"].as_array().unwrap();
    let vector = tensors
        .iter()
        .position(|one| one["shape"].as_array().unwrap().len() == 1)
        .unwrap();
    let with = |index: usize, dtype: &str| {
        let mut bad = good.clone();
        bad["parts"][1]["tensors"][index]["dtype"] = dtype.into();
        Manifest::parse(bad.to_string().as_bytes())
    };
    for dtype in ["q8", "q4"] {
        let error = with(vector, dtype).unwrap_err();
        assert!(matches!(error, ManifestError::Vector { .. }), "{error}");
    }
    for dtype in ["q4", "bf16", "f32"] {
        let error = with(usize::from(vector == 0), dtype).unwrap_err();
        assert!(matches!(error, ManifestError::Size { .. }), "{error}");
    }
    assert!(matches!(
        with(vector, "q8_0"),
        Err(ManifestError::Json { .. })
    ));

    // A file of the same size in which a matrix of blocks is called something else.
    let name = "layer-0000.safetensors";
    let mut bytes = bytes_of(&target, name);
    let at = bytes.windows(4).position(|four| four == b"\"U8\"").unwrap();
    bytes[at + 1] = b'I';
    target.put(name, bytes);
    let error = SplitCheckpoint::open(target).unwrap_err();
    let OpenError::Part { source, .. } = error else {
        panic!("{error}");
    };
    assert!(matches!(source, PartError::Differs { .. }), "{source}");
}

#[test]
fn inspection_tells_the_sizes_of_blocks() {
    let source = llama(true);
    for (dtype, _) in FORMATS {
        let (target, outcome) = split_as(&source, Some(dtype));
        let before = inspect(&source, None).unwrap().contents.unwrap().memory;
        let opened = SplitCheckpoint::open(target).unwrap();
        let after = inspect(&opened, None).unwrap().contents.unwrap();
        let said = match dtype {
            Dtype::Q8 => before.q8,
            _ => before.q4,
        };
        assert_eq!(after.memory.stored, said);
        let files: u64 = outcome.manifest.parts.iter().map(|part| part.bytes).sum();
        assert!(said < files && files < said + 1500 * 5, "{said} {files}");
        let name = StoredDtype::from(dtype).to_string();
        assert_eq!(after.dtypes[&name].tensors, 1 + 21);
    }
}
