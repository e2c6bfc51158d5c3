//! `skein run` and `skein status` against servers: real ones, absent ones, and broken ones.
#![allow(
    unreachable_pub,
    dead_code,
    reason = "helpers that several test files share"
)]

mod harness;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Child;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use harness::{Ended, Home, Serving, finish, fixture, signal};
use serde_json::Value;

/// An address at which nobody listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// A server that lists one model, gives every other request the same bytes and then, if it `hangs`,
/// waits for the client to go. A message comes out of the channel whenever it has said all.
fn fake(reply: &'static str, hangs: bool) -> (String, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (said, sayings) = sync_channel(64);
    // It ends with the process.
    let serve = move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let list = take_request(&stream).starts_with("GET ");
            // Clients may be gone before they were told all.
            let _ = stream.write_all(if list { MODELS } else { reply }.as_bytes());
            let _ = said.send(());
            if hangs && !list {
                let _ = stream.read(&mut [0]);
            }
        }
    };
    thread::Builder::new().spawn(serve).expect("a thread");
    (url, sayings)
}

const MODELS: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"data\":[{\"id\":\"fake\"}]}";

/// Reads a request to the end of its body; its head.
fn take_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|read| read > 0) {}
    let lower = head.to_lowercase();
    let length = lower
        .split_once("content-length: ")
        .and_then(|(_, rest)| rest.lines().next());
    let length = length.map_or(0, |length| length.parse().expect("a number"));
    reader.read_exact(&mut vec![0; length]).expect("a body");
    head
}

fn said(ended: &Ended) -> String {
    format!("code {}: {}{}", ended.code, ended.out, ended.err)
}

#[test]
fn a_server_says_what_this_process_says() {
    let home = Home::new();
    let model = fixture("qwen2");
    let serving = Serving::start(&home, &["--model", &model, "--name", "tiny"]);
    let url = serving.url();
    let greedy = ["--raw", "--temperature", "0", "--max-tokens", "32"];
    let drawn = [
        "--temperature",
        "1.3",
        "--top-k",
        "50",
        "--top-p",
        "0.9",
        "--min-p",
        "0.001",
        "--repetition-penalty",
        "1.1",
        "--presence-penalty",
        "0.5",
        "--frequency-penalty",
        "-0.1",
        "--seed",
        "18446744073709551615",
        "--system",
        "Be brief.",
        "--max-tokens",
        "40",
    ];
    // As long as the context allows.
    let unbounded = ["--raw", "--seed", "7"];
    let prompt = "Where is the lamp?";
    for options in [&greedy[..], &drawn, &unbounded] {
        let local = [&["run", prompt, "--model", &model], options].concat();
        let remote = [&["run", prompt, "--url", &url], options].concat();
        let text = home.run(&local);
        assert_eq!(text.code, 0, "{}", said(&text));
        assert_eq!(home.run(&remote).out, text.out, "{options:?}");
        let with_json = |args: &[&str]| home.run(&[args, &["--json"]].concat()).json();
        let (mut whole, mut answer) = (with_json(&local), with_json(&remote));
        // How much of the prompt was known already is not the same in a process that answered it before.
        assert!(answer["usage"]["reused_tokens"].take().is_u64());
        whole["usage"]["reused_tokens"].take();
        assert_eq!(answer, whole, "{options:?}");
        assert!(
            whole["tokens"]
                .as_array()
                .is_some_and(|ids| !ids.is_empty())
        );
    }
    assert_eq!(serving.stop("TERM").code, 0);
}

#[test]
fn the_server_of_this_machine_answers_where_no_model_is_named() {
    let home = Home::new();
    let run = |listen: &str, args: &[&str]| {
        let mut command = home.command(args);
        finish(
            command
                .env("SKEIN_GATEWAY__LISTEN", listen)
                .spawn()
                .expect("it starts"),
        )
    };
    // Without a server the embedded model does, and says that it is not a server's.
    let alone = run(&nowhere(), &["run", "Hello"]);
    let told = said(&alone);
    assert!(alone.code == 0 && !alone.out.trim().is_empty(), "{told}");
    assert!(
        alone
            .err
            .contains("no server here and no --model: skein-small"),
        "{told}"
    );
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    thread::Builder::new()
        .spawn({
            let listener = silent.try_clone().expect("the same");
            move || listener.incoming().for_each(drop)
        })
        .expect("a thread");
    let address = silent.local_addr().expect("an address").to_string();
    let broken = run(&address, &["run", "Hello"]);
    assert!(
        broken.code == 1 && broken.out.is_empty(),
        "{}",
        said(&broken)
    );
    let serving = Serving::start(&home, &["--model", &fixture("qwen2"), "--name", "tiny"]);
    let answered = run(serving.address(), &["run", "Hello", "--max-tokens", "4"]);
    assert_eq!(
        (answered.code, answered.err.as_str()),
        (0, ""),
        "{}",
        said(&answered)
    );
    // A name is one of a server's, whatever else is configured.
    let named = ["run", "Hello", "--name", "other"];
    let refused = said(&run(serving.address(), &named));
    assert!(
        refused.contains("code 1") && refused.contains("'other' does not exist"),
        "{refused}"
    );
    assert!(
        run(serving.address(), &["status"])
            .out
            .starts_with("tiny: ")
    );
    assert_eq!(serving.stop("TERM").code, 0);
}

/// Arguments, the exit code, and words that must be said.
type Case<'a> = (&'a [&'a str], i32, &'a [&'a str]);

fn check(home: &Home, cases: &[Case<'_>]) {
    for (args, code, words) in cases {
        let told = said(&home.run(args));
        let named = words.iter().all(|word| told.contains(word));
        assert!(
            named && told.starts_with(&format!("code {code}: ")),
            "{args:?}: {told}"
        );
        assert!(!told.contains("panicked"), "{args:?}: {told}");
    }
}

#[test]
fn mistakes_of_the_command_line_are_answered_with_advice() {
    let absent = format!("http://{}", nowhere());
    check(
        &Home::new(),
        &[
            (
                &["status", "--url", &absent],
                1,
                &["no server answers", &absent, "skein up"],
            ),
            (
                &["run", "x", "--url", &absent],
                1,
                &["no server answers", "skein up"],
            ),
            (
                &["status", "--url", "127.0.0.1:8080"],
                2,
                &["http://HOST:PORT"],
            ),
            (
                &["run", "x", "--url", "http://key@host"],
                2,
                &["SKEIN_API_KEY"],
            ),
            (
                &["run", "x", "--url", &absent, "--model", "m"],
                2,
                &["cannot be used with"],
            ),
            (
                &["node", "--threads", "2"],
                1,
                &["no model is given: write --model MODEL, or"],
            ),
            (
                &["chat", "--name", "m", "--threads", "2"],
                2,
                &["cannot be used with"],
            ),
            (
                &["run", "x", "--url", &absent, "--temperature", "9"],
                2,
                &["temperature must be"],
            ),
        ],
    );
}

#[test]
fn refusals_are_told_in_the_words_of_the_server() {
    let home = Home::new();
    let serving = Serving::start(&home, &["--model", &fixture("gpt2"), "--name", "gpt"]);
    let url = serving.url();
    let long = [
        "run",
        "x",
        "--url",
        &url,
        "--raw",
        "--max-tokens",
        "9999999",
    ];
    check(
        &home,
        &[
            (
                &["run", "x", "--url", &url],
                1,
                &["the server refused", "no chat template"],
            ),
            (&long, 1, &["maximum context length"]),
            (
                &["status", "--url", &format!("{url}/elsewhere")],
                1,
                &["Invalid URL"],
            ),
        ],
    );
    assert_eq!(serving.stop("TERM").code, 0);
}

/// A certificate that nobody vouches for protects nothing.
#[test]
fn certificates_of_nobody_are_refused() {
    let home = Home::new();
    let tls = |name: &str| format!("{}/tests/tls/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    let settings = home.path("skein.toml");
    let (certificate, key) = (tls("certificate"), tls("key"));
    let gateway = format!("[gateway]\ntls_certificate = {certificate:?}\ntls_key = {key:?}\n");
    fs::write(&settings, gateway).expect("written");
    let model = fixture("qwen2");
    let serving = Serving::start_secure(&home, &["--model", &model, "--config", &settings]);
    let (url, plain) = (format!("https://{}", serving.address()), serving.url());
    check(
        &home,
        &[
            (
                &["status", "--url", &url],
                1,
                &["no secure connection", "invalid peer certificate"],
            ),
            (&["run", "x", "--url", &url], 1, &["no secure connection"]),
            (&["status", "--url", &plain], 1, &[]),
        ],
    );
    assert_eq!(serving.stop("TERM").code, 0);
}

#[test]
fn status_shows_what_the_server_says() {
    let home = Home::new();
    let serving = Serving::start(&home, &["--model", &fixture("qwen2"), "--name", "tiny"]);
    let url = format!("{}/v1", serving.url());
    let status = home.run(&["status", "--url", &url, "--json"]).json();
    assert_eq!(status, serving.get("/v1/network"));
    assert_eq!(status["models"][0]["id"], "tiny");
    let text = home.run(&["status", "--url", &url]);
    assert_eq!((text.code, text.err.as_str()), (0, ""), "{}", said(&text));
    for part in [
        "tiny: in one process",
        "tok/s",
        "running",
        "pages",
        "step",
        "p99",
    ] {
        assert!(text.out.contains(part), "{part}: {}", text.out);
    }
    assert!(!text.out.contains('\u{1b}'), "{:?}", text.out);
    assert_eq!(serving.stop("TERM").code, 0);
}

/// Reads lines until one satisfies `is`.
fn read_until(lines: &mut impl Iterator<Item = String>, is: impl Fn(&str) -> bool) {
    assert!(lines.any(|line| is(&line)), "it ended before");
}

fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let out = child.stdout.take().expect("a pipe");
    BufReader::new(out).lines().map(|line| line.expect("text"))
}

#[test]
fn watching_goes_on_until_it_is_stopped() {
    let home = Home::new();
    let serving = Serving::start(&home, &["--model", &fixture("qwen2"), "--name", "tiny"]);
    let url = serving.url();
    let mut watching = home.start(&["status", "--watch", "--url", &url]);
    let mut shown = lines(&mut watching);
    for _ in 0..2 {
        read_until(&mut shown, |line| line == "tiny: in one process");
        read_until(&mut shown, str::is_empty);
    }
    let mut telling = home.start(&["status", "--watch", "--json", "--url", &url]);
    let mut told = lines(&mut telling);
    for _ in 0..2 {
        let line = told.next().expect("a line");
        let network: Value = serde_json::from_str(&line).expect("JSON on one line");
        assert_eq!(network["object"], "network");
    }
    signal(&telling, "TERM");
    assert_eq!(finish(telling).code, 0);
    // A server that goes away is missed, not mourned.
    assert_eq!(serving.stop("TERM").code, 0);
    let mut notes = BufReader::new(watching.stderr.take().expect("a pipe")).lines();
    let note = notes.next().expect("a note").expect("text");
    assert!(
        note.contains("no server answers") || note.contains("broke off"),
        "{note}"
    );
    signal(&watching, "INT");
    assert_eq!(finish(watching).code, 0);
}

#[test]
fn keys_come_from_the_environment() {
    let home = Home::new();
    let file = home.path("keys.toml");
    let made = home.run(&["keys", "new", "alice", "--file", &file]);
    let key = made.out.trim();
    let serving = Serving::start(&home, &["--model", &fixture("qwen2"), "--keys-file", &file]);
    let url = serving.url();
    let run = |args: &[&str], key: &str| {
        let mut command = home.command(&[args, &["--url", &url]].concat());
        finish(
            command
                .env("SKEIN_API_KEY", key)
                .spawn()
                .expect("it starts"),
        )
    };
    for args in [&["status"][..], &["run", "Hello", "--max-tokens", "4"]] {
        for wrong in ["", "sk-skein-wrong", "\u{f6}"] {
            let told = said(&run(args, wrong));
            assert!(
                told.starts_with("code 1") && told.contains("SKEIN_API_KEY"),
                "{told}"
            );
        }
        let answered = run(args, key);
        assert_eq!(answered.code, 0, "{}", said(&answered));
    }
    assert_eq!(serving.stop("TERM").code, 0);
}

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Once\\u001b[2J\"}}]}\n\n";

#[test]
fn a_stream_that_ends_early_is_an_error_in_words() {
    let home = Home::new();
    let (url, _said) = fake(STREAM, false);
    let ended = home.run(&["run", "x", "--url", &url]);
    // To programs the words go as they came; a line's end is put after them.
    assert_eq!((ended.code, ended.out.as_str()), (1, "Once\u{1b}[2J\n"));
    assert!(
        ended.err.contains("before the answer was complete"),
        "{}",
        ended.err
    );
    let (url, _said) = fake("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nrubb", false);
    let ended = home.run(&["run", "x", "--url", &url]);
    assert!(
        ended.err.contains("is no server of models"),
        "{}",
        said(&ended)
    );
    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
}

#[test]
fn an_interrupt_ends_an_answer_that_stalls() {
    let home = Home::new();
    for (options, out) in [(&[][..], "Once\u{1b}[2J\n"), (&["--json"], "interrupted")] {
        let (url, sayings) = fake(STREAM, true);
        let args = [&["run", "x", "--url", &url], options].concat();
        let mut running = home.start(&args);
        // The list of models, then the beginning of the answer.
        for _ in 0..2 {
            sayings.recv().expect("a request");
        }
        if options.is_empty() {
            let mut begun = [0; 4];
            let shown = running.stdout.as_mut().expect("a pipe");
            shown.read_exact(&mut begun).expect("a beginning");
            assert_eq!(&begun, b"Once");
        }
        signal(&running, "INT");
        let ended = finish(running);
        assert_eq!(ended.code, 130, "{}", said(&ended));
        let expected = out.strip_prefix("Once").unwrap_or(out);
        assert!(ended.out.contains(expected), "{}", said(&ended));
    }
}
