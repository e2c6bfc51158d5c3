use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use skein_weights::Checkpoint as _;
use skein_weights::gguf::GgufCheckpoint;
use skein_weights::vocabulary::{GgufVocabulary, VocabularyKind};

use super::{GgufTokenizerError, build};

/// What llama.cpp made of texts (`scripts/fixtures/make_gguf.py`).
#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    vocabularies: Vec<Shared>,
    cases: Vec<Case>,
}

#[derive(Deserialize, Clone)]
struct Shared {
    model: String,
    tokens: Vec<String>,
    types: Vec<i32>,
    scores: Vec<f32>,
    merges: Vec<String>,
}

#[derive(Deserialize)]
struct Case {
    vocabulary: usize,
    pre: Option<String>,
    add_bos: Option<bool>,
    add_space_prefix: Option<bool>,
    bos: Option<u32>,
    unknown: Option<u32>,
    ids: Vec<Vec<u32>>,
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/gguf/tokenizers.json");
    let text = std::fs::read_to_string(path).expect("the fixture is committed");
    serde_json::from_str(&text).expect("the fixture is valid")
}

impl Golden {
    fn vocabulary(&self, case: &Case) -> GgufVocabulary {
        let shared = self.vocabularies[case.vocabulary].clone();
        GgufVocabulary {
            model: shared.model,
            pre: case.pre.clone(),
            tokens: shared.tokens,
            scores: shared.scores,
            types: shared.types,
            merges: shared.merges,
            add_bos: case.add_bos,
            add_space_prefix: case.add_space_prefix,
            unknown: case.unknown,
        }
    }
}

#[test]
fn ids_are_those_of_llama_cpp() {
    let golden = golden();
    let mut differences = Vec::new();
    for case in &golden.cases {
        let vocabulary = golden.vocabulary(case);
        let tokenizer = build(&vocabulary, case.bos).unwrap();
        for (text, expected) in golden.texts.iter().zip(&case.ids) {
            let found = tokenizer.encode(text.as_str(), true).unwrap();
            if found.get_ids() != expected {
                let (pre, model) = (&case.pre, &vocabulary.model);
                let found = found.get_ids();
                differences.push(format!(
                    "{model} {pre:?} {text:?}: {found:?} not {expected:?}"
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn what_was_encoded_decodes_to_itself() {
    let golden = golden();
    for case in &golden.cases {
        let tokenizer = build(&golden.vocabulary(case), case.bos).unwrap();
        let special = ["<s>", "<unk>", "<|im_end|>", "\u{2581}", "[tool]", "<0x41>"];
        let plain = |text: &&String| !special.iter().any(|special| text.contains(special));
        for text in golden.texts.iter().filter(plain) {
            let ids = tokenizer.encode(text.as_str(), true).unwrap();
            let decoded = tokenizer.decode(ids.get_ids(), true).unwrap();
            assert_eq!(&decoded, text, "{:?}", case.pre);
        }
    }
}

#[test]
fn settings_that_are_not_served_are_refused_by_name() {
    let golden = golden();
    let base = golden.vocabulary(&golden.cases[0]);
    let pieces = golden.vocabulary(golden.cases.last().unwrap());
    let refuse = |change: &dyn Fn(&mut GgufVocabulary), base: &GgufVocabulary, bos, word: &str| {
        let mut vocabulary = base.clone();
        change(&mut vocabulary);
        let error = build(&vocabulary, bos).unwrap_err().to_string();
        assert!(error.contains(word), "{error} does not contain {word}");
    };
    refuse(&|v| v.model = "t5".into(), &base, None, "t5");
    refuse(&|v| v.pre = Some("tekken".into()), &base, None, "tekken");
    refuse(&|v| v.merges.push("nothing".into()), &base, None, "nothing");
    refuse(
        &|v| v.merges.push("\u{120} \u{1F642}".into()),
        &base,
        None,
        "merge",
    );
    refuse(&|v| v.tokens[7] = v.tokens[3].clone(), &base, None, "both");
    refuse(&|v| v.add_bos = Some(true), &base, Some(1 << 20), "outside");
    refuse(&|v| v.scores.truncate(3), &pieces, None, "scores");
    refuse(&|v| v.types.truncate(3), &base, None, "types");
    refuse(&|v| v.unknown = Some(u32::MAX), &pieces, None, "unknown");
}

#[test]
fn an_empty_vocabulary_does_no_harm() {
    for model in ["gpt2", "llama"] {
        let vocabulary = GgufVocabulary {
            model: model.into(),
            ..GgufVocabulary::default()
        };
        match build(&vocabulary, None) {
            Ok(tokenizer) => assert!(tokenizer.encode("x", true).unwrap().get_ids().is_empty()),
            Err(error) => assert!(
                matches!(error, GgufTokenizerError::Library { .. }),
                "{error}"
            ),
        }
    }
}

/// The same, out of whole GGUF files.
#[test]
fn prompts_of_gguf_files_become_the_ids_of_llama_cpp() {
    #[derive(Deserialize)]
    struct Record {
        prompt_text: String,
        prompt_ids: Vec<u32>,
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/gguf");
    for name in [
        "llama-q4_0",
        "llama31-q8_0",
        "qwen2-bf16",
        "qwen3-q8_0",
        "gpt2-f16",
    ] {
        let record = std::fs::read(folder.join(format!("{name}.json"))).unwrap();
        let record: Record = serde_json::from_slice(&record).unwrap();
        let bytes = std::fs::read(folder.join(format!("{name}.gguf"))).unwrap();
        let file = GgufCheckpoint::open(Arc::new(bytes), name).unwrap();
        let vocabulary = file.vocabulary().unwrap();
        let VocabularyKind::Gguf(gguf) = &vocabulary.kind else {
            panic!("{name} has a vocabulary of its own");
        };
        let tokenizer = build(gguf, vocabulary.bos).unwrap();
        let found = tokenizer.encode(record.prompt_text.as_str(), true).unwrap();
        assert_eq!(found.get_ids(), record.prompt_ids, "{name}");
        assert!(crate::Tokenizer::new(&vocabulary).is_ok(), "{name}");
    }
}
