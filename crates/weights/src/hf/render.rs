//! A vocabulary that came without files, as the files that transformers reads.

use serde_json::{Map, Value, json};

use super::settings::{GENERATION, TEMPLATE, TOKENIZER, TOKENIZER_CONFIG};
use crate::checkpoint::{Sidecar, SidecarRole};
use crate::vocabulary::{GenerationDefaults, Vocabulary};

/// The files beside weights that say what `vocabulary` and `generation` do, sorted by name.
/// `tokenizer` are the bytes of a `tokenizer.json`, which makes of text what the vocabulary does;
/// without them, the files have no tokenizer.
pub fn render(
    vocabulary: &Vocabulary,
    generation: &GenerationDefaults,
    tokenizer: Option<Vec<u8>>,
) -> Vec<Sidecar> {
    let file = |name: &str, role, bytes| Sidecar {
        name: name.to_owned(),
        role,
        bytes,
    };
    let settings = |name, bytes| file(name, SidecarRole::Settings, bytes);
    let mut list = vec![
        settings(
            GENERATION,
            pretty(generation_config(vocabulary, generation)),
        ),
        settings(TOKENIZER_CONFIG, pretty(tokenizer_config(vocabulary))),
    ];
    if let Some(template) = &vocabulary.chat_template {
        list.push(settings(TEMPLATE, template.clone().into_bytes()));
    }
    if let Some(tokenizer) = tokenizer {
        list.push(file(TOKENIZER, SidecarRole::Tokenizer, tokenizer));
    }
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

fn generation_config(
    vocabulary: &Vocabulary,
    generation: &GenerationDefaults,
) -> Map<String, Value> {
    let mut map = Map::new();
    if let Some(bos) = vocabulary.bos {
        map.insert("bos_token_id".to_owned(), bos.into());
    }
    match vocabulary.eos[..] {
        [] => {}
        [only] => {
            map.insert("eos_token_id".to_owned(), only.into());
        }
        ref several => {
            map.insert("eos_token_id".to_owned(), several.into());
        }
    }
    match generation.temperature {
        // The form in which zero is stated.
        Some(0.0) => {
            map.insert("do_sample".to_owned(), false.into());
        }
        Some(temperature) => {
            map.insert("temperature".to_owned(), decimal(temperature));
        }
        None => {}
    }
    if let Some(top_k) = generation.top_k {
        map.insert("top_k".to_owned(), top_k.into());
    }
    let shares = [
        ("top_p", generation.top_p),
        ("repetition_penalty", generation.repetition_penalty),
    ];
    let stated = shares.into_iter();
    let stated = stated.filter_map(|(name, value)| Some((name.to_owned(), decimal(value?))));
    map.extend(stated);
    map
}

fn tokenizer_config(vocabulary: &Vocabulary) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert(
        "tokenizer_class".to_owned(),
        json!("PreTrainedTokenizerFast"),
    );
    map.insert("clean_up_tokenization_spaces".to_owned(), false.into());
    let tokens = vocabulary.special_tokens.iter().cloned();
    map.extend(tokens.map(|(role, text)| (role, text.into())));
    map
}

/// The shortest decimal number that is this one in single precision.
fn decimal(value: f32) -> Value {
    let text = value.to_string();
    json!(text.parse().unwrap_or_else(|_| f64::from(value)))
}

fn pretty(map: Map<String, Value>) -> Vec<u8> {
    let mut text = format!("{:#}", Value::Object(map));
    text.push('\n');
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::MemoryFolder;
    use crate::hf::read_vocabulary;
    use crate::hf::settings::Settings;
    use crate::vocabulary::VocabularyKind;

    fn read_back(files: Vec<Sidecar>) -> (Vocabulary, GenerationDefaults) {
        let folder = MemoryFolder::new(files.into_iter().map(|one| (one.name, one.bytes)));
        let generation = Settings::read(&folder).unwrap().generation_defaults();
        (read_vocabulary(&folder).unwrap(), generation.unwrap())
    }

    #[test]
    fn what_is_rendered_is_read_back() {
        let full = Vocabulary {
            kind: VocabularyKind::TokenizerJson(b"{}".to_vec()),
            chat_template: Some("{{ bos_token }}{# \u{f6} #}".to_owned()),
            special_tokens: vec![
                ("bos_token".to_owned(), "<s>".to_owned()),
                ("eos_token".to_owned(), "</s>".to_owned()),
            ],
            bos: Some(1),
            eos: vec![2, 7],
        };
        let bare = Vocabulary {
            chat_template: None,
            special_tokens: vec![],
            bos: None,
            eos: vec![],
            ..full.clone()
        };
        let one = Vocabulary {
            eos: vec![2],
            ..full.clone()
        };
        let sampled = GenerationDefaults {
            temperature: Some(0.7),
            top_k: Some(20),
            top_p: Some(0.8),
            repetition_penalty: Some(1.05),
        };
        let greedy = GenerationDefaults {
            temperature: Some(0.0),
            ..GenerationDefaults::default()
        };
        let none = GenerationDefaults::default();
        for (vocabulary, generation) in [(full, sampled), (bare, none), (one, greedy)] {
            let files = render(&vocabulary, &generation, Some(b"{}".to_vec()));
            assert_eq!(read_back(files), (vocabulary, generation));
        }
    }
}
