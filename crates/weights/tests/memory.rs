//! Memory that hostile files take. A program of its own: the system counts for a whole process.
#![cfg(target_os = "linux")]

use skein_weights::safetensors::read_header;

/// The most memory that this process ever held, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    1024 * number.expect("a number of kilobytes")
}

#[test]
fn what_is_no_text_in_a_header_takes_none() {
    let json = format!(r#"{{"__metadata__":{{"a":[0{}]}}}}"#, ",0".repeat(16 << 20));
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(json.as_bytes());
    drop(json);
    let before = peak();
    let header = read_header(&file).expect("it is a header");
    assert!(header.metadata.is_empty());
    // The header itself is in memory once more while it is read.
    let grown = peak() - before;
    assert!(
        grown < 2 * file.len() as u64,
        "{grown} for {} bytes",
        file.len()
    );
}
