//! Starts whole networks and talks to them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Ended, Home, finish, signal};

/// Longest silence of a server before a test gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// A network that `skein up` started.
pub struct Up {
    child: Child,
    pub address: String,
    state: String,
}

impl Up {
    /// Starts it with its state in `home`, and waits until it is ready.
    pub fn start(home: &Home, state: &str, args: &[&str]) -> Self {
        let state = home.path(state);
        let fixed = ["up", "--listen", "127.0.0.1:0", "--state", &state];
        let all: Vec<&str> = fixed.iter().chain(args).copied().collect();
        let mut command = home.command(&all);
        // What it says must not fill a pipe that nobody reads.
        let err = fs::File::create(format!("{state}.err")).expect("a file");
        let mut child = command.stderr(err).spawn().expect("the binary starts");
        let address = match ready(&mut child) {
            Ok(address) => address,
            Err(line) => {
                let said = fs::read_to_string(format!("{state}.err"));
                let ended = finish(child);
                panic!("it said {line:?}, {} and {said:?}", ended.out);
            }
        };
        Self {
            child,
            address,
            state,
        }
    }

    /// What it wrote about its nodes.
    pub fn network(&self) -> Value {
        let text = fs::read(format!("{}/network.json", self.state)).expect("it runs");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// The process of a node, once it is ready.
    pub fn pid(&self, name: &str) -> Option<u32> {
        let network = self.network();
        let nodes = network["nodes"].as_array().expect("nodes");
        let node = nodes.iter().find(|node| node["name"] == name);
        let node = node.filter(|node| node["ready"] == true)?;
        node["pid"].as_u64().map(|pid| pid as u32)
    }

    /// All processes.
    pub fn pids(&self) -> Vec<u32> {
        let network = self.network();
        let nodes = network["nodes"].as_array().expect("nodes").iter();
        nodes
            .filter_map(|node| node["pid"].as_u64())
            .map(|pid| pid as u32)
            .collect()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the supervisor said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(format!("{}.err", self.state)).expect("a file")
    }

    pub fn stop(self, name: &str) -> Ended {
        signal(&self.child, name);
        finish(self.child)
    }
}

/// The address that a server says when it is ready, or what it said instead.
pub fn ready(child: &mut Child) -> Result<String, String> {
    let out = child.stdout.as_mut().expect("a pipe");
    for line in BufReader::new(out).lines() {
        let line = line.expect("readable");
        if let Some(address) = line.strip_prefix("listening on http://") {
            return Ok(address.to_owned());
        }
        if !line.starts_with("node ") && !line.starts_with("links on ") {
            return Err(line);
        }
    }
    Err(String::new())
}

/// Waits until a stage says that it is ready.
pub fn ready_stage(child: &mut Child) {
    let out = child.stdout.as_mut().expect("a pipe");
    let lines = BufReader::new(out).lines();
    let mut lines = lines.map(|line| line.expect("readable"));
    assert!(lines.any(|line| line.starts_with("links on ")), "it ended");
}

/// Sends a signal to a process by its number.
pub fn signal_pid(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(sent.expect("kill runs").success(), "{name} to {pid}");
}

/// Whether a process is there, and not only waiting to be buried.
pub fn lives(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains("State:") && !status.contains("State:\tZ")
}

fn post(address: &str, path: &str, headers: &str, body: &Value) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("sent");
    stream
}

/// The choices of a completion, with all that fixes them.
pub fn complete(address: &str, body: &Value) -> Value {
    complete_with(address, body, "")
}

/// The same with headers of the client's.
pub fn complete_with(address: &str, body: &Value, headers: &str) -> Value {
    let mut answer = String::new();
    let mut stream = post(address, "/v1/completions", headers, body);
    stream.read_to_string(&mut answer).expect("read");
    let (_, content) = answer.split_once("\r\n\r\n").expect("a body");
    let (start, end) = (content.find('{'), content.rfind('}'));
    let object = &content[start.expect("JSON")..=end.expect("JSON")];
    let object: Value = serde_json::from_str(object).expect("JSON");
    assert!(object["choices"].is_array(), "{answer}");
    object["choices"].clone()
}

/// A streamed answer.
#[derive(Debug, Clone, Default)]
pub struct Streamed {
    /// Its text.
    pub text: String,
    /// Why it ended; an error's words if it failed.
    pub finish: String,
    /// When each piece came, from the request on.
    pub at: Vec<Duration>,
}

impl Streamed {
    /// Longest time between two pieces that ends after `since`.
    pub fn stall(&self, since: Duration) -> Duration {
        let pairs = self.at.windows(2).filter(|pair| pair[1] >= since);
        let gaps = pairs.map(|pair| pair[1] - pair[0].max(Duration::ZERO));
        gaps.max().unwrap_or_default()
    }
}

/// Streams a completion; `seen` is told how many pieces there are after each.
pub fn stream(address: &str, body: &Value, mut seen: impl FnMut(usize)) -> Streamed {
    let mut body = body.clone();
    body["stream"] = true.into();
    let began = Instant::now();
    let connection = post(address, "/v1/completions", "", &body);
    let mut answer = Streamed::default();
    for line in BufReader::new(connection).lines() {
        let line = line.expect("the server goes on");
        let Some(data) = line.strip_prefix("data: ").filter(|data| *data != "[DONE]") else {
            continue;
        };
        let event: Value = serde_json::from_str(data).expect("JSON");
        if let Some(error) = event.get("error") {
            answer.finish = error["message"].as_str().unwrap_or("?").to_owned();
        }
        let choice = &event["choices"][0];
        if let Some(text) = choice["text"].as_str() {
            answer.text.push_str(text);
            answer.at.push(began.elapsed());
            seen(answer.at.len());
        }
        if let Some(finish) = choice["finish_reason"].as_str() {
            finish.clone_into(&mut answer.finish);
        }
    }
    answer
}
