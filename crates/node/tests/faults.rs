//! Stages are killed, stopped and cut off at random moments while four clients stream: each gets the
//! same text as without the fault, and none hangs.
//!
//! A few runs of each kind; `SKEIN_FAULT_RUNS=50` makes it fifty.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests measure and wait on their own threads"
)]

mod harness;

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::cut::Cut;
use harness::network::{Streamed, Up, lives, signal_pid, stream};
use harness::{Home, copy, fixture, wait_for};
use serde_json::{Value, json};

const CLIENTS: u32 = 4;
const TOKENS: usize = 150;

/// Numbers that differ from run to run, and say from which seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

#[expect(clippy::disallowed_methods, reason = "a setting of this test alone")]
fn runs() -> usize {
    let runs = std::env::var("SKEIN_FAULT_RUNS").ok();
    runs.map_or(3, |runs| runs.parse().expect("a number"))
}

fn request(client: u32) -> Value {
    json!({
        "model": "m",
        "prompt": format!("Client {client} asks how long a thread may be before it breaks, and why"),
        "max_tokens": TOKENS,
        "temperature": 0.8,
        "seed": client,
        "ignore_eos": true,
    })
}

/// Four clients stream at once. After the given number of pieces, over all clients, `fault` is done,
/// once; its time is in the second value.
fn four(address: &str, after: usize, fault: impl FnOnce() + Send) -> (Vec<Streamed>, Duration) {
    let pieces = AtomicUsize::new(0);
    let began = Instant::now();
    let fault = Mutex::new(Some(fault));
    let when = Mutex::new(Duration::ZERO);
    let seen = |_| {
        if pieces.fetch_add(1, Ordering::SeqCst) == after {
            let fault = fault.lock().expect("no holder panics").take();
            *when.lock().expect("no holder panics") = began.elapsed();
            if let Some(fault) = fault {
                fault();
            }
        }
    };
    let streams = thread::scope(|scope| {
        let ask = |client| {
            let seen = &seen;
            scope.spawn(move || stream(address, &request(client), seen))
        };
        let running: Vec<_> = (0..CLIENTS).map(ask).collect();
        let answer = |thread: thread::ScopedJoinHandle<'_, Streamed>| thread.join();
        running
            .into_iter()
            .map(|thread| answer(thread).expect("answered"))
            .collect()
    });
    let when = *when.lock().expect("no holder panics");
    (streams, when)
}

fn texts(streams: &[Streamed]) -> Vec<(String, String)> {
    let text = |s: &Streamed| (s.text.clone(), s.finish.clone());
    streams.iter().map(text).collect()
}

/// Says how long the streams stood still, for people.
fn report(what: &str, stalls: &mut [Duration]) {
    stalls.sort_unstable();
    let (median, most) = (stalls[stalls.len() / 2], stalls[stalls.len() - 1]);
    eprintln!(
        "{what}: {} runs, stall median {median:?}, most {most:?}",
        stalls.len()
    );
}

/// The fixture, with room for longer texts: its positions are rotations, which know no end.
fn model(home: &Home) -> String {
    let folder = home.path("model");
    copy(&fixture("qwen2"), &folder);
    let file = format!("{folder}/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).expect("there")).expect("JSON");
    config["max_position_embeddings"] = 4096.into();
    fs::write(&file, config.to_string()).expect("written");
    folder
}

const PLACES: [&str; 8] = ["0a", "0b", "1a", "1b", "2a", "2b", "3a", "3b"];

fn under_fire(name: &str, seed: u64) {
    let home = Home::new();
    let model = model(&home);
    let args = [
        "--model",
        &model,
        "--name",
        "m",
        "--slices",
        "4",
        "--replicas",
        "2",
        "--threads",
        "1",
        "--kv-memory",
        "64MiB",
    ];
    let up = Up::start(&home, "state", &args);
    let (calm, _) = four(&up.address, usize::MAX, || {});
    let expected = texts(&calm);
    assert!(expected.iter().all(|(_, finish)| finish == "length"));
    let mut random = Random(seed);
    let mut stalls = Vec::new();
    for run in 0..runs() {
        wait_for(|| PLACES.iter().all(|place| up.pid(place).is_some()));
        let victim = PLACES[random.below(PLACES.len())];
        let pid = up.pid(victim).expect("ready");
        let after = random.below(CLIENTS as usize * TOKENS * 3 / 4);
        let (found, when) = four(&up.address, after, || signal_pid(pid, name));
        assert_eq!(
            texts(&found),
            expected,
            "run {run}: {name} to {victim} after {after}"
        );
        stalls.extend(found.iter().map(|stream| stream.stall(when)).max());
        if name == "STOP" {
            assert!(lives(pid));
            signal_pid(pid, "CONT");
        }
    }
    report(name, &mut stalls);
    assert_eq!(up.stop("TERM").code, 0);
}

#[test]
fn killed() {
    under_fire("KILL", 1);
}

#[test]
fn stopped() {
    under_fire("STOP", 2);
}

/// Links that end, and links that say nothing more.
#[test]
fn cut_off() {
    let home = Home::new();
    let split = home.path("split");
    let model = model(&home);
    let ended = home.run(&[
        "model", "split", &model, "--slices", "4", "--output", &split,
    ]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let cut = Cut::start(&home, &split, (4, 4, 2));
    let (calm, _) = four(&cut.address, usize::MAX, || {});
    let expected = texts(&calm);
    assert!(expected.iter().all(|(_, finish)| finish == "length"));
    let mut random = Random(3);
    let mut stalls = [Vec::new(), Vec::new()];
    for run in 0..runs() {
        let proxy = &cut.proxies[random.below(PLACES.len())];
        let after = random.below(CLIENTS as usize * TOKENS * 3 / 4);
        let dark = run % 2 == 1;
        let fault = || if dark { proxy.darken() } else { proxy.cut() };
        let (found, when) = four(&cut.address, after, fault);
        assert_eq!(
            texts(&found),
            expected,
            "run {run}: dark {dark} after {after}"
        );
        stalls[usize::from(dark)].extend(found.iter().map(|stream| stream.stall(when)).max());
        proxy.mend();
    }
    for (what, stalls) in ["cut", "dark"].into_iter().zip(&mut stalls) {
        report(what, stalls);
    }
    cut.stop();
}
