//! What a link still has to send.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use skein_runtime::channel::Notify;
use skein_runtime::timeout;

use crate::link::{LinkError, LinkWriter};
use crate::links::SendError;

/// The queue of a link, with its writer as long as nobody writes.
#[derive(Debug)]
pub(crate) struct Outgoing {
    most: usize,
    state: Mutex<State>,
    /// Tells the link's task that there is something to do.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    /// Not here before the link is made, nor while its task writes.
    writer: Option<LinkWriter>,
    /// Whether the writer was left in the middle of a frame.
    unfinished: bool,
    failed: Option<LinkError>,
    closed: bool,
}

/// What the task shall do.
enum Turn {
    Write(LinkWriter, VecDeque<Vec<u8>>),
    Wait,
    End(Option<LinkWriter>),
    Fail(LinkError),
}

impl Outgoing {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Sends at once if nothing waits, else when its turn comes.
    pub(crate) fn send(&self, frame: Vec<u8>) -> Result<(), SendError> {
        let mut state = self.state();
        if state.closed {
            return Err(SendError::Ended);
        }
        let idle = state.waiting.is_empty() && !state.unfinished;
        match state
            .writer
            .as_mut()
            .filter(|_| idle)
            .map(|w| w.try_send(&frame))
        {
            Some(Ok(true)) => return Ok(()),
            Some(Ok(false)) => state.unfinished = true,
            Some(Err(error)) => {
                state.failed = Some(error);
                state.closed = true;
            }
            None if state.waiting.len() >= self.most => return Err(SendError::Full),
            None => state.waiting.push_back(frame),
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes no more; what waits is still sent.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    /// Sends what waits, and an empty frame where nothing does, until the queue is closed or something
    /// fails.
    ///
    /// # Cancel safety
    /// Cancelled, the link is of no use any more.
    pub(crate) async fn write(&self, writer: LinkWriter, keepalive: Duration) -> LinkError {
        self.state().writer = Some(writer);
        loop {
            match self.turn() {
                Turn::Write(writer, frames) => {
                    if let Err(error) = self.send_all(writer, frames).await {
                        return error;
                    }
                }
                Turn::Wait => {
                    if timeout(keepalive, self.changed.notified()).await.is_none() {
                        // The queue is not looked at: a link that is in use is not idle.
                        let _ = self.send(Vec::new());
                    }
                }
                Turn::End(writer) => {
                    let closing = match writer {
                        Some(writer) => writer.close().await,
                        None => Ok(()),
                    };
                    return closing.err().unwrap_or(LinkError::Ended);
                }
                Turn::Fail(error) => return error,
            }
        }
    }

    fn turn(&self) -> Turn {
        let mut state = self.state();
        if let Some(error) = state.failed.take() {
            return Turn::Fail(error);
        }
        let work = state.unfinished || !state.waiting.is_empty();
        match (work, state.closed, state.writer.take()) {
            (true, _, Some(writer)) => Turn::Write(writer, std::mem::take(&mut state.waiting)),
            (false, true, writer) => Turn::End(writer),
            (_, _, writer) => {
                state.writer = writer;
                Turn::Wait
            }
        }
    }

    async fn send_all(
        &self,
        mut writer: LinkWriter,
        frames: VecDeque<Vec<u8>>,
    ) -> Result<(), LinkError> {
        writer.finish().await?;
        for frame in frames {
            writer.send(&frame).await?;
        }
        let mut state = self.state();
        state.unfinished = false;
        state.writer = Some(writer);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}
