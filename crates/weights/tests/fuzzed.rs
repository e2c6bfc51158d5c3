//! The bodies of the fuzz targets over damaged fixtures, with a fixed seed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skein_weights::bytes::{Folder, MemoryFolder};
use skein_weights::gguf::GgufCheckpoint;
use skein_weights::manifest::MANIFEST_FILE;
use skein_weights::slices::SlicePlan;
use skein_weights::split::{SplitOptions, split};

#[expect(unreachable_pub, reason = "public in the crate of the fuzz targets")]
#[path = "../../../fuzz/src/lib.rs"]
mod targets;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// The fixtures whose names end so, in the folder itself or one below.
fn ending(suffix: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(fixtures()).expect("fixtures are readable") {
        let Ok(files) = std::fs::read_dir(folder.expect("fixtures are readable").path()) else {
            continue;
        };
        found.extend(
            files
                .map(|file| file.expect("fixtures are readable").path())
                .filter(|path| {
                    path.file_name()
                        .expect("an entry has a name")
                        .to_string_lossy()
                        .ends_with(suffix)
                }),
        );
    }
    found.sort();
    assert!(!found.is_empty(), "no fixture ends in {suffix}");
    found
        .iter()
        .map(|path| std::fs::read(path).expect("fixtures are readable"))
        .collect()
}

/// A fixed sequence of numbers that look random (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

/// Flips, overwrites, removes, repeats and cuts, mostly within the first `head` bytes.
fn damage(file: &mut Vec<u8>, head: usize, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = random.below(file.len().min(head));
        let len = random.below(9).min(file.len().saturating_sub(at));
        match random.below(6) {
            _ if file.is_empty() => return,
            0 => file[at] ^= 1 << random.below(8),
            1 => file[at] = random.below(256) as u8,
            2 => file[at..at + len].fill(0xff),
            3 => drop(file.drain(at..at + len)),
            4 => file.extend_from_within(at..at + len),
            _ => {
                file[at] = *b"0123456789-.eE\"{}[],:"
                    .get(random.below(21))
                    .unwrap_or(&b'0')
            }
        }
    }
    if random.below(10) == 0 {
        file.truncate(random.below(file.len()));
    }
}

fn run(seeds: &[Vec<u8>], head: usize, rounds: usize, target: fn(&[u8])) {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    target(&[]);
    for seed in seeds {
        target(seed);
        for _ in 0..rounds {
            let mut file = seed.clone();
            damage(&mut file, head, &mut random);
            target(&file);
        }
    }
}

#[test]
fn gguf() {
    run(&ending(".gguf"), 16 << 10, 300, targets::gguf);
}

#[test]
fn safetensors() {
    run(&ending(".safetensors"), 8 << 10, 200, targets::safetensors);
}

#[test]
fn config() {
    run(&ending("config.json"), 8 << 10, 300, targets::config);
}

#[test]
fn manifest() {
    let file = fixtures().join("gguf/llama-q8_0.gguf");
    let source = GgufCheckpoint::open(Arc::new(std::fs::read(file).unwrap()), "x").unwrap();
    let folder = MemoryFolder::default();
    let options = SplitOptions {
        name: None,
        format: None,
        slices: SlicePlan::Even(2),
    };
    split(&source, &options, &folder, &mut |_| {}).unwrap();
    let file = folder.open(MANIFEST_FILE).unwrap();
    let mut seed = vec![0; file.len() as usize];
    file.read_at(0, &mut seed).unwrap();
    run(&[seed], 1 << 20, 1500, targets::manifest);
}
