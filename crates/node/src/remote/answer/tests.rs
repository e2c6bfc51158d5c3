use serde_json::{Value, json};

use super::*;
use crate::prompt::Message;

fn address() -> Address {
    "http://127.0.0.1:8080".parse().expect("an address")
}

/// The text that events make, and the answer or what went wrong.
fn read(events: &[&str]) -> (String, Result<Answer, RemoteError>) {
    let mut reading = Reading::new(address());
    let mut shown = String::new();
    for event in events {
        match reading.push(event) {
            Ok(text) => shown.push_str(&text),
            Err(error) => return (shown, Err(error)),
        }
    }
    match reading.done {
        true => (shown, Ok(reading.answer)),
        false => (shown, Err(reading.unfinished())),
    }
}

#[test]
fn chunks_become_an_answer() {
    let chat = [
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}],"usage":null}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null,"token_ids":[7,8]}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"lö"},"token_ids":[9]}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":4,"total_tokens":9,"prompt_tokens_details":{"cached_tokens":2}}}"#,
        "[DONE]",
    ];
    let completion = [
        r#"{"choices":[{"text":"Hel","index":0,"finish_reason":null}]}"#,
        r#"{"choices":[{"text":"lö","index":0},{"text":"other","index":1}]}"#,
        r#"{"choices":[{"text":"","index":0,"finish_reason":"length"}],"usage":{"prompt_tokens":5,"completion_tokens":4}}"#,
        "[DONE]",
    ];
    let cases = [
        (&chat[..], "stop", Some(vec![7, 8, 9]), 2),
        (&completion, "length", None, 0),
    ];
    for (events, finish, tokens, reused) in cases {
        let (shown, answer) = read(events);
        let usage = Usage {
            prompt: 5,
            completion: 4,
            reused,
        };
        let expected = Answer {
            text: "Hellö".to_owned(),
            tokens,
            finish,
            usage: Some(usage),
        };
        assert_eq!((shown.as_str(), answer.ok()), ("Hellö", Some(expected)));
    }
}

#[test]
fn what_other_servers_leave_out_is_not_made_up() {
    let (_, answer) = read(&[
        r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"content_filter"}]}"#,
        "[DONE]",
    ]);
    let answer = answer.expect("an answer");
    assert_eq!(
        (answer.finish, answer.usage, answer.tokens),
        ("other", None, None)
    );
}

#[test]
fn what_breaks_a_stream_is_told_in_words() {
    let cut = "before the answer was complete";
    let text = r#"{"choices":[{"delta":{"content":"a"}}]}"#;
    let cases = [
        (vec![text], "a", cut),
        (vec![], "", cut),
        // The end of the stream without an end of the answer.
        (vec![text, "[DONE]"], "a", cut),
        (
            vec![
                text,
                r#"{"error":{"message":"no\u001b[2J pages","type":"x"}}"#,
            ],
            "a",
            "broke the answer off: no [2J pages",
        ),
        (
            vec![r#"{"error":"busy"}"#],
            "",
            "broke the answer off: busy",
        ),
        (vec!["{"], "", "no chunk of an answer"),
        (vec!["[]"], "", "no chunk of an answer"),
        (
            vec![text, r#"{"choices":[{"delta":{"content":5}}]}"#],
            "a",
            "no chunk of an answer",
        ),
        (
            vec![r#"{"choices":[{"token_ids":[-1]}]}"#],
            "",
            "no chunk of an answer",
        ),
    ];
    for (events, shown, expected) in cases {
        let (text, answer) = read(&events);
        let error = answer.expect_err("broken").to_string();
        assert!(error.contains(expected), "{events:?}: {error}");
        assert_eq!(text, shown, "{events:?}");
    }
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let chunk = json!({"choices": [{"text": "x".repeat(1 << 19)}]}).to_string();
    let mut reading = Reading::new(address());
    let failed = (0..=TEXT_BYTES_MAX >> 19).find_map(|_| reading.push(&chunk).err());
    assert!(
        matches!(failed, Some(RemoteError::TooLong { .. })),
        "{failed:?}"
    );
    let chunk = json!({"choices": [{"token_ids": vec![0; 1 << 18]}]}).to_string();
    let mut reading = Reading::new(address());
    let failed = (0..=TOKENS_MAX >> 18).find_map(|_| reading.push(&chunk).err());
    assert!(
        matches!(failed, Some(RemoteError::TooLong { .. })),
        "{failed:?}"
    );
}

#[test]
fn requests_have_the_names_of_the_interface() {
    let messages = [
        Message::new("system", "Be brief."),
        Message::new("user", "Hi"),
    ];
    let sampling = SamplingFields {
        max_tokens: Some(-1),
        temperature: Some(0.5),
        top_p: Some(0.25),
        top_k: Some(7),
        min_p: Some(0.125),
        repetition_penalty: Some(1.5),
        presence_penalty: Some(-1.0),
        frequency_penalty: Some(2.0),
        seed: Some(-3),
        stop: vec!["a".to_owned(), "b".to_owned()],
    };
    let full = AnswerRequest {
        model: "m",
        prompt: Prompt::Chat(&messages),
        sampling,
        token_ids: true,
    };
    let bare = AnswerRequest {
        model: "m",
        prompt: Prompt::Raw("Once"),
        sampling: SamplingFields::default(),
        token_ids: false,
    };
    let stream = json!({"include_usage": true});
    let expected = [
        (
            full,
            "/v1/chat/completions",
            json!({"model": "m", "messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
            "stream": true, "stream_options": stream, "return_token_ids": true, "max_tokens": -1,
            "temperature": 0.5, "top_p": 0.25, "top_k": 7, "min_p": 0.125,
            "repetition_penalty": 1.5, "presence_penalty": -1.0, "frequency_penalty": 2.0,
            "seed": -3, "stop": ["a", "b"]}),
        ),
        (
            bare,
            "/v1/completions",
            json!({"model": "m", "prompt": "Once", "stream": true,
            "stream_options": stream}),
        ),
    ];
    for (request, path, body) in expected {
        let sent: Value = serde_json::from_str(&request.body()).expect("JSON");
        assert_eq!((request.path(), sent), (path, body));
    }
}
