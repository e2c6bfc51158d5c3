use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::tokenizer::Specials;
use crate::tokenizer::tests::{tokenizer, vocabulary};

fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut detokenizer = Detokenizer::new(tokenizer);
    let mut pieces: Vec<String> = ids.iter().map(|&id| detokenizer.push(id)).collect();
    pieces.push(detokenizer.finish());
    pieces
}

fn library(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    tokenizer.library().decode(ids, true).expect("decodes")
}

#[test]
fn characters_wait_until_they_are_whole() {
    let byte_level = tokenizer(0);
    let crab: Vec<u32> = ["ð", "Ł", "¦", "Ģ"]
        .iter()
        .map(|token| byte_level.token_to_id(token).expect("all bytes are there"))
        .collect();
    assert_eq!(stream(&byte_level, &crab), ["", "", "", "🦀", ""]);
    assert_eq!(stream(&byte_level, &crab[..3]), ["", "", "", "\u{fffd}"]);
    let fallback = tokenizer(1);
    let id = |token: &str| fallback.token_to_id(token).expect("there");
    let crab = ["<0xF0>", "<0x9F>", "<0xA6>", "<0x80>"].map(id);
    assert_eq!(stream(&fallback, &crab), ["", "", "", "🦀", ""]);
    assert_eq!(stream(&fallback, &crab[..2]), ["", "", "\u{fffd}\u{fffd}"]);
    let broken = [crab[0], crab[1], id("▁the"), id("<0x41>")];
    assert_eq!(
        stream(&fallback, &broken),
        ["", "", "\u{fffd}\u{fffd} the", "A", ""]
    );
    assert_eq!(
        stream(&fallback, &broken).concat(),
        library(&fallback, &broken)
    );
}

#[test]
fn the_first_space_goes_and_others_stay() {
    for kind in [1, 2] {
        let tokenizer = tokenizer(kind);
        let the = tokenizer.token_to_id("▁the").expect("there");
        assert_eq!(stream(&tokenizer, &[1, the, the]), ["", "the", " the", ""]);
        // A lone space, then a word.
        let space = tokenizer.token_to_id("▁").expect("there");
        assert_eq!(stream(&tokenizer, &[space, the]), ["", " the", ""]);
    }
}

#[test]
fn special_tokens_are_silent_unless_asked_for() {
    let tokenizer = tokenizer(0);
    let ids = tokenizer
        .encode("<|im_start|>fox<|im_end|>", Specials::Parse)
        .expect("short");
    assert_eq!(tokenizer.decode(&ids), "fox");
    let mut spelled = Detokenizer::with_special(&tokenizer);
    let text: String = ids.iter().map(|&id| spelled.push(id)).collect();
    assert_eq!(text + &spelled.finish(), "<|im_start|>fox<|im_end|>");
}

#[test]
fn other_decoders_follow_the_library() {
    let text = include_str!("../../tests/data/metaspace.tokenizer.json");
    for decoder in [
        json!(null),
        json!({"type": "Fuse"}),
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": false}),
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": false}),
        json!({"type": "Replace", "pattern": {"Regex": "[aeiou▁]+"}, "content": "-"}),
        json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}),
    ] {
        let mut value: serde_json::Value = serde_json::from_str(text).expect("valid");
        value["decoder"] = decoder.clone();
        let tokenizer = Tokenizer::new(&vocabulary(value.to_string().as_bytes())).expect("valid");
        let ids = tokenizer
            .encode(" the quick 你 fox", Specials::AddAndParse)
            .expect("short");
        assert_eq!(
            stream(&tokenizer, &ids).concat(),
            library(&tokenizer, &ids),
            "{decoder}"
        );
    }
}

/// One token costs the same however long the answer is: 200 000 tokens that never make a character
/// and 200 000 that do, in well under the time that decoding everything again would take.
#[test]
fn long_answers_take_linear_time() {
    let byte_level = tokenizer(0);
    let invalid = byte_level.token_to_id("ÿ").expect("all bytes are there");
    let valid = byte_level.token_to_id("a").expect("all bytes are there");
    let ids: Vec<u32> = std::iter::repeat_n([invalid, valid], 200_000)
        .flatten()
        .collect();
    assert_eq!(byte_level.decode(&ids), "\u{fffd}a".repeat(200_000));
}

proptest! {
    #[test]
    fn byte_level_pieces_are_the_whole(ids in prop::collection::vec(0u32..420, 0..60)) {
        let tokenizer = tokenizer(0);
        prop_assert_eq!(stream(&tokenizer, &ids).concat(), library(&tokenizer, &ids));
    }

    #[test]
    fn byte_fallback_pieces_are_the_whole_where_it_is_text(
        ids in prop::collection::vec(prop_oneof![261u32..500, 0u32..5, 5u32..133], 0..60),
        kind in 1usize..3,
    ) {
        let tokenizer = tokenizer(kind);
        prop_assert_eq!(stream(&tokenizer, &ids).concat(), library(&tokenizer, &ids));
    }

    /// Any bytes at all: the number of characters that are not text differs from the library's only
    /// by characters that were complete before the first bad byte.
    #[test]
    fn byte_fallback_never_loses_a_token(ids in prop::collection::vec(0u32..500, 0..60)) {
        let tokenizer = tokenizer(1);
        let (found, whole) = (stream(&tokenizer, &ids).concat(), library(&tokenizer, &ids));
        if !whole.contains('\u{fffd}') {
            prop_assert_eq!(found, whole);
        } else {
            prop_assert!(found.contains(REPLACEMENT));
            prop_assert!(found.chars().count() <= whole.chars().count());
        }
    }
}
