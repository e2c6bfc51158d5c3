use std::path::Path;

use super::*;

fn read(text: &str) -> Result<Loaded, ConfigError> {
    let mut loaded = Loaded::defaults();
    loaded
        .apply_text(text, Path::new("skein.toml"))
        .map(|()| loaded)
}

#[test]
fn file_before_environment_before_flags() {
    let mut loaded =
        read("[gateway]\nlisten = \"127.0.0.1:1\"\n[engine]\nthreads = 3\n[log]\nlevel = \"warn\"")
            .expect("a good file");
    let variables = [
        ("SKEIN_GATEWAY__LISTEN", "127.0.0.1:2"),
        ("SKEIN_ENGINE__THREADS", "4"),
        ("SKEIN_CONFIG", "x"),
        ("PATH", "x"),
    ];
    loaded
        .apply_environment(variables.map(|(name, text)| (name.to_owned(), text.to_owned())))
        .expect("good variables");
    let flag = Override {
        section: "gateway",
        key: "listen",
        flag: "--listen",
        value: "localhost:3".to_owned(),
    };
    loaded.apply_overrides(&[flag]).expect("a good flag");
    assert_eq!(loaded.settings.gateway.listen.port(), 3);
    assert_eq!(loaded.settings.engine.threads, 4);
    assert_eq!(loaded.settings.log.level, "warn");
    let origins: Vec<String> = SECTIONS
        .iter()
        .flat_map(|section| section.fields)
        .map(|field| loaded.origin(field))
        .filter(|origin| *origin != Origin::Default)
        .map(|origin| origin.to_string())
        .collect();
    assert_eq!(origins, ["--listen", "SKEIN_ENGINE__THREADS", "skein.toml"]);
}

#[test]
fn refusals_say_what_to_do() {
    let cases = [
        (
            "[gateway]\nlisen = \"127.0.0.1:1\"",
            "skein.toml: there is no setting lisen in [gateway]; did you mean listen?",
        ),
        (
            "[gatway]",
            "skein.toml: there is no section [gatway]; did you mean gateway?",
        ),
        (
            "[engine]\nlisten = 1",
            "listen belongs into [node] or [gateway] or [metrics]",
        ),
        ("[engine]\nzzz = 1", "known are threads"),
        ("gateway = 1", "write [gateway] on a line of its own"),
        (
            "[gateway]\nlisten = 80",
            "gateway.listen: expected an address and a port such as \"127.0.0.1:8080\"",
        ),
        (
            "[engine]\nthreads = -1",
            "expected a whole number from 0 to",
        ),
        ("[engine]\nkv_memory = \"many\"", "\"many\" is no size"),
        ("[runtime]\ndrain = \"20\"", "expected a duration such as"),
        (
            "[model]\nformat = \"int3\"",
            "expected \"auto\", \"f32\", \"bf16\", \"q8\" or \"q4\", found \"int3\"",
        ),
        ("[model\n", "is no valid TOML"),
    ];
    for (text, expected) in cases {
        let message = read(text).expect_err(text).to_string();
        assert!(message.contains(expected), "{text:?} gave {message:?}");
    }
    let mut loaded = Loaded::defaults();
    let unknown = [("SKEIN_GATEWAY__LISTN".to_owned(), "x".to_owned())];
    let message = loaded
        .apply_environment(unknown)
        .expect_err("unknown")
        .to_string();
    assert!(
        message.starts_with("SKEIN_GATEWAY__LISTN: ") && message.contains("listen?"),
        "{message}"
    );
}

#[test]
fn what_is_shown_can_be_read_again() {
    let mut loaded = read("[engine]\nkv_memory = 1536\nthreads = 2\n[runtime]\ndrain = \"1500ms\"")
        .expect("a good file");
    loaded.settings.model.path = Some("a \"quoted\" path".to_owned());
    let again = read(&explain::show(&loaded)).expect("what show prints is a file");
    assert_eq!(again.settings, loaded.settings);
}

#[test]
fn every_setting_is_documented() {
    for field in SECTIONS.iter().flat_map(|section| section.fields) {
        assert!(
            field.paragraph().len() > 20,
            "{}.{}",
            field.section,
            field.key
        );
        assert!(explain::text("").contains(&environment_name(field)));
    }
    assert_eq!(
        explain::json().as_array().expect("a list").len(),
        SECTIONS.iter().map(|s| s.fields.len()).sum::<usize>()
    );
}

#[test]
fn the_committed_reference_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config.md");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == explain::markdown(),
        "docs/config.md is old; run: cargo run -p skein-node -- config explain --markdown > docs/config.md"
    );
}

#[test]
fn the_example_is_valid() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../etc/skein.toml");
    let mut loaded = Loaded::defaults();
    loaded
        .apply_file(Path::new(path))
        .expect("etc/skein.toml is valid");
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        let _ = read(&text);
        for field in SECTIONS.iter().flat_map(|section| section.fields) {
            let variable = (environment_name(field), text.clone());
            let _ = Loaded::defaults().apply_environment([variable]);
        }
    }
}
