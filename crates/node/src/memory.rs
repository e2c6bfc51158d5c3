//! How much memory the machine has to give, and how much this process took.

use std::fs;

use skein_base::ByteSize;

/// Memory that can be taken without swapping: what the kernel estimates, or less inside a control
/// group with a limit. `None` where the system does not say.
pub fn available() -> Option<ByteSize> {
    let machine = field(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    let group = group_room().unwrap_or(u64::MAX);
    Some(ByteSize(machine.min(group)))
}

/// The largest resident memory of this process so far.
pub fn peak() -> Option<ByteSize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    field(&status, "VmHWM:").map(ByteSize)
}

/// What a control group (version 2) still allows.
fn group_room() -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(format!("/sys/fs/cgroup/{name}"))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let used = number("memory.current")?;
    // Cached files count as used and are given back when asked for.
    let stat = fs::read_to_string("/sys/fs/cgroup/memory.stat").ok()?;
    let cached: u64 = stat
        .lines()
        .find_map(|line| line.strip_prefix("inactive_file "))
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    Some(number("memory.max")?.saturating_sub(used.saturating_sub(cached)))
}

/// A `name   123 kB` line of a file below `/proc`, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_tables() {
        let text = "MemTotal:  10 kB\nMemAvailable:       7 kB\n";
        assert_eq!(field(text, "MemAvailable:"), Some(7 * 1024));
        assert_eq!(field(text, "MemFree:"), None);
        assert_eq!(field("MemAvailable: x kB", "MemAvailable:"), None);
        let (available, peak) = (
            available().expect("linux says"),
            peak().expect("linux says"),
        );
        assert!(available.0 > 0 && peak.0 > 1 << 20);
    }
}
