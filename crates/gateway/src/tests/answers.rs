//! What well-formed requests get.

use serde_json::{Value, json};

use super::rig::{EOS, Rig, Script, UNIX};

#[tokio::test]
async fn models_are_listed_and_found_by_either_name() {
    let rig = Rig::new();
    let list = rig.get("/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let expected = json!({"id": "tiny", "object": "model", "created": 1_600_000_000,
        "owned_by": "skein", "context_length": 200});
    assert_eq!(list["data"], json!([expected]));
    for path in [
        "/v1/models/tiny",
        "/v1/models/org/tiny",
        "/v1/models/org%2Ftiny",
    ] {
        assert_eq!(rig.get(path).await.json(), expected);
    }
}

#[tokio::test]
async fn a_whole_chat_has_openais_shape() {
    let rig = Rig::new();
    let mut answer = rig.chat(json!({})).await.json();
    let id = answer["id"].take();
    assert!(id.as_str().unwrap().starts_with("chatcmpl-"));
    let prompt = rig.last_request().prompt.len();
    let expected = json!({
        "id": null, "object": "chat.completion", "created": UNIX, "model": "tiny",
        "system_fingerprint": "fp_0123456789",
        "choices": [{"index": 0, "logprobs": null, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Hello, wörld!", "refusal": null}}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": 15, "total_tokens": prompt + 15,
            "prompt_tokens_details": {"cached_tokens": prompt / 2}},
    });
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn a_streamed_chat_opens_with_the_role_and_ends_with_done() {
    let rig = Rig::new();
    let reply = rig
        .chat(json!({"stream": true, "stream_options": {"include_usage": true}}))
        .await;
    assert_eq!(
        reply.header("content-type"),
        "text/event-stream; charset=utf-8"
    );
    let chunks = reply.chunks();
    let choice = |chunk: &Value| chunk["choices"][0].clone();
    let delta = json!({"role": "assistant", "content": "", "refusal": null});
    let opening = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": null});
    assert_eq!(choice(&chunks[0]), opening);
    let [usage, end, ..] = &chunks.iter().rev().collect::<Vec<_>>()[..] else {
        panic!()
    };
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], 15);
    let last = json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"});
    assert_eq!(choice(end), last);
    let mut text = String::new();
    for chunk in &chunks[..chunks.len() - 1] {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["id"], chunks[0]["id"]);
        assert_eq!(chunk.as_object().unwrap().get("usage"), Some(&Value::Null));
        // Two tokens make one letter, which is never sent by halves.
        text.push_str(
            chunk["choices"][0]["delta"]["content"]
                .as_str()
                .unwrap_or_default(),
        );
    }
    assert_eq!(text, "Hello, wörld!");
    let plain = rig.chat(json!({"stream": true})).await.chunks();
    assert!(plain.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[tokio::test]
async fn a_streamed_completion_equals_a_whole_one() {
    let rig = Rig::new();
    let whole = rig.complete(json!({"max_tokens": 5})).await.json();
    assert_eq!(whole["object"], "text_completion");
    assert!(whole["id"].as_str().unwrap().starts_with("cmpl-"));
    let expected =
        json!({"text": "Hello", "index": 0, "logprobs": null, "finish_reason": "length"});
    assert_eq!(whole["choices"], json!([expected]));
    assert_eq!(whole["usage"]["completion_tokens"], 5);
    let chunks = rig
        .complete(json!({"max_tokens": 5, "stream": true}))
        .await
        .chunks();
    let text: String = chunks
        .iter()
        .map(|chunk| chunk["choices"][0]["text"].as_str().unwrap())
        .collect();
    assert_eq!(text, "Hello");
    assert_eq!(
        chunks.last().unwrap()["choices"][0]["finish_reason"],
        "length"
    );
}

#[tokio::test]
async fn stop_strings_are_cut_across_tokens_and_end_the_work() {
    let rig = Rig::new();
    for (script, stop, text, reason) in [
        (
            Script::Hang("Hello, wörld! and".into()),
            json!(", wör"),
            "Hello",
            "stop",
        ),
        (
            Script::Hang("Hello, wörld! and".into()),
            json!(["ld!", "zzz", "ö"]),
            "Hello, w",
            "stop",
        ),
        (
            Script::Say("Hello, wö".into()),
            json!(["wörld"]),
            "Hello, wö",
            "stop",
        ),
    ] {
        rig.script(script);
        let answer = rig
            .complete(json!({"stop": stop, "max_tokens": 40}))
            .await
            .json();
        assert_eq!(answer["choices"][0]["text"], text);
        assert_eq!(answer["choices"][0]["finish_reason"], reason);
        let streamed = rig
            .complete(json!({"stop": stop, "max_tokens": 40, "stream": true}))
            .await;
        let chunks = streamed.chunks();
        let said: String = chunks
            .iter()
            .map(|chunk| chunk["choices"][0]["text"].as_str().unwrap())
            .collect();
        assert_eq!(said, text);
        assert_eq!(rig.alive(), 0);
    }
}

#[tokio::test]
async fn choices_have_their_own_seeds_and_prompts() {
    let rig = Rig::new();
    rig.script(Script::Say("x".into()));
    let fields =
        json!({"prompt": ["a", "bc"], "n": 2, "seed": -1, "temperature": 1, "max_tokens": 50});
    let answer = rig.complete(fields).await.json();
    let texts: Vec<&str> = answer["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| choice["text"].as_str().unwrap())
        .collect();
    let first = format!("x#{}", u64::MAX);
    assert_eq!(texts, [&first, "x#0", &first, "x#0"]);
    let indices: Vec<u64> = (0..4)
        .map(|i| answer["choices"][i]["index"].as_u64().unwrap())
        .collect();
    assert_eq!(indices, [0, 1, 2, 3]);
    // Each prompt counts once, whatever n is.
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
    assert_eq!(rig.backend.seen.lock().unwrap().len(), 4);
    let one = rig.complete(json!({"temperature": 1})).await.json();
    let two = rig.complete(json!({"temperature": 1})).await.json();
    assert_ne!(one["choices"][0]["text"], two["choices"][0]["text"]);
}

#[tokio::test]
async fn prompts_come_as_ids_too() {
    let rig = Rig::new();
    rig.complete(json!({"prompt": [104, 105]})).await;
    assert_eq!(rig.last_request().prompt, [104, 105]);
    rig.complete(json!({"prompt": [[1, 2], [3]]})).await;
    assert_eq!(rig.last_request().prompt, [3]);
    rig.complete(json!({"prompt": "hi"})).await;
    assert_eq!(rig.last_request().prompt, [104, 105]);
}

#[tokio::test]
async fn chat_logprobs_come_with_their_text() {
    let rig = Rig::new();
    rig.script(Script::Ids(vec![0x68, 0xc3, 0xb6, 259]));
    let fields = json!({"logprobs": true, "top_logprobs": 2});
    let answer = rig.chat(fields).await.json();
    let content = answer["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap()
        .clone();
    let tokens: Vec<&Value> = content.iter().map(|entry| &entry["token"]).collect();
    assert_eq!(tokens, ["h", "\u{fffd}", "\u{fffd}", "ab"]);
    let bytes: Vec<&Value> = content.iter().map(|entry| &entry["bytes"]).collect();
    assert_eq!(
        bytes,
        [
            &json!([0x68]),
            &json!([0xc3]),
            &json!([0xb6]),
            &json!([97, 98])
        ]
    );
    let top = json!([{"token": "h", "logprob": -0.5, "bytes": [104]}, {"token": "i", "logprob": -1.5, "bytes": [105]}]);
    assert_eq!(content[0]["top_logprobs"], top);
    let chunks = rig
        .chat(json!({"logprobs": true, "top_logprobs": 2, "stream": true}))
        .await
        .chunks();
    let mut streamed = Vec::new();
    for chunk in &chunks {
        let choice = &chunk["choices"][0];
        if let Some(entries) = choice["logprobs"]["content"].as_array() {
            streamed.extend(entries.clone());
            // A letter of two tokens brings both.
            assert_eq!(choice["delta"]["content"] == "ö", entries.len() == 2);
        }
    }
    assert_eq!(streamed, content);
}

#[tokio::test]
async fn completion_logprobs_are_parallel_lists() {
    let rig = Rig::new();
    rig.script(Script::Ids(vec![0x68, 0xc3, 0xb6, 259]));
    let answer = rig.complete(json!({"logprobs": 1})).await.json();
    let expected = json!({
        "tokens": ["h", "bytes:\\xc3", "bytes:\\xb6", "ab"],
        "token_logprobs": [-0.5, -0.5, -0.5, -0.5],
        "top_logprobs": [{"h": -0.5}, {"bytes:\\xc3": -0.5}, {"bytes:\\xb6": -0.5}, {"\u{3}": -0.5, "ab": -0.5}],
        "text_offset": [0, 1, 1, 2],
    });
    assert_eq!(answer["choices"][0]["logprobs"], expected);
    assert_eq!(rig.last_request().sampling.top_logprobs, 1);
}

#[tokio::test]
async fn logprobs_do_not_tell_what_a_stop_string_hid() {
    let rig = Rig::new();
    let fields = json!({"stop": "lo", "logprobs": 0, "max_tokens": 9});
    let answer = rig.complete(fields).await.json();
    assert_eq!(
        answer["choices"][0]["logprobs"]["tokens"],
        json!(["H", "e", "l"])
    );
}

#[tokio::test]
async fn token_ids_come_where_they_are_asked_for() {
    let rig = Rig::new();
    rig.script(Script::Say("Hel\u{f6}".to_owned()));
    let ids = json!([72, 101, 108, 0xc3, 0xb6]);
    let fields = json!({"return_token_ids": true});
    for whole in [rig.complete(fields.clone()).await, rig.chat(fields).await] {
        let choice = &whole.json()["choices"][0];
        assert_eq!(
            (&choice["token_ids"], &choice["logprobs"]),
            (&ids, &Value::Null)
        );
    }
    let fields = json!({"return_token_ids": true, "stream": true});
    for streamed in [rig.complete(fields.clone()).await, rig.chat(fields).await] {
        let chunks = streamed.chunks();
        let each = chunks
            .iter()
            .filter_map(|chunk| chunk["choices"][0]["token_ids"].as_array());
        assert_eq!(Value::Array(each.flatten().cloned().collect()), ids);
    }
    for plain in [rig.complete(json!({})).await, rig.chat(json!({})).await] {
        assert_eq!(plain.json()["choices"][0].get("token_ids"), None);
    }
}

#[tokio::test]
async fn sampling_reaches_the_backend_and_defaults_hold() {
    let rig = Rig::new();
    let fields = json!({"temperature": 0.5, "top_p": 0.25, "top_k": 7, "min_p": 0.125,
        "repetition_penalty": 1.5, "presence_penalty": -1, "frequency_penalty": 2,
        "logit_bias": {"5": -100, "7": 1.5}, "seed": 3, "ignore_eos": true, "max_tokens": 4});
    rig.complete(fields).await;
    let request = rig.last_request();
    let sampling = request.sampling;
    assert_eq!(
        (sampling.temperature, sampling.top_p, sampling.top_k),
        (0.5, 0.25, 7)
    );
    assert_eq!((sampling.min_p, sampling.repetition_penalty), (0.125, 1.5));
    assert_eq!(
        (sampling.presence_penalty, sampling.frequency_penalty),
        (-1.0, 2.0)
    );
    assert_eq!(
        sampling.logit_bias.into_iter().collect::<Vec<_>>(),
        [(5, -100.0), (7, 1.5)]
    );
    assert_eq!(sampling.seed, 3);
    assert!(request.ignore_eos);
    assert_eq!((request.max_tokens, request.stop_ids), (4, vec![EOS]));
    assert_eq!(request.client.as_str(), "anonymous");
    rig.complete(json!({"top_k": -1})).await;
    assert_eq!(
        (
            rig.last_request().sampling.temperature,
            rig.last_request().max_tokens
        ),
        (0.0, 16)
    );
    // A chat may use all that is left.
    rig.chat(json!({})).await;
    let request = rig.last_request();
    assert_eq!(request.prompt.len() + request.max_tokens, 200);
    rig.chat(json!({"max_completion_tokens": 3})).await;
    assert_eq!(rig.last_request().max_tokens, 3);
    // So may a completion that asks for it.
    for name in ["max_tokens", "max_completion_tokens"] {
        rig.complete(json!({name: -1})).await;
        let request = rig.last_request();
        assert_eq!(request.prompt.len() + request.max_tokens, 200);
    }
}

#[tokio::test]
async fn harmless_fields_and_nulls_are_taken() {
    let rig = Rig::new();
    let reply = rig
        .chat(
            json!({"metadata": {"a": "b"}, "store": true, "user": "u", "service_tier": "auto",
            "stop": null, "tools": [], "tool_choice": "none", "response_format": {"type": "text"},
            "logit_bias": {}, "modalities": ["text"], "safety_identifier": "x", "seed": null,
            "prompt_cache_key": "k", "unheard_of": null, "top_logprobs": null}),
        )
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let reply = rig
        .complete(json!({"best_of": 1, "echo": false, "suffix": null}))
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test]
async fn messages_become_the_templates_text() {
    let rig = Rig::new();
    let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    let messages = json!([{"role": "developer", "content": "s"}, {"role": "user", "content": parts},
        {"role": "assistant", "content": "c", "refusal": null}, {"role": "user", "name": "x", "content": "d"}]);
    rig.chat(json!({"messages": messages})).await;
    let text = "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nab<|im_end|>\n\
        <|im_start|>assistant\nc<|im_end|>\n<|im_start|>user\nd<|im_end|>\n<|im_start|>assistant\n";
    let expected = super::rig::tokenizer()
        .encode(text, skein_text::Specials::Parse)
        .unwrap();
    assert_eq!(rig.last_request().prompt, expected);
    // What a client writes never becomes a control token.
    let messages = json!([{"role": "user", "content": "<|im_end|>"}]);
    rig.chat(json!({"messages": messages})).await;
    let ends = rig
        .last_request()
        .prompt
        .iter()
        .filter(|&&id| id == 257)
        .count();
    assert_eq!(ends, 1);
}

#[tokio::test]
async fn health_metrics_and_request_ids() {
    let rig = Rig::new();
    assert_eq!(rig.get("/healthz").await.status, 200);
    assert_eq!(rig.get("/readyz").await.status, 200);
    *rig.backend.ready.lock().unwrap() = false;
    assert_eq!(rig.get("/healthz").await.status, 200);
    assert_eq!(rig.get("/readyz").await.error().0, 503);
    rig.complete(json!({"max_tokens": 5})).await;
    let metrics = rig.get("/metrics").await;
    assert_eq!(
        metrics.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    for line in [
        "skein_gateway_responses_total{endpoint=\"completions\",status=\"200\"} 1",
        "skein_gateway_responses_total{endpoint=\"readyz\",status=\"503\"} 1",
        "skein_gateway_completion_tokens_total 5",
        "skein_gateway_prompt_tokens_total 2",
        "skein_gateway_requests_in_flight 0",
    ] {
        assert!(
            metrics.text.contains(line),
            "{line} is not in {}",
            metrics.text
        );
    }
    assert!(metrics.header("x-request-id").starts_with("req_"));
    // Each gateway counts for itself.
    assert!(
        !Rig::new()
            .get("/metrics")
            .await
            .text
            .contains("completions")
    );
}
