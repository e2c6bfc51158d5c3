//! Who may depend on whom: layers, and the owner of each foreign library.

use super::{Finding, Package, Repository};

/// The layers, lowest first. Arrows point down or stay level.
const LAYERS: [&str; 5] = ["pure", "effects", "roles", "edge", "tools"];

/// What roles must not see: they hold channels, clock and storage that the edge hands them.
const HIDDEN_FROM_ROLES: [&str; 3] = ["skein-p2p", "skein-consensus", "skein-settlement"];

/// Anyone may use these: they know nothing of the world.
const COMMON: [&str; 1] = ["thiserror"];

/// Anyone's tests may use these; tokio, because something must drive the futures under test.
const TESTS_ONLY: [&str; 5] = ["proptest", "tempfile", "serde", "serde_json", "tokio"];

/// Each foreign library and the crates that may name it. A library that is not listed is refused:
/// a new one is a decision, and this is where it is written down.
const OWNERS: [(&str, &[&str]); 45] = [
    // Hashes: ids are `base`'s, chunks and files `weights`'; the gateway stores keys hashed.
    ("blake3", &["skein-base", "skein-weights"]),
    ("sha2", &["skein-base", "skein-weights", "skein-gateway"]),
    // Formats of checkpoints and manifests, of chat templates, of HTTP (also as a client), and `--json`.
    (
        "serde",
        &["skein-weights", "skein-text", "skein-gateway", "skein-node"],
    ),
    (
        "serde_json",
        &[
            "skein-weights",
            "skein-text",
            "skein-gateway",
            "skein-node",
            "xtask",
        ],
    ),
    // The half types, wherever weights are converted.
    ("half", &["skein-weights", "skein-model"]),
    // Words to tokens, messages to words.
    ("tokenizers", &["skein-text"]),
    ("minijinja", &["skein-text"]),
    ("minijinja-contrib", &["skein-text"]),
    // The machine below: tasks, time, entropy.
    // (`node` builds the one tokio runtime of the process and waits for signals.)
    ("tokio", &["skein-runtime", "skein-p2p", "skein-node"]),
    ("tokio-util", &["skein-runtime"]),
    ("getrandom", &["skein-runtime"]),
    // Tensors, mapped memory, and the system calls that `std` lacks. All of it is `unsafe` country.
    ("candle-core", &["skein-model"]),
    // The driver of NVIDIA's cards and their compiler, both loaded at run time.
    ("cudarc", &["skein-model"]),
    // Benches of kernels alone: distributions, and changes since the last run.
    ("criterion", &["skein-model"]),
    ("memmap2", &["skein-model"]),
    ("libc", &["skein-model"]),
    // HTTP. `futures` and `bytes` are what a body is made of.
    ("axum", &["skein-gateway"]),
    ("axum-server", &["skein-gateway"]),
    ("tower", &["skein-gateway"]),
    ("tower-http", &["skein-gateway"]),
    ("rustls", &["skein-gateway", "skein-p2p"]),
    ("tokio-rustls", &["skein-p2p"]),
    ("bytes", &["skein-gateway"]),
    ("hyper-util", &["skein-gateway"]),
    ("futures", &["skein-gateway", "skein-node"]),
    ("subtle", &["skein-gateway"]),
    ("metrics-exporter-prometheus", &["skein-gateway"]),
    // Facades: the counters and the events, never where they go.
    (
        "metrics",
        &[
            "skein-runtime",
            "skein-model",
            "skein-serving",
            "skein-gateway",
        ],
    ),
    (
        "tracing",
        &[
            "skein-runtime",
            "skein-model",
            "skein-routing",
            "skein-serving",
            "skein-gateway",
            "skein-node",
        ],
    ),
    // The command line, the configuration, and what a terminal shows.
    ("clap", &["skein-node", "xtask"]),
    ("clap_complete", &["skein-node"]),
    ("hf-hub", &["skein-node"]),
    ("ureq", &["skein-node"]),
    ("indicatif", &["skein-node"]),
    // Signals to the processes of `skein up`; the cores that kernels run on.
    ("rustix", &["skein-node", "skein-model"]),
    ("console", &["skein-node"]),
    ("rustyline", &["skein-node"]),
    ("strsim", &["skein-node"]),
    ("toml", &["skein-node"]),
    ("tracing-subscriber", &["skein-node"]),
    // Errors without a type, where a person reads them.
    ("anyhow", &["skein-node", "xtask"]),
    ("cargo_metadata", &["xtask"]),
    // Planned owners, so that nobody takes them by accident.
    ("libp2p", &["skein-p2p"]),
    ("redb", &["skein-runtime"]),
    ("alloy", &["skein-settlement"]),
];

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &repository.packages {
        check_layers(repository, package, &mut findings);
        check_owners(package, &mut findings);
    }
    findings
}

fn check_layers(repository: &Repository, package: &Package, findings: &mut Vec<Finding>) {
    let Some(own) = rank(&package.layer) else {
        let known = LAYERS.join(", ");
        let message = format!(
            "`{}` names no layer: set package.metadata.skein.layer to one of {known}",
            package.name
        );
        findings.push(finding(package, "layers", message));
        return;
    };
    // Edges of tests count too: what tests reach for, code reaches for next.
    for name in package.dependencies.iter().chain(&package.dev_dependencies) {
        let Some(below) = repository.packages.iter().find(|p| p.name == *name) else {
            continue;
        };
        if rank(&below.layer).is_some_and(|other| other > own) {
            let message = format!(
                "`{}` ({}) depends on `{name}` ({}): arrows point down",
                package.name, package.layer, below.layer
            );
            findings.push(finding(package, "layers", message));
        }
        if package.layer == "roles" && HIDDEN_FROM_ROLES.contains(&name.as_str()) {
            let message = format!(
                "role `{}` depends on `{name}`: roles hold channels, `skein-node` joins them",
                package.name
            );
            findings.push(finding(package, "layers", message));
        }
    }
}

fn check_owners(package: &Package, findings: &mut Vec<Finding>) {
    let tests = package.dev_dependencies.iter();
    let tests = tests.filter(|name| !TESTS_ONLY.contains(&name.as_str()));
    for name in package.dependencies.iter().chain(tests) {
        let entry = OWNERS.iter().find(|(library, _)| library == name);
        let message = match entry {
            _ if COMMON.contains(&name.as_str()) || name.starts_with("skein-") => continue,
            Some((_, owners)) if owners.contains(&package.name.as_str()) => continue,
            Some((_, owners)) => format!(
                "`{}` uses `{name}`, which belongs to {}: ask the owner for what you need",
                package.name,
                owners.join(", ")
            ),
            None => format!(
                "`{}` uses `{name}`, which has no owner: give it one, with a reason, in \
                 xtask/src/tidy/graph.rs",
                package.name
            ),
        };
        findings.push(finding(package, "owners", message));
    }
}

fn rank(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|known| *known == layer)
}

fn finding(package: &Package, rule: &'static str, message: String) -> Finding {
    Finding {
        path: format!("{}/Cargo.toml", package.folder),
        line: 0,
        rule,
        message,
    }
}
