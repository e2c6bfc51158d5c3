//! The model inside the program: that it is there without being named, the same however it is run,
//! and that it knows its small world. What it must reach is in `docs/genesis.md`; here a sample is
//! asked, with room for chance.
#![allow(
    unreachable_pub,
    dead_code,
    reason = "helpers that several test files share"
)]

mod harness;

use std::fs;
use std::path::Path;

use harness::network::Up;
use harness::{Home, Serving, fixture};
use serde_json::{Value, json};

const QUESTIONS: [&str; 3] = [
    "Who are you?",
    "What is 47 + 38?",
    "Tom was in the park. He found a red ball. Then he went to the river. Where is the ball?",
];

/// What a server says to each question: ids and text.
fn answers(home: &Home, address: &str) -> Vec<Value> {
    let url = format!("http://{address}");
    let ask = |question| {
        let said = home.run(&["run", question, "--url", &url, "--json"]).json();
        json!([said["tokens"], said["text"], said["finish_reason"]])
    };
    QUESTIONS.map(ask).into()
}

/// One command starts a whole network; three processes say what one says.
#[test]
fn up_serves_it_over_three_stages() {
    let home = Home::new();
    let single = Serving::start(&home, &["--threads", "1"]);
    let expected = answers(&home, single.address());
    assert_eq!(expected[0][1], "I am the small model inside Skein.");
    assert_eq!(single.stop("TERM").code, 0);
    let up = Up::start(&home, "state", &["--threads", "1"]);
    let nodes = up.network()["nodes"].as_array().expect("nodes").len();
    assert_eq!(nodes, 4, "a gateway and three stages");
    assert_eq!(answers(&home, &up.address), expected);
    assert_eq!(up.stop("TERM").code, 0);
    // The next start finds what the first one split.
    let again = Up::start(&home, "state", &["--threads", "1"]);
    assert!(!again.said().contains("splitting"), "{}", again.said());
    assert_eq!(again.stop("TERM").code, 0);
}

/// Least right answers in a hundred, by kind.
const LEAST: [(&str, u64); 11] = [
    ("story", 93),
    ("tale", 70),
    ("count", 90),
    ("sum", 95),
    ("difference", 90),
    ("number", 85),
    ("nature", 85),
    ("skein", 90),
    ("talk", 80),
    ("outside", 80),
    ("echo", 90),
];

#[test]
fn it_knows_its_world() {
    let home = Home::new();
    let report = home
        .run(&[
            "bench",
            "world",
            "--questions",
            "40",
            "--seed",
            "7",
            "--json",
        ])
        .json();
    for (kind, least) in LEAST {
        let score = &report["scores"][kind];
        let (asked, right) = (score["asked"].as_u64(), score["right"].as_u64());
        assert_eq!(asked, Some(40), "{kind}");
        let right = right.expect("a number");
        assert!(
            100 * right >= 40 * least,
            "{kind}: {right} of 40; {report:#}"
        );
    }
}

/// The exported folder holds the same weights and settings as the one in the repository, which
/// transformers loads: `scripts/fixtures/genesis.py` wrote down what it says.
#[test]
fn transformers_says_the_same() {
    let home = Home::new();
    let output = home.path("plain");
    let exported = home.run(&["model", "export", "embedded", "-o", &output]);
    assert_eq!(exported.code, 0, "{}", exported.err);
    let source = format!("{}/../../genesis", env!("CARGO_MANIFEST_DIR"));
    let read = |folder: &str, name: &str| fs::read(Path::new(folder).join(name)).expect(name);
    for name in ["tokenizer.json", "tokenizer_config.json", "config.json"] {
        assert_eq!(read(&output, name), read(&source, name), "{name}");
    }
    let text = fs::read(fixture("genesis/greedy.json")).expect("the fixture");
    let cases: Value = serde_json::from_slice(&text).expect("JSON");
    for case in cases.as_array().expect("cases") {
        let prompt = case["prompt"].as_str().expect("a text");
        let answer = home.run(&[
            "run",
            prompt,
            "--model",
            &output,
            "--temperature",
            "0",
            "--json",
        ]);
        assert_eq!(answer.json()["tokens"], case["tokens"], "{prompt}");
    }
}
