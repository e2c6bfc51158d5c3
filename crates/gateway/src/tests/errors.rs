//! Every refusal, in OpenAI's shape.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request as HttpRequest;
use serde_json::{Value, json};
use skein_serving::{Event, FinishReason, SubmitError, Usage};

use super::rig::{Rig, Script, failed};

#[tokio::test]
async fn unknown_models_routes_and_methods() {
    let rig = Rig::new();
    let not_found = (404, "model_not_found".to_owned(), "model".to_owned());
    assert_eq!(
        rig.complete(json!({"model": "other"})).await.error(),
        not_found
    );
    assert_eq!(rig.chat(json!({"model": "other"})).await.error(), not_found);
    assert_eq!(rig.get("/v1/models/other").await.error(), not_found);
    for path in [
        "/",
        "/v1",
        "/v1/embeddings",
        "/v1/chat/completions/",
        "//v1/models",
        "/favicon.ico",
    ] {
        assert_eq!(rig.get(path).await.error().0, 404, "{path}");
    }
    for path in ["/v1/chat/completions", "/v1/completions"] {
        let reply = rig.get(path).await;
        assert_eq!((reply.error().0, reply.header("allow")), (405, "POST"));
    }
    let reply = rig.post("/v1/models", "{}").await;
    assert_eq!((reply.error().0, reply.header("allow")), (405, "GET, HEAD"));
    let options = HttpRequest::options("/v1/models").header("host", "localhost");
    assert_eq!(
        rig.read(options.body(Body::empty()).unwrap())
            .await
            .error()
            .0,
        405
    );
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
#[tokio::test]
async fn fields_of_wrong_type_or_value_are_named() {
    let rig = Rig::new();
    let many: Vec<u32> = vec![0; 129];
    let cases: Vec<(Value, &str)> = vec![
        (json!({"model": null}), "model"),
        (json!({"model": 5}), "model"),
        (json!({"stream": "yes"}), "stream"),
        (
            json!({"stream_options": {"include_usage": true}}),
            "stream_options",
        ),
        (
            json!({"stream": true, "stream_options": {"include_usage": 1}}),
            "stream_options.include_usage",
        ),
        (
            json!({"stream": true, "stream_options": {"other": 1}}),
            "stream_options.other",
        ),
        (json!({"temperature": 2.1}), "temperature"),
        (json!({"temperature": -0.1}), "temperature"),
        (json!({"temperature": "1"}), "temperature"),
        (json!({"top_p": 1.5}), "top_p"),
        (json!({"min_p": -1}), "min_p"),
        (json!({"top_k": -2}), "top_k"),
        (json!({"top_k": 1.5}), "top_k"),
        (json!({"repetition_penalty": 0}), "repetition_penalty"),
        (json!({"presence_penalty": 3}), "presence_penalty"),
        (json!({"frequency_penalty": -3}), "frequency_penalty"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": -2}), "max_tokens"),
        (
            json!({"max_tokens": -1, "max_completion_tokens": 4}),
            "max_tokens",
        ),
        (json!({"max_tokens": 1.5}), "max_tokens"),
        (json!({"max_tokens": u64::MAX}), "max_tokens"),
        (json!({"max_tokens": 1e30}), "max_tokens"),
        (
            json!({"max_tokens": 3, "max_completion_tokens": 4}),
            "max_tokens",
        ),
        (json!({"n": 0}), "n"),
        (json!({"n": 129}), "n"),
        (json!({"seed": "x"}), "seed"),
        (json!({"seed": u64::MAX}), "seed"),
        (json!({"stop": 5}), "stop"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop"),
        (json!({"stop": [""]}), "stop[0]"),
        (json!({"stop": ["a", 1]}), "stop[1]"),
        (json!({"stop": "x".repeat(1025)}), "stop[0]"),
        (json!({"logit_bias": []}), "logit_bias"),
        (json!({"logit_bias": {"a": 1}}), "logit_bias"),
        (json!({"logit_bias": {"-1": 1}}), "logit_bias"),
        (json!({"logit_bias": {"1": 101}}), "logit_bias"),
        (json!({"logit_bias": {"1": "x"}}), "logit_bias"),
        (json!({"logit_bias": {"1": 1, "01": 2}}), "logit_bias"),
        (json!({"logprobs": 6}), "logprobs"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"echo": true}), "echo"),
        (json!({"suffix": "x"}), "suffix"),
        (json!({"best_of": 2}), "best_of"),
        (json!({"prompt": null}), "prompt"),
        (json!({"prompt": 5}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": [[]]}), "prompt[0]"),
        (json!({"prompt": [1, "a"]}), "prompt[1]"),
        (json!({"prompt": [-1]}), "prompt[0]"),
        (json!({"prompt": ["a", 1]}), "prompt[1]"),
        (json!({"prompt": [[1], [1.5]]}), "prompt[1][0]"),
        (json!({"prompt": [260]}), "prompt"),
        (json!({"prompt": ["a", "b"], "n": 65}), "prompt"),
        (
            json!({"prompt": many.iter().map(|_| "a").collect::<Vec<_>>()}),
            "prompt",
        ),
        (json!({"tools": [{}]}), "tools"),
        (json!({"functions": [{}]}), "functions"),
        (
            json!({"response_format": {"type": "json_object"}}),
            "response_format.type",
        ),
        (
            json!({"response_format": {"type": "json_schema"}}),
            "response_format.type",
        ),
        (json!({"response_format": "text"}), "response_format"),
        (json!({"modalities": ["text", "audio"]}), "modalities"),
        (json!({"reasoning_effort": "low"}), "reasoning_effort"),
        (json!({"made_up": 1}), "made_up"),
        (json!({"messages": []}), "messages"),
    ];
    for (fields, param) in cases {
        let reply = rig.complete(fields.clone()).await;
        let (status, _, named) = reply.error();
        assert_eq!(
            (status, named.as_str()),
            (400, param),
            "{fields} {}",
            reply.text
        );
    }
    assert_eq!(rig.alive(), 0);
}

#[tokio::test]
async fn chats_that_make_no_sense_are_refused_by_name() {
    let rig = Rig::new();
    let message = |message: Value| json!({"messages": [{"role": "user", "content": "a"}, message]});
    let part = |part: Value| message(json!({"role": "user", "content": [part]}));
    let cases = vec![
        (json!({"messages": null}), "messages"),
        (json!({"messages": "hi"}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"prompt": "hi"}), "prompt"),
        (json!({"top_logprobs": 2}), "top_logprobs"),
        (
            json!({"logprobs": true, "top_logprobs": 21}),
            "top_logprobs",
        ),
        (json!({"logprobs": 1}), "logprobs"),
        (message(json!("hi")), "messages[1]"),
        (message(json!({"content": "a"})), "messages[1].role"),
        (
            message(json!({"role": "king", "content": "a"})),
            "messages[1].role",
        ),
        (
            message(json!({"role": "tool", "content": "a"})),
            "messages[1].role",
        ),
        (message(json!({"role": "user"})), "messages[1].content"),
        (
            message(json!({"role": "user", "content": 5})),
            "messages[1].content",
        ),
        (
            message(json!({"role": "user", "content": "a", "x": 1})),
            "messages[1].x",
        ),
        (
            message(json!({"role": "assistant", "content": "a", "tool_calls": [{}]})),
            "messages[1].tool_calls",
        ),
        (part(json!("a")), "messages[1].content[0]"),
        (part(json!({"type": "text"})), "messages[1].content[0].text"),
        (part(json!({"text": "a"})), "messages[1].content[0].type"),
        (
            part(json!({"type": "image_url", "image_url": {"url": "x"}})),
            "messages[1].content[0].type",
        ),
        (
            part(json!({"type": "input_audio"})),
            "messages[1].content[0].type",
        ),
        (part(json!({"type": "new"})), "messages[1].content[0].type"),
    ];
    for (fields, param) in cases {
        let reply = rig.chat(fields.clone()).await;
        let (status, _, named) = reply.error();
        assert_eq!(
            (status, named.as_str()),
            (400, param),
            "{fields} {}",
            reply.text
        );
    }
}

#[tokio::test]
async fn a_context_too_long_comes_with_the_numbers() {
    let rig = Rig::new();
    let reply = rig.complete(json!({"max_tokens": 199})).await;
    let expected = (
        400,
        "context_length_exceeded".to_owned(),
        "max_tokens".to_owned(),
    );
    assert_eq!(reply.error(), expected);
    let message = reply.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    for number in [
        "200 tokens",
        "201 tokens",
        "2 in the prompt",
        "199 in the completion",
    ] {
        assert!(message.contains(number), "{message}");
    }
    assert_eq!(rig.complete(json!({"max_tokens": 198})).await.status, 200);
    let long = json!({"messages": [{"role": "user", "content": "x".repeat(500)}]});
    let expected = (
        400,
        "context_length_exceeded".to_owned(),
        "messages".to_owned(),
    );
    assert_eq!(rig.chat(long).await.error(), expected);
    let expected = (
        400,
        "context_length_exceeded".to_owned(),
        "prompt".to_owned(),
    );
    assert_eq!(
        rig.complete(json!({"prompt": "x".repeat(500)}))
            .await
            .error(),
        expected
    );
}

#[tokio::test]
async fn refusals_of_the_backend_have_their_status() {
    let rig = Rig::new();
    let wait = Duration::from_secs(7);
    let cases = [
        (
            SubmitError::Busy {
                waiting: 9,
                retry_after: wait,
            },
            503,
            "overloaded",
            "7",
        ),
        (SubmitError::ShuttingDown, 503, "unavailable", "1"),
        (SubmitError::EmptyPrompt, 400, "", ""),
        (
            SubmitError::ContextTooLong {
                prompt: 1,
                max_tokens: 2,
                context: 2,
            },
            400,
            "context_length_exceeded",
            "",
        ),
        (
            SubmitError::NeverFits {
                prompt: 1,
                max_tokens: 2,
                needed: 3,
                total: 2,
            },
            400,
            "context_length_exceeded",
            "",
        ),
    ];
    for (error, status, code, retry) in cases {
        rig.script(Script::Refuse(error));
        for stream in [false, true] {
            let reply = rig.complete(json!({"stream": stream})).await;
            let (found, found_code, _) = reply.error();
            assert_eq!((found, found_code.as_str()), (status, code));
            assert_eq!(reply.header("retry-after"), retry);
        }
    }
}

#[tokio::test]
async fn failures_keep_their_reasons_to_the_log() {
    let rig = Rig::new();
    for script in [
        Script::End("so far".into(), failed()),
        Script::Vanish,
        Script::Panic,
    ] {
        rig.script(script);
        let reply = rig.complete(json!({})).await;
        let internal = (500, "internal_error".to_owned(), String::new());
        assert_eq!(reply.error(), internal);
        assert!(!reply.text.contains("4711"));
    }
    assert_eq!(rig.alive(), 0);
    rig.script(Script::Say("fine".into()));
    assert_eq!(rig.complete(json!({})).await.status, 200);
}

#[tokio::test]
async fn a_stream_that_fails_says_so_in_an_event_and_ends() {
    let rig = Rig::new();
    rig.script(Script::End("so far".into(), failed()));
    let events = rig.complete(json!({"stream": true})).await.events();
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "internal_error");
    assert!(!events.iter().any(|event| event == "[DONE]"));
    assert!(!events.concat().contains("4711"));
}

#[tokio::test]
async fn the_end_of_time_is_an_answer_cut_short_or_an_overload() {
    let rig = Rig::new();
    let end = |completion| Event::Finished {
        reason: FinishReason::Deadline,
        usage: Usage {
            prompt: 2,
            completion,
            reused: 0,
        },
    };
    rig.script(Script::End("cut".into(), end(3)));
    let answer = rig.complete(json!({})).await.json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["choices"][0]["text"], "cut");
    rig.script(Script::End(String::new(), end(0)));
    assert_eq!(rig.complete(json!({})).await.error().0, 503);
}
