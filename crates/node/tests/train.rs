//! Training and exporting with the real binary.
#![allow(
    unreachable_pub,
    dead_code,
    reason = "helpers shared by files, of which each uses a part"
)]

mod harness;

use std::fs;
use std::path::Path;

use harness::{Home, fixture, signal, wait_for};
use serde_json::{Value, json};

/// A shape that trains in no time, for the tokenizer of fixture `qwen2`.
fn shape(home: &Home) -> String {
    let config = json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 384,
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "tie_word_embeddings": true,
    });
    let path = home.path("shape.json");
    fs::write(&path, config.to_string()).expect("written");
    path
}

/// Samples of both kinds.
fn data(home: &Home, name: &str, from: usize) -> String {
    let animals = ["fox", "hare", "owl", "toad"];
    let line = |index: usize| {
        let (who, whom) = (animals[index % 4], animals[index / 4 % 4]);
        let text = format!("The {who} sees the {whom}. The {whom} walks away.");
        match index % 2 {
            0 => json!({ "text": text }),
            _ => json!({ "messages": [
                { "role": "user", "content": format!("Whom does the {who} see?") },
                { "role": "assistant", "content": format!("The {whom}.") },
            ] }),
        }
    };
    let lines: Vec<String> = (from..from + 64)
        .map(|index| line(index).to_string())
        .collect();
    let path = home.path(name);
    fs::write(&path, lines.join("\n")).expect("written");
    path
}

/// Arguments that begin a training from nothing.
fn begin<'a>(paths: [&'a str; 4], output: &'a str, steps: &'a str) -> Vec<&'a str> {
    let [shape, tokenizer, data, held_out] = paths;
    vec![
        "train",
        "--shape",
        shape,
        "--tokenizer",
        tokenizer,
        "--data",
        data,
        "--eval",
        held_out,
        "--output",
        output,
        "--steps",
        steps,
        "--batch",
        "4",
        "--context",
        "64",
        "--lr",
        "3e-3",
        "--warmup",
        "5",
        "--seed",
        "7",
        "--eval-every",
        "20",
        "--save-every",
        "10",
        "--threads",
        "1",
        "--json",
    ]
}

fn log(output: &str) -> Vec<Value> {
    let text = fs::read_to_string(Path::new(output).join("training/log.jsonl")).expect("a log");
    let line = |line| serde_json::from_str(line).expect("JSON");
    text.lines().map(line).collect()
}

fn weights(output: &str) -> Vec<u8> {
    fs::read(Path::new(output).join("model.safetensors")).expect("a model")
}

#[test]
fn a_training_that_is_stopped_ends_with_the_same_model() {
    let home = Home::new();
    let (shape, tokenizer) = (shape(&home), fixture("qwen2"));
    let (data, held_out) = (data(&home, "data.jsonl", 0), data(&home, "held.jsonl", 64));
    let paths = [&*shape, &*tokenizer, &*data, &*held_out];
    let whole = home.path("whole");
    let done = home.run(&begin(paths, &whole, "300")).json();
    assert_eq!(
        (&done["steps"], &done["folder"]),
        (&json!(300), &json!(whole))
    );
    let first = log(&whole)[0]["loss"].as_f64().expect("a loss");
    let last = done["held_out_loss"].as_f64().expect("a loss");
    assert!(last < first / 3.0, "{first} to {last}");
    for how in ["INT", "KILL"] {
        let output = home.path(how);
        let running = home.start(&begin(paths, &output, "300"));
        let state = Path::new(&output).join("training/state.safetensors");
        wait_for(|| state.exists());
        signal(&running, how);
        let stopped = harness::finish(running);
        assert!(
            !Path::new(&output).join("config.json").exists(),
            "it was too fast to be stopped"
        );
        if how == "INT" {
            assert_eq!(stopped.code, 130, "{}", stopped.err);
            assert!(
                stopped.err.contains("skein train --resume"),
                "{}",
                stopped.err
            );
        }
        let again = home.run(&["train", "--resume", &output, "--json"]).json();
        assert_eq!(again["held_out_loss"], done["held_out_loss"], "{how}");
        assert_eq!(weights(&output), weights(&whole), "{how}");
        let losses = |output: &str| -> Vec<Value> {
            log(output)
                .into_iter()
                .map(|line| line["loss"].clone())
                .collect()
        };
        assert_eq!(losses(&output), losses(&whole), "{how}");
    }
}

#[test]
fn what_was_trained_answers() {
    let home = Home::new();
    let (data, held_out) = (data(&home, "data.jsonl", 0), data(&home, "held.jsonl", 64));
    let (model, output) = (fixture("qwen2"), home.path("tuned"));
    let done = home.run(&[
        "train",
        "--model",
        &model,
        "--data",
        &data,
        "--eval",
        &held_out,
        "-o",
        &output,
        "--steps",
        "120",
        "--batch",
        "4",
        "--context",
        "64",
        "--lr",
        "2e-2",
        "--lora",
        "8",
        "--warmup",
        "10",
        "--format",
        "bf16",
        "--json",
    ]);
    let loss = done.json()["held_out_loss"].as_f64().expect("a loss");
    assert!(loss < 1.0, "{loss}");
    assert!(
        done.err.contains("numbers learn") && done.err.contains("step 1 to 120"),
        "{}",
        done.err
    );
    let inspected = home.run(&["model", "inspect", &output, "--json"]).json();
    assert_eq!(inspected["servable"], json!(true), "{inspected}");
    let answer = home.run(&[
        "run",
        "Whom does the fox see?",
        "--model",
        &output,
        "--temperature",
        "0",
        "--repetition-penalty",
        "1",
        "--max-tokens",
        "12",
    ]);
    assert!(
        answer.out.starts_with("The "),
        "{}{}",
        answer.out,
        answer.err
    );
}

#[test]
fn going_on_needs_what_was_there() {
    let home = Home::new();
    let (shape, tokenizer) = (shape(&home), fixture("qwen2"));
    let data = data(&home, "data.jsonl", 0);
    let output = home.path("out");
    let paths = [&*shape, &*tokenizer, &*data, &*data];
    let first = home.run(&begin(paths, &output, "8"));
    assert_eq!(first.code, 0, "{}", first.err);
    // Without a terminal, lines tell of it.
    assert!(first.err.contains("\nstep 1: loss "), "{}", first.err);
    let model = weights(&output);
    let resume = |rest: &[&str]| home.run(&[&["train", "--resume", &output], rest].concat());
    let again = resume(&["--recompute", "--eval-every", "1", "--save-every=0"]);
    assert_eq!(again.code, 0, "{}", again.err);
    assert_eq!(weights(&output), model);
    // In two goes, with a model after the first.
    let parts = home.path("parts");
    let first = begin(paths, &parts, "8");
    let part = home.run(&[&first[..], &["--until", "5"]].concat()).json();
    assert_eq!(part["steps"], json!(5));
    assert_ne!(weights(&parts), model);
    let rest = home.run(&["train", "--resume", &parts, "--until", "0", "--json"]);
    assert_eq!(rest.json()["steps"], json!(8));
    assert_eq!(weights(&parts), model);
    let longer = resume(&["--steps", "20"]);
    assert!(
        longer.code == 1 && longer.err.contains("so it stays at 8 steps"),
        "{}",
        longer.err
    );
    fs::remove_file(Path::new(&output).join("training/state.safetensors")).expect("it was saved");
    let anew = resume(&[]);
    assert!(
        anew.code == 0 && anew.err.contains("no state was saved"),
        "{}",
        anew.err
    );
    assert_eq!(weights(&output), model);
    let config = fs::read_to_string(&shape).expect("read");
    fs::write(&shape, config.replace("1e-6", "1e-5")).expect("written");
    let other = resume(&[]);
    assert!(
        other.code == 1 && other.err.contains("is not what this training began with"),
        "{}",
        other.err
    );
}

#[test]
fn an_exported_model_says_the_same() {
    let home = Home::new();
    let cut = home.path("cut");
    let split = [
        "model",
        "split",
        &fixture("gpt2"),
        "-o",
        &cut,
        "--slices",
        "2",
    ];
    assert_eq!(home.run(&split).code, 0);
    let output = home.path("plain");
    let exported = home
        .run(&["model", "export", &cut, "-o", &output, "--json"])
        .json();
    assert_eq!(exported["tokenizer"], json!(true));
    let original = fs::read(fixture("gpt2") + "/model.safetensors").expect("read");
    let size = |bytes: &[u8]| bytes.len() - 8 - bytes[0] as usize - 256 * bytes[1] as usize;
    assert_eq!(size(&weights(&output)), size(&original));
    let say = |model: &[&str]| {
        let prompt = [
            "run",
            "The lamp",
            "--raw",
            "--temperature",
            "0",
            "--max-tokens",
            "16",
        ];
        let said = home.run(&[&prompt[..], &["--model"], model].concat());
        assert_eq!(said.code, 0, "{}", said.err);
        said.out
    };
    assert_eq!(say(&[&output]), say(&[&fixture("gpt2")]));
    let again = home.run(&["model", "export", &cut, "-o", &output]);
    assert!(
        again.code == 1 && again.err.contains("is not empty"),
        "{}",
        again.err
    );
    // A tokenizer inside a GGUF file becomes files beside the weights.
    let (gguf, files) = (fixture("gguf") + "/qwen3-q8_0.gguf", home.path("files"));
    let export = ["model", "export", &gguf, "-o", &files, "--json"];
    assert_eq!(home.run(&export).json()["tokenizer"], json!(true));
    let values = [&gguf, "--format", "f32"];
    assert_eq!(say(&[&files]), say(&values));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of mistakes")]
fn mistakes_are_answered_with_advice() {
    let home = Home::new();
    let (shape, data) = (shape(&home), data(&home, "data.jsonl", 0));
    let (qwen, gpt2, out) = (fixture("qwen2"), fixture("gpt2"), home.path("out"));
    let bad = home.path("bad.jsonl");
    fs::write(&bad, "{\"text\": \"a\"}\n{\"txt\": 1}\n").expect("written");
    let silent = home.path("silent.jsonl");
    fs::write(&silent, "{\"text\": \"\"}\n").expect("written");
    let begun = home.path("begun");
    fs::create_dir_all(home.path("begun/training")).expect("made");
    fs::write(home.path("begun/training/settings.json"), "{}").expect("written");
    let (gguf, full) = (fixture("gguf") + "/llama31-q8_0.gguf", home.path("full"));
    fs::create_dir_all(&full).expect("made");
    fs::write(home.path("full/config.json"), "{}").expect("written");
    let train = |rest: &[&str]| -> Vec<String> {
        let start = ["train", "--data", &data, "-o", &out, "--steps", "1"];
        start
            .iter()
            .chain(rest)
            .map(|&arg| arg.to_owned())
            .collect()
    };
    let own = |list: &[&str]| -> Vec<String> { list.iter().map(|&arg| arg.to_owned()).collect() };
    let cases = [
        (train(&[]), 2, "--model or --shape"),
        (own(&["train", "--data", &data]), 2, "--output"),
        (train(&["--shape", &shape]), 1, "no tokenizer"),
        (
            train(&["--model", &gguf]),
            1,
            "config.json has no form for rotary frequencies",
        ),
        (train(&["--model", &qwen, "--clip", "-1"]), 2, "0 or more"),
        (train(&["--model", &qwen, "--clip", "NaN"]), 2, "0 or more"),
        (
            train(&["--model", &qwen, "--accumulate", "0"]),
            2,
            "--accumulate must be at least 1",
        ),
        (
            train(&["--model", &qwen, "--batch", "9999999999"]),
            2,
            "is more than",
        ),
        (
            train(&["--model", &qwen, "--freeze", "body"]),
            2,
            "is no part",
        ),
        (
            own(&["train", "--model", &qwen, "--data", &data, "-o", &full]),
            1,
            "is not empty (config.json is there)",
        ),
        (
            own(&["train", "--resume", &begun, "--clip", "2"]),
            2,
            "cannot be used with",
        ),
        (
            train(&["--model", &qwen, "--context", "999"]),
            2,
            "--context 999 is more than",
        ),
        (
            train(&["--model", &qwen, "--lr", "0"]),
            2,
            "rate is 0: it must be above 0",
        ),
        (
            train(&["--model", &qwen, "--lora", "999"]),
            1,
            "rank 999 does not fit",
        ),
        (
            train(&["--model", &qwen, "--lora", "2", "--lora-targets", "x"]),
            1,
            "no layer has a projection x; it has attn_q",
        ),
        (
            train(&["--model", &gpt2, "--context", "64"]),
            1,
            "line 2: the model has no chat template",
        ),
        (
            train(&["--model", &qwen, "--eval", &bad]),
            1,
            "line 2: it must have one of",
        ),
        (
            train(&["--model", &qwen, "--eval", &silent]),
            1,
            "no sample has a token to learn",
        ),
        (
            own(&["train", "--resume", &home.path("none")]),
            1,
            "settings.json",
        ),
        (
            own(&["train", "--model", &qwen, "--data", &data, "-o", &begun]),
            1,
            "holds a training already",
        ),
    ];
    for (args, code, expected) in cases {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        // What a case leaves must not be what the next one stumbles over.
        let _ = fs::remove_dir_all(&out);
        let ended = home.run(&args);
        assert_eq!(ended.code, code, "{args:?}: {}", ended.err);
        assert!(ended.err.contains(expected), "{args:?}: {}", ended.err);
    }
}
