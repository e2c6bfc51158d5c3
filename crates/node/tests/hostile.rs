//! A stage among peers that mean it ill: each is dropped, and the stage goes on serving others.

mod harness;

use std::net::{SocketAddr, TcpStream};
use std::process::Child;
use std::time::Duration;

use harness::cut::{private, start};
use harness::network::{complete, ready};
use harness::{Home, finish, fixture, signal};
use serde_json::json;
use skein_base::{ModelId, NodeId, NumericsId};
use skein_p2p::{Identity, LinkConfig, LinkReader, LinkWriter, connect};
use skein_runtime::timeout;
use skein_serving::wire::{
    BackKey, CircuitId, CircuitName, Failure, Hop, Message, Open, PROTOCOL, Rows, Share, Work,
    decode, encode,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// One stage with the whole model, that takes links from anybody.
struct Target {
    child: Child,
    node: NodeId,
    address: SocketAddr,
    model: ModelId,
}

fn split(home: &Home) -> (String, ModelId) {
    let split = home.path("split");
    let path = fixture("qwen2");
    let args = [
        "model", "split", &path, "--slices", "1", "--output", &split, "--json",
    ];
    let model = home.run(&args).json()["model"].clone();
    let model = model.as_str().expect("an id").parse();
    (split, model.expect("an id"))
}

fn target(home: &Home, (split, model): (&str, ModelId)) -> Target {
    let key = home.path("stage.key");
    private(&key, &"07".repeat(32));
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = port.local_addr().expect("an address");
    drop(port);
    let config = format!(
        "[model]\npath = {split:?}\n[engine]\nthreads = 1\nkv_memory = \"4MiB\"\n[node]\nroles = [\"stage\"]\nlisten = \"{address}\"\nkey_file = {key:?}\n[stage]\nlayers = \"0-3\"\n"
    );
    let mut child = start(home, &home.path("stage"), &config);
    // A stage says no address of an API.
    harness::network::ready_stage(&mut child);
    Target {
        child,
        node: Identity::from_seed(&[7; 32]).expect("a key").node(),
        address,
        model,
    }
}

type Link = (
    LinkReader<tokio::net::TcpStream>,
    LinkWriter<tokio::net::TcpStream>,
);

async fn link(target: &Target, seed: u8) -> Link {
    let own = Identity::from_seed(&[seed; 32]).expect("a key");
    let to = (target.node, target.address);
    let config = LinkConfig {
        silence_max: PATIENCE,
        ..LinkConfig::default()
    };
    connect(&own, to, PROTOCOL, config).await.expect("a link")
}

/// Whether the other side ends the link.
async fn is_dropped(reader: &mut LinkReader<tokio::net::TcpStream>) -> bool {
    loop {
        match timeout(PATIENCE, reader.recv()).await {
            Some(Ok(_)) => {}
            Some(Err(_)) => return true,
            None => return false,
        }
    }
}

async fn next(reader: &mut LinkReader<tokio::net::TcpStream>) -> Message {
    let frame = timeout(PATIENCE, reader.recv()).await;
    let frame = frame.expect("in time").expect("the link lives");
    decode(&frame).expect("a message")
}

fn name(circuit: u8) -> CircuitName {
    CircuitName {
        circuit: CircuitId([circuit; 16]),
        generation: 0,
    }
}

fn work(circuit: u8, number: u64, position: u32) -> Message {
    Message::Work(Work {
        name: name(circuit),
        number,
        changes: Vec::new(),
        shares: vec![Share {
            sequence: 1,
            position,
            rows: 1,
            scored: true,
            asked: Vec::new(),
            trace: None,
        }],
        rows: Rows::Ids(vec![5]),
        spent: Vec::new(),
    })
}

/// A circuit that works.
async fn open(target: &Target, circuit: u8, numerics: NumericsId) -> Link {
    let (mut reader, mut writer) = link(target, 20 + circuit).await;
    let key = BackKey([3; 32]);
    let attach = Message::Attach {
        name: name(circuit),
        key,
    };
    let open = Message::Open(Open {
        name: name(circuit),
        model: target.model,
        numerics,
        pages: 1..4,
        route: vec![Hop {
            node: target.node,
            layers: 0..4,
        }],
        hop: 0,
        voucher: Vec::new(),
        back: key.hash(),
    });
    for message in [attach, open] {
        writer.send(&encode(&message)).await.expect("sent");
    }
    let opened = next(&mut reader).await;
    assert!(
        matches!(opened, Message::Opened { pages: 4, .. }),
        "{opened:?}"
    );
    (reader, writer)
}

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "one sin after the other, on one stage"
)]
async fn whoever_breaks_the_rules_is_dropped() {
    let home = Home::new();
    let (split, model) = split(&home);
    let target = target(&home, (&split, model));
    let numerics = skein_model::numerics_id(None, skein_model::KvFormat::F32);

    // Sin: bytes that are no message.
    let (mut reader, mut writer) = link(&target, 1).await;
    writer.send(b"\xffgarbage").await.expect("sent");
    assert!(is_dropped(&mut reader).await, "garbage");

    // Sin: no TLS at all.
    let mut plain = TcpStream::connect(target.address).expect("connected");
    std::io::Write::write_all(&mut plain, &[0; 4096]).expect("sent");
    plain.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut rest = Vec::new();
    // Whatever it says, it ends.
    let _ = std::io::Read::read_to_end(&mut plain, &mut rest);

    // Sin: a flood of messages of no circuit. They are dropped one by one, and it may go on.
    let (mut reader, mut writer) = link(&target, 2).await;
    for circuit in 0..2000 {
        let message = encode(&work(100 + (circuit % 100) as u8, 0, 0));
        writer.send(&message).await.expect("sent");
    }
    let ask = Message::Ask { nonce: 9 };
    writer.send(&encode(&ask)).await.expect("sent");
    let told = next(&mut reader).await;
    let Message::Told { nonce: 9, report } = told else {
        panic!("{told:?}");
    };
    assert_eq!((report.circuits, report.pages_used), (0, 0));

    // Sin: a batch sent again.
    let (mut reader, mut writer) = open(&target, 1, numerics).await;
    writer.send(&encode(&work(1, 0, 0))).await.expect("sent");
    let answer = next(&mut reader).await;
    assert!(matches!(answer, Message::Answer { number: 0, .. }));
    writer.send(&encode(&work(1, 0, 0))).await.expect("sent");
    let failed = next(&mut reader).await;
    let protocol = Failure::Protocol;
    assert!(
        matches!(failed, Message::Failed { failure, .. } if failure == protocol),
        "{failed:?}"
    );

    // Sin: another model's id.
    let (mut reader, mut writer) = link(&target, 3).await;
    let other = Message::Open(Open {
        name: name(2),
        model: ModelId([9; 32]),
        numerics,
        pages: 1..4,
        route: vec![Hop {
            node: target.node,
            layers: 0..4,
        }],
        hop: 0,
        voucher: Vec::new(),
        back: BackKey([3; 32]).hash(),
    });
    writer.send(&encode(&other)).await.expect("sent");
    let failed = next(&mut reader).await;
    assert!(matches!(
        failed,
        Message::Failed {
            failure: Failure::OtherSlice,
            ..
        }
    ));

    // Sin: links that say nothing.
    let mut stalled = Vec::new();
    for seed in 0..3 {
        let (reader, writer) = link(&target, 40 + seed).await;
        stalled.push((reader, writer));
    }

    // An honest gateway is served all the same.
    let config = format!(
        "[model]\npath = {split:?}\nname = \"m\"\n[gateway]\nlisten = \"127.0.0.1:0\"\n[network]\nkv_tokens = 256\nstages = [\"0-3@{}@{}\"]\n",
        target.node, target.address
    );
    let mut gateway = start(&home, &home.path("gateway"), &config);
    let address = ready(&mut gateway).expect("ready");
    let request =
        json!({"model": "m", "prompt": "one thread", "max_tokens": 5, "temperature": 0.0});
    let choices = complete(&address, &request);
    assert_eq!(choices[0]["finish_reason"], "length");
    for (mut reader, _) in stalled {
        assert!(is_dropped(&mut reader).await, "silence");
    }
    for child in [gateway, target.child] {
        signal(&child, "TERM");
        assert_eq!(finish(child).code, 0);
    }
}

/// A stage that names who may come turns everybody else away.
#[tokio::test]
async fn strangers_are_turned_away() {
    let home = Home::new();
    let path = fixture("qwen2");
    let args = [
        "--model",
        &path,
        "--slices",
        "1",
        "--threads",
        "1",
        "--kv-memory",
        "4MiB",
    ];
    let up = harness::network::Up::start(&home, "state", &args);
    let network = up.network();
    let stage = &network["nodes"][1];
    let target = (
        stage["node"]
            .as_str()
            .expect("an id")
            .parse()
            .expect("an id"),
        stage["address"]
            .as_str()
            .expect("one")
            .parse()
            .expect("one"),
    );
    let own = Identity::from_seed(&[66; 32]).expect("a key");
    let dialled = connect(&own, target, PROTOCOL, LinkConfig::default()).await;
    if let Ok((mut reader, mut writer)) = dialled {
        // Turned away, sending may fail already.
        let _ = writer.send(&encode(&Message::Ask { nonce: 1 })).await;
        assert!(is_dropped(&mut reader).await);
    }
    assert_eq!(up.stop("TERM").code, 0);
}
