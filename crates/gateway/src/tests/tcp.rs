//! The real thing: sockets, disconnects, slow clients, TLS, the end.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use skein_runtime::tasks::CancellationToken;
use skein_runtime::{Secret32, SystemClock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::rig::{Script, Scripted, model, scripted};
use crate::config::GatewayConfig;
use crate::metrics::Metrics;
use crate::serve::{Gateway, ServeError, serve};

/// Longest wait for what must happen at once.
const SOON: Duration = Duration::from_secs(10);

struct Server {
    address: SocketAddr,
    backend: Arc<Scripted>,
    stopping: CancellationToken,
    served: JoinHandle<Result<(), ServeError>>,
}

fn start(config: GatewayConfig) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let backend = scripted();
    let gateway = Gateway {
        config,
        models: vec![model(Arc::clone(&backend))],
        metrics: Metrics::new(),
        clock: Arc::new(SystemClock::new()),
        secret: Secret32::from_bytes([2; 32]),
    };
    let stopping = CancellationToken::new();
    #[expect(clippy::disallowed_methods, reason = "each test awaits it")]
    let served = tokio::spawn(serve(listener, gateway, stopping.clone()));
    Server {
        address,
        backend,
        stopping,
        served,
    }
}

fn request(body: &str) -> String {
    format!(
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn streamed() -> String {
    request(&json!({"model": "tiny", "prompt": "hi", "stream": true}).to_string())
}

/// Reads until `text` has come.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains(text) {
        let count = tokio::time::timeout(SOON, stream.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        assert!(count > 0, "closed after {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(seen).unwrap()
}

/// All that comes until the other side closes.
async fn read_all(stream: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut seen))
        .await
        .unwrap()
        .unwrap_or_default();
    String::from_utf8(seen).unwrap()
}

/// Waits until so many generations are left.
async fn settled(backend: &Scripted, alive: usize) {
    let wait = async {
        while backend.alive.load(Ordering::SeqCst) != alive {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, wait)
        .await
        .expect("generations end at once");
}

impl Server {
    async fn stop(self) {
        self.stopping.cancel();
        tokio::time::timeout(SOON, self.served)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn a_client_that_leaves_mid_stream_ends_the_work() {
    let server = start(GatewayConfig::default());
    *server.backend.script.lock().unwrap() = Script::Hang("so far".into());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(streamed().as_bytes()).await.unwrap();
    read_until(&mut stream, "\"r\"").await;
    settled(&server.backend, 1).await;
    drop(stream);
    settled(&server.backend, 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_before_a_whole_answer_ends_the_work() {
    let server = start(GatewayConfig::default());
    *server.backend.script.lock().unwrap() = Script::Hang("so far".into());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let body = json!({"model": "tiny", "prompt": ["hi", "ho"], "n": 2}).to_string();
    stream.write_all(request(&body).as_bytes()).await.unwrap();
    settled(&server.backend, 4).await;
    drop(stream);
    settled(&server.backend, 0).await;
    server.stop().await;
}

#[tokio::test]
async fn slow_heads_and_bodies_are_cut_off() {
    let server = start(GatewayConfig {
        header_timeout: Duration::from_millis(100),
        body_timeout: Duration::from_millis(100),
        ..GatewayConfig::default()
    });
    for sent in [
        "",
        "POST /v1/completions HTTP/1.1\r\nhost: loc",
        "PRI * HTTP/2.0\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(!answer.contains("200"), "{answer}");
    }
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let whole = streamed();
    stream
        .write_all(&whole.as_bytes()[..whole.len() - 5])
        .await
        .unwrap();
    let answer = read_until(&mut stream, "request_timeout").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let server = start(GatewayConfig::default());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
        "x".repeat(1 << 20)
    );
    // The other side may close before all is sent.
    let _ = stream.write_all(head.as_bytes()).await;
    let answer = read_all(&mut stream).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_body_too_large_is_told_so_while_it_is_sent() {
    let server = start(GatewayConfig {
        body_bytes_max: 1000,
        ..GatewayConfig::default()
    });
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(request(&" ".repeat(3_000)).as_bytes())
        .await
        .unwrap();
    let answer = read_until(&mut stream, "request_too_large").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn connections_are_counted() {
    let server = start(GatewayConfig {
        connections_max: 1,
        ..GatewayConfig::default()
    });
    let ask = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n".as_bytes();
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(ask).await.unwrap();
    read_until(&mut first, "\"ok\"").await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(read_all(&mut second).await, "");
    first.write_all(ask).await.unwrap();
    read_until(&mut first, "\"ok\"").await;
    drop(first);
    let again = async {
        loop {
            let mut third = TcpStream::connect(server.address).await.unwrap();
            let _ = third.write_all(ask).await;
            let mut buffer = [0; 64];
            if third.read(&mut buffer).await.is_ok_and(|count| count > 0) {
                break;
            }
        }
    };
    tokio::time::timeout(SOON, again).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn an_orderly_end_lets_answers_finish_and_cuts_off_the_rest() {
    let server = start(GatewayConfig {
        shutdown_timeout: Duration::from_millis(200),
        ..GatewayConfig::default()
    });
    *server.backend.script.lock().unwrap() = Script::Hang("so far".into());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(streamed().as_bytes()).await.unwrap();
    read_until(&mut stream, "\"r\"").await;
    let backend = Arc::clone(&server.backend);
    let address = server.address;
    server.stop().await;
    settled(&backend, 0).await;
    read_all(&mut stream).await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn settings_that_are_unsafe_do_not_start() {
    let server = start(GatewayConfig {
        requests_max: 0,
        ..GatewayConfig::default()
    });
    let error = server.served.await.unwrap().unwrap_err();
    assert!(matches!(error, ServeError::Config(_)), "{error}");
}

#[tokio::test]
async fn tls_is_spoken_with_the_given_certificate() {
    use crate::config::tests::{CERTIFICATE, pem};
    let server = start(GatewayConfig {
        tls: Some(pem()),
        ..GatewayConfig::default()
    });
    let address = server.address;
    let answer = skein_runtime::blocking(move || {
        use std::io::{Read as _, Write as _};

        use rustls::pki_types::pem::PemObject as _;
        let mut roots = rustls::RootCertStore::empty();
        let certificate = rustls::pki_types::CertificateDer::from_pem_slice(CERTIFICATE.as_bytes());
        roots.add(certificate.unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = std::net::TcpStream::connect(address).unwrap();
        let mut tls = rustls::Stream::new(&mut connection, &mut socket);
        tls.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        tls.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Plain HTTP is no longer understood.
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(streamed().as_bytes()).await.unwrap();
    assert!(!read_all(&mut plain).await.contains("HTTP/1.1"));
    server.stop().await;
}
