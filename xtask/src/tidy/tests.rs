//! Each rule with an example that breaks it and one that does not; then the repository itself.

use super::{Package, Repository, TextFile, check, repository_root, run};

fn package(name: &str, layer: &str, dependencies: &[&str]) -> Package {
    Package {
        name: name.to_owned(),
        folder: format!("crates/{}", name.trim_start_matches("skein-")),
        description: "One sentence.".to_owned(),
        layer: layer.to_owned(),
        dependencies: dependencies.iter().map(ToString::to_string).collect(),
        ..Package::default()
    }
}

fn file(path: &str, text: &str) -> TextFile {
    TextFile {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

/// The rules broken by a repository of these parts.
fn broken(packages: Vec<Package>, files: Vec<TextFile>) -> Vec<&'static str> {
    check(&Repository { packages, files })
        .into_iter()
        .map(|finding| finding.rule)
        .collect()
}

/// The rules broken by one file of a crate in the pure layer.
fn broken_in_pure(path: &str, text: &str) -> Vec<&'static str> {
    broken(
        vec![package("skein-base", "pure", &[])],
        vec![file(path, text)],
    )
}

#[test]
fn this_repository_is_tidy() {
    let findings = run(&repository_root()).expect("the repository can be read");
    let report: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(report.is_empty(), "\n{}\n", report.join("\n"));
}

#[test]
fn arrows_point_down() {
    let cases: [(&str, &str, &[&str]); 6] = [
        ("pure", "pure", &[]),
        ("effects", "pure", &[]),
        ("edge", "roles", &[]),
        ("pure", "effects", &["layers"]),
        ("roles", "edge", &["layers"]),
        ("effects", "roles", &["layers"]),
    ];
    for (upper, lower, expected) in cases {
        let crates = || {
            vec![
                package("skein-a", upper, &["skein-b"]),
                package("skein-b", lower, &[]),
            ]
        };
        assert_eq!(broken(crates(), vec![]), expected, "{upper} -> {lower}");
        let mut tests_only = crates();
        tests_only[0].dev_dependencies = std::mem::take(&mut tests_only[0].dependencies);
        assert_eq!(
            broken(tests_only, vec![]),
            expected,
            "tests of {upper} -> {lower}"
        );
    }
}

#[test]
fn a_layer_is_named_and_known() {
    assert_eq!(
        broken(vec![package("skein-a", "", &[])], vec![]),
        ["layers"]
    );
    assert_eq!(
        broken(vec![package("skein-a", "middle", &[])], vec![]),
        ["layers"]
    );
}

#[test]
fn roles_do_not_see_the_network() {
    let packages = vec![
        package("skein-serving", "roles", &["skein-p2p"]),
        package("skein-p2p", "effects", &["libp2p"]),
    ];
    assert_eq!(broken(packages, vec![]), ["layers"]);
}

#[test]
fn foreign_libraries_stay_with_their_owner() {
    let of = |name, layer, library| broken(vec![package(name, layer, &[library])], vec![]);
    assert!(of("skein-runtime", "effects", "tokio").is_empty());
    assert!(of("skein-base", "pure", "thiserror").is_empty());
    assert_eq!(of("skein-serving", "roles", "tokio"), ["owners"]);
    assert_eq!(of("skein-gateway", "edge", "clap"), ["owners"]);
    assert_eq!(of("skein-base", "pure", "left-pad"), ["owners"]);
    let mut tested = package("skein-base", "pure", &[]);
    tested.dev_dependencies = ["proptest".to_owned()].into();
    assert!(broken(vec![tested.clone()], vec![]).is_empty());
    tested.dev_dependencies = ["clap".to_owned()].into();
    assert_eq!(broken(vec![tested], vec![]), ["owners"]);
}

#[test]
fn text_rules() {
    let cases: [(&str, &[&str]); 14] = [
        ("fn f() { unsafe { g() } }", &["unsafe"]),
        (
            "// unsafe is a word here\nconst A: &str = \"unsafe { }\";",
            &[],
        ),
        ("fn f() { todo!() }", &["unfinished"]),
        ("fn f() { unimplemented!() }", &["unfinished"]),
        (concat!("// FIX", "ME later"), &["unfinished"]),
        ("#[test]\n#[ignore]\nfn f() {}", &["unfinished"]),
        ("#[test]\n#[should_panic]\nfn f() {}", &["unfinished"]),
        ("fn f() { tokio::spawn(g()); }", &["tasks"]),
        (concat!("const P: &str = \"/", "work/a\";"), &["paths"]),
        ("fn f() { std::thread::yield_now() }", &["pure"]),
        ("async fn f() {}", &["pure"]),
        ("fn f() { g().await }", &["pure"]),
        ("use std::time::Duration;", &[]),
        (
            "#[cfg(test)]\nmod tests {\n fn f() { std::fs::read(\"a\"); }\n}",
            &[],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(
            broken_in_pure("crates/base/src/a.rs", text),
            expected,
            "{text}"
        );
    }
    let impure = "fn f() { std::fs::read(\"a\"); }";
    assert!(broken_in_pure("crates/base/tests/a.rs", impure).is_empty());
    assert!(broken_in_pure("crates/base/src/a/tests.rs", impure).is_empty());
    let spawns = "fn f() { tokio::spawn(g()); }";
    assert!(broken_in_pure("crates/base/src/tests/a.rs", spawns).is_empty());
}

#[test]
fn code_after_tests_is_still_judged() {
    let text = "#[cfg(test)]\nmod tests;\nfn f() { std::fs::read(\"a\"); }";
    assert_eq!(broken_in_pure("crates/base/src/a.rs", text), ["pure"]);
}

#[test]
fn long_files_are_split() {
    assert!(broken_in_pure("crates/base/src/a.rs", &"\n".repeat(800)).is_empty());
    assert_eq!(
        broken_in_pure("crates/base/src/a.rs", &"\n".repeat(801)),
        ["length"]
    );
}

#[test]
fn the_model_may_be_unsafe_and_others_forbid_it() {
    let text = "//! One sentence.\nfn f() { unsafe { g() } }";
    let model = vec![package("skein-model", "effects", &[])];
    assert!(broken(model, vec![file("crates/model/src/lib.rs", text)]).is_empty());
    let plain = "//! One sentence.\nfn f() {}";
    assert_eq!(broken_in_pure("crates/base/src/lib.rs", plain), ["unsafe"]);
    let forbids = "//! One sentence.\n#![forbid(unsafe_code)]\nfn f() {}";
    assert!(broken_in_pure("crates/base/src/lib.rs", forbids).is_empty());
    let pretends = "//! One sentence.\n// #![forbid(unsafe_code)]\nfn f() {}";
    assert_eq!(
        broken_in_pure("crates/base/src/lib.rs", pretends),
        ["unsafe"]
    );
}

#[test]
fn a_crate_has_one_sentence() {
    let lib = |text: &str| file("crates/base/src/lib.rs", text);
    let wrapped = "//! One\n//! sentence.\n//!\n//! More.\n#![forbid(unsafe_code)]";
    assert!(broken_in_pure("crates/base/src/lib.rs", wrapped).is_empty());
    let other = "//! Another one.\n#![forbid(unsafe_code)]";
    let base = || vec![package("skein-base", "pure", &[])];
    assert_eq!(broken(base(), vec![lib(other)]), ["sentence"]);
    assert_eq!(
        broken(base(), vec![lib(wrapped), file("README.md", "")]),
        ["sentence"]
    );
    assert!(
        broken(
            base(),
            vec![lib(wrapped), file("README.md", "One sentence.")]
        )
        .is_empty()
    );
}

#[test]
fn the_mask_hides_text_and_keeps_code() {
    let cases = [
        ("a /* b /* c */ d */ e", "a                   e"),
        ("f(\"x\\\"y\") g", "f(      ) g"),
        ("r#\"x\"y\"# z", "         z"),
        ("br\"x\" z", "b     z"),
        ("'a' 'b: &'c T", "    'b: &'c T"),
        ("'\\'' x '\\u{1F600}' y", "     x             y"),
        ("for r in r#raw", "for r in r#raw"),
        ("\"é\" z // é", "     z      "),
    ];
    for (text, expected) in cases {
        assert_eq!(
            super::mask::code_only(text).trim_end(),
            expected.trim_end(),
            "{text}"
        );
    }
}
