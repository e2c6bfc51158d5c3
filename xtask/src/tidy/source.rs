//! Rules over the text of files.

use super::mask::{code_only, without_tests};
use super::{Finding, Package, Repository, TextFile};

/// A file longer than this has more than one subject.
const LINES_MAX: usize = 800;

/// The one crate that may say `unsafe`.
const UNSAFE_CRATE: &str = "skein-model";

/// The one crate that may start tasks.
const TASKS_CRATE: &str = "skein-runtime";

const FORBID_UNSAFE: &str = "#![forbid(unsafe_code)]";

/// What no code may contain, test or not.
const NOWHERE: [(&str, &str); 5] = [
    ("todo!(", "finish it, or leave the feature out"),
    ("unimplemented!(", "finish it, or leave the feature out"),
    (
        "#[ignore",
        "a test that does not run proves nothing: make it fast, or delete it",
    ),
    (
        "#[should_panic",
        "test for a typed error: a panic says nothing about why",
    ),
    ("dbg!(", "use tracing, or an assertion"),
];

/// What pure code must not reach for: clock, threads, files, network, environment, async.
const IMPURE: [&str; 10] = [
    "std::time::Instant",
    "std::time::SystemTime",
    "std::thread",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "async fn",
    "async move",
    ".await",
];

/// Folders of one machine. Written in halves, so that this file passes its own rule.
const MACHINE_PATHS: [&str; 4] = [
    concat!("/", "work/"),
    concat!("/", "home/"),
    concat!("/", "root/"),
    concat!("../", "shared"),
];

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &repository.files {
        check_any(file, &mut findings);
        if file.path.ends_with(".rs") {
            let package = owner(repository, file);
            check_rust(file, package, &mut findings);
        }
    }
    for package in &repository.packages {
        check_one_sentence(repository, package, &mut findings);
    }
    findings
}

/// The package whose folder holds the file; the longest folder wins.
fn owner<'a>(repository: &'a Repository, file: &TextFile) -> Option<&'a Package> {
    let holds = |p: &&Package| file.path.starts_with(&format!("{}/", p.folder));
    repository
        .packages
        .iter()
        .filter(holds)
        .max_by_key(|p| p.folder.len())
}

fn check_any(file: &TextFile, findings: &mut Vec<Finding>) {
    let lines = file.text.lines().count();
    if file.path.ends_with(".rs") && lines > LINES_MAX {
        let message = format!("{lines} lines, at most {LINES_MAX}: split it by subject");
        findings.push(finding(file, 0, "length", message));
    }
    for (at, line) in file.text.lines().enumerate() {
        for path in MACHINE_PATHS.iter().filter(|path| line.contains(**path)) {
            let message = format!("`{path}` exists on one machine only: use a relative path");
            findings.push(finding(file, at + 1, "paths", message));
        }
        if line.contains(concat!("FIX", "ME")) {
            let message = "fix it, or write down as prose what is missing and why".to_owned();
            findings.push(finding(file, at + 1, "unfinished", message));
        }
    }
}

fn check_rust(file: &TextFile, package: Option<&Package>, findings: &mut Vec<Finding>) {
    let code = code_only(&file.text);
    let name = package.map_or("", |p| p.name.as_str());
    for (at, line) in code.lines().enumerate() {
        for (token, what) in NOWHERE.iter().filter(|(token, _)| has_token(line, token)) {
            findings.push(finding(
                file,
                at + 1,
                "unfinished",
                format!("`{token}`: {what}"),
            ));
        }
        if name != UNSAFE_CRATE && has_token(line, "unsafe") {
            let message = format!("`unsafe` belongs to {UNSAFE_CRATE} alone");
            findings.push(finding(file, at + 1, "unsafe", message));
        }
        let spawns = ["tokio::spawn", "task::spawn"]
            .iter()
            .any(|call| has_token(line, call));
        if name != TASKS_CRATE && spawns && !is_test_file(&file.path) {
            let message = format!("every task has an owner: {TASKS_CRATE} starts and joins it");
            findings.push(finding(file, at + 1, "tasks", message));
        }
    }
    let Some(package) = package else { return };
    check_forbid(file, &code, package, findings);
    if package.layer == "pure" && !is_test_file(&file.path) {
        check_pure(file, &code, findings);
    }
}

fn check_forbid(file: &TextFile, code: &str, package: &Package, findings: &mut Vec<Finding>) {
    let roots = ["src/lib.rs", "src/main.rs"];
    let is_root = roots
        .iter()
        .any(|root| file.path == format!("{}/{root}", package.folder));
    if is_root && package.name != UNSAFE_CRATE && !code.contains(FORBID_UNSAFE) {
        let message = format!("the crate's root lacks `{FORBID_UNSAFE}`");
        findings.push(finding(file, 1, "unsafe", message));
    }
}

fn check_pure(file: &TextFile, code: &str, findings: &mut Vec<Finding>) {
    for (at, line) in without_tests(code).lines().enumerate() {
        for token in IMPURE.iter().filter(|token| has_token(line, token)) {
            let message =
                format!("`{token}` in a pure crate: take the value as an argument instead");
            findings.push(finding(file, at + 1, "pure", message));
        }
    }
}

fn is_test_file(path: &str) -> bool {
    let folders = ["/tests/", "/benches/", "/examples/"];
    path.ends_with("/tests.rs") || folders.iter().any(|folder| path.contains(folder))
}

/// One sentence per crate, the same in its `Cargo.toml`, on top of its code and in the README.
fn check_one_sentence(repository: &Repository, package: &Package, findings: &mut Vec<Finding>) {
    let read = |path: &str| repository.files.iter().find(|file| file.path == path);
    let Some(root) = read(&format!("{}/src/lib.rs", package.folder)) else {
        return;
    };
    let sentence = first_paragraph(&root.text);
    if sentence != package.description {
        let message = format!(
            "begins with \"{sentence}\", but Cargo.toml says \"{}\": one sentence per crate",
            package.description
        );
        findings.push(finding(root, 1, "sentence", message));
    }
    let Some(readme) = read("README.md") else {
        return;
    };
    if !readme.text.contains(&package.description) {
        let message = format!("`{}` is missing: \"{}\"", package.name, package.description);
        findings.push(finding(readme, 0, "sentence", message));
    }
}

/// The first paragraph of a module's documentation, on one line.
fn first_paragraph(text: &str) -> String {
    let lines = text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim);
    lines
        .take_while(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether `token` stands in `line` as a token: not as a part of a longer word on either side.
fn has_token(line: &str, token: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(token).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(word);
        let after = line[at + token.len()..].chars().next().is_some_and(word);
        let starts_as_word = token.starts_with(word);
        let ends_as_word = token.ends_with(word);
        !(starts_as_word && before || ends_as_word && after)
    })
}

fn finding(file: &TextFile, line: usize, rule: &'static str, message: String) -> Finding {
    Finding {
        path: file.path.clone(),
        line,
        rule,
        message,
    }
}
