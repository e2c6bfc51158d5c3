//! Both ends of a session's events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::Thread;

use skein_runtime::channel::error::TrySendError;
use skein_runtime::channel::{Receiver, Sender, bounded};

use crate::request::{Event, GenerationError};

/// Room kept beyond the tokens: for the first event and for the last one, which must never wait.
const EXTRA: usize = 2;
/// A token and the last event must have room before a session runs.
const ROOM_TO_RUN: usize = 2;

/// The events of a session, of which so many tokens can wait, and the thread to unpark for room.
pub(super) fn events(tokens_max: usize, engine: Thread) -> (Reader, Generation) {
    let (sender, events) = bounded(tokens_max + EXTRA);
    let awaited = Arc::new(AtomicBool::new(false));
    let reader = Reader {
        events: sender,
        awaited: Arc::clone(&awaited),
    };
    let generation = Generation {
        events,
        awaited,
        engine,
        ended: false,
    };
    (reader, generation)
}

/// The engine's end.
#[derive(Debug)]
pub(super) struct Reader {
    events: Sender<Event>,
    /// Whether the session waits until something is read.
    awaited: Arc<AtomicBool>,
}

impl Reader {
    /// Whether the other end was dropped.
    pub(super) fn is_gone(&self) -> bool {
        self.events.is_closed()
    }

    /// Whether the session may run, after so many events that still are to be put here. If not, the engine's
    /// thread is unparked when something is read.
    pub(super) fn has_room(&self, paused: bool, coming: usize) -> bool {
        // Paused sessions go on when half is free: one that ran for each single event read
        // would be replayed as often where memory is short.
        let needed = match paused {
            true => ROOM_TO_RUN.max(self.events.max_capacity() / 2),
            false => ROOM_TO_RUN,
        };
        let enough = || self.events.capacity() >= needed + coming;
        let at_once = enough();
        self.awaited.store(!at_once, Ordering::Relaxed);
        if at_once {
            return true;
        }
        // Either what was read before is seen here, or the flag is seen there.
        fence(Ordering::SeqCst);
        enough()
    }

    /// Puts an event in, for which there should be room.
    pub(super) fn put(&self, event: Event) -> Put {
        match self.events.try_send(event) {
            Ok(()) => Put::Done,
            Err(TrySendError::Closed(_)) => Put::Gone,
            Err(TrySendError::Full(_)) => Put::Full,
        }
    }
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It can be read.
    Done,
    /// The other end was dropped.
    Gone,
    /// There was no room.
    Full,
}

/// The events of one request. Dropping it cancels the request.
#[derive(Debug)]
pub struct Generation {
    events: Receiver<Event>,
    awaited: Arc<AtomicBool>,
    engine: Thread,
    ended: bool,
}

impl Generation {
    /// The next event; `None` after `Finished` or `Failed`, one of which always comes.
    ///
    /// A reader that does not call this for a while makes its own session pause and no other.
    ///
    /// # Cancel safety
    /// Safe: no event is lost.
    pub async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let event = self.events.recv().await;
        Some(self.pass(event))
    }

    /// As [`Self::next`], waiting on this thread: for callers without an async runtime. Must not be
    /// called from a task.
    pub fn next_blocking(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let event = self.events.blocking_recv();
        Some(self.pass(event))
    }

    fn pass(&mut self, event: Option<Event>) -> Event {
        // See `Reader::has_room`.
        fence(Ordering::SeqCst);
        if self.awaited.load(Ordering::Relaxed) {
            self.engine.unpark();
        }
        let event = event.unwrap_or(Event::Failed {
            error: GenerationError::EngineStopped,
        });
        self.ended = matches!(event, Event::Finished { .. } | Event::Failed { .. });
        event
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        // Closed before waking, so that the engine sees it.
        self.events.close();
        self.engine.unpark();
    }
}
