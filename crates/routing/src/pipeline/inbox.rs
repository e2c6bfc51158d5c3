//! Where links put what is for an entry.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::Thread;

use skein_base::NodeId;
use skein_serving::wire::Message;

/// Most things that wait; more than an honest circuit ever sends.
const WAITING_MAX: usize = 1024;

/// Something from a link.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// A message.
    Message {
        /// The node at the other end, as the link proved it.
        from: NodeId,
        /// The message.
        message: Message,
    },
    /// The link to a node ended or cannot be made.
    Closed {
        /// Which node.
        node: NodeId,
    },
}

/// Filled by links, emptied by the pipeline. Clones are the same inbox.
#[derive(Debug, Clone, Default)]
pub struct Inbox(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Incoming>,
    thread: Option<Thread>,
}

impl Inbox {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts something in. False if it is full: the link that brought it should be closed, as its
    /// peer sends what nobody asked for. The end of a link always has room.
    pub fn put(&self, incoming: Incoming) -> bool {
        let mut state = self.state();
        let last = matches!(incoming, Incoming::Closed { .. });
        if state.waiting.len() >= WAITING_MAX && !last {
            return false;
        }
        state.waiting.push_back(incoming);
        if let Some(thread) = &state.thread {
            thread.unpark();
        }
        true
    }

    pub(super) fn take(&self) -> VecDeque<Incoming> {
        std::mem::take(&mut self.state().waiting)
    }

    pub(super) fn wake(&self, thread: Thread) {
        self.state().thread = Some(thread);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of this lock panics")
    }
}
