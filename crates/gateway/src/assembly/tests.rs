use proptest::prelude::*;

use super::*;
use crate::tests::rig::{EOS, tokenizer};

fn assembly(stops: &[&str]) -> Assembly {
    let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
    let stop = StopMatcher::new(&stops, 4).unwrap();
    Assembly::new(Detokenizer::new(&tokenizer()), stop, true)
}

fn token(id: u32) -> Event {
    Event::Token(Token {
        id,
        logprob: -1.0,
        top: Vec::new(),
    })
}

fn finished(reason: FinishReason, completion: usize) -> Event {
    let usage = Usage {
        prompt: 1,
        completion,
        reused: 0,
    };
    Event::Finished { reason, usage }
}

/// All text, all ids and the end of a run of tokens that then stops.
fn run(stops: &[&str], ids: &[u32]) -> (String, Vec<u32>, End) {
    let mut assembly = assembly(stops);
    let (mut text, mut shown) = (String::new(), Vec::new());
    let end = finished(FinishReason::Stop(EOS), ids.len() + 1);
    for event in ids.iter().map(|&id| token(id)).chain([end]) {
        let piece = assembly.push(Some(event));
        text.push_str(&piece.text);
        shown.extend(piece.tokens.into_iter().map(|entry| entry.token.id));
        if let Some(end) = piece.end {
            return (text, shown, end);
        }
    }
    unreachable!("the last event ends it")
}

#[test]
fn text_is_cut_where_a_stop_string_begins() {
    let bytes = |text: &str| -> Vec<u32> { text.bytes().map(u32::from).collect() };
    let stop = End::Finished("stop");
    let cases: &[(&[&str], &str, &str, usize)] = &[
        (&[], "hello", "hello", 5),
        (&["ll"], "hello", "he", 2),
        (&["lo", "l"], "hello", "he", 2),
        (&["h"], "hello", "", 0),
        (&["hello!"], "hello", "hello", 5),
        (&["é"], "caféx", "caf", 3),
        (&["\u{fffd}"], "a", "a", 1),
    ];
    for &(stops, said, text, tokens) in cases {
        let (found, shown, end) = run(stops, &bytes(said));
        assert_eq!(
            (found.as_str(), shown.len(), end),
            (text, tokens, stop.clone()),
            "{stops:?} {said}"
        );
    }
    // The first half of a letter, which only the end turns into text.
    assert_eq!(
        run(&[], &[0x61, 0xc3]),
        ("a\u{fffd}".to_owned(), vec![0x61, 0xc3], stop.clone())
    );
    assert_eq!(
        run(&["\u{fffd}"], &[0x61, 0xc3]),
        ("a".to_owned(), vec![0x61], stop)
    );
}

#[test]
fn ends_are_told_apart() {
    let end = |event: Option<Event>| assembly(&[]).push(event).end.unwrap();
    assert_eq!(
        end(Some(finished(FinishReason::Length, 1))),
        End::Finished("length")
    );
    assert_eq!(
        end(Some(finished(FinishReason::Deadline, 1))),
        End::Finished("length")
    );
    assert_eq!(
        end(Some(finished(FinishReason::Deadline, 0))),
        End::TimedOut
    );
    assert_eq!(
        end(Some(finished(FinishReason::Shutdown, 1))),
        End::Stopping
    );
    let error = GenerationError::EngineStopped;
    assert_eq!(end(Some(Event::Failed { error })), End::Stopping);
    assert!(matches!(end(None), End::Failed(_)));
}

proptest! {
    #[test]
    fn pieces_add_up_to_the_whole(ids in prop::collection::vec(prop_oneof![0u32..260, 0x61u32..0x64], 0..40)) {
        let whole = tokenizer().decode(&ids);
        let (text, shown, _) = run(&[], &ids);
        prop_assert_eq!(&text, &whole);
        prop_assert_eq!(shown, ids.clone());
        let (cut, shown, _) = run(&["ab", "cc"], &ids);
        let first = ["ab", "cc"].iter().filter_map(|stop| whole.find(stop)).min();
        prop_assert_eq!(&cut, &whole[..first.unwrap_or(whole.len())]);
        prop_assert!(ids.starts_with(&shown));
    }
}
