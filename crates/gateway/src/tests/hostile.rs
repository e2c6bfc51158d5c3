//! Bodies that nobody writes by accident.

use axum::body::Body;
use axum::http::Request as HttpRequest;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::rig::{Rig, posted};
use crate::config::GatewayConfig;

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn malformed_bodies_are_400() {
    let rig = Rig::new();
    let deep = "[".repeat(100_000);
    let deep_object = "{\"a\":".repeat(5_000);
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"{".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"\"x\"".to_vec(),
        b"{\"model\": \"tiny\xff\"}".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"{\"model\": \"\\ud800\"}".to_vec(),
        b"{\"temperature\": 1e999}".to_vec(),
        b"{\"temperature\": NaN}".to_vec(),
        b"{\"max_tokens\": 99999999999999999999999999999999}".to_vec(),
        deep.into_bytes(),
        deep_object.into_bytes(),
        vec![0; 1000],
    ];
    for body in bodies {
        for path in [CHAT, "/v1/completions"] {
            let reply = rig.post(path, body.clone()).await;
            assert_eq!(
                reply.error().0,
                400,
                "{}",
                String::from_utf8_lossy(&body[..body.len().min(60)])
            );
            assert!(reply.text.len() < 1000);
        }
    }
}

#[tokio::test]
async fn errors_stay_small_and_plain_whatever_is_quoted() {
    let rig = Rig::new();
    let long = "x\u{7}".repeat(50_000);
    let mut fields = json!({"model": "tiny", "prompt": "a"});
    fields[&long] = json!(1);
    for fields in [json!({"model": long, "prompt": "a"}), fields] {
        let reply = rig.post("/v1/completions", fields.to_string()).await;
        assert!(reply.status.is_client_error());
        assert!(reply.text.len() < 1000);
        assert!(!reply.text.contains("\\u0007"));
    }
}

#[tokio::test]
async fn bodies_are_bounded_and_declared() {
    let rig = Rig::with(GatewayConfig {
        body_bytes_max: 100,
        ..GatewayConfig::default()
    });
    for size in [101, 399, 1_000_000] {
        assert_eq!(rig.post(CHAT, vec![b' '; size]).await.error().0, 413);
    }
    assert_eq!(rig.post(CHAT, vec![b' '; 100]).await.error().0, 400);
    for (name, value) in [
        ("content-type", "text/plain"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-type", "application/jsonx"),
        ("content-encoding", "gzip"),
    ] {
        let mut request = posted(CHAT, "{}");
        request.headers_mut().insert(name, value.parse().unwrap());
        assert_eq!(rig.read(request).await.error().0, 415, "{name} {value}");
    }
    let untyped = HttpRequest::post(CHAT).header("host", "localhost");
    assert_eq!(
        rig.read(untyped.body(Body::from("{}")).unwrap())
            .await
            .error()
            .0,
        415
    );
    let mut request = posted(CHAT, "{}");
    let typed = "Application/JSON; charset=utf-8".parse().unwrap();
    request.headers_mut().insert("content-type", typed);
    assert_eq!(rig.read(request).await.error().0, 400);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-5i64..300).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        Just(json!("text")),
        Just(json!("user")),
        Just(json!("hi")),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        let key = prop_oneof![
            Just("type".to_owned()),
            Just("role".to_owned()),
            Just("content".to_owned()),
            Just("text".to_owned()),
            "[0-9]{1,4}".prop_map(|key| key),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_request() -> impl Strategy<Value = Value> {
    let names = [
        "messages",
        "prompt",
        "stream",
        "stream_options",
        "n",
        "stop",
        "seed",
        "logprobs",
        "top_logprobs",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "logit_bias",
        "presence_penalty",
        "repetition_penalty",
        "response_format",
        "tools",
        "user",
        "echo",
        "best_of",
        "x",
    ];
    let field = (prop::sample::select(names.to_vec()), any_json());
    prop::collection::vec(field, 0..6).prop_map(|fields| {
        let mut request = json!({"model": "tiny"});
        for (name, value) in fields {
            request[name] = value;
        }
        request
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn no_json_is_a_fault_of_ours(request in any_request(), fill in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let rig = Rig::new();
            let mut request = request;
            if fill {
                let object = request.as_object_mut().unwrap();
                object.entry("prompt").or_insert(json!("hi"));
            }
            for path in [CHAT, "/v1/completions"] {
                let reply = rig.post(path, request.to_string()).await;
                assert!(reply.status.is_success() || reply.error().0 < 500, "{request} {}", reply.text);
            }
            assert_eq!(rig.alive(), 0);
        });
    }

    #[test]
    fn no_bytes_are_a_fault_of_ours(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let reply = runtime.block_on(async { Rig::new().post(CHAT, body).await });
        assert_eq!(reply.error().0, 400);
    }
}
