//! A model cut over separate processes says what one process says, through the API.

#![allow(
    clippy::disallowed_methods,
    reason = "tests measure and wait on their own threads"
)]

mod harness;

use std::thread;

use harness::network::{Up, complete, complete_with, lives, signal_pid};
use harness::{Home, Serving, fixture, wait_for};
use serde_json::{Value, json};

/// Eight different requests: prompts with a common beginning, greedy and not, with what logprobs
/// and penalties change.
fn requests(model: &str) -> Vec<Value> {
    let one = |index: u32| {
        json!({
            "model": model,
            "prompt": format!("The weaver had a thread and a loom, {index} of them, and so"),
            "max_tokens": 12 + index,
            "temperature": if index.is_multiple_of(2) { 0.0 } else { 0.9 },
            "seed": index,
            "logprobs": 3,
            "presence_penalty": if index.is_multiple_of(3) { 0.5 } else { 0.0 },
            "ignore_eos": true,
        })
    };
    (0..8).map(one).collect()
}

fn one_by_one(address: &str, requests: &[Value]) -> Vec<Value> {
    let ask = |request| complete(address, request);
    requests.iter().map(ask).collect()
}

fn all_at_once(address: &str, requests: &[Value]) -> Vec<Value> {
    thread::scope(|scope| {
        let ask = |request| scope.spawn(move || complete(address, request));
        let running: Vec<_> = requests.iter().map(ask).collect();
        let answer = |thread: thread::ScopedJoinHandle<'_, Value>| thread.join().expect("answered");
        running.into_iter().map(answer).collect()
    })
}

/// How the model is run, in one process and in several.
fn common(path: &str) -> [&str; 8] {
    [
        "--model",
        path,
        "--name",
        "m",
        "--threads",
        "1",
        "--kv-memory",
        "4MiB",
    ]
}

/// The requests, and what one process says to them.
fn said_by_one_process(home: &Home, common: &[&str]) -> (Vec<Value>, Vec<Value>) {
    let single = Serving::start(home, common);
    let requests = requests("m");
    let expected = one_by_one(single.address(), &requests);
    assert_eq!(single.stop("TERM").code, 0);
    (requests, expected)
}

/// One process against two, three and four stages, with one client and with eight.
fn says_the_same(model: &str, most: usize) {
    let home = Home::new();
    let path = fixture(model);
    let common = common(&path);
    let (requests, expected) = said_by_one_process(&home, &common);
    for slices in &["1", "2", "3", "4"][..most] {
        let args: Vec<&str> = common
            .iter()
            .chain(&["--slices", slices])
            .copied()
            .collect();
        let up = Up::start(&home, "state", &args);
        let found = one_by_one(&up.address, &requests);
        assert_eq!(found, expected, "{model} in {slices}, one client");
        let found = all_at_once(&up.address, &requests);
        assert_eq!(found, expected, "{model} in {slices}, eight clients");
        assert_eq!(up.stop("TERM").code, 0);
    }
}

macro_rules! each {
    ($($test:ident: $model:literal, $most:literal;)*) => {$(
        #[test]
        fn $test() {
            says_the_same($model, $most);
        }
    )*};
}

each! {
    gpt2: "gpt2", 4;
    llama_with_biases: "llama-bias", 4;
    llama2: "llama2", 4;
    llama31_in_shards: "llama31-sharded", 4;
    mistral: "mistral", 4;
    qwen2: "qwen2", 4;
    qwen2_of_halves: "qwen2-f16", 4;
    qwen2_with_a_window: "qwen2-window", 4;
    qwen3: "qwen3", 4;
    gguf_of_8_bits: "gguf/llama31-q8_0.gguf", 3;
    gguf_of_4_bits: "gguf/llama-q4_0.gguf", 3;
}

/// The gateway carries rows from stage to stage itself, and nobody can tell.
#[test]
fn hops_driven_by_the_gateway() {
    let home = Home::new();
    let path = fixture("qwen2");
    let file = home.path("skein.toml");
    std::fs::write(&file, "[network]\nmode = \"driven\"\n").expect("written");
    let common = common(&path);
    let (requests, expected) = said_by_one_process(&home, &common);
    let driven = ["--config", &file, "--slices", "3"];
    let args: Vec<&str> = common.iter().chain(&driven).copied().collect();
    let up = Up::start(&home, "state", &args);
    assert_eq!(all_at_once(&up.address, &requests), expected);
    let gateway = std::fs::read_to_string(home.path("state/nodes/gateway/node.toml"));
    assert!(gateway.expect("written").contains("mode = \"driven\""));
    assert_eq!(up.stop("TERM").code, 0);
}

/// A second start takes keys and the split model from the first; two at a time are refused; all
/// processes end with the first one, however it ends.
#[test]
fn a_network_starts_again_and_leaves_nothing_behind() {
    let home = Home::new();
    let path = fixture("qwen2");
    let common = [
        "--model",
        &path,
        "--slices",
        "2",
        "--threads",
        "1",
        "--kv-memory",
        "4MiB",
    ];
    let up = Up::start(&home, "state", &common);
    let nodes = |network: &Value| -> Vec<Value> {
        let nodes = network["nodes"].as_array().expect("nodes");
        nodes.iter().map(|node| node["node"].clone()).collect()
    };
    let first = nodes(&up.network());
    let state = home.path("state");
    let second = [
        &["up", "--state", &state, "--listen", "127.0.0.1:0"][..],
        &common[..],
    ]
    .concat();
    let refused = home.run(&second);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("running from"), "{}", refused.err);
    let pids = up.pids();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| lives(*pid)));
    // One that cannot hear is ended too.
    signal_pid(pids[1], "STOP");
    assert_eq!(up.stop("INT").code, 0);
    assert!(!pids.iter().any(|pid| lives(*pid)));

    let up = Up::start(&home, "state", &common);
    assert_eq!(nodes(&up.network()), first, "the keys are kept");
    assert!(!up.said().contains("splitting"), "{}", up.said());
    let pids = up.pids();
    signal_pid(pids[2], "STOP");
    signal_pid(up.id(), "KILL");
    wait_for(|| !pids.iter().any(|pid| lives(*pid)));
    up.stop("KILL");
}

/// One name of a request in the logs of all processes that work for it.
#[test]
fn a_request_can_be_followed_through_all_processes() {
    let home = Home::new();
    let path = fixture("qwen2");
    let common = [
        "--model",
        &path,
        "--slices",
        "2",
        "--threads",
        "1",
        "--kv-memory",
        "4MiB",
    ];
    let log = ["--log", "info,skein_serving=debug"];
    let args: Vec<&str> = common.iter().chain(&log).copied().collect();
    let up = Up::start(&home, "state", &args);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01\r\n");
    complete_with(&up.address, &requests("qwen2")[0], &parent);
    let network = up.network();
    assert_eq!(up.stop("TERM").code, 0);
    for node in network["nodes"].as_array().expect("nodes") {
        let log = std::fs::read_to_string(node["log"].as_str().expect("a path")).expect("a log");
        assert!(log.contains(trace), "{}: {log}", node["name"]);
    }
}

/// A process that is killed comes back; one that can never start ends the whole with its words.
#[test]
fn processes_are_started_again() {
    let home = Home::new();
    let path = fixture("qwen2");
    let common = [
        "--model",
        &path,
        "--slices",
        "2",
        "--threads",
        "1",
        "--kv-memory",
        "4MiB",
    ];
    let up = Up::start(&home, "state", &common);
    let request = &requests("qwen2")[1];
    let expected = complete(&up.address, request);
    for name in ["1a", "0a", "gateway"] {
        let pid = up.pid(name).expect("ready");
        signal_pid(pid, "KILL");
        wait_for(|| up.pid(name).is_some_and(|now| now != pid));
        assert_eq!(
            complete(&up.address, request),
            expected,
            "{name} was killed"
        );
    }
    assert!(
        up.said()
            .contains("stage 1a ended by signal 9; starting it again")
    );
    assert!(up.said().contains("the gateway is back"));
    assert_eq!(up.stop("TERM").code, 0);
}

#[test]
fn mistakes_of_up_are_told() {
    let home = Home::new();
    let path = fixture("qwen2");
    let state = home.path("state");
    let blocked = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = blocked.local_addr().expect("an address").to_string();
    let cases: [(&[&str], &str); 6] = [
        (&["--slices", "9"], "1 to 4"),
        (&["--slices", "0"], "1 to 4"),
        (&["--slices", "4", "--replicas", "100"], "at most 64"),
        (&["--listen", &taken], "in use"),
        (&["--kv-memory", "lots"], "--kv-memory"),
        (&["--listen", "0.0.0.0:0"], "keys"),
    ];
    for (args, expected) in cases {
        let fixed = ["up", "--model", &path, "--state", &state];
        let all: Vec<&str> = fixed.iter().chain(args).copied().collect();
        let ended = home.run(&all);
        assert_ne!(ended.code, 0, "{args:?}");
        assert!(ended.err.contains(expected), "{args:?}: {}", ended.err);
    }
    drop(blocked);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of mistakes")]
fn mistakes_of_a_node_are_told() {
    let home = Home::new();
    let path = fixture("qwen2");
    let node = "ab".repeat(32);
    let key = home.path("node.key");
    let cases = [
        ("[node]\nroles = [\"stage\"]", "stage.layers"),
        ("[node]\nroles = []", "node.roles is empty"),
        ("[node]\nroles = [\"cook\"]", "\"gateway\" or \"stage\""),
        (
            "[node]\nroles = [\"stage\"]\n[stage]\nlayers = \"0-1\"",
            "node.listen is not set",
        ),
        (
            "[node]\nroles = [\"stage\"]\nlisten = \"127.0.0.1:0\"\n[stage]\nlayers = \"0-1\"",
            "skein model split",
        ),
        (
            &format!("[network]\nstages = [\"0-1@{node}@127.0.0.1:1\"]"),
            "skein model split",
        ),
        ("[network]\nstages = [\"0-1\"]", "LAYERS@NODE@ADDRESS"),
        (
            &format!(
                "[node]\nroles = [\"stage\"]\nlisten = \"127.0.0.1:0\"\nkey_file = \"{key}\"\n[stage]\nlayers = \"0-1\""
            ),
            "chmod 600",
        ),
    ];
    std::fs::write(&key, "0").expect("written");
    for (config, expected) in cases {
        let file = home.path("skein.toml");
        std::fs::write(&file, config).expect("written");
        let ended = home.run(&[
            "--config",
            &file,
            "node",
            "--model",
            &path,
            "--listen",
            "127.0.0.1:0",
        ]);
        assert_ne!(ended.code, 0, "{config}");
        assert!(ended.err.contains(expected), "{config}: {}", ended.err);
    }
    // With a split model: layers that it does not have, and stages that leave some out.
    let split = home.path("split");
    let ended = home.run(&["model", "split", &path, "--slices", "2", "--output", &split]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let cases = [
        (
            "[node]\nroles = [\"stage\"]\nlisten = \"127.0.0.1:0\"\n[stage]\nlayers = \"2-4\""
                .to_owned(),
            "layers 0 to 3",
        ),
        (
            format!("[network]\nstages = [\"0-1@{node}@127.0.0.1:1\", \"3-3@{node}@127.0.0.1:2\"]"),
            "leaves layers out",
        ),
    ];
    for (config, expected) in cases {
        let file = home.path("skein.toml");
        std::fs::write(&file, &config).expect("written");
        let ended = home.run(&[
            "--config",
            &file,
            "node",
            "--model",
            &split,
            "--listen",
            "127.0.0.1:0",
        ]);
        assert_ne!(ended.code, 0, "{config}");
        assert!(ended.err.contains(expected), "{config}: {}", ended.err);
    }
}
