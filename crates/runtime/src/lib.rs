//! Time, tasks, randomness, files and channels: the only crate that touches the machine below it.
#![forbid(unsafe_code)]

pub mod channel;
pub mod clock;
pub mod entropy;
pub mod files;
pub mod tasks;
mod wait;

pub use clock::{Clock, Instant, ManualClock, SystemClock};
pub use entropy::{EntropyError, Secret32, entropy};
pub use files::{AtomicFile, FileRange, FsFolder, LockError, LockFile, ScratchFile};
pub use tasks::{CancellationToken, Failure, ShutdownReport, Tasks, ThreadHandle};
pub use wait::{blocking, sleep, timeout};
