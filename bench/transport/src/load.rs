//! Work that competes with the links for the cores.

use std::{
    hint,
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::Result;
use rustix::{
    process::setpriority_process,
    thread::{CpuSet, gettid, sched_setaffinity},
};

/// The name by which the parent leaves this thread out of its accounts.
pub const NAME: &str = "load";
const WORK: Duration = Duration::from_millis(1);
const REST: Duration = Duration::from_millis(3);

/// A thread that spins for 1 ms and sleeps for 3 ms, for as long as the process lives, on the core of its
/// node: with four nodes on two cores, two such threads take half of each. `yielding` gives it a low
/// priority (nice 10), for which no privilege is needed.
pub fn start(index: usize, yielding: bool) -> Result<()> {
    let cores = thread::available_parallelism()?.get();
    thread::Builder::new()
        .name(NAME.to_owned())
        .spawn(move || {
            let mut set = CpuSet::new();
            set.set(index % cores);
            // Without the right to choose, the scheduler does.
            let _ = sched_setaffinity(None, &set);
            if yielding {
                // Linux has a priority for each thread; one that exists may always lower its own.
                setpriority_process(Some(gettid()), 10)
                    .expect("a thread may lower its own priority");
            }
            loop {
                let start = Instant::now();
                while start.elapsed() < WORK {
                    hint::spin_loop();
                }
                sleep(REST);
            }
        })?;
    Ok(())
}
