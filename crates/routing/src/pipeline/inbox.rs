//! Where links put what is for an entry.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use skein_base::NodeId;
use skein_serving::Wake;
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
///
/// Putting something in wakes nobody: whoever did says so with [`Self::wake`] when all is there.
#[derive(Debug, Clone, Default)]
pub struct Inbox(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Incoming>,
    engine: Option<Weak<dyn Wake>>,
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
        true
    }

    /// Has the engine take what was put in, on this thread if it is free: see [`Wake::wake`]. Nothing happens if
    /// nothing waits.
    pub fn wake(&self) {
        let state = self.state();
        let engine = state.engine.clone().filter(|_| !state.waiting.is_empty());
        // The engine empties the inbox.
        drop(state);
        // One that is gone wants nothing.
        if let Some(engine) = engine.and_then(|engine| engine.upgrade()) {
            engine.wake();
        }
    }

    pub(super) fn take(&self) -> VecDeque<Incoming> {
        std::mem::take(&mut self.state().waiting)
    }

    pub(super) fn belongs_to(&self, engine: Weak<dyn Wake>) {
        self.state().engine = Some(engine);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Calls(AtomicUsize);

    impl Wake for Calls {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn an_engine_is_woken_when_it_is_asked_for_and_something_waits() {
        let (inbox, calls) = (Inbox::new(), Arc::new(Calls::default()));
        let count = || calls.0.load(Ordering::SeqCst);
        let node = NodeId([7; 32]);
        assert!(inbox.put(Incoming::Closed { node }));
        inbox.wake();
        let engine: Weak<dyn Wake> = Arc::downgrade(&(Arc::clone(&calls) as Arc<dyn Wake>));
        inbox.belongs_to(engine);
        assert_eq!(count(), 0, "nobody was there to be woken");
        assert!(inbox.put(Incoming::Closed { node }));
        assert_eq!(count(), 0, "putting in wakes nobody");
        inbox.wake();
        assert_eq!(count(), 1);
        assert_eq!(inbox.take().len(), 2);
        inbox.wake();
        assert_eq!(count(), 1, "nothing waits");
        assert!(inbox.put(Incoming::Closed { node }));
        drop(calls);
        // One that is gone wants nothing.
        inbox.wake();
    }
}
