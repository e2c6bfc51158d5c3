//! Split, read back, verify; cuts, crashes and damage.

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::*;
use proptest::prelude::*;
use serde_json::Value;
use skein_base::ByteSize;
use skein_weights::bytes::{ByteRange, Folder, MemoryFolder};
use skein_weights::inspect::inspect;
use skein_weights::manifest::{MANIFEST_FILE, Manifest, ManifestError};
use skein_weights::slices::SlicePlan;
use skein_weights::split::{
    JOURNAL_FILE, Progress, Sink, SinkFile, SplitCheckpoint, SplitError, SplitOptions, split,
};
use skein_weights::verify::{Problem, verify};
use skein_weights::{Checkpoint, Dtype, HfCheckpoint, Part, WeightSource, open_folder};

fn options(slices: SlicePlan) -> SplitOptions {
    SplitOptions {
        name: Some("tiny".to_owned()),
        format: None,
        slices,
    }
}

fn split_into(source: &dyn Checkpoint, slices: SlicePlan) -> (Arc<MemoryFolder>, Manifest) {
    let target = Arc::new(MemoryFolder::default());
    let outcome = split(source, &options(slices), &*target, &mut |_| ()).expect("it can be split");
    assert_eq!(outcome.loss.relative(), 0.0);
    (target, outcome.manifest)
}

fn bytes_of(folder: &MemoryFolder, name: &str) -> Vec<u8> {
    let range = folder.open(name).expect("it is there");
    let mut bytes = vec![0; range.len() as usize];
    range.read_at(0, &mut bytes).expect("it is in memory");
    bytes
}

fn problems(folder: &MemoryFolder) -> Vec<Problem> {
    verify(folder, &mut |_| ()).problems
}

#[test]
fn a_split_model_is_the_model() {
    for tied in [true, false] {
        let source = llama(tied);
        let mut last = Progress { done: 0, total: 0 };
        let target = Arc::new(MemoryFolder::default());
        let manifest = split(
            &source,
            &options(SlicePlan::Even(2)),
            &*target,
            &mut |now| {
                assert!(now.done > last.done && now.done <= now.total);
                last = now;
            },
        )
        .unwrap()
        .manifest;
        assert_eq!(last.done, last.total);
        assert_eq!(target.take(JOURNAL_FILE), None);
        let report = verify(&*target, &mut |_| ());
        assert!(report.is_good(), "{:?}", report.problems);
        assert_eq!(report.files, manifest.parts.len() + manifest.files.len());
        let opened = open_folder(target.clone()).unwrap();
        assert_eq!(values(&*opened), values(&source));
        assert_eq!(opened.name(), "tiny");
        assert_eq!(opened.vocabulary().unwrap(), source.vocabulary().unwrap());
        assert_eq!(
            opened.generation_defaults().unwrap(),
            source.generation_defaults().unwrap()
        );
        // Splitting what was split gives the same model.
        let (_, again) = split_into(&*opened, SlicePlan::Even(1));
        assert_eq!(again.model, manifest.model);
        assert_eq!(again.parts, manifest.parts);
    }
}

#[test]
fn the_id_depends_on_the_model_and_not_on_the_cut() {
    let (_, whole) = split_into(&llama(true), SlicePlan::Even(1));
    let (_, cut) = split_into(&llama(true), SlicePlan::Boundaries(vec![1]));
    assert_eq!((whole.model, &whole.parts), (cut.model, &cut.parts));
    assert_ne!(whole.slices, cut.slices);
    let changed = folder(&llama_config(true), &llama_tensors(true));
    changed.put("tokenizer.json", b"{}".to_vec());
    let (_, tokenizer) = split_into(&HfCheckpoint::open(changed).unwrap(), SlicePlan::Even(1));
    let changed = folder(&llama_config(true), &llama_tensors(true));
    changed.put("generation_config.json", b"{}".to_vec());
    let (_, settings) = split_into(&HfCheckpoint::open(changed).unwrap(), SlicePlan::Even(1));
    let (_, untied) = split_into(&llama(false), SlicePlan::Even(1));
    let mut config = llama_config(true);
    config["rope_theta"] = 10000.5.into();
    let other = HfCheckpoint::open(folder(&config, &llama_tensors(true))).unwrap();
    let (_, theta) = split_into(&other, SlicePlan::Even(1));
    assert_eq!(settings.model, whole.model);
    for other in [tokenizer.model, untied.model, theta.model] {
        assert_ne!(other, whole.model);
    }
}

/// Changes only if the format of manifest, part files or ids changes, which needs a new version.
#[test]
fn golden_hashes() {
    let (target, manifest) = split_into(&llama(true), SlicePlan::Even(2));
    let gpt2 = HfCheckpoint::open(folder(&gpt2_config(), &gpt2_tensors(""))).expect("it is whole");
    let (_, gpt2) = split_into(&gpt2, SlicePlan::Even(1));
    let found = [
        manifest.model.to_string(),
        gpt2.model.to_string(),
        skein_base::Sha256::of(&bytes_of(&target, MANIFEST_FILE)).to_string(),
    ];
    assert_eq!(found, GOLDEN);
}

const GOLDEN: [&str; 3] = [
    "2752ce14abd6c91037765b411a0ddc4e83b440c7e3a456c171f29bd99c4f9d42",
    "79341bbb48269925731b18b41eeae018a0e05a7b0fb7fd80dcb14c10960200f7",
    "ddc9639dffe0c61df8184b721b825d8e002271817b4c2bbf0dd9b9b20dce8c2c",
];

#[test]
fn converting_rounds_matrices_and_leaves_vectors() {
    let source = llama(true);
    let target = Arc::new(MemoryFolder::default());
    let bf16 = SplitOptions {
        format: Some(Dtype::Bf16),
        ..options(SlicePlan::Even(1))
    };
    split(&source, &bf16, &*target, &mut |_| ()).unwrap();
    assert!(problems(&target).is_empty());
    let opened = SplitCheckpoint::open(target).unwrap();
    let rounded = |value: &f32| half_bf16(*value);
    for ((part, name), mut expected) in values(&source) {
        let tensor = source.tensor(part, name).unwrap();
        if tensor.shape().len() == 2 {
            expected = expected.iter().map(rounded).collect();
        }
        assert_eq!(values(&opened)[&(part, name)], expected, "{part} {name}");
    }
}

/// Round to nearest even by integer arithmetic, apart from the code under test.
fn half_bf16(value: f32) -> f32 {
    let bits = value.to_bits();
    let bits = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    f32::from_bits(bits)
}

#[test]
fn a_node_with_only_its_slice_opens_it() {
    let (target, manifest) = split_into(&llama(true), SlicePlan::Even(3));
    let keep = manifest.slices()[1].parts(true);
    for entry in manifest
        .parts
        .iter()
        .filter(|entry| !keep.contains(&entry.part))
    {
        target.take(&entry.file);
    }
    target.take("tokenizer.json");
    let opened = SplitCheckpoint::open(target.clone()).unwrap();
    assert_eq!(opened.present(), [Part::Layer(1)]);
    assert!(opened.tensor(Part::Layer(1), "attn_q.weight").is_ok());
    let absent = opened
        .tensor(Part::Layer(0), "attn_q.weight")
        .expect_err("it is not here");
    assert!(
        absent
            .to_string()
            .contains("layer-0000.safetensors is missing"),
        "{absent}"
    );
    assert!(opened.vocabulary().is_err());
    let missing = problems(&target);
    assert_eq!(missing.len(), 5, "{missing:?}");
    assert!(
        missing
            .iter()
            .all(|one| matches!(one, Problem::MissingFile { .. }))
    );
}

#[test]
fn damage_is_found_and_named() {
    let (good, manifest) = split_into(&llama(true), SlicePlan::Even(1));
    let copy = || {
        let names = good.names().expect("memory");
        Arc::new(MemoryFolder::new(names.into_iter().map(|name| {
            let bytes = bytes_of(&good, &name);
            (name, bytes)
        })))
    };
    // Any flipped bit of any file but the manifest.
    for name in good
        .names()
        .unwrap()
        .iter()
        .filter(|name| *name != MANIFEST_FILE)
    {
        let length = bytes_of(&good, name).len();
        for at in [0, length / 2, length - 1] {
            let folder = copy();
            let mut bytes = bytes_of(&folder, name);
            bytes[at] ^= 4;
            folder.put(name, bytes);
            let found = problems(&folder);
            let named = found
                .iter()
                .any(|one| matches!(one, Problem::Sha256 { file, .. } if file == name));
            assert!(named, "{name} at {at}: {found:?}");
        }
        let folder = copy();
        let mut bytes = bytes_of(&folder, name);
        bytes.pop();
        folder.put(name, bytes);
        let found = problems(&folder);
        assert!(
            matches!(found[..], [Problem::Size { .. } | Problem::Part { .. }]),
            "{name}: {found:?}"
        );
    }
    let folder = copy();
    folder.put("evil.safetensors", vec![]);
    folder.put(JOURNAL_FILE, vec![]);
    // Another layer's file in place of this one's.
    folder.put(
        "layer-0001.safetensors",
        bytes_of(&good, "layer-0002.safetensors"),
    );
    folder.put("head.safetensors", bytes_of(&good, "embedding.safetensors"));
    let found = problems(&folder);
    let has = |check: &dyn Fn(&Problem) -> bool| assert!(found.iter().any(check), "{found:?}");
    has(&|one| matches!(one, Problem::ForeignFile { file } if file == "evil.safetensors"));
    has(&|one| matches!(one, Problem::Unfinished));
    has(&|one| matches!(one, Problem::Blake3 { file, .. } if file == "layer-0001.safetensors"));
    has(&|one| {
        matches!(
            one,
            Problem::Chunks {
                first: 0,
                count: 1,
                ..
            }
        )
    });
    has(&|one| {
        matches!(
            one,
            Problem::Part {
                part: Part::Head,
                ..
            }
        )
    });
    assert!(SplitCheckpoint::open(folder).is_err());
    assert_eq!(manifest.parts.len(), 5);
}

/// Every field of a manifest is covered by a check.
#[test]
fn manifests_are_cross_checked() {
    let (target, _) = split_into(&llama(true), SlicePlan::Even(2));
    let good: Value = serde_json::from_slice(&bytes_of(&target, MANIFEST_FILE)).unwrap();
    let check = |pointer: &str, value: Value, expected: &str| {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect(pointer) = value;
        let error = Manifest::parse(bad.to_string().as_bytes()).expect_err(pointer);
        let error = format!("{error:?}");
        assert!(error.starts_with(expected), "{pointer}: {error}");
    };
    let zeros = Value::from("0".repeat(64));
    check("/version", 3.into(), "Version");
    check("/version", 1.into(), "Version");
    check("/model", zeros.clone(), "Id");
    check("/model", "x".into(), "Json");
    check("/profile/layers", 2.into(), "Parts");
    check("/profile/layers", 4_000_000_000_u64.into(), "Profile");
    check("/profile/hidden", 16.into(), "Tensors");
    check("/profile/context", 65.into(), "Id");
    check("/files/0/name", "../x".into(), "FileName");
    check("/files/0/name", "a/b".into(), "FileName");
    check("/files/0/name", "C:x".into(), "FileName");
    check("/files/0/name", "head.safetensors".into(), "FileName");
    check("/files/0/name", "skein.json".into(), "FileName");
    check("/files/0/bytes", u64::MAX.into(), "File(TooLarge");
    check("/files/2/sha256", zeros.clone(), "Id");
    check("/parts/1/part", "layer-1".into(), "Json");
    check("/parts/1/part", "layer-0001".into(), "Parts");
    check("/parts/1/file", "other.safetensors".into(), "FileName");
    check("/parts/1/bytes", 3.into(), "Size");
    check("/parts/1/blake3", zeros.clone(), "Chunks");
    check("/parts/1/chunks", Value::Array(vec![]), "Chunks");
    check("/parts/1/chunks/0", zeros, "Chunks");
    check(
        "/parts/1/tensors/0/shape",
        serde_json::json!([9]),
        "Tensors",
    );
    check("/parts/1/tensors/0/name", "x".into(), "Tensors");
    check("/parts/1/tensors/0/dtype", "bf16".into(), "Size");
    check("/parts/1/tensors", Value::Array(vec![]), "Tensors");
    check("/slices/0/end", 9.into(), "Slices");
    check("/slices", Value::Array(vec![]), "Slices");
    check("/vision", serde_json::json!({}), "Vision");
    let unknown = format!("{{\"extra\":1,{}", &good.to_string()[1..]);
    assert!(matches!(
        Manifest::parse(unknown.as_bytes()),
        Err(ManifestError::Json { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn mutated_manifests_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        thread_local! {
            static GOOD: Vec<u8> =
                bytes_of(&split_into(&llama(true), SlicePlan::Even(2)).0, MANIFEST_FILE);
        }
        let mut bytes = GOOD.with(Clone::clone);
        for (index, byte) in edits {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        // Most are refused; whatever is not still has the id of its contents.
        if let Ok(manifest) = Manifest::parse(&bytes) {
            prop_assert_eq!(manifest.compute_id(), manifest.model);
        }
    }
}

/// A disk that fails after so many operations, as a crash would.
#[derive(Debug)]
struct Failing {
    folder: MemoryFolder,
    left: AtomicU64,
}

impl Failing {
    fn spend(&self) -> io::Result<()> {
        let spent = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        spent
            .map(|_| ())
            .map_err(|_| io::Error::other("the disk is full"))
    }
}

impl Folder for Failing {
    fn names(&self) -> io::Result<Vec<String>> {
        self.folder.names()
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn ByteRange>> {
        self.folder.open(name)
    }
    fn describe(&self) -> String {
        "the failing disk".to_owned()
    }
}

impl Sink for Failing {
    fn create(&self, name: &str) -> io::Result<Box<dyn SinkFile + '_>> {
        self.spend()?;
        Ok(Box::new(FailingFile {
            disk: self,
            inner: self.folder.create(name)?,
        }))
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.spend()?;
        self.folder.remove(name)
    }
}

#[derive(Debug)]
struct FailingFile<'a> {
    disk: &'a Failing,
    inner: Box<dyn SinkFile + 'a>,
}

impl SinkFile for FailingFile<'_> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.spend()?;
        self.inner.append(bytes)
    }
    fn finish(self: Box<Self>) -> io::Result<()> {
        self.disk.spend()?;
        self.inner.finish()
    }
}

#[test]
fn a_crash_at_any_write_is_resumed() {
    for format in [None, Some(Dtype::Q4)] {
        let crashes = crash_everywhere(&SplitOptions {
            format,
            ..options(SlicePlan::Even(2))
        });
        assert!(crashes > 50, "{crashes}");
    }
}

/// How many writes there are. The result of each resumed split is that of one that was left alone.
fn crash_everywhere(options: &SplitOptions) -> u64 {
    let source = llama(true);
    let expected = MemoryFolder::default();
    let outcome = split(&source, options, &expected, &mut |_| ()).expect("it can be split");
    let mut crashes = 0;
    loop {
        let disk = Failing {
            folder: MemoryFolder::default(),
            left: AtomicU64::new(crashes),
        };
        if split(&source, options, &disk, &mut |_| ()).is_ok() {
            return crashes;
        }
        let names = disk.folder.names().expect("it is in memory");
        let has = |name: &str| names.iter().any(|one| one == name);
        assert!(
            !has(MANIFEST_FILE) || has(JOURNAL_FILE),
            "a failed split looks complete after {crashes} writes"
        );
        disk.left.store(u64::MAX, Ordering::SeqCst);
        let resumed = split(&source, options, &disk, &mut |_| ()).expect("it resumes");
        assert_eq!(resumed, outcome);
        let names = expected.names().expect("it is in memory");
        assert_eq!(disk.folder.names().ok().as_ref(), Some(&names));
        for name in names {
            assert_eq!(
                bytes_of(&disk.folder, &name),
                bytes_of(&expected, &name),
                "{name}"
            );
        }
        crashes += 1;
    }
}

#[test]
fn resuming_trusts_nothing() {
    let source = llama(true);
    let (expected, _) = split_into(&source, SlicePlan::Even(2));
    let disk = Failing {
        folder: MemoryFolder::default(),
        left: AtomicU64::new(60),
    };
    let two = options(SlicePlan::Even(2));
    split(&source, &two, &disk, &mut |_| ()).expect_err("it crashes");
    disk.left.store(u64::MAX, Ordering::SeqCst);
    // A finished part is damaged meanwhile.
    let mut bytes = bytes_of(&disk.folder, "embedding.safetensors");
    *bytes.last_mut().expect("it is not empty") ^= 1;
    disk.folder.put("embedding.safetensors", bytes);
    split(&source, &two, &disk, &mut |_| ()).expect("it resumes");
    let name = "embedding.safetensors";
    assert_eq!(bytes_of(&disk.folder, name), bytes_of(&expected, name));
    // Complete: not touched again.
    let again = split(&source, &two, &disk, &mut |_| ());
    assert!(
        matches!(again, Err(SplitError::NotEmpty { .. })),
        "{again:?}"
    );

    // Another source into an unfinished folder starts over.
    let disk = Failing {
        folder: MemoryFolder::default(),
        left: AtomicU64::new(60),
    };
    split(&source, &two, &disk, &mut |_| ()).expect_err("it crashes");
    disk.left.store(u64::MAX, Ordering::SeqCst);
    let mut tensors = llama_tensors(true);
    tensors[0].3[2] ^= 1;
    let other = HfCheckpoint::open(folder(&llama_config(true), &tensors)).unwrap();
    split(&other, &two, &disk, &mut |_| ()).expect("it starts over");
    assert!(problems(&disk.folder).is_empty());
    assert_ne!(bytes_of(&disk.folder, name), bytes_of(&expected, name));

    // So does a smaller one: nothing of the other model may stay.
    let disk = Failing {
        folder: MemoryFolder::default(),
        left: AtomicU64::new(70),
    };
    split(&source, &two, &disk, &mut |_| ()).expect_err("it crashes");
    assert!(
        disk.folder
            .names()
            .unwrap()
            .contains(&"layer-0002.safetensors".to_owned())
    );
    disk.left.store(u64::MAX, Ordering::SeqCst);
    let smaller = folder(&gpt2_config(), &gpt2_tensors(""));
    smaller.take("generation_config.json");
    split(
        &HfCheckpoint::open(smaller).unwrap(),
        &two,
        &disk,
        &mut |_| (),
    )
    .expect("it starts over");
    let found = problems(&disk.folder);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn inspection_counts() {
    let source = llama(true);
    let found = inspect(&source, Some(&SlicePlan::Even(3))).unwrap();
    let contents = found.contents.expect("it is servable");
    let layer = 8 + 64 + 32 + 32 + 64 + 8 + 3 * 96;
    assert_eq!(contents.parameters, 160 + 3 * layer + 8);
    assert_eq!(contents.memory.f32, 4 * contents.parameters);
    assert_eq!(contents.memory.bf16, 2 * contents.parameters);
    assert_eq!(contents.memory.stored, contents.memory.f32);
    assert_eq!(contents.dtypes["f32"].tensors, 2 + 27);
    // The tied embedding is needed at both ends.
    let per_slice: Vec<u64> = contents
        .slices
        .iter()
        .map(|slice| slice.parameters)
        .collect();
    assert_eq!(per_slice, [160 + layer, layer, layer + 160 + 8]);
    assert!(inspect(&source, Some(&SlicePlan::Even(4))).is_err());
    let budget = SlicePlan::Budgets(vec![ByteSize(1 << 20)]);
    let json = serde_json::to_string(&inspect(&source, Some(&budget)).unwrap()).unwrap();
    assert!(json.contains(r#""servable":true"#));
    let error = open_folder(Arc::new(MemoryFolder::default())).expect_err("it is empty");
    let refused = skein_weights::inspect::refused("x", &error);
    assert!(
        !refused.servable
            && refused
                .refusal
                .is_some_and(|text| text.contains("config.json"))
    );
}
