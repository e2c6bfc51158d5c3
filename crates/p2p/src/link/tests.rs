//! Two nodes on loopback, and what strangers try.

use tokio::net::TcpListener;

use super::*;

const PROTOCOL: &str = "/skein/test/1";

fn identity(number: u8) -> Identity {
    Identity::from_seed(&[number; 32]).expect("a key")
}

fn config() -> LinkConfig {
    LinkConfig {
        frame_max: 1 << 20,
        handshake_timeout: Duration::from_secs(10),
        ..LinkConfig::default()
    }
}

struct Pair {
    dialler: Result<Halves, LinkError>,
    listener: Result<(NodeId, Halves), LinkError>,
}

/// Node 1 dials a listener that is node 2, expecting `expected`.
async fn pair(expected: u8, protocol: &str, config: LinkConfig) -> Pair {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    let (own, other) = (identity(1), identity(2));
    let peer = (identity(expected).node(), address);
    let dial = connect(&own, peer, protocol, config);
    let listen = async {
        let (stream, _) = socket.accept().await.expect("somebody");
        accept(&other, stream, PROTOCOL, config).await
    };
    let (dialler, listener) = tokio::join!(dial, listen);
    Pair { dialler, listener }
}

#[tokio::test]
async fn both_know_each_other_and_frames_arrive() {
    let Pair { dialler, listener } = pair(2, PROTOCOL, config()).await;
    let (mut from_b, mut to_b) = dialler.expect("a link");
    let (who, (mut from_a, mut to_a)) = listener.expect("a link");
    assert_eq!(who, identity(1).node());
    let large: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
    let there = async {
        to_b.send(b"").await.expect("sent");
        to_b.send(&large).await.expect("sent");
        to_b.send(b"x").await.expect("sent");
        to_b.close().await.expect("closed");
    };
    let here = async {
        assert!(from_a.recv().await.expect("a frame") == large);
        assert_eq!(from_a.recv().await.expect("a frame"), b"x");
        assert!(matches!(from_a.recv().await, Err(LinkError::Ended)));
        to_a.send(b"back").await.expect("sent");
    };
    tokio::join!(there, here);
    assert_eq!(from_b.recv().await.expect("a frame"), b"back");
}

/// Sin: to be somebody else.
#[tokio::test]
async fn another_node_than_the_one_that_was_dialled_is_refused() {
    let Pair { dialler, listener } = pair(3, PROTOCOL, config()).await;
    let error = dialler.expect_err("refused").to_string();
    assert!(error.contains("the peer is"), "{error}");
    assert!(listener.is_err());
}

#[tokio::test]
async fn another_version_is_refused_with_words() {
    let Pair { dialler, listener } = pair(2, "/skein/test/2", config()).await;
    let error = dialler.expect_err("refused").to_string();
    assert!(
        error.contains("/skein/test/1") && error.contains("updated"),
        "{error}"
    );
    assert!(matches!(listener, Err(LinkError::Protocol { .. })));
}

/// Sin: bytes that are no TLS; no bytes at all.
#[tokio::test]
async fn strangers_are_dropped_in_time() {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b""] {
        let mut stranger = TcpStream::connect(address).await.expect("connected");
        stranger.write_all(bytes).await.expect("sent");
        let (stream, _) = socket.accept().await.expect("somebody");
        let config = LinkConfig {
            handshake_timeout: Duration::from_millis(200),
            ..config()
        };
        let outcome = accept(&identity(2), stream, PROTOCOL, config).await;
        assert!(outcome.is_err());
        if bytes.is_empty() {
            let error = outcome.expect_err("refused").to_string();
            assert!(error.contains("shaking hands took longer"), "{error}");
        }
    }
}

/// Sins: silence, a frame that is too long, one that never ends, one that is cut off.
#[tokio::test]
async fn peers_that_misbehave_are_dropped() {
    let config = LinkConfig {
        frame_timeout: Duration::from_millis(200),
        silence_max: Duration::from_millis(400),
        ..config()
    };
    for (bytes, closes, expected) in [
        (&b""[..], false, "nothing was heard for 400ms"),
        (
            &[0xff, 0xff, 0xff, 0x7f],
            false,
            "at most 1048576 are taken",
        ),
        (&[10, 0, 0, 0, 1, 2], false, "receiving a frame took longer"),
        (&[10, 0, 0, 0, 1, 2], true, "ended inside a frame"),
        (&[10, 0], true, "ended inside a frame"),
        (&[], true, "ended the link"),
    ] {
        let Pair { dialler, listener } = pair(2, PROTOCOL, config).await;
        let (_reader, mut writer) = dialler.expect("a link");
        let (_, (mut reader, _writer)) = listener.expect("a link");
        writer.stream.write_all(bytes).await.expect("sent");
        writer.stream.flush().await.expect("sent");
        if closes {
            writer.stream.shutdown().await.expect("closed");
        }
        let error = reader.recv().await.expect_err("refused").to_string();
        assert!(error.contains(expected), "{bytes:?}: {error}");
    }
}

#[tokio::test]
async fn a_frame_that_the_other_side_would_refuse_is_not_sent() {
    let Pair { dialler, listener } = pair(2, PROTOCOL, config()).await;
    let (_, mut writer) = dialler.expect("a link");
    drop(listener);
    let refused = writer.send(&vec![0; (1 << 20) + 1]).await;
    assert!(matches!(refused, Err(LinkError::TooLong { .. })));
}
