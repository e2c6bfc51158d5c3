//! The rules of this repository that neither the compiler nor clippy can hold.
//!
//! Loading ([`load()`]) is apart from judging ([`check`]): the rules are functions of plain values,
//! so that each has a test with an example that breaks it.

mod graph;
mod load;
mod mask;
mod source;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

pub use load::load;

/// What the rules look at: the packages of the workspace, and every text file of the repository.
#[derive(Debug, Clone, Default)]
pub struct Repository {
    /// The workspace members.
    pub packages: Vec<Package>,
    /// All text files, with paths relative to the root.
    pub files: Vec<TextFile>,
}

/// One workspace member, as `cargo metadata` tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Package {
    /// Package name, as `skein-base`.
    pub name: String,
    /// Folder relative to the root, as `crates/base`.
    pub folder: String,
    /// The description in its `Cargo.toml`.
    pub description: String,
    /// `package.metadata.skein.layer`, empty where it is missing.
    pub layer: String,
    /// Names of its direct dependencies that are compiled into it (normal and build).
    pub dependencies: BTreeSet<String>,
    /// Names of what only its tests use.
    pub dev_dependencies: BTreeSet<String>,
}

/// One text file of the repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextFile {
    /// Path relative to the root, with forward slashes.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// One broken rule, at one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// File, relative to the root.
    pub path: String,
    /// Line, counted from 1; 0 where the whole file is meant.
    pub line: usize,
    /// Short name of the rule.
    pub rule: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            rule,
            message,
        } = self;
        write!(f, "{path}:{line}: [{rule}] {message}")
    }
}

/// The root of the repository that this tool was built in.
#[must_use]
pub fn repository_root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent()
        .expect("xtask lies in a folder of the repository")
        .to_path_buf()
}

/// Loads the repository at `root` and judges it.
///
/// # Errors
/// `cargo metadata` failed, or a file could not be read.
pub fn run(root: &Path) -> anyhow::Result<Vec<Finding>> {
    Ok(check(&load(root)?))
}

/// All findings, in the order of their places.
#[must_use]
pub fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = graph::check(repository);
    findings.extend(source::check(repository));
    findings.sort();
    findings
}
