//! Keys, limits, hosts and origins.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request as HttpRequest;
use serde_json::json;

use super::rig::{Reply, Rig, Script, posted};
use crate::config::GatewayConfig;
use crate::keys::{KeyEntry, KeyHash, KeyLimits, format_key};

fn entry(name: &str, byte: u8, limits: KeyLimits) -> KeyEntry {
    KeyEntry {
        name: name.to_owned(),
        hash: KeyHash::of(&format_key(&[byte; 32])),
        limits,
    }
}

fn keyed(requests: Option<u32>, tokens: Option<u32>) -> Rig {
    let limits = KeyLimits {
        requests_per_minute: requests,
        tokens_per_minute: tokens,
    };
    let keys = vec![
        entry("alice", 1, limits),
        entry("bob", 2, KeyLimits::default()),
    ];
    Rig::with(GatewayConfig {
        keys,
        ..GatewayConfig::default()
    })
}

async fn with_key(rig: &Rig, byte: u8) -> Reply {
    let body = json!({"model": "tiny", "prompt": "hi", "max_tokens": 5}).to_string();
    let mut request = posted("/v1/completions", body);
    let value = format!("Bearer {}", format_key(&[byte; 32]))
        .parse()
        .unwrap();
    request.headers_mut().insert("authorization", value);
    rig.read(request).await
}

#[tokio::test]
async fn keys_are_asked_for_where_there_are_any() {
    let rig = keyed(None, None);
    let reply = rig.complete(json!({})).await;
    let expected = (401, "invalid_api_key".to_owned(), String::new());
    assert_eq!(reply.error(), expected);
    assert_eq!(reply.header("www-authenticate"), "Bearer");
    assert_eq!(with_key(&rig, 9).await.error(), expected);
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "sk-skein-",
        "Bearer \u{e9}",
    ] {
        let request = HttpRequest::get("/v1/models")
            .header("host", "localhost")
            .header("authorization", value);
        let reply = rig.read(request.body(Body::empty()).unwrap()).await;
        assert_eq!(reply.error(), expected, "{value}");
    }
    for path in ["/v1/models", "/v1/network", "/metrics"] {
        assert_eq!(rig.get(path).await.error().0, 401);
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(rig.get(path).await.status, 200);
    }
    assert_eq!(with_key(&rig, 1).await.status, 200);
    assert_eq!(rig.last_request().client.as_str(), "alice");
    assert_eq!(with_key(&rig, 2).await.status, 200);
    assert_eq!(rig.last_request().client.as_str(), "bob");
}

#[tokio::test]
async fn requests_per_minute_are_limited_per_key() {
    let rig = keyed(Some(2), None);
    assert_eq!(with_key(&rig, 1).await.status, 200);
    assert_eq!(with_key(&rig, 1).await.status, 200);
    let reply = with_key(&rig, 1).await;
    assert_eq!(
        reply.error(),
        (429, "rate_limit_exceeded".to_owned(), String::new())
    );
    assert_eq!(reply.header("retry-after"), "30");
    assert_eq!(with_key(&rig, 2).await.status, 200);
    rig.clock.advance(Duration::from_secs(30));
    assert_eq!(with_key(&rig, 1).await.status, 200);
}

#[tokio::test]
async fn tokens_per_minute_count_prompt_and_answer() {
    // Each request takes 2 of prompt and 5 of answer.
    let rig = keyed(None, Some(12));
    assert_eq!(with_key(&rig, 1).await.status, 200);
    assert_eq!(with_key(&rig, 1).await.status, 200);
    let reply = with_key(&rig, 1).await;
    assert_eq!(reply.error().0, 429);
    // From a debt of 2 to the next prompt's 2, at 12 a minute.
    assert_eq!(reply.header("retry-after"), "20");
    rig.clock.advance(Duration::from_secs(20));
    assert_eq!(with_key(&rig, 1).await.status, 200);
    assert_eq!(rig.now(), Duration::from_secs(20));
}

#[tokio::test]
async fn foreign_hosts_are_refused() {
    let rig = Rig::new();
    for host in ["evil.example", "localhost.evil.example", "10.0.0.1"] {
        let request = HttpRequest::get("/v1/models").header("host", host);
        let reply = rig.read(request.body(Body::empty()).unwrap()).await;
        assert_eq!(reply.error().1, "host_not_allowed");
        assert_eq!(reply.status, 403);
    }
    let none = HttpRequest::get("/v1/models").body(Body::empty()).unwrap();
    assert_eq!(rig.read(none).await.error().0, 400);
    let two = HttpRequest::get("/v1/models")
        .header("host", "localhost")
        .header("host", "localhost");
    assert_eq!(
        rig.read(two.body(Body::empty()).unwrap()).await.error().0,
        400
    );
    let absolute = HttpRequest::get("http://evil.example/v1/models").header("host", "localhost");
    assert_eq!(
        rig.read(absolute.body(Body::empty()).unwrap())
            .await
            .error()
            .0,
        403
    );
}

#[tokio::test]
async fn pages_may_call_only_where_they_are_listed() {
    let page = "https://chat.example.org";
    let closed = Rig::new();
    let open = Rig::with(GatewayConfig {
        cors_origins: vec![page.to_owned()],
        ..GatewayConfig::default()
    });
    let asks = |origin: &str| {
        HttpRequest::options("/v1/models")
            .header("host", "localhost")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization")
            .body(Body::empty())
            .unwrap()
    };
    let granted = open.read(asks(page)).await;
    assert_eq!(granted.status, 204);
    assert_eq!(granted.header("access-control-allow-origin"), page);
    assert_eq!(
        granted.header("access-control-allow-headers"),
        "authorization"
    );
    for reply in [
        open.read(asks("https://evil.example")).await,
        closed.read(asks(page)).await,
    ] {
        assert_eq!(reply.error().0, 405);
        assert_eq!(reply.header("access-control-allow-origin"), "");
    }
}

#[tokio::test]
async fn too_many_requests_at_once_are_told_to_come_back() {
    let rig = Rig::with(GatewayConfig {
        requests_max: 1,
        ..GatewayConfig::default()
    });
    rig.script(Script::Hang("a".into()));
    let body = json!({"model": "tiny", "prompt": "hi", "stream": true}).to_string();
    let streaming = rig.send(posted("/v1/completions", body)).await;
    assert_eq!(streaming.status(), 200);
    let reply = rig.complete(json!({})).await;
    assert_eq!((reply.error().0, reply.header("retry-after")), (503, "1"));
    assert_eq!(rig.alive(), 1);
    drop(streaming);
    assert_eq!(rig.alive(), 0);
    rig.script(Script::Say("b".into()));
    assert_eq!(rig.complete(json!({})).await.status, 200);
}
