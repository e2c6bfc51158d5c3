//! Whose thread an engine's turns are taken on: its own, or that of whoever brings news.
//!
//! Whoever takes a turn holds the lock of the actor. **Nothing is forgotten**: whoever brings news and does not get the
//! lock unparks the engine's thread, since the holder may have polled already; whoever leaves something to do, or is
//! told of a time before which the thread does not wake by itself, does so too. An unpark outlives the
//! moment, so a thread that is about to park does not.

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::Thread;
use std::time::Duration;

use skein_runtime::{Clock, Instant};

use super::actor::{Actor, Next};
use super::{Phase, Shared};
use crate::stage::{Executor, Wake};

/// See the module.
struct Steps<E: Executor> {
    thread: Thread,
    clock: Arc<dyn Clock>,
    turns: Mutex<Turns<E>>,
}

struct Turns<E: Executor> {
    actor: Actor<E>,
    /// When the thread wakes by itself: that of the last turn that it took.
    alarm: Option<Instant>,
}

/// Takes turns on this thread until the engine is stopped or drained.
pub(super) fn run<E: Executor + 'static>(
    actor: Actor<E>,
    (shared, clock): (Arc<Shared>, Arc<dyn Clock>),
) {
    let steps = Steps::new(actor, clock);
    // Also if the stage panics: nobody may wait for an engine that is gone.
    let closing = Closing(shared);
    while steps.step() {}
    steps.turns().actor.end();
    drop(closing);
}

impl<E: Executor + 'static> Steps<E> {
    /// For the thread that calls it.
    fn new(actor: Actor<E>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let steps = Arc::new(Self {
            thread: std::thread::current(),
            clock,
            turns: Mutex::new(Turns { actor, alarm: None }),
        });
        // Not kept alive by the executor, which is the actor's.
        let whom = Arc::downgrade(&steps);
        steps.turns().actor.tells(whom);
        steps
    }

    /// A turn of the engine's own thread, and a rest where nothing is left to do. False at the end.
    fn step(&self) -> bool {
        let mut turns = self.turns();
        let alarm = match turns.actor.turn() {
            Next::Turn => return true,
            Next::End => return false,
            Next::Rest(alarm) => alarm,
        };
        turns.alarm = alarm;
        drop(turns);
        match alarm {
            // A little late rather than early, which would be a turn for nothing.
            Some(at) => {
                let left = at.since(self.clock.now());
                std::thread::park_timeout(left + Duration::from_millis(1));
            }
            None => std::thread::park(),
        }
        true
    }

    fn turns(&self) -> MutexGuard<'_, Turns<E>> {
        let held = self.turns.lock();
        held.expect("a turn that panicked elsewhere ends this thread as well")
    }
}

impl<E: Executor + 'static> Wake for Steps<E> {
    fn wake(&self) {
        // Held by another thread, or its holder panicked, for which the engine's own ends.
        let Ok(mut turns) = self.turns.try_lock() else {
            return self.thread.unpark();
        };
        let mut unpark = Unpark(Some(&self.thread));
        let next = turns.actor.turn();
        if !concerns_thread(next, turns.alarm) {
            unpark.0 = None;
        }
        // Before the thread is woken.
        drop(turns);
    }
}

/// Whether the engine's thread, which wakes by itself at `alarm`, is needed before.
fn concerns_thread(next: Next, alarm: Option<Instant>) -> bool {
    match next {
        Next::Turn | Next::End => true,
        Next::Rest(at) => at.is_some_and(|at| alarm.is_none_or(|alarm| at < alarm)),
    }
}

/// Unparks a thread when dropped, also if that is because of a panic.
struct Unpark<'a>(Option<&'a Thread>);

impl Drop for Unpark<'_> {
    fn drop(&mut self) {
        if let Some(thread) = self.0 {
            thread.unpark();
        }
    }
}

/// Closes the desk when the thread ends, however it does.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        // A panic elsewhere may have poisoned the lock; there is nothing to protect any more.
        let mut state = match self.0.state.lock() {
            Ok(state) => state,
            Err(poisoned) => poisoned.into_inner(),
        };
        state.phase = Phase::Stopping;
        // Their readers see that no event will come.
        state.inbox.clear();
    }
}

#[cfg(test)]
mod tests;
