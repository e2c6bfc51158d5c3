//! A client against servers that are slow, broken, or something else.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use super::*;
use crate::generate::{Answer, GenerateError, read};
use crate::prompt::Prompt;

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n";

/// What a server does with a request.
type Script = Box<dyn Fn(&mut TcpStream) -> std::io::Result<()> + Send>;

/// A server that answers every request as told; the requests that it got come out of the channel.
fn server(script: Script) -> (Address, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = Address::of_listener(listener.local_addr().expect("an address"), false);
    let (seen, requests) = sync_channel(64);
    // It ends with the process: whether anybody connects again is not known.
    let serve = move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let request = request(&mut stream);
            if seen.send(request).is_err() {
                return;
            }
            // Clients may be gone before they were told all.
            let _ = script(&mut stream);
        }
    };
    thread::Builder::new().spawn(serve).expect("a thread");
    (address, requests)
}

/// Head and body of the request that comes.
fn request(stream: &mut TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).expect("readable") > 0 {}
    let length = head.to_lowercase();
    let length = length
        .split_once("content-length: ")
        .and_then(|(_, rest)| rest.lines().next());
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
    reader.read_exact(&mut body).expect("a body");
    head + &String::from_utf8(body).expect("text")
}

/// Answers with these bytes and closes.
fn says(text: &str) -> Script {
    let text = text.to_owned();
    Box::new(move |stream| stream.write_all(text.as_bytes()))
}

/// Says these bytes, then nothing more until the client is gone.
fn hangs(text: &'static str) -> Script {
    Box::new(move |stream| {
        stream.write_all(text.as_bytes())?;
        stream.read(&mut [0]).map(drop)
    })
}

fn status(line: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {line}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Long enough for a busy machine, unless it is what is waited for.
fn deadlines() -> Deadlines {
    let long = Duration::from_secs(60);
    Deadlines {
        connect: long,
        query: long,
        first_event: long,
        between_events: long,
    }
}

fn client(address: &Address, deadlines: Deadlines) -> Client {
    Client::new(address.clone(), None, deadlines).expect("a client")
}

/// What is shown of an answer, and how it ends.
fn ask(client: &Client) -> (String, Result<Answer, GenerateError>) {
    let runtime = crate::node::runtime().expect("a runtime");
    let mut shown = String::new();
    let answer = runtime.block_on(async {
        let request = AnswerRequest {
            model: "tiny",
            prompt: Prompt::Raw("Once"),
            sampling: SamplingFields::default(),
            token_ids: false,
        };
        let show = |text: &str| {
            shown.push_str(text);
            Ok(())
        };
        read(client.answer(&request), std::future::pending(), show).await
    });
    (shown, answer)
}

#[test]
fn an_answer_is_streamed() {
    let stream = "data: {\"choices\":[{\"text\":\"a \"}]}\n\n: still here\n\n\
        data: {\"choices\":[{\"text\":\"lamp\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    // Whole, in chunks of one byte, and until the connection closes.
    let chunks: String = stream.chars().map(|c| format!("1\r\n{c}\r\n")).collect();
    for reply in [
        format!("{HEAD}Content-Length: {}\r\n\r\n{stream}", stream.len()),
        format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"),
        format!("{HEAD}Connection: close\r\n\r\n{stream}"),
    ] {
        let (address, requests) = server(says(&reply));
        let key = OsStr::new("sk-skein-1");
        let client = Client::new(address, Some(key), deadlines()).expect("a client");
        let (shown, answer) = ask(&client);
        assert_eq!(
            (shown.as_str(), answer.expect("an answer").finish),
            ("a lamp", "stop")
        );
        let request = requests.recv().expect("a request");
        assert!(
            request.starts_with("POST /v1/completions HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(
            request.contains("\r\nauthorization: Bearer sk-skein-1\r\n"),
            "{request}"
        );
        assert!(request.contains("\"prompt\":\"Once\""), "{request}");
    }
}

/// What a server says, what is shown of it, and words of the error.
type Case<'a> = (String, &'a str, &'a str);

fn check(cases: &[Case<'_>]) {
    for (reply, shown, expected) in cases {
        let (address, _requests) = server(says(reply));
        let (text, answer) = ask(&client(&address, deadlines()));
        let error = crate::node::chain(&answer.expect_err("broken"));
        let start: String = reply.chars().take(200).collect();
        assert!(error.contains(expected), "{start:?}: {error}");
        assert_eq!(text, *shown, "{start:?}");
    }
}

#[test]
fn broken_streams_are_told_in_words() {
    let chunk = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";
    let failed = "data: {\"error\":{\"message\":\"no pages\"}}\n\n";
    let long = format!("data: {}", "x".repeat(2 << 20));
    let chunked = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
    let early = "before the answer was complete";
    check(&[
        (format!("{HEAD}\r\n{chunk}"), "a", early),
        (format!("{HEAD}\r\n{chunk}data: [DONE]\n\n"), "a", early),
        (
            format!("{HEAD}Content-Length: 999\r\n\r\n{chunk}"),
            "a",
            "broke off",
        ),
        (format!("{chunked}9\r\ndata"), "", "broke off"),
        (format!("{chunked}zz\r\n"), "", "broke off"),
        (
            format!("{HEAD}\r\n{chunk}{failed}"),
            "a",
            "broke the answer off: no pages",
        ),
        (
            format!("{HEAD}\r\n{long}"),
            "",
            "a line of more than 1048576 bytes",
        ),
        (
            format!("{HEAD}\r\ndata: rubbish\n\n"),
            "",
            "no chunk of an answer",
        ),
    ]);
}

#[test]
fn what_is_no_stream_is_told_in_words() {
    let json = |message: &str| format!("{{\"error\":{{\"message\":\"{message}\"}}}}");
    let redirect = "302 Found\r\nLocation: http://127.0.0.1:1/";
    let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    check(&[
        (status("200 OK", "<html>"), "", "no stream of events"),
        (status(redirect, ""), "", "status 302 Found"),
        (
            status("404 Not Found", "<html>"),
            "",
            "no server of models: it answers with status 404",
        ),
        (
            status("503 Busy", &json("Try again.")),
            "",
            "the server refused: Try again.",
        ),
        (
            status("401 Unauthorized", &json("No key.")),
            "",
            "SKEIN_API_KEY",
        ),
        (
            "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
            "",
            "does not speak HTTP",
        ),
        (head, "", "does not speak HTTP"),
        (String::new(), "", "broke off"),
    ]);
}

#[test]
fn bytes_that_are_no_text_end_an_answer() {
    let reply = [HEAD.as_bytes(), b"\r\ndata: \xff\n\n"].concat();
    let (address, _requests) = server(Box::new(move |stream| stream.write_all(&reply)));
    let (_, answer) = ask(&client(&address, deadlines()));
    let error = crate::node::chain(&answer.expect_err("broken"));
    assert!(error.contains("no UTF-8"), "{error}");
}

#[test]
fn silence_ends_an_answer() {
    let short = Duration::from_millis(50);
    let late = Deadlines {
        first_event: short,
        ..deadlines()
    };
    let silent = Deadlines {
        between_events: short,
        ..deadlines()
    };
    let begun = concat!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
        "data: {\"choices\":[{\"text\":\"a\"}]}\n\n"
    );
    for (script, deadlines, shown, expected) in [
        ("", late, "", "did not answer within 50ms"),
        (
            "HTTP/1.1 200 OK\r\n",
            late,
            "",
            "did not answer within 50ms",
        ),
        (begun, silent, "a", "nothing came from the server"),
    ] {
        let (address, _requests) = server(hangs(script));
        let (text, answer) = ask(&client(&address, deadlines));
        let error = answer.expect_err("silence").to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(text, shown);
    }
}

/// A server that keeps the connection busy without ever saying anything is silent as well.
#[test]
fn comments_are_no_events() {
    let script: Script = Box::new(|stream| {
        stream.write_all(format!("{HEAD}\r\n").as_bytes())?;
        loop {
            stream.write_all(b": ping\n")?;
        }
    });
    let (address, _requests) = server(script);
    let first_event = Duration::from_millis(50);
    let (_, answer) = ask(&client(
        &address,
        Deadlines {
            first_event,
            ..deadlines()
        },
    ));
    assert!(
        matches!(answer, Err(GenerateError::Remote(RemoteError::Late { .. }))),
        "{answer:?}"
    );
}

/// Dropping an answer closes its connection, so that the server computes no more of it.
#[test]
fn an_interrupted_answer_closes_its_connection() {
    let (gone, closed) = sync_channel(1);
    let script: Script = Box::new(move |stream| {
        stream.write_all(
            format!("{HEAD}\r\ndata: {{\"choices\":[{{\"text\":\"a\"}}]}}\n\n").as_bytes(),
        )?;
        let read = stream.read(&mut [0]);
        let _ = gone.send(matches!(read, Ok(0) | Err(_)));
        Ok(())
    });
    let (address, _requests) = server(script);
    let client = client(&address, deadlines());
    let runtime = crate::node::runtime().expect("a runtime");
    let answer = runtime.block_on(async {
        let request = AnswerRequest {
            model: "tiny",
            prompt: Prompt::Raw("Once"),
            sampling: SamplingFields::default(),
            token_ids: false,
        };
        let shown = tokio::sync::Notify::new();
        let show = |_: &str| {
            shown.notify_one();
            Ok(())
        };
        read(client.answer(&request), shown.notified(), show).await
    });
    let answer = answer.expect("an answer");
    assert_eq!((answer.text.as_str(), answer.finish), ("a", "interrupted"));
    assert_eq!(closed.recv_timeout(Duration::from_secs(60)), Ok(true));
}

#[test]
fn nobody_there_is_told_with_advice() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = Address::of_listener(listener.local_addr().expect("an address"), false);
    drop(listener);
    let client = client(&address, deadlines());
    let absent = |error: &RemoteError| {
        let told = crate::node::chain(error);
        assert!(error.is_absence() && told.contains("`skein up`"), "{told}");
        assert!(
            told.contains(&address.to_string()) && told.contains("refused"),
            "{told}"
        );
    };
    absent(&client.network().expect_err("nobody"));
    match ask(&client) {
        (_, Err(GenerateError::Remote(error))) => absent(&error),
        other => panic!("{other:?}"),
    }
}

#[test]
fn queries_are_bounded() {
    let endless: Script = Box::new(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"object\":\"")?;
        loop {
            stream.write_all(&[b'x'; 4096])?;
        }
    });
    let (address, _requests) = server(endless);
    let error = client(&address, deadlines())
        .network()
        .expect_err("too large");
    assert!(
        error.to_string().contains("more than 1048576 bytes"),
        "{error}"
    );

    let (address, _requests) = server(hangs("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{"));
    let query = Duration::from_millis(50);
    let error = client(
        &address,
        Deadlines {
            query,
            ..deadlines()
        },
    )
    .network();
    assert!(matches!(error, Err(RemoteError::Late { .. })), "{error:?}");
}

#[test]
fn what_is_no_network_is_told() {
    for (body, expected) in [
        ("{}", "missing field"),
        ("{\"object\":\"list\",\"models\":[]}", "list"),
        ("rubbish", "not what was asked for"),
        ("", "not what was asked for"),
    ] {
        let (address, _requests) = server(says(&status("200 OK", body)));
        let error = client(&address, deadlines())
            .network()
            .expect_err(body)
            .to_string();
        assert!(error.contains(expected), "{body}: {error}");
    }
}

#[test]
fn models_are_found_by_name_or_place() {
    let (address, requests) = server(says(&status(
        "200 OK",
        "{\"id\":\"org/a b\",\"object\":\"model\"}",
    )));
    let found = client(&address, deadlines()).model(Some("org/a b%"));
    assert_eq!(found.expect("a model"), "org/a b");
    let request = requests.recv().expect("a request");
    assert!(
        request.starts_with("GET /v1/models/org/a%20b%25 HTTP/1.1\r\n"),
        "{request}"
    );

    let list = "{\"object\":\"list\",\"data\":[{\"id\":\"one\"},{\"id\":\"two\"}]}";
    let (address, _requests) = server(says(&status("200 OK", list)));
    assert_eq!(
        client(&address, deadlines()).model(None).expect("a model"),
        "one"
    );

    let (address, _requests) = server(says(&status("200 OK", "{\"data\":[]}")));
    let error = client(&address, deadlines()).model(None);
    assert!(
        matches!(error, Err(RemoteError::NoModels { .. })),
        "{error:?}"
    );
}

#[test]
fn keys_that_no_header_can_carry_are_refused() {
    let address: Address = "http://127.0.0.1:1".parse().expect("an address");
    for key in ["a\nb", "a b", "a\u{7f}", "\u{f6}", " "] {
        let client = Client::new(address.clone(), Some(OsStr::new(key)), deadlines());
        assert!(matches!(client, Err(RemoteError::Key)), "{key:?}");
    }
    let client = Client::new(address, Some(OsStr::new("sk-secret\n")), deadlines());
    assert!(!format!("{:?}", client.expect("a client")).contains("secret"));
}
