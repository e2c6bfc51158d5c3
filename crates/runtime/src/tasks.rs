//! Tasks and threads with an owner that ends them.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::runtime::Handle;
pub use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Owner of tasks and threads; clones own the same ones.
///
/// Everything runs until it ends by itself or sees [`Self::stopping`]. A critical task that fails
/// or panics stops all: the node would be half alive otherwise.
#[derive(Debug, Clone)]
pub struct Tasks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    handle: Handle,
    tracker: TaskTracker,
    stopping: CancellationToken,
    registry: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    next: u64,
    running: BTreeMap<u64, String>,
    threads: BTreeMap<u64, std::thread::JoinHandle<()>>,
    failures: Vec<Failure>,
}

/// A task that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{task} failed: {reason}")]
pub struct Failure {
    /// Its name.
    pub task: String,
    /// What it said, or that it panicked.
    pub reason: String,
}

/// How a shutdown went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShutdownReport {
    /// Names of tasks and threads that had not ended in time; those still run.
    pub unfinished: Vec<String>,
    /// Failures since the start, in order.
    pub failures: Vec<Failure>,
}

impl ShutdownReport {
    /// Whether all ended in time and nothing failed.
    pub fn is_clean(&self) -> bool {
        self.unfinished.is_empty() && self.failures.is_empty()
    }
}

/// A thread owned by [`Tasks`], to be woken from `std::thread::park`.
#[derive(Debug, Clone)]
pub struct ThreadHandle {
    thread: std::thread::Thread,
}

impl ThreadHandle {
    /// Wakes the thread if it is parked; otherwise its next parking returns at once.
    pub fn unpark(&self) {
        self.thread.unpark();
    }
}

impl Tasks {
    /// An owner of nothing yet, whose tasks run on `handle`.
    pub fn new(handle: Handle) -> Self {
        let shared = Shared {
            handle,
            tracker: TaskTracker::new(),
            stopping: CancellationToken::new(),
            registry: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Cancelled when everything shall end.
    pub fn stopping(&self) -> CancellationToken {
        self.shared.stopping.clone()
    }

    /// Asks everything to end, and waits for nothing.
    pub fn stop(&self) {
        self.shared.stopping.cancel();
    }

    /// Starts a task. If it panics, that is logged and reported at shutdown, and the others go on.
    pub fn spawn(&self, name: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) {
        let guard = self.register(name.into(), false);
        let task = async move {
            let _guard = guard;
            task.await;
        };
        drop(self.shared.tracker.spawn_on(task, &self.shared.handle));
    }

    /// Starts a task without which nothing makes sense: if it fails or panics, all are stopped.
    pub fn spawn_critical<E: fmt::Display>(
        &self,
        name: impl Into<String>,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let guard = self.register(name.into(), true);
        let task = async move {
            // Turned into text before the guard is asked: `E` need not be `Send` across it.
            let failed = task.await.err().map(|error| error.to_string());
            if let Some(reason) = failed {
                guard.fail(reason);
            }
        };
        drop(self.shared.tracker.spawn_on(task, &self.shared.handle));
    }

    /// Starts a thread of the operating system, for work that computes or blocks. It is critical:
    /// if it panics, all are stopped. It is joined at shutdown, so it watches the token it gets.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn thread(
        &self,
        name: impl Into<String>,
        work: impl FnOnce(CancellationToken) + Send + 'static,
    ) -> io::Result<ThreadHandle> {
        let name = name.into();
        let guard = self.register(name.clone(), true);
        let (id, token) = (guard.id, self.shared.tracker.token());
        let stopping = self.stopping();
        let body = move || {
            let _guard = guard;
            let _token = token;
            work(stopping);
        };
        let joined = std::thread::Builder::new().name(name).spawn(body)?;
        let thread = joined.thread().clone();
        self.shared.registry().threads.insert(id, joined);
        Ok(ThreadHandle { thread })
    }

    /// Asks everything to end and waits, at most for `timeout`.
    ///
    /// # Cancel safety
    /// Safe: called again, it goes on waiting.
    pub async fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        self.stop();
        self.shared.tracker.close();
        let ended = tokio::time::timeout(timeout, self.shared.tracker.wait())
            .await
            .is_ok();
        let mut registry = self.shared.registry();
        if ended {
            // Past their last line, so joining does not wait for work.
            let threads = std::mem::take(&mut registry.threads);
            drop(registry);
            for thread in threads.into_values() {
                // A panic has been recorded by the guard already.
                let _ = thread.join();
            }
            registry = self.shared.registry();
        }
        let unfinished = registry.running.values().cloned().collect();
        ShutdownReport {
            unfinished,
            failures: registry.failures.clone(),
        }
    }

    fn register(&self, name: String, critical: bool) -> Guard {
        let mut registry = self.shared.registry();
        let id = registry.next;
        registry.next += 1;
        registry.running.insert(id, name.clone());
        drop(registry);
        Guard {
            shared: Arc::clone(&self.shared),
            id,
            name,
            critical,
        }
    }
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().expect("no holder of this lock panics")
    }
}

/// Lives as long as its task; sees a panic in passing.
struct Guard {
    shared: Arc<Shared>,
    id: u64,
    name: String,
    critical: bool,
}

impl Guard {
    fn fail(&self, reason: String) {
        tracing::error!(task = %self.name, %reason, critical = self.critical, "task failed");
        self.shared.registry().failures.push(Failure {
            task: self.name.clone(),
            reason,
        });
        if self.critical {
            self.shared.stopping.cancel();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail("it panicked".to_owned());
        }
        self.shared.registry().running.remove(&self.id);
    }
}
