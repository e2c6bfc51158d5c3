//! The thread that computes, and the handles to it.
//!
//! Where an executor only sends batches away, a step is short, and whoever brings the answer does the next one itself,
//! which saves waking the thread. It is left to the thread what comes by time, from a handle, or from a reader.
//!
//! Requests enter through a bounded queue under a lock that is never held while computing, so
//! [`EngineHandle::submit`] answers at once. Each session has its own bounded channel of events: the
//! thread never waits for a reader. A session whose channel is full pauses (is not scheduled, and
//! may lose its KV to others and be replayed) until its reader has made room; no other session
//! notices. Dropping a [`Generation`] ends its session and frees its KV before the next step.

mod actor;
mod generation;
mod lately;
mod steps;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use skein_runtime::channel::oneshot;
use skein_runtime::{Clock, Instant, Secret32};

use self::actor::Actor;
pub use self::generation::Generation;
use self::generation::Reader;
use crate::config::{ConfigError, EngineConfig};
use crate::desk::Desk;
use crate::metrics;
use crate::request::{Request, SubmitError};
use crate::scheduler::{Load, Scheduler};
use crate::stage::{Executor, Local, Stage, StageLimits};
use crate::view::{CircuitView, View};

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The KV budget holds not even one page.
    #[error("the KV budget is smaller than one page: give the server more KV memory")]
    NoKv,
    /// The operating system gave no thread.
    #[error("the engine's thread could not be started: {0}")]
    Thread(#[source] io::Error),
}

/// Owner of the engine's thread.
///
/// Dropping it ends the thread after the step in progress, and waits for that; sessions still open
/// end with [`crate::FinishReason::Shutdown`]. [`Self::shutdown`] lets them finish first.
#[derive(Debug)]
pub struct Engine {
    handle: EngineHandle,
    thread: Option<JoinHandle<()>>,
    ended: Option<oneshot::Receiver<()>>,
}

/// Submits requests; clones submit to the same engine.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    shared: Arc<Shared>,
    thread: Thread,
    clock: Arc<dyn Clock>,
}

/// What thread and handles share. The lock is held for moments only.
#[derive(Debug)]
struct Shared {
    limits: StageLimits,
    events_max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    desk: Desk,
    /// Bounded by the desk.
    inbox: Vec<Incoming>,
    load: Load,
    view: View,
}

#[derive(Debug)]
struct Incoming {
    request: Request,
    at: Instant,
    reader: Reader,
}

/// What the engine shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Take requests.
    Open,
    /// Finish what there is, at most for so long.
    Draining { allowed: Duration },
    /// End what there is.
    Stopping,
}

impl Engine {
    /// Starts the thread. `secret` keys the reuse of prefixes and lives as long as the engine.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start<S: Stage + 'static>(
        stage: S,
        config: EngineConfig,
        clock: Arc<dyn Clock>,
        secret: Secret32,
    ) -> Result<Self, StartError> {
        Self::start_with(Local::new(stage), config, clock, secret)
    }

    /// As [`Self::start`], for an executor that may be elsewhere.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start_with<E: Executor + 'static>(
        stage: E,
        config: EngineConfig,
        clock: Arc<dyn Clock>,
        secret: Secret32,
    ) -> Result<Self, StartError> {
        config.check()?;
        let limits = stage.limits();
        if limits.total_pages == 0 {
            return Err(StartError::NoKv);
        }
        metrics::describe();
        let shared = Arc::new(Shared::new(limits, &config));
        let (done, ended) = oneshot::channel();
        let scheduler = Scheduler::new(config, secret);
        let actor = Actor::new(Arc::clone(&shared), Arc::clone(&clock), scheduler, stage);
        let with = (Arc::clone(&shared), Arc::clone(&clock));
        let body = move || {
            steps::run(actor, with);
            // Nobody may be waiting any more.
            let _ = done.send(());
        };
        let builder = std::thread::Builder::new().name("skein-engine".to_owned());
        let joined = builder.spawn(body).map_err(StartError::Thread)?;
        let handle = EngineHandle {
            shared,
            thread: joined.thread().clone(),
            clock,
        };
        Ok(Self {
            handle,
            thread: Some(joined),
            ended: Some(ended),
        })
    }

    /// A handle for submitting requests.
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Takes no more requests, lets the sessions finish for at most `allowed`, then ends the rest
    /// with [`crate::FinishReason::Shutdown`]. Returns when the thread has ended.
    ///
    /// # Cancel safety
    /// Cancelled, it has the effect of dropping the engine.
    pub async fn shutdown(mut self, allowed: Duration) {
        self.handle.set_phase(Phase::Draining { allowed });
        if let Some(ended) = self.ended.take() {
            // An error means that the thread panicked, which joining it reports.
            let _ = ended.await;
        }
        self.join();
    }

    fn join(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        if thread.join().is_err() {
            tracing::error!("the engine's thread panicked");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.handle.set_phase(Phase::Stopping);
        self.join();
    }
}

impl EngineHandle {
    /// What the stage can take.
    pub fn limits(&self) -> StageLimits {
        self.shared.limits
    }

    /// How full the engine was after its last step.
    pub fn load(&self) -> Load {
        self.shared.state().load
    }

    /// How things were a moment ago.
    pub fn view(&self) -> View {
        self.shared.state().view.clone()
    }

    /// Whether requests are taken and can be computed now: for readiness checks. Those that come
    /// while there is no way through the stages wait for one.
    pub fn is_open(&self) -> bool {
        let state = self.shared.state();
        let way = state.view.executor.circuit;
        state.phase == Phase::Open && matches!(way, CircuitView::Local | CircuitView::Open)
    }

    /// Puts a request into the queue. Answers at once.
    ///
    /// # Errors
    /// See [`SubmitError`]; after `Busy` the same request may be accepted later.
    pub fn submit(&self, request: Request) -> Result<Generation, SubmitError> {
        let generation = self.try_submit(request);
        if generation.is_err() {
            metrics::refused();
        }
        generation
    }

    fn try_submit(&self, request: Request) -> Result<Generation, SubmitError> {
        request.check(&self.shared.limits)?;
        let (reader, generation) = generation::events(self.shared.events_max, self.thread.clone());
        let at = self.clock.now();
        let mut state = self.shared.state();
        if state.phase != Phase::Open {
            return Err(SubmitError::ShuttingDown);
        }
        state.desk.join(&request.client)?;
        state.inbox.push(Incoming {
            request,
            at,
            reader,
        });
        drop(state);
        self.thread.unpark();
        Ok(generation)
    }

    /// Phases only go forward.
    fn set_phase(&self, phase: Phase) {
        let mut state = self.shared.state();
        if state.phase != Phase::Stopping {
            state.phase = phase;
        }
        drop(state);
        self.thread.unpark();
    }
}

impl Shared {
    fn new(limits: StageLimits, config: &EngineConfig) -> Self {
        let state = State {
            phase: Phase::Open,
            desk: Desk::new(config),
            inbox: Vec::new(),
            load: Load::default(),
            view: View::default(),
        };
        Self {
            limits,
            events_max: config.events_max,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}
