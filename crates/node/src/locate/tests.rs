use super::*;

fn touch(path: &Path) {
    fs::create_dir_all(path.parent().expect("has a parent")).expect("a folder");
    fs::write(path, b"x").expect("a file");
}

#[test]
fn each_form_is_found() {
    let root = tempfile::tempdir().expect("a folder");
    let at = |name: &str| root.path().join(name);
    touch(&at("hf/config.json"));
    touch(&at("hf/model.safetensors"));
    touch(&at("split/skein.json"));
    touch(&at("lone.gguf"));
    let find = |name: &str| locate(&at(name).display().to_string()).expect(name);
    assert_eq!(find("hf"), Place::HuggingFace(at("hf")));
    assert_eq!(find("split"), Place::Split(at("split")));
    assert_eq!(find("lone.gguf"), Place::Gguf(at("lone.gguf")));
    let commit = "0123456789abcdefABCD0123456789abcdef0123";
    let hub = locate(&format!("org/na.me@{commit}")).expect("a repository");
    assert!(matches!(hub, Place::Hub(r) if r.commit == commit.to_lowercase() && r.name == "na.me"));
}

#[test]
fn each_mistake_has_its_words() {
    let root = tempfile::tempdir().expect("a folder");
    let at = |name: &str| root.path().join(name);
    touch(&at("models/qwen-small/config.json"));
    touch(&at("bare/model.safetensors"));
    touch(&at("pickle/config.json"));
    touch(&at("pickle/pytorch_model.bin"));
    touch(&at("nothing/readme.md"));
    touch(&at("one/model.safetensors"));
    let path = |name: &str| at(name).display().to_string();
    let cases = [
        (path("models/qwen-smal"), "did you mean "),
        (path("models/qwen-smal"), "models/qwen-small?"),
        (path("model/qwen-small"), "did you mean "),
        (path("models/qwen-small"), "no *.safetensors"),
        (path("models"), "but inside it are "),
        (path("bare"), "no config.json"),
        (path("pickle"), "pickle weights only (pytorch_model.bin)"),
        (path("pickle/pytorch_model.bin"), "pickle weights only"),
        (
            path("nothing"),
            "holds no model; a model is a Hugging Face folder",
        ),
        (path("nothing/readme.md"), "is no model file"),
        (path("one/model.safetensors"), "give its folder: "),
        ("org/name".to_owned(), "write org/name@COMMIT"),
        ("org/name@main".to_owned(), "write org/name@COMMIT"),
        (
            "no-such-thing-here".to_owned(),
            "org/name@commit of the hub",
        ),
        (String::new(), "there is no model at "),
        ("../../@x".to_owned(), "there is no model at "),
    ];
    for (text, expected) in cases {
        let message = locate(&text).expect_err(&text).to_string();
        assert!(message.contains(expected), "{text:?} gave {message:?}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_answered(text in ".{0,80}") {
        let _ = locate(&format!("no-such-folder/{text}"));
    }
}
