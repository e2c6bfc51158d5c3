//! The order to stop, and the order of stopping.
//!
//! ```text
//! Ctrl-C / SIGTERM ─► no new requests ─► answers in progress, until the deadline ─► engine ─► tasks
//! second one       ─► exit at once
//! ```

use std::future::Future;
use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What shells report of a process that Ctrl-C ended.
pub const INTERRUPTED: u8 = 130;

/// `SIGXFSZ`, on Linux and on the BSDs alike: a file grew above the limit of the process.
const FILE_TOO_LARGE: i32 = 25;

/// The signals that ask a process to stop.
#[derive(Debug)]
pub struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    /// Taken over so that it ends nothing: the write fails, and whoever wrote deals with that.
    _file_too_large: Signal,
}

impl StopSignals {
    /// Takes the signals over; from here on they end nothing by themselves.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            _file_too_large: signal(SignalKind::from_raw(FILE_TOO_LARGE))?,
        })
    }

    /// Waits for one of them; its name.
    ///
    /// # Cancel safety
    /// Safe: no signal is lost.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupt",
            _ = self.terminate.recv() => "terminate",
        }
    }

    /// Runs `ending`; another signal meanwhile ends the process at once.
    ///
    /// # Cancel safety
    /// As safe as `ending`.
    pub async fn or_exit<T>(&mut self, ending: impl Future<Output = T>) -> T {
        tokio::select! {
            done = ending => done,
            name = self.next() => {
                tracing::warn!(signal = name, "asked again: leaving at once");
                process::exit(i32::from(INTERRUPTED));
            }
        }
    }
}
