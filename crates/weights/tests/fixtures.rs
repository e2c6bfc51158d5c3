//! Every fixture opens, has the shapes of its profile, and survives being split.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Disk, values};
use skein_weights::bytes::MemoryFolder;
use skein_weights::open_folder;
use skein_weights::slices::SlicePlan;
use skein_weights::split::{SplitOptions, split};
use skein_weights::verify::verify;

fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let entries = fs::read_dir(root).expect("the fixtures are committed");
    let folders = entries.map(|entry| entry.expect("it can be listed").path());
    let mut folders: Vec<PathBuf> = folders
        .filter(|path| path.join("config.json").is_file())
        .collect();
    folders.sort();
    folders
}

#[test]
fn every_fixture_opens_splits_and_verifies() {
    let folders = fixtures();
    assert!(folders.len() >= 9, "{folders:?}");
    for path in folders {
        let source = open_folder(Arc::new(Disk(path.clone()))).unwrap_or_else(|error| {
            panic!("{}: {error:?}", path.display());
        });
        source.vocabulary().expect("fixtures have tokenizers");
        source
            .generation_defaults()
            .expect("fixtures have settings");
        let expected = values(&*source);
        let target = Arc::new(MemoryFolder::default());
        let options = SplitOptions {
            name: None,
            format: None,
            slices: SlicePlan::Even(2),
        };
        let outcome = split(&*source, &options, &*target, &mut |_| ()).expect("it can be split");
        let manifest = outcome.manifest;
        assert_eq!(
            manifest.name,
            path.file_name().expect("it has a name").to_string_lossy()
        );
        let report = verify(&*target, &mut |_| ());
        assert!(
            report.is_good(),
            "{}: {:?}",
            path.display(),
            report.problems
        );
        let opened = open_folder(target).expect("it opens");
        assert_eq!(values(&*opened), expected, "{}", path.display());
        assert_eq!(opened.vocabulary().ok(), source.vocabulary().ok());
        assert_eq!(*opened.profile(), *source.profile());
    }
}

#[test]
fn features_of_the_fixtures_are_read() {
    let open = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fixtures")
            .join(name);
        open_folder(Arc::new(Disk(path)))
            .expect("it opens")
            .profile()
            .clone()
    };
    assert_eq!(
        open("qwen2-window").windows,
        [None, None, Some(24), Some(24), Some(24)]
    );
    assert_eq!(open("mistral").windows, vec![Some(16); 4]);
    assert_eq!(open("qwen3").head_dim, 20);
    assert!(open("llama-bias").biases.mlp);
    assert!(open("gpt2").tied && open("qwen2").tied && !open("llama2").tied);
}
