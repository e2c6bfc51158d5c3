//! The reader's end of a session.

use std::thread::Thread;

use skein_runtime::channel::Receiver;

use crate::request::{Event, GenerationError};

/// The events of one request. Dropping it cancels the request.
#[derive(Debug)]
pub struct Generation {
    events: Receiver<Event>,
    engine: Thread,
    ended: bool,
}

impl Generation {
    pub(super) fn new(events: Receiver<Event>, engine: Thread) -> Self {
        Self {
            events,
            engine,
            ended: false,
        }
    }

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
        // There is room again: the session may have paused for the lack of it.
        self.engine.unpark();
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
