//! Reads what the rules judge: `cargo metadata` and the text files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, MetadataCommand};

use super::{Package, Repository, TextFile};

/// Crates that compare the work of others: no part of the product, so its rules do not hold there.
const APART: [&str; 1] = ["bench/transport"];
/// What holds nothing written by us. (`.git` is a file where the checkout is a worktree.)
const SKIPPED: [&str; 8] = [
    "target",
    ".git",
    "node_modules",
    ".cache",
    "corpus",
    "artifacts",
    "__pycache__",
    ".venv",
];

/// Extensions of files that people read; files without one (scripts) are read too.
const TEXT_EXTENSIONS: [&str; 8] = ["rs", "md", "toml", "sh", "py", "js", "mjs", "cfg"];

/// Larger files are data, not text: a tokenizer in JSON, a fixture.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Reads the packages and the text files under `root`.
///
/// # Errors
/// `cargo metadata` failed, or a folder or file could not be read.
pub fn load(root: &Path) -> Result<Repository> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cargo metadata")?;
    let packages = metadata
        .packages
        .iter()
        .map(|package| read_package(root, package))
        .collect();
    let mut files = Vec::new();
    read_folder(root, root, &mut files)?;
    files.sort_by(|a: &TextFile, b| a.path.cmp(&b.path));
    Ok(Repository { packages, files })
}

fn read_package(root: &Path, package: &cargo_metadata::Package) -> Package {
    let names = |dev: bool| -> BTreeSet<String> {
        let of_kind =
            |d: &&cargo_metadata::Dependency| (d.kind == DependencyKind::Development) == dev;
        package
            .dependencies
            .iter()
            .filter(of_kind)
            .map(|d| d.name.clone())
            .collect()
    };
    let folder = package
        .manifest_path
        .parent()
        .map(|p| p.as_std_path().to_path_buf());
    let layer = package
        .metadata
        .pointer("/skein/layer")
        .and_then(serde_json::Value::as_str);
    Package {
        name: package.name.to_string(),
        folder: relative(root, &folder.unwrap_or_default()),
        description: package.description.clone().unwrap_or_default(),
        layer: layer.unwrap_or_default().to_owned(),
        dependencies: names(false),
        dev_dependencies: names(true),
    }
}

fn read_folder(root: &Path, folder: &Path, files: &mut Vec<TextFile>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let apart = APART.contains(&relative(root, &path).as_str());
        if apart || SKIPPED.contains(&name.as_str()) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            read_folder(root, &path, files)?;
        } else if kind.is_file() && is_text(&path) && entry.metadata()?.len() <= TEXT_BYTES_MAX {
            let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(TextFile {
                    path: relative(root, &path),
                    text,
                });
            }
        }
    }
    Ok(())
}

fn is_text(path: &Path) -> bool {
    match path.extension() {
        Some(extension) => TEXT_EXTENSIONS.iter().any(|known| extension == *known),
        None => true,
    }
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root)
        .unwrap_or(path)
        .to_string_lossy()
        .replace('\\', "/")
}
