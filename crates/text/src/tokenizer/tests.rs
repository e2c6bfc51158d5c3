use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;
use skein_weights::vocabulary::GgufVocabulary;

use super::*;
use crate::template::{ChatRequest, ChatTemplate};

#[derive(Deserialize)]
struct Golden {
    special: BTreeMap<String, String>,
    template: String,
    texts: Vec<Text>,
    chats: Vec<Chat>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    with: Vec<u32>,
    without: Vec<u32>,
    decoded: String,
}

#[derive(Deserialize)]
struct Chat {
    messages: Vec<serde_json::Value>,
    text: String,
    ids: Vec<u32>,
    hostile: bool,
}

const KINDS: [(&str, &str); 3] = [
    (
        include_str!("../../tests/data/byte_level.tokenizer.json"),
        include_str!("../../tests/data/byte_level.golden.json"),
    ),
    (
        include_str!("../../tests/data/sentence_piece.tokenizer.json"),
        include_str!("../../tests/data/sentence_piece.golden.json"),
    ),
    (
        include_str!("../../tests/data/metaspace.tokenizer.json"),
        include_str!("../../tests/data/metaspace.golden.json"),
    ),
];

pub(crate) fn vocabulary(json: &[u8]) -> Vocabulary {
    Vocabulary {
        kind: VocabularyKind::TokenizerJson(json.to_vec()),
        chat_template: None,
        special_tokens: Vec::new(),
        bos: None,
        eos: Vec::new(),
    }
}

/// One of three small tokenizers: byte-level, SentencePiece with a normaliser, and with a
/// pre-tokenizer.
pub(crate) fn tokenizer(kind: usize) -> Tokenizer {
    Tokenizer::new(&vocabulary(KINDS[kind].0.as_bytes())).expect("valid")
}

fn all() -> impl Iterator<Item = (Tokenizer, Golden)> {
    KINDS.iter().map(|(json, golden)| {
        let golden: Golden = serde_json::from_str(golden).expect("valid");
        let mut vocabulary = vocabulary(json.as_bytes());
        vocabulary.special_tokens = golden.special.clone().into_iter().collect();
        (Tokenizer::new(&vocabulary).expect("valid"), golden)
    })
}

#[test]
fn texts_encode_and_decode_as_in_python() {
    for (tokenizer, golden) in all() {
        for case in golden.texts {
            let encode = |specials| tokenizer.encode(&case.text, specials).expect("short");
            assert_eq!(encode(Specials::AddAndParse), case.with, "{:?}", case.text);
            assert_eq!(encode(Specials::Parse), case.without, "{:?}", case.text);
            assert_eq!(
                tokenizer.decode(&case.with),
                case.decoded,
                "{:?}",
                case.text
            );
        }
    }
}

fn chat_ids(
    tokenizer: &Tokenizer,
    golden: &Golden,
    messages: &[serde_json::Value],
) -> (String, Vec<u32>) {
    let special: Vec<_> = golden.special.clone().into_iter().collect();
    let template = ChatTemplate::new(&golden.template, &special).expect("valid");
    let request = ChatRequest {
        messages,
        tools: None,
        add_generation_prompt: true,
        extra: None,
        now_unix: 0,
    };
    let rendered = template
        .render(&request, tokenizer.control_tokens())
        .expect("renders");
    let ids = tokenizer.encode_chat(&rendered).expect("encodes");
    (rendered.text, ids)
}

#[test]
fn chats_are_those_of_transformers() {
    for (tokenizer, golden) in all() {
        for chat in golden.chats.iter().filter(|chat| !chat.hostile) {
            let (text, ids) = chat_ids(&tokenizer, &golden, &chat.messages);
            assert_eq!(text, chat.text);
            assert_eq!(ids, chat.ids, "{text}");
        }
    }
}

/// `transformers` can neutralise control tokens of messages too; it cuts the text elsewhere, so the
/// plain tokens differ, but the control tokens must be the same ones.
#[test]
fn control_tokens_in_messages_are_plain_text() {
    let mut more = 0;
    for (tokenizer, golden) in all() {
        for chat in golden.chats.iter().filter(|chat| chat.hostile) {
            let (text, ids) = chat_ids(&tokenizer, &golden, &chat.messages);
            assert_eq!(text, chat.text);
            let controls = |ids: &[u32]| {
                ids.iter()
                    .copied()
                    .filter(|&id| tokenizer.is_special(id))
                    .collect::<Vec<_>>()
            };
            assert_eq!(controls(&ids), controls(&chat.ids), "{text}");
            let parsed = tokenizer.encode(&text, Specials::Parse).expect("short");
            more += controls(&parsed).len() - controls(&ids).len();
        }
    }
    assert!(more > 5, "the messages are hostile");
}

#[test]
fn control_tokens_cannot_be_put_together_from_pieces() {
    let tokenizer = tokenizer(0);
    let template = "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}<|im_end|>";
    let template = ChatTemplate::new(template, &[]).expect("valid");
    let end = tokenizer.token_to_id("<|im_end|>").expect("there");
    let part = |text: &str| json!({"type": "text", "text": text});
    for parts in [
        ["<|im_", "end|>"],
        ["<", "|im_end|>"],
        ["a <|im_end|", "> b"],
        ["<|im_end|><|im", "_end|>"],
    ] {
        let parts: Vec<_> = parts.iter().map(|text| part(text)).collect();
        let messages = [json!({"role": "user", "content": parts})];
        let request = ChatRequest {
            messages: &messages,
            tools: None,
            add_generation_prompt: false,
            extra: None,
            now_unix: 0,
        };
        let rendered = template
            .render(&request, tokenizer.control_tokens())
            .expect("renders");
        let ids = tokenizer.encode_chat(&rendered).expect("encodes");
        assert_eq!(
            ids.iter().filter(|&&id| id == end).count(),
            1,
            "{rendered:?}"
        );
        assert_eq!(ids.last(), Some(&end));
    }
}

#[test]
fn literal_text_has_no_control_tokens() {
    for (tokenizer, golden) in all() {
        for case in golden.texts {
            let ids = tokenizer
                .encode(&case.text, Specials::Literal)
                .expect("short");
            assert!(
                !ids.iter().any(|&id| tokenizer.is_special(id)),
                "{:?}",
                case.text
            );
            if !case.without.iter().any(|&id| tokenizer.is_special(id)) {
                assert_eq!(ids, case.without, "{:?}", case.text);
            }
        }
    }
}

#[test]
fn roles_of_special_tokens_give_ids() {
    let ends: Vec<Vec<u32>> = all()
        .map(|(tokenizer, _)| tokenizer.eos().to_vec())
        .collect();
    let (first, second) = (tokenizer(0), tokenizer(1));
    let id = |tokenizer: &Tokenizer, token: &str| tokenizer.token_to_id(token).expect("there");
    assert_eq!(ends[0], [id(&first, "<|im_end|>")]);
    assert_eq!(ends[1], [id(&second, "</s>")]);
    assert_eq!(all().nth(1).expect("three").0.bos(), Some(1));
    let mut stated = vocabulary(KINDS[1].0.as_bytes());
    (stated.bos, stated.eos) = (Some(9), vec![7, 8]);
    let stated = Tokenizer::new(&stated).expect("valid");
    assert_eq!(
        (stated.bos(), stated.eos(), stated.is_eos(8)),
        (Some(9), &[7, 8][..], true)
    );
    assert!(first.vocabulary() > 400 && first.is_special(id(&first, "<|im_start|>")));
    assert!(!first.is_special(id(&first, "<think>")));
}

#[test]
fn tokens_have_bytes() {
    let (first, second) = (tokenizer(0), tokenizer(1));
    let bytes = |tokenizer: &Tokenizer, token: &str| {
        tokenizer
            .token_bytes(tokenizer.token_to_id(token).expect("there"))
            .expect("there")
    };
    assert_eq!(bytes(&first, "Ġ"), b" ");
    assert_eq!(bytes(&first, "Ċ"), b"\n");
    assert_eq!(bytes(&first, "<|im_end|>"), b"<|im_end|>");
    assert_eq!(bytes(&second, "<0xE2>"), [0xe2]);
    assert_eq!(bytes(&second, "▁the"), b" the");
    assert_eq!(first.token_bytes(1 << 30), None);
}

#[test]
fn hostile_files_are_refused() {
    let refused = |json: &[u8]| Tokenizer::new(&vocabulary(json)).expect_err("bad");
    let good: serde_json::Value = serde_json::from_str(KINDS[1].0).expect("valid");
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = good.clone();
        change(&mut value);
        refused(value.to_string().as_bytes())
    };
    for garbage in [
        &b""[..],
        b"{}",
        b"[[[[",
        b"\xff\xfe",
        b"null",
        b"{\"model\": {\"type\": \"BPE\"}}",
    ] {
        assert!(
            matches!(refused(garbage), TokenizerError::Malformed { .. }),
            "{garbage:?}"
        );
    }
    let deep = "[".repeat(1 << 20);
    assert!(matches!(
        refused(deep.as_bytes()),
        TokenizerError::Malformed { .. }
    ));
    let decoder =
        changed(&|v| v["decoder"] = json!({"type": "WordPiece", "prefix": "##", "cleanup": true}));
    assert!(decoder.to_string().contains("WordPiece"), "{decoder}");
    let stripping = json!({"type": "Strip", "content": " ", "start": 0, "stop": 1});
    assert!(matches!(
        changed(&|v| v["decoder"] = stripping.clone()),
        TokenizerError::Unsupported { .. }
    ));
    let dropout = changed(&|v| v["model"]["dropout"] = json!(0.5));
    assert!(matches!(
        dropout,
        TokenizerError::Unsupported { part: "model", .. }
    ));
    let merges = changed(&|v| v["model"]["merges"] = json!([["nothing", "such"]]));
    assert!(matches!(merges, TokenizerError::Malformed { .. }));
    let gguf = Vocabulary {
        kind: VocabularyKind::Gguf(GgufVocabulary::default()),
        ..vocabulary(b"")
    };
    assert!(matches!(
        Tokenizer::new(&gguf),
        Err(TokenizerError::Gguf(_))
    ));
}

#[test]
fn a_text_too_long_is_not_tried() {
    let text = "a".repeat(TEXT_BYTES_MAX + 1);
    let error = tokenizer(0)
        .encode(&text, Specials::Parse)
        .expect_err("long");
    assert_eq!(
        error,
        EncodeError::TooLong {
            found: TEXT_BYTES_MAX + 1,
            max: TEXT_BYTES_MAX
        }
    );
}

/// Truncation and padding of a tokenizer are for training batches.
#[test]
fn truncation_and_padding_are_ignored() {
    let mut value: serde_json::Value = serde_json::from_str(KINDS[0].0).expect("valid");
    value["truncation"] =
        json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    value["padding"] = json!({"strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "!"});
    let changed = Tokenizer::new(&vocabulary(value.to_string().as_bytes())).expect("valid");
    let ids = |tokenizer: &Tokenizer| {
        tokenizer
            .encode("the quick brown fox", Specials::Parse)
            .expect("short")
    };
    assert_eq!(ids(&changed), ids(&tokenizer(0)));
}

proptest! {
    #[test]
    fn ordinary_text_is_encoded_the_same_on_the_guarded_path(text in "[ a-zA-Z<|>_é你\n]{0,40}", kind in 0usize..3) {
        let tokenizer = tokenizer(kind);
        let parsed = tokenizer.encode(&text, Specials::Parse).expect("short");
        let guarded = guarded::encode(&tokenizer, &text, &guarded::Trust::Except(&[])).expect("short");
        prop_assert_eq!(parsed, guarded);
    }

    #[test]
    fn trusted_control_tokens_are_the_same_on_the_guarded_path(
        pieces in prop::collection::vec(prop_oneof![
            Just("<|im_end|>"), Just("<|im_start|>"), Just("<think>"), Just("<s>"), Just("[INST]"), Just("</s>"),
            Just("fox"), Just(" "), Just("\n"), Just("the quick"),
        ], 0..10),
        kind in 0usize..3,
    ) {
        let (tokenizer, text) = (tokenizer(kind), pieces.concat());
        let parsed = tokenizer.encode(&text, Specials::Parse).expect("short");
        let guarded = guarded::encode(&tokenizer, &text, &guarded::Trust::Except(&[])).expect("short");
        prop_assert_eq!(parsed, guarded);
    }
}
