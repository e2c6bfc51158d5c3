//! Starts the binary in a home of its own and talks to it.

#![allow(
    clippy::disallowed_methods,
    reason = "tests measure, and wait on threads that end with them"
)]
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

pub mod cut;
pub mod network;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// The folder of a fixture.
pub fn fixture(name: &str) -> String {
    format!("{}/../../fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// A folder that is home, configuration and cache of the processes of one test.
pub struct Home(tempfile::TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// The binary, with nothing of the surroundings but this home.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skein"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.0.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args).spawn().expect("the binary starts")
    }

    pub fn run(&self, args: &[&str]) -> Ended {
        finish(self.start(args))
    }
}

/// Waits for the end; what a process says must fit a pipe or be read meanwhile, which this does.
pub fn finish(child: Child) -> Ended {
    let output = child.wait_with_output().expect("it ends");
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Sends a signal by name.
pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(sent.expect("kill runs").success());
}

/// Looks again and again, for at most half a minute.
pub fn wait_for(done: impl Fn() -> bool) {
    for _ in 0..30_000 {
        if done() {
            return;
        }
        thread::yield_now();
        thread::park_timeout(Duration::from_millis(1));
    }
    panic!("it did not happen");
}

/// Copies a flat folder.
pub fn copy(from: &str, to: &str) {
    fs::create_dir(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), Path::new(to).join(entry.file_name())).expect("copied");
    }
}

/// A server that is ready.
pub struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    pub fn start(home: &Home, args: &[&str]) -> Self {
        Self::start_at(home, args, "http")
    }

    /// One that speaks TLS.
    pub fn start_secure(home: &Home, args: &[&str]) -> Self {
        Self::start_at(home, args, "https")
    }

    fn start_at(home: &Home, args: &[&str], scheme: &str) -> Self {
        let all: Vec<&str> = ["serve", "--listen", "127.0.0.1:0"]
            .iter()
            .chain(args)
            .copied()
            .collect();
        let mut child = home.start(&all);
        let mut line = String::new();
        let out = child.stdout.as_mut().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("readable");
        let Some(address) = line
            .trim()
            .strip_prefix(&format!("listening on {scheme}://"))
        else {
            let ended = finish(child);
            panic!("it said {line:?} and {}", ended.err);
        };
        Self {
            address: address.to_owned(),
            child,
        }
    }

    /// Where it listens: address and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where it listens, for clients.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The whole answer to a plain request.
    pub fn request(&self, line: &str, headers: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("connected");
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        answer
    }

    fn body(answer: &str) -> Value {
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let (start, end) = (
            body.find('{').expect("JSON"),
            body.rfind('}').expect("JSON"),
        );
        serde_json::from_str(&body[start..=end]).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    pub fn get(&self, path: &str) -> Value {
        Self::body(&self.request(&format!("GET {path}"), "", ""))
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        let headers = "Content-Type: application/json\r\n";
        Self::body(&self.request(&format!("POST {path}"), headers, &body.to_string()))
    }

    pub fn stop(self, name: &str) -> Ended {
        signal(&self.child, name);
        finish(self.child)
    }
}
