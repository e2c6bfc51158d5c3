//! Fetching from the hub, against a server that speaks its protocol and misbehaves on demand.
#![allow(
    unreachable_pub,
    dead_code,
    clippy::disallowed_methods,
    reason = "helpers that several test files share; threads that end with the test's process"
)]

mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use harness::{Ended, Home, finish, fixture, signal, wait_for};
use serde_json::json;
use skein_base::Sha256;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const WEIGHTS: &str = "model.safetensors";

/// How the hub treats the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Good,
    /// Ends the connection in the middle, once.
    BreaksOff,
    /// Sends half and then nothing, once.
    Stalls,
    /// Flips a bit, once.
    Damages,
    /// Answers everything with this status.
    Refuses(u16),
}

struct State {
    files: BTreeMap<String, Vec<u8>>,
    mood: Mutex<Mood>,
    /// `file from` of each transfer of more than a byte.
    transfers: Mutex<Vec<(String, usize)>>,
    ended: AtomicBool,
}

/// A hub with one repository, `someone/qwen2`.
struct Hub {
    state: Arc<State>,
    address: SocketAddr,
}

impl Hub {
    fn start(mood: Mood) -> Self {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(fixture("qwen2")).expect("a fixture") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("text");
            files.insert(name, fs::read(entry.path()).expect("readable"));
        }
        // Neither is wanted: not a model's file, another format of the weights.
        files.insert("README.md".to_owned(), b"# words".to_vec());
        files.insert("onnx/model.safetensors".to_owned(), vec![0; 9]);
        let state = Arc::new(State {
            files,
            mood: Mutex::new(mood),
            transfers: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.ended.load(Ordering::SeqCst) {
                    break;
                }
                let shared = Arc::clone(&shared);
                thread::spawn(move || answer(&shared, stream.expect("a connection")));
            }
        });
        Self { state, address }
    }

    fn start_fetch(&self, home: &Home, args: &[&str]) -> Child {
        let mut command = home.command(args);
        command.env("HF_ENDPOINT", format!("http://{}", self.address));
        command.spawn().expect("the binary starts")
    }

    fn run(&self, home: &Home, args: &[&str]) -> Ended {
        finish(self.start_fetch(home, args))
    }

    fn transfers_of_weights(&self) -> Vec<usize> {
        let transfers = self.state.transfers.lock().expect("not poisoned");
        let of_weights = transfers.iter().filter(|(name, _)| name == WEIGHTS);
        of_weights.map(|(_, from)| *from).collect()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// One request, then the connection ends.
fn answer(state: &State, mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().expect("cloned")).lines();
    let Some(Ok(request)) = lines.next() else {
        return;
    };
    let mut from = None;
    for line in lines.map_while(Result::ok).take_while(|l| !l.is_empty()) {
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            let (start, end) = range.split_once('-').expect("a range");
            from = Some((start.parse().expect("a number"), end == "0"));
        }
    }
    let path = request.split(' ').nth(1).expect("a path");
    // A client that hangs up is no concern of the hub's.
    let mood = *state.mood.lock().expect("not poisoned");
    let _ = match mood {
        Mood::Refuses(status) => send(&mut stream, &format!("{status} No"), "", b"no"),
        _ if path == format!("/api/models/someone/qwen2/revision/{COMMIT}") => {
            let names = state.files.keys().map(|name| json!({ "rfilename": name }));
            let info = json!({ "sha": COMMIT, "siblings": names.collect::<Vec<_>>() });
            send(&mut stream, "200 OK", "", info.to_string().as_bytes())
        }
        _ => match path.strip_prefix(&format!("/someone/qwen2/resolve/{COMMIT}/")) {
            Some(name) => return file(state, &mut stream, name, from),
            None => send(&mut stream, "404 Not Found", "", b"nothing here"),
        },
    };
}

fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

fn file(state: &State, stream: &mut TcpStream, name: &str, range: Option<(usize, bool)>) {
    let bytes = &state.files[name];
    let hash = Sha256::of(bytes).to_string();
    // Large files are known by their SHA-256, the others by git's hash.
    let etag = if name == WEIGHTS { &hash } else { &hash[..40] };
    let (from, first_byte_only) = range.expect("the client asks for ranges");
    let end = if first_byte_only { 1 } else { bytes.len() };
    let headers = format!(
        "ETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Range: bytes {from}-{}/{}\r\n",
        end - 1,
        bytes.len()
    );
    let mut body = bytes[from..end].to_vec();
    let mut mood = Mood::Good;
    if !first_byte_only {
        let mut transfers = state.transfers.lock().expect("not poisoned");
        transfers.push((name.to_owned(), from));
        if name == WEIGHTS {
            mood = std::mem::replace(&mut *state.mood.lock().expect("not poisoned"), Mood::Good);
        }
    }
    let length = body.len();
    match mood {
        Mood::Damages => body[length / 2] ^= 1,
        Mood::BreaksOff | Mood::Stalls => body.truncate(length / 2),
        _ => {}
    }
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(&body));
    if mood == Mood::Stalls {
        wait_for(|| state.ended.load(Ordering::SeqCst));
    }
}

fn name() -> String {
    format!("someone/qwen2@{COMMIT}")
}

fn answer_of(home: &Home, hub: Option<&Hub>, model: &str, more: &[&str]) -> Ended {
    let mut args = vec!["run", "Hello", "--raw", "--temperature", "0"];
    args.extend(["--max-tokens", "8", "--model", model]);
    args.extend(more);
    match hub {
        Some(hub) => hub.run(home, &args),
        None => home.run(&args),
    }
}

#[test]
fn fetched_once_and_then_served_without_the_hub() {
    let (home, hub) = (Home::new(), Hub::start(Mood::Good));
    let before = answer_of(&home, Some(&hub), &name(), &["--offline"]);
    assert_eq!(before.code, 1, "{}", before.err);
    assert!(
        before.err.contains("is not in the local cache"),
        "{}",
        before.err
    );
    let fetched = hub.run(&home, &["model", "fetch", &name()]);
    assert_eq!(fetched.code, 0, "{}", fetched.err);
    let folder = fetched.out.trim();
    for (file, bytes) in &hub.state.files {
        let wanted = !file.contains('/') && !file.ends_with(".md");
        let found = fs::read(format!("{folder}/{file}")).ok();
        assert!(found.as_ref() == wanted.then_some(bytes), "{file}");
    }
    let names: Vec<String> = {
        let transfers = hub.state.transfers.lock().expect("not poisoned");
        transfers.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names.last().map(String::as_str), Some("config.json"));
    // Again: from the cache, with the hub asked for no file.
    let from_cache = answer_of(&home, Some(&hub), &name(), &[]);
    assert_eq!(hub.state.transfers.lock().expect("fine").len(), names.len());
    let local = answer_of(&home, None, &fixture("qwen2"), &[]);
    let offline = answer_of(&home, None, &name(), &["--offline"]);
    // The hub gone: nobody listens at its address.
    let mut args = home.command(&["run", "Hello", "--raw", "--temperature", "0"]);
    args.args(["--max-tokens", "8", "--model", &name()]);
    args.env("HF_ENDPOINT", "http://127.0.0.1:1");
    let unreachable = finish(args.spawn().expect("the binary starts"));
    assert!(
        unreachable.err.contains("the hub cannot be reached"),
        "{}",
        unreachable.err
    );
    for ended in [&from_cache, &offline, &unreachable] {
        assert_eq!((ended.code, &ended.out), (0, &local.out), "{}", ended.err);
    }
}

#[test]
fn a_broken_transfer_goes_on_where_it_stopped() {
    let (home, hub) = (Home::new(), Hub::start(Mood::BreaksOff));
    let fetched = hub.run(&home, &["model", "fetch", &name()]);
    assert_eq!(fetched.code, 0, "{}", fetched.err);
    let half = hub.state.files[WEIGHTS].len() / 2;
    assert_eq!(hub.transfers_of_weights(), [0, half]);
}

#[test]
fn a_killed_fetch_goes_on_where_it_stopped() {
    let (home, hub) = (Home::new(), Hub::start(Mood::Stalls));
    let child = hub.start_fetch(&home, &["model", "fetch", &name()]);
    let half = hub.state.files[WEIGHTS].len() / 2;
    let blobs = home.path(".cache/huggingface/hub/models--someone--qwen2/blobs");
    wait_for(|| {
        let files = fs::read_dir(&blobs).into_iter().flatten().flatten();
        files
            .filter_map(|file| file.metadata().ok())
            .any(|data| data.len() == half as u64)
    });
    signal(&child, "KILL");
    assert_ne!(finish(child).code, 0);
    let again = hub.run(&home, &["model", "fetch", &name()]);
    assert_eq!(again.code, 0, "{}", again.err);
    assert_eq!(hub.transfers_of_weights(), [0, half]);
}

#[test]
fn a_silent_hub_is_not_waited_for_without_end() {
    let (home, hub) = (Home::new(), Hub::start(Mood::Stalls));
    let config = home.path("skein.toml");
    fs::write(&config, "[model]\nfetch_timeout = \"300ms\"").expect("written");
    let fetched = hub.run(&home, &["--config", &config, "model", "fetch", &name()]);
    assert_eq!(fetched.code, 1, "{}", fetched.err);
    let expected = "nothing came from the hub for 300ms";
    assert!(fetched.err.contains(expected), "{}", fetched.err);
}

#[test]
fn damage_on_the_way_is_found_and_not_kept() {
    let (home, hub) = (Home::new(), Hub::start(Mood::Damages));
    let fetched = hub.run(&home, &["model", "fetch", &name()]);
    assert_eq!(fetched.code, 1, "{}", fetched.err);
    let expected = format!("{WEIGHTS} of {} arrived damaged", name());
    assert!(fetched.err.contains(&expected), "{}", fetched.err);
    let again = hub.run(&home, &["model", "fetch", &name()]);
    assert_eq!(again.code, 0, "{}", again.err);
    assert_eq!(hub.transfers_of_weights(), [0, 0]);
}

#[test]
fn refusals_say_what_to_do() {
    let home = Home::new();
    for (status, expected) in [
        (404, "the hub has no"),
        (401, "accept its terms on its page, and set HF_TOKEN"),
        (403, "accept its terms on its page, and set HF_TOKEN"),
        (500, "run the same command again"),
    ] {
        let hub = Hub::start(Mood::Refuses(status));
        let refused = hub.run(&home, &["model", "fetch", &name()]);
        assert_ne!(refused.code, 0);
        assert!(refused.err.contains(expected), "{status}: {}", refused.err);
    }
}
