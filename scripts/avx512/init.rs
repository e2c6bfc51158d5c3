//! Process 1 of the machine that `scripts/test-avx512` emulates: says what the processor can do,
//! runs `/program` with the lines of `/arguments`, and reports how it ended.

use std::process::Command;
use std::time::Duration;

fn main() {
    println!(
        "SKEIN-BEGIN avx512f={} avx512bw={} avx512vnni={}",
        is_x86_feature_detected!("avx512f"),
        is_x86_feature_detected!("avx512bw"),
        is_x86_feature_detected!("avx512vnni"),
    );
    let arguments = std::fs::read_to_string("/arguments").unwrap_or_default();
    let arguments = arguments.lines().filter(|line| !line.is_empty());
    match Command::new("/program").args(arguments).status() {
        Ok(status) => println!("SKEIN-EXIT {}", status.code().unwrap_or(-1)),
        Err(error) => println!("SKEIN-EXIT could not start: {error}"),
    }
    // The emulator is ended from outside; process 1 must not end by itself.
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}
