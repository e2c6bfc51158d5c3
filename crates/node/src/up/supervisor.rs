//! Processes that are kept running.
//!
//! A process that ends is started again, after a pause that grows while it keeps ending soon. One that
//! never became ready in [`TRIES`] starts ends everything: nobody is helped by a network that cannot
//! work. All end in order when asked to: first the gateway, whose answers go on for a while, then the
//! stages; whoever does not end in time is killed. If the supervisor itself is killed, the system
//! kills them (on Linux), and their standard input ends, which ends them too.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use skein_runtime::{CancellationToken, Clock as _, SystemClock, sleep, timeout};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::layout::Member;

/// Starts without success before a process is given up.
pub const TRIES: u32 = 3;
/// Pauses before a process is started again.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A process that ran for so long begins with the shortest pause again.
const STEADY: Duration = Duration::from_secs(30);
/// Longest line of a child's standard output, and how much of it is read in all before it is ready.
const LINES_BYTES_MAX: u64 = 64 << 10;
/// How much of the end of a log is shown when a process is given up.
const LOG_TAIL: usize = 2000;

/// A process and what is known of it.
#[derive(Debug)]
pub struct Watched {
    /// What it is.
    pub member: Member,
    /// Its number, while it runs.
    pub pid: Option<u32>,
    /// Whether it says that it is.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u32,
}

/// What happens to processes.
#[derive(Debug)]
pub enum Event {
    /// It runs.
    Started {
        /// Which, by index.
        index: usize,
        /// Its number.
        pid: u32,
    },
    /// It is ready.
    Ready {
        /// Which.
        index: usize,
        /// Where it listens for the API, a gateway.
        url: Option<String>,
    },
    /// It ended and will be started again.
    Ended {
        /// Which.
        index: usize,
        /// How.
        how: String,
    },
    /// It never became ready.
    GivenUp {
        /// Which.
        index: usize,
        /// How it ended, and the end of its log.
        why: String,
    },
}

/// Where a process finds its configuration and leaves its log.
#[derive(Debug, Clone)]
pub struct Files {
    /// The program.
    pub program: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// Its log.
    pub log: PathBuf,
}

/// How long to wait before the next start.
#[derive(Debug, Clone, Copy)]
struct Pauses {
    next: Duration,
}

impl Pauses {
    const fn new() -> Self {
        Self { next: PAUSE_MIN }
    }

    /// After a process that ran for `ran`.
    fn after(&mut self, ran: Duration) -> Duration {
        if ran >= STEADY {
            self.next = PAUSE_MIN;
        }
        let pause = self.next;
        self.next = (pause * 2).min(PAUSE_MAX);
        pause
    }
}

/// Keeps one process running until `stop`, then ends it within `patience`.
///
/// # Cancel safety
/// Cancelled, it kills the process.
pub async fn keep_running(
    index: usize,
    files: Files,
    events: mpsc::Sender<Event>,
    (stop, patience): (CancellationToken, Duration),
) {
    let clock = SystemClock::new();
    let mut pauses = Pauses::new();
    let mut failed = 0;
    while !stop.is_cancelled() {
        let began = clock.now();
        let mut was_ready = false;
        let how = match spawn(&files) {
            Ok(child) => {
                let run = run(index, child, (&events, &mut was_ready), (&stop, patience));
                describe(run.await)
            }
            Err(error) => format!("it cannot be started: {error}"),
        };
        if stop.is_cancelled() {
            return;
        }
        failed = if was_ready { 0 } else { failed + 1 };
        if failed >= TRIES {
            let why = format!("{how}\n{}", tail(&files.log));
            let _ = events.send(Event::GivenUp { index, why }).await;
            return;
        }
        let _ = events.send(Event::Ended { index, how }).await;
        let pause = pauses.after(clock.now().since(began));
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

fn spawn(files: &Files) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(&files.log)?;
    let mut command = Command::new(&files.program);
    command
        .arg("--config")
        .arg(&files.config)
        .args(["node", "--supervised"])
        // Held open: its end tells the child that we are gone.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        // Ctrl-C on the terminal is for us; we end the children in order.
        .process_group(0)
        .kill_on_drop(true);
    forget_settings(|name| {
        command.env_remove(name);
    });
    command.spawn()
}

/// Tells the settings in this process's environment, for a child to be started without them: what the user set is in
/// its file already.
pub(crate) fn forget_settings(mut forget: impl FnMut(&OsStr)) {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"SKEIN_") {
            forget(&name);
        }
    }
}

/// From start to end, however it comes.
async fn run(
    index: usize,
    mut child: Child,
    (events, was_ready): (&mpsc::Sender<Event>, &mut bool),
    (stop, patience): (&CancellationToken, Duration),
) -> io::Result<ExitStatus> {
    // Dropped, it would end.
    let stdin = child.stdin.take();
    let pid = child.id();
    if let Some(pid) = pid {
        let _ = events.send(Event::Started { index, pid }).await;
    }
    let stdout = child.stdout.take();
    let watch = async {
        if let Some(stdout) = stdout {
            let mut lines = BufReader::new(stdout.take(LINES_BYTES_MAX)).lines();
            let mut is_ready = Readiness::default();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(url) = is_ready.line(&line) {
                    *was_ready = true;
                    let _ = events.send(Event::Ready { index, url }).await;
                }
            }
        }
    };
    let ended = {
        let both = async { tokio::join!(watch, child.wait()).1 };
        tokio::select! {
            ended = both => Some(ended),
            () = stop.cancelled() => None,
        }
    };
    let status = match ended {
        Some(ended) => ended,
        None => end(&mut child, pid, patience).await,
    };
    drop(stdin);
    status
}

/// What a node says on its standard output until it is ready.
#[derive(Debug, Default)]
struct Readiness {
    node: bool,
}

impl Readiness {
    /// `Some` if this line is the last one before it is ready; with the address of the API.
    fn line(&mut self, line: &str) -> Option<Option<String>> {
        if let Some(url) = line.strip_prefix("listening on ") {
            return Some(Some(url.to_owned()));
        }
        self.node |= line.starts_with("node ");
        // A gateway has no links of its own to speak of.
        (self.node && line.starts_with("links on ")).then_some(None)
    }
}

async fn end(child: &mut Child, pid: Option<u32>, patience: Duration) -> io::Result<ExitStatus> {
    let pid = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    if let Some(pid) = pid {
        // One that was stopped can neither end in order nor hear about it.
        let _ = kill_process(pid, Signal::TERM);
        let _ = kill_process(pid, Signal::CONT);
    }
    match timeout(patience, child.wait()).await {
        Some(status) => status,
        None => {
            child.start_kill()?;
            child.wait().await
        }
    }
}

fn describe(ended: io::Result<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match ended {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with code {code}"),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => "ended".to_owned(),
        },
        Err(error) => format!("cannot be watched: {error}"),
    }
}

/// The end of a log, whole lines.
fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let start = text.len().saturating_sub(LOG_TAIL);
    let text = String::from_utf8_lossy(&text[start..]).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let skip = lines.len().saturating_sub(5);
    lines[skip..].join("\n")
}

/// Makes the system kill this process when whoever started it is gone, and says whether it is gone
/// already. Where the system cannot, standard input alone tells.
pub fn die_with_parent() -> bool {
    #[cfg(target_os = "linux")]
    {
        let set = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        if let Err(error) = set {
            tracing::debug!(%error, "the system does not end orphans");
        }
    }
    // Adopted by the first process before the line above.
    rustix::process::getppid().is_none_or(|parent| parent == Pid::INIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_begin_anew() {
        let mut pauses = Pauses::new();
        let soon = Duration::from_secs(1);
        let found: Vec<_> = (0..8).map(|_| pauses.after(soon).as_millis()).collect();
        assert_eq!(found, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(pauses.after(STEADY), PAUSE_MIN);
    }

    #[test]
    fn readiness_is_what_nodes_say() {
        let mut stage = Readiness::default();
        assert_eq!(stage.line("links on 127.0.0.1:1"), None);
        assert_eq!(stage.line("node abc"), None);
        assert_eq!(stage.line("links on 127.0.0.1:1"), Some(None));
        let mut gateway = Readiness::default();
        assert_eq!(gateway.line("node abc"), None);
        let url = "http://127.0.0.1:8080".to_owned();
        let line = format!("listening on {url}");
        assert_eq!(gateway.line(&line), Some(Some(url)));
    }
}
