//! The real binary, as a user meets it.
#![allow(
    unreachable_pub,
    dead_code,
    clippy::too_many_lines,
    clippy::type_complexity,
    reason = "tables of cases, and helpers shared by files"
)]

mod harness;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::{Home, Serving, fixture, signal};
use serde_json::{Value, json};
use skein_node::bench::checkpoint::{Shape, prepare};
use skein_weights::Dtype;

/// The answer of a fixture's case `text`, greedy, and its prompt.
fn reference(name: &str) -> (String, Value, String) {
    let text = fs::read_to_string(fixture(name) + "/reference.json").expect("a fixture");
    let reference: Value = serde_json::from_str(&text).expect("JSON");
    let cases = reference["cases"].as_array().expect("a list");
    let case = cases
        .iter()
        .find(|case| case["name"] == "text")
        .expect("case text");
    let part = |name: &str| case[name].as_str().expect("a text").to_owned();
    (part("text"), case["greedy"].clone(), part("answer"))
}

const GREEDY: [&str; 7] = [
    "--raw",
    "--temperature",
    "0",
    "--repetition-penalty",
    "1",
    "--max-tokens",
    "64",
];

/// What a stream can know of an answer. A tokenizer with byte fallback replaces a whole run of bytes
/// if any of it is no UTF-8; a stream has shown the good characters at its start by then. So with
/// those, texts are compared up to the first replacement; ids are compared in full.
fn comparable<'a>(name: &str, text: &'a str) -> &'a str {
    let end = text
        .find('\u{fffd}')
        .filter(|_| ["llama2", "mistral"].contains(&name));
    &text[..end.unwrap_or(text.len())]
}

#[test]
fn run_says_what_the_reference_says() {
    let home = Home::new();
    for name in ["qwen2", "gpt2", "llama2", "mistral", "llama31-sharded"] {
        let (prompt, ids, answer) = reference(name);
        let model = fixture(name);
        let mut args = vec!["run", &prompt, "--model", &model];
        args.extend(GREEDY);
        let streamed = home.run(&args);
        assert_eq!(streamed.code, 0, "{}", streamed.err);
        assert_eq!(
            comparable(name, &streamed.out),
            comparable(name, &format!("{answer}\n"))
        );
        args.push("--json");
        let whole = home.run(&args).json();
        assert_eq!(whole["tokens"], ids, "{name}");
        let text = whole["text"].as_str().expect("a text");
        assert_eq!(comparable(name, text), comparable(name, &answer));
        assert_eq!(whole["finish_reason"], "length");
        assert_eq!(whole["usage"]["completion_tokens"], 64);
    }
}

#[test]
fn inspect_tells_scripts_what_is_there() {
    let home = Home::new();
    let found = home
        .run(&[
            "model",
            "inspect",
            &fixture("qwen2"),
            "--slices",
            "2",
            "--json",
        ])
        .json();
    assert_eq!(
        (&found["servable"], &found["name"]),
        (&json!(true), &json!("qwen2"))
    );
    let contents = &found["contents"];
    assert_eq!(contents["slices"].as_array().map(Vec::len), Some(2));
    let sum: u64 = contents["parts"]
        .as_array()
        .expect("parts")
        .iter()
        .map(|part| part["parameters"].as_u64().expect("a number"))
        .sum();
    assert_eq!(contents["parameters"], sum);
    assert_eq!(contents["memory"]["f32"], 4 * sum);
    let text = home.run(&["model", "inspect", &fixture("qwen2")]);
    assert!(
        text.out.contains("can be served") && text.out.contains("layer 0"),
        "{}",
        text.out
    );
}

#[test]
fn a_split_model_is_good_and_serves_the_same() {
    let home = Home::new();
    let folder = home.path("cut");
    let split = [
        "model",
        "split",
        &fixture("qwen2"),
        "-o",
        &folder,
        "--boundaries",
        "1",
        "--json",
    ];
    let cut = home.run(&split).json();
    assert_eq!(cut["slices"][0], json!({ "start": 0, "end": 1 }));
    let report = home.run(&["model", "verify", &folder, "--json"]).json();
    assert_eq!(
        (&report["ok"], &report["problems"]),
        (&json!(true), &json!([]))
    );
    assert_eq!(report["model"], cut["model"]);
    assert_eq!(report["slices"].as_array().map(Vec::len), Some(2));
    let (prompt, _, answer) = reference("qwen2");
    let mut args = vec!["run", &prompt, "--model", &folder];
    args.extend(GREEDY);
    assert_eq!(home.run(&args).out, format!("{answer}\n"));

    let serving = Serving::start(&home, &["--model", &folder, "--name", "cut"]);
    let models = serving.get("/v1/models");
    assert_eq!(models["data"][0]["id"], "cut");
    let body = json!({ "model": "cut", "prompt": prompt, "max_tokens": 64, "temperature": 0,
        "repetition_penalty": 1.0 });
    let completion = serving.post("/v1/completions", &body);
    assert_eq!(completion["choices"][0]["text"], answer, "{completion}");
    let body = json!({ "model": "cut", "max_tokens": 4, "seed": 1,
        "messages": [{ "role": "user", "content": "Where is the lamp?" }] });
    let chat = serving.post("/v1/chat/completions", &body);
    assert_eq!(chat["usage"]["completion_tokens"], 4, "{chat}");
    let ended = serving.stop("TERM");
    assert_eq!(ended.code, 0, "{}", ended.err);
}

#[test]
fn damage_is_named() {
    let home = Home::new();
    let good = home.path("good");
    let split = home.run(&[
        "model",
        "split",
        &fixture("qwen3"),
        "-o",
        &good,
        "--slices",
        "2",
    ]);
    assert_eq!(split.code, 0, "{}", split.err);
    let largest = fs::read_dir(&good)
        .expect("a folder")
        .map(|entry| entry.expect("an entry"));
    let part = largest
        .max_by_key(|entry| entry.metadata().expect("a size").len())
        .expect("a file");
    let part = part.file_name().into_string().expect("a name");
    let edit = |file: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(file).expect("a file");
        change(&mut bytes);
        fs::write(file, bytes).expect("written");
    };
    type Harm<'a> = &'a dyn Fn(&Path);
    let flip: Harm = &|dir| {
        edit(&dir.join(&part), &|bytes| {
            *bytes.last_mut().expect("bytes") ^= 4
        })
    };
    let cut: Harm = &|dir| edit(&dir.join(&part), &|bytes| bytes.truncate(bytes.len() / 2));
    let header: Harm = &|dir| edit(&dir.join(&part), &|bytes| bytes[..8].fill(0xff));
    let link: Harm = &|dir| {
        fs::remove_file(dir.join(&part)).expect("removed");
        symlink(fixture("qwen3") + "/config.json", dir.join(&part)).expect("linked");
    };
    let missing: Harm = &|dir| fs::remove_file(dir.join(&part)).expect("removed");
    let foreign: Harm = &|dir| fs::write(dir.join("extra.bin"), b"x").expect("written");
    let manifest: Harm = &|dir| edit(&dir.join("skein.json"), &|bytes| bytes.truncate(100));
    let cases = [
        ("flip", flip, vec![part.as_str(), "SHA-256"]),
        ("cut", cut, vec![&part]),
        ("header", header, vec![&part]),
        ("link", link, vec![&part, "link that leaves its folder"]),
        ("missing", missing, vec![&part, "is missing"]),
        ("foreign", foreign, vec!["extra.bin", "foreign"]),
        ("manifest", manifest, vec!["skein.json"]),
    ];
    for (name, harm, words) in cases {
        let dir = home.path(name);
        harness::copy(&good, &dir);
        harm(Path::new(&dir));
        let report = home.run(&["model", "verify", &dir]);
        assert_eq!(report.code, 1, "{name}: {}", report.out);
        let named = words.iter().all(|word| report.out.contains(word));
        assert!(
            named && report.out.contains("is damaged"),
            "{name}: {}",
            report.out
        );
    }
}

/// Large enough to be caught in the middle.
const LARGE: Shape = Shape {
    name: "large",
    vocabulary: 1024,
    hidden: 256,
    intermediate: 1024,
    layers: 24,
    heads: 4,
    kv_heads: 2,
};

#[test]
fn a_split_goes_on_where_it_was_stopped() {
    let home = Home::new();
    let model = prepare(LARGE, Dtype::F32, Path::new(&home.path("model"))).expect("written");
    let model = model.display().to_string();
    let tokenizer = fixture("qwen2") + "/tokenizer.json";
    fs::copy(tokenizer, Path::new(&model).join("tokenizer.json")).expect("copied");
    for how in ["KILL", "INT"] {
        let folder = home.path(how);
        let args = ["model", "split", &model, "-o", &folder, "--slices", "3"];
        let running = home.start(&args);
        harness::wait_for(|| fs::read_dir(&folder).is_ok_and(|dir| dir.count() >= 4));
        signal(&running, how);
        let stopped = harness::finish(running);
        let manifest = Path::new(&folder).join("skein.json");
        assert!(!manifest.exists(), "it was too fast to be stopped");
        if how == "INT" {
            assert_eq!(stopped.code, 130);
            assert!(
                stopped.err.contains("run the same command again"),
                "{}",
                stopped.err
            );
        }
        let verdict = home.run(&["model", "verify", &folder]);
        assert!(
            verdict.code == 1 && verdict.out.contains("unfinished"),
            "{}",
            verdict.out
        );
        let again = home.run(&args);
        assert_eq!(again.code, 0, "{}", again.err);
        let verdict = home.run(&["model", "verify", &folder]);
        assert_eq!(verdict.code, 0, "{}", verdict.out);
    }
}

/// Owned arguments, so that a table can hold them.
fn args(list: &[&str]) -> Vec<String> {
    list.iter().map(|&arg| arg.to_owned()).collect()
}

#[test]
fn mistakes_are_answered_with_advice() {
    let home = Home::new();
    let at = |name: &str| home.path(name);
    harness::copy(&fixture("qwen2"), &at("whole"));
    harness::copy(&fixture("qwen2"), &at("bare"));
    fs::remove_file(at("bare") + "/config.json").expect("removed");
    harness::copy(&fixture("qwen2"), &at("odd"));
    let config = fs::read_to_string(at("odd") + "/config.json").expect("read");
    let config = config.replacen("\"silu\"", "\"relu6\"", 1);
    fs::write(at("odd") + "/config.json", config).expect("written");
    harness::copy(&fixture("qwen2"), &at("huge"));
    fs::write(at("huge") + "/model.safetensors", [0xff; 64]).expect("written");
    fs::create_dir(at("pickle")).expect("made");
    fs::write(at("pickle") + "/pytorch_model.bin", b"x").expect("written");
    fs::write(at("bad.gguf"), b"GGUX and more bytes than a header").expect("written");
    let whole = at("whole");
    let full = at("full");
    fs::create_dir(&full).expect("made");
    fs::write(full.clone() + "/letter.txt", b"x").expect("written");
    let cases: [(Vec<String>, i32, Vec<&str>); 19] = [
        (args(&["node"]), 1, vec!["--model MODEL"]),
        (
            args(&["serve", "--model", &at("whol")]),
            1,
            vec!["did you mean", "whole?"],
        ),
        (
            args(&["serve", "--model", &at("bare")]),
            1,
            vec!["no config.json"],
        ),
        (
            args(&["serve", "--model", &at("odd")]),
            1,
            vec!["cannot be served", "relu6"],
        ),
        (
            args(&["serve", "--model", &at("huge")]),
            1,
            vec!["model.safetensors"],
        ),
        (
            args(&["serve", "--model", &at("pickle")]),
            1,
            vec!["pickle", "convert"],
        ),
        (
            args(&["serve", "--model", &at("bad.gguf")]),
            1,
            vec!["not a GGUF file"],
        ),
        (
            args(&["serve", "--model", "org/name"]),
            1,
            vec!["org/name@COMMIT"],
        ),
        (
            args(&["serve", "--model", &whole, "--kv-memory", "9000GiB"]),
            1,
            vec!["not enough memory", "--force"],
        ),
        (
            args(&["serve", "--model", &whole, "--format", "int3"]),
            1,
            vec!["--format", "\"bf16\""],
        ),
        (
            args(&["serve", "--model", &whole, "--listen", "0.0.0.0:0"]),
            1,
            vec!["API keys and TLS", "127.0.0.1"],
        ),
        (
            args(&["run", "x", "--model", &fixture("gpt2")]),
            1,
            vec!["no chat template", "--raw"],
        ),
        (
            args(&["run", "x", "--model", &whole, "--temperature", "9"]),
            2,
            vec!["temperature must be between 0 and 2"],
        ),
        (args(&["sevre"]), 2, vec!["serve"]),
        (
            args(&["model", "split", &whole, "-o", &at("o")]),
            2,
            vec!["--slices"],
        ),
        (
            args(&["model", "split", &whole, "-o", &at("o"), "--slices", "99"]),
            1,
            vec!["99 slices"],
        ),
        (
            args(&["model", "split", &whole, "-o", &full, "--slices", "1"]),
            1,
            vec!["is not empty", "letter.txt"],
        ),
        (
            args(&["model", "verify", &whole, "--quiet"]),
            1,
            vec!["skein.json"],
        ),
        (
            args(&["config", "explain", "gateway.listn"]),
            2,
            vec!["did you mean gateway.listen?"],
        ),
    ];
    for (args, code, words) in cases {
        let borrowed: Vec<&str> = args.iter().map(String::as_str).collect();
        let ended = home.run(&borrowed);
        let said = format!("{}{}", ended.out, ended.err);
        assert_eq!(ended.code, code, "{args:?}: {said}");
        assert!(
            words.iter().all(|word| said.contains(word)),
            "{args:?}: {said}"
        );
        assert!(!said.contains("panicked"), "{args:?}: {said}");
    }
}

#[test]
fn the_hub_without_a_network() {
    let home = Home::new();
    let name = format!("org/name@{}", "0".repeat(40));
    let offline = home.run(&["model", "inspect", &name, "--offline"]);
    assert!(
        offline.code == 1 && offline.err.contains("not in the local cache"),
        "{}",
        offline.err
    );
}

#[test]
fn a_taken_port_is_named() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let ended = home.run(&["serve", "--model", &fixture("qwen2"), "--listen", &address]);
    assert_eq!(ended.code, 1);
    let told =
        ended.err.contains(&format!("{address} is in use")) && ended.err.contains("--listen");
    assert!(told, "{}", ended.err);
}

#[test]
fn configuration_is_checked_and_shown() {
    let home = Home::new();
    let file = home.path("skein.toml");
    fs::write(&file, "[gateway]\nlisten = \"127.0.0.1:9\"\n").expect("written");
    assert_eq!(home.run(&["config", "check", &file]).code, 0);
    let shown = home
        .run(&["config", "show", "--json", "--config", &file])
        .json();
    assert_eq!(
        shown["gateway"]["listen"],
        json!({ "value": "127.0.0.1:9", "origin": file })
    );
    fs::write(&file, "[gateway]\nlisen = \"127.0.0.1:9\"\n").expect("written");
    let wrong = home.run(&["config", "check", &file]);
    assert!(
        wrong.code == 1 && wrong.err.contains("did you mean listen?"),
        "{}",
        wrong.err
    );
    let explained = home.run(&["config", "explain", "engine.kv_memory"]);
    assert!(
        explained.out.contains("SKEIN_ENGINE__KV_MEMORY"),
        "{}",
        explained.out
    );
    assert!(home.run(&["config", "explain"]).out.contains("[runtime]"));
}

#[test]
fn keys_are_asked_for_once_made() {
    let home = Home::new();
    let file = home.path("keys.toml");
    let made = home.run(&["keys", "new", "alice", "--file", &file]);
    let key = made.out.trim().to_owned();
    assert!(made.code == 0 && key.starts_with("sk-"), "{}", made.err);
    let serving = Serving::start(&home, &["--model", &fixture("qwen2"), "--keys-file", &file]);
    assert!(
        serving
            .request("GET /v1/models", "", "")
            .starts_with("HTTP/1.1 401")
    );
    let header = format!("Authorization: Bearer {key}\r\n");
    assert!(
        serving
            .request("GET /v1/models", &header, "")
            .starts_with("HTTP/1.1 200")
    );
    assert_eq!(serving.stop("INT").code, 0);
}

#[test]
fn help_version_and_completions() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.run(&["completions", shell]);
        assert!(
            script.code == 0 && script.out.contains("kv-memory"),
            "{shell}"
        );
    }
    let help = home.run(&[]);
    assert!(help.code == 2 && format!("{}{}", help.out, help.err).contains("Usage: skein"));
    assert!(home.run(&["--version"]).out.starts_with("skein "));
    for command in [
        "serve",
        "run",
        "chat",
        "model split",
        "bench model",
        "config explain",
    ] {
        let args: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        assert_eq!(home.run(&args).code, 0, "{command}");
    }
}

#[test]
fn bench_reports_every_measurement() {
    let home = Home::new();
    let cache = home.path("cache");
    let report = home
        .run(&[
            "bench", "model", "--shape", "small", "--rounds", "1", "--prompt", "16", "--decode",
            "8", "--stream", "16MiB", "--cache", &cache, "--json", "--quiet",
        ])
        .json();
    for name in [
        "prefill_tokens_per_second",
        "decode_tokens_per_second",
        "share_of_floor",
        "peak_bytes",
    ] {
        assert!(
            report[name].as_f64().is_some_and(|value| value > 0.0),
            "{name}: {report}"
        );
    }
    assert_eq!(report["batched"].as_array().map(Vec::len), Some(4));
}

#[test]
fn what_was_not_split_is_not_called_damaged() {
    let home = Home::new();
    let verdict = home.run(&["model", "verify", &fixture("qwen2")]);
    assert_eq!((verdict.code, verdict.out.as_str()), (1, ""));
    let expected = "was not written by `skein model split`";
    assert!(verdict.err.contains(expected), "{}", verdict.err);
}

#[test]
fn sampling_is_checked_before_anything_is_loaded() {
    let home = Home::new();
    let refused = home.run(&["run", "hi", "--model", "/nowhere", "--temperature", "9"]);
    assert_eq!((refused.code, refused.out.as_str()), (2, ""));
    assert!(refused.err.contains("temperature"), "{}", refused.err);
}

/// Quantised when split or when loaded, it is the same model; and nobody is left to guess what that cost.
#[test]
fn a_quantised_model_is_split_inspected_and_exported() {
    let home = Home::new();
    let (source, cut, out) = (fixture("qwen3"), home.path("cut"), home.path("out"));
    for (format, least, most) in [("q8", 0.003, 0.008), ("q4", 0.06, 0.1)] {
        let (cut, out) = (format!("{cut}-{format}"), format!("{out}-{format}"));
        let split = home
            .run(&[
                "model", "split", &source, "-o", &cut, "--slices", "2", "--format", format,
                "--json",
            ])
            .json();
        let error = split["relative_error"].as_f64().expect("a number");
        assert!(least < error && error < most, "{split}");
        assert_eq!(home.run(&["model", "verify", &cut]).code, 0);
        let say = |rest: &[&str]| {
            let mut args = vec!["run", "Once upon a time", "--json"];
            args.extend(GREEDY);
            args.extend(rest);
            home.run(&args).json()
        };
        let whole = say(&["--model", &source, "--format", format]);
        assert_eq!(whole["tokens"], say(&["--model", &cut])["tokens"]);

        let found = home.run(&["model", "inspect", &cut, "--json"]).json();
        let memory = &found["contents"]["memory"];
        assert_eq!(memory["stored"], memory[format]);
        let refused = home.path(&format!("refused-{format}"));
        let refused = home.run(&["model", "export", &cut, "-o", &refused, "--format", format]);
        assert_eq!(refused.code, 1, "{}", refused.err);
        assert!(
            refused.err.contains("choose f32 or bf16"),
            "{}",
            refused.err
        );
        assert_eq!(home.run(&["model", "export", &cut, "-o", &out]).code, 0);
        let config = fs::read_to_string(format!("{out}/config.json")).expect("written");
        assert!(config.contains("float32"), "{config}");
    }
}

/// A GGUF file's own tokenizer and names survive being split.
#[test]
fn a_split_gguf_says_what_the_file_says() {
    let home = Home::new();
    let files = fs::read_dir(fixture("gguf")).expect("a folder");
    let names = files.map(|file| file.expect("an entry").path().display().to_string());
    let models: Vec<_> = names.filter(|name| name.ends_with(".gguf")).collect();
    assert!(models.len() >= 3, "{models:?}");
    for (index, model) in models.iter().enumerate() {
        let cut = home.path(&format!("cut{index}"));
        let split = home.run(&["model", "split", model, "-o", &cut, "--slices", "2"]);
        assert_eq!(split.code, 0, "{model}: {}", split.err);
        let verdict = home.run(&["model", "verify", &cut]);
        assert_eq!(verdict.code, 0, "{model}: {}", verdict.out);
        let say = |path: &str| {
            let mut args = vec!["run", "Once upon a time", "--model", path, "--json"];
            args.extend(GREEDY);
            home.run(&args).json()
        };
        let (file, parts) = (say(model), say(&cut));
        assert_eq!(file["tokens"], parts["tokens"], "{model}");
        assert_eq!(file["text"], parts["text"], "{model}");
    }
}

/// A limit on the size of files ends no process by a signal: the write fails, the error says so, and without the limit
/// the same command goes on.
#[test]
fn a_file_above_the_limit_is_an_error_and_no_signal() {
    let home = Home::new();
    let (source, cut) = (fixture("qwen3"), home.path("cut"));
    let args = ["model", "split", &source, "-o", &cut, "--slices", "2"];
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -f 16; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_skein"))
        .args(args)
        .env_clear()
        .env("HOME", home.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let ended = harness::finish(limited.spawn().expect("a shell"));
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.err.contains("File too large"), "{}", ended.err);
    let again = home.run(&args);
    assert_eq!(again.code, 0, "{}", again.err);
    assert_eq!(home.run(&["model", "verify", &cut]).code, 0);
}

/// Three conversations through memory for one: with disk for what gives way, nobody hears another answer, turns that come
/// back find their keys and values, and no file is seen.
#[test]
fn disk_for_keys_and_values_changes_no_answer() {
    let home = Home::new();
    let (file, folder, model) = (home.path("skein.toml"), home.path("kv"), fixture("qwen3"));
    fs::create_dir(&folder).expect("made");
    let configure = |kv_disk: &str, folder: &str| {
        // Nobody reads what the server logs while it is asked again and again.
        let text = format!(
            "[log]\nlevel = \"warn\"\n[engine]\nkv_disk = \"{kv_disk}\"\nkv_disk_folder = \"{folder}\"\n"
        );
        fs::write(&file, text).expect("written");
    };
    // Eight pages; a conversation takes six, later seven.
    let memory = ["--model", &model, "--kv-memory", "420KiB"];
    let with_disk = [
        "--config", &file, memory[0], memory[1], memory[2], memory[3],
    ];
    let talk = |server: &Serving| {
        let mut prompts: Vec<Vec<u32>> = (0..3)
            .map(|n| (0..150).map(|i| (i * 7 + n * 31) % 300).collect())
            .collect();
        let mut said = Vec::new();
        let mut cached = 0;
        for _ in 0..2 {
            for prompt in &mut prompts {
                let answer = server.post(
                    "/v1/completions",
                    &json!({"model": "qwen3", "prompt": &*prompt, "max_tokens": 20, "seed": 1,
                        "ignore_eos": true, "return_token_ids": true, "logprobs": 2}),
                );
                let choice = &answer["choices"][0];
                let ids: Vec<u32> = serde_json::from_value(choice["token_ids"].clone())
                    .unwrap_or_else(|error| panic!("{error}: {answer}"));
                prompt.extend(ids);
                said.push(choice.clone());
                let tokens = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
                cached += tokens.as_u64().expect("a number");
            }
        }
        (said, cached)
    };
    let plain = Serving::start(&home, &memory);
    let (expected, cached) = talk(&plain);
    assert_eq!(cached, 0, "memory was large enough for two");
    assert_eq!(
        plain.get("/v1/network")["models"][0]["kv"]["store"],
        json!(null)
    );
    assert_eq!(plain.stop("TERM").code, 0);
    configure("16MiB", &folder);
    let server = Serving::start(&home, &with_disk);
    // Of the second turns, all but the token that nobody had fed yet.
    assert_eq!(talk(&server), (expected, 3 * 169));
    let store = || server.get("/v1/network")["models"][0]["kv"]["store"].clone();
    harness::wait_for(|| store()["restored"] == json!(3));
    assert_eq!(store()["failures"], json!(0));
    assert_eq!(store()["pages_total"], json!((16 << 20) / 53_248));
    assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 0);
    let text = home.run(&["status", "--url", &server.url()]).out;
    assert!(text.contains(", 3 read back, 0 dropped"), "{text}");
    assert_eq!(server.stop("TERM").code, 0);
    for (kv_disk, folder, expected) in [
        (
            "1KiB",
            folder.as_str(),
            "a page of keys and values of this model takes 52.0 KiB",
        ),
        ("1GiB", "/nowhere", "no file can be made in /nowhere"),
    ] {
        configure(kv_disk, folder);
        let ended = home.run(&["--config", &file, "run", "hi", "--model", &model]);
        assert!(
            ended.code != 0 && ended.err.contains(expected),
            "{}",
            ended.err
        );
    }
}
