use serde_json::{Value, json};
use skein_base::digest::Blake3;
use skein_text::{ChatRequest, ChatTemplate};
use skein_weights::vocabulary::{Vocabulary, VocabularyKind};

use super::*;
use crate::world::Kind;

const SAMPLES: u64 = 2000;

fn files() -> TokenizerFiles {
    tokenizer(World::new(1), SAMPLES, ENTRIES).expect("learns")
}

/// What the loader of a Hugging Face folder makes of the files.
fn vocabulary(files: &TokenizerFiles) -> Vocabulary {
    let config: Value = serde_json::from_slice(&files.config).expect("JSON");
    let text = |key: &str| config[key].as_str().expect("a text").to_owned();
    Vocabulary {
        kind: VocabularyKind::TokenizerJson(files.tokenizer.clone()),
        chat_template: Some(text("chat_template")),
        special_tokens: ["bos_token", "eos_token"]
            .map(|role| (role.to_owned(), text(role)))
            .into(),
        bos: None,
        eos: Vec::new(),
    }
}

/// A tokenizer of the world, for tests.
pub(crate) fn loaded() -> Tokenizer {
    Tokenizer::new(&vocabulary(&files())).expect("our own tokenizer loads")
}

#[test]
fn writes_what_the_chat_template_renders() {
    let vocabulary = vocabulary(&files());
    let tokenizer = Tokenizer::new(&vocabulary).expect("loads");
    let template = ChatTemplate::of(&vocabulary).expect("has a template");
    let writer = Writer::new(tokenizer.clone()).expect("has all tokens");
    for index in 0..300 {
        let sample = World::new(2).held_out(index);
        let messages: Vec<Value> = sample
            .messages()
            .iter()
            .map(|message| json!({"role": message.role.name(), "content": message.content}))
            .collect();
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
        let document = writer.write(&sample).expect("writes");
        assert_eq!(document.ids, ids, "{}", rendered.text);
        assert_eq!(tokenizer.decode(&ids), contents(&sample));
    }
}

fn contents(sample: &Sample) -> String {
    let messages = sample.messages();
    messages.iter().map(|message| message.content).collect()
}

#[test]
fn marks_what_the_assistant_says() {
    let tokenizer = loaded();
    let writer = Writer::new(tokenizer.clone()).expect("has all tokens");
    for index in 0..100 {
        let sample = World::new(3).training(Course::First, index);
        let document = writer.write(&sample).expect("writes");
        assert_eq!(document.ids.len(), document.answer.len());
        let said: Vec<u32> = document
            .ids
            .iter()
            .zip(&document.answer)
            .filter(|&(_, &answer)| answer)
            .map(|(&id, _)| id)
            .collect();
        let answers: String = sample
            .turns
            .iter()
            .map(|turn| turn.assistant.as_str())
            .collect();
        assert_eq!(tokenizer.decode(&said), answers);
        let ends = said.iter().filter(|&&id| id == writer.end()).count();
        assert_eq!(ends, sample.turns.len());
    }
}

#[test]
fn digits_are_tokens_and_words_mostly_too() {
    let tokenizer = loaded();
    let pieces = |text: &str| {
        tokenizer
            .encode(text, Specials::Literal)
            .expect("short")
            .len()
    };
    assert_eq!(pieces("47+38=85"), 8);
    for word in [
        " Anna",
        " anna",
        " kitchen",
        " went",
        " umbrella",
        "Where",
        " failover",
    ] {
        assert_eq!(pieces(word), 1, "{word}");
    }
    assert!(pieces(" zastuff") > 1);
}

#[test]
fn the_same_world_gives_the_same_tokenizer() {
    let files = files();
    assert_eq!(files, self::files());
    // A change of this digest is a change of every token of the embedded model.
    let golden = "423adebb3f76d649e982a672f71d115778122b2178f3568652dd0a1a1afed38c";
    assert_eq!(Blake3::of(&files.tokenizer).to_string(), golden);
}

#[test]
fn other_tokenizers_are_refused() {
    let plan = TokenizerPlan {
        entries: 300,
        begin: BEGIN,
        end: END,
        roles: &ROLES[1..],
        chat_template: TEMPLATE,
        context: CONTEXT,
    };
    let texts = ["some text".to_owned(), "some more text".to_owned()];
    let files = train_tokenizer(&plan, texts.into_iter()).expect("learns");
    let tokenizer = Tokenizer::new(&vocabulary(&files)).expect("loads");
    let error = Writer::new(tokenizer).expect_err("has no system token");
    assert_eq!(
        error,
        WriterError::NoToken {
            token: "<|system|>"
        }
    );
}

#[test]
fn almost_every_conversation_fits_the_context() {
    let writer = Writer::new(loaded()).expect("has all tokens");
    let long = (0..2000).filter(|&index| {
        let sample = World::new(4).training(Course::First, index);
        writer.write(&sample).expect("writes").ids.len() > CONTEXT + 1
    });
    let long = long.count();
    assert!(long < 20, "{long}");
    for kind in Kind::ALL {
        for index in 0..200 {
            let sample = World::new(5).held_out_of(kind, index);
            assert!(
                writer.write(&sample).expect("writes").ids.len() <= CONTEXT,
                "{sample:?}"
            );
        }
    }
}
