//! A bounded queue whose receiving end belongs to whoever is free to take from it.
//!
//! Unlike a channel it does not wake the receiver by itself: whoever puts something in may be the one that
//! takes it out again, which saves waking a thread. So each [`Mailbox::put`] is followed by one of two: taking, or
//! [`Mailbox::rouse`]. Forgotten, what waits is found when the receiver's patience ends.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub struct Mailbox<T> {
    most: usize,
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    /// Outlives the call that sets it: whoever is about to wait has not missed it.
    roused: bool,
    closed: bool,
}

/// Why something was not taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused<T> {
    /// No room; here it is again.
    Full(T),
    /// Nobody will take it.
    Closed,
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// Something waits, or [`Mailbox::rouse`] was called.
    Roused,
    /// Nothing happened in time.
    Late,
    /// Nothing will come any more, and all was taken.
    Closed,
}

impl<T> Mailbox<T> {
    /// An empty one with room for `most`.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                roused: false,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Puts something behind all that waits, and wakes nobody.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn put(&self, item: T) -> Result<(), Refused<T>> {
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.waiting.len() >= self.most {
            return Err(Refused::Full(item));
        }
        state.waiting.push_back(item);
        Ok(())
    }

    /// All that waits, in order.
    pub fn take(&self) -> VecDeque<T> {
        std::mem::take(&mut self.state().waiting)
    }

    /// Wakes whoever waits, or else the next one at once.
    pub fn rouse(&self) {
        self.state().roused = true;
        self.changed.notify_one();
    }

    /// Takes nothing in any more. What waits can still be taken.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Waits until there is something to do, at most for `patience`. For one thread at a time: another
    /// would take its call.
    pub fn wait(&self, patience: Duration) -> Woken {
        let idle =
            |state: &mut State<T>| state.waiting.is_empty() && !state.roused && !state.closed;
        let waited = self
            .changed
            .wait_timeout_while(self.state(), patience, idle);
        let (mut state, late) = waited.expect("no holder of this lock panics");
        state.roused = false;
        match (late.timed_out(), state.closed && state.waiting.is_empty()) {
            (_, true) => Woken::Closed,
            (true, false) => Woken::Late,
            (false, false) => Woken::Roused,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Longer than any test may take: a wake-up that is lost hangs.
    const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn order_is_kept_and_room_is_bounded() {
        let mailbox = Mailbox::new(2);
        assert_eq!(mailbox.put(1), Ok(()));
        assert_eq!(mailbox.put(2), Ok(()));
        assert_eq!(mailbox.put(3), Err(Refused::Full(3)));
        assert_eq!(mailbox.take(), [1, 2]);
        assert_eq!(mailbox.put(3), Ok(()));
        assert_eq!(mailbox.take(), [3]);
        assert!(mailbox.take().is_empty());
    }

    #[test]
    fn closed_it_gives_what_it_has_and_takes_nothing() {
        let mailbox = Mailbox::new(2);
        assert_eq!(mailbox.put(1), Ok(()));
        mailbox.close();
        assert_eq!(mailbox.put(2), Err(Refused::Closed));
        assert_eq!(mailbox.wait(FOR_EVER), Woken::Roused);
        assert_eq!(mailbox.take(), [1]);
        assert_eq!(mailbox.wait(FOR_EVER), Woken::Closed);
    }

    #[test]
    fn who_comes_to_wait_after_the_call_has_not_missed_it() {
        let mailbox = Mailbox::new(2);
        assert_eq!(mailbox.wait(Duration::ZERO), Woken::Late);
        mailbox.rouse();
        mailbox.rouse();
        assert_eq!(mailbox.wait(FOR_EVER), Woken::Roused);
        // One wait answers all calls before it.
        assert_eq!(mailbox.wait(Duration::ZERO), Woken::Late);
        // What was put is seen without a call.
        assert_eq!(mailbox.put(1), Ok(()));
        assert_eq!(mailbox.wait(FOR_EVER), Woken::Roused);
        assert_eq!(mailbox.take(), [1]);
        assert_eq!(mailbox.wait(Duration::ZERO), Woken::Late);
    }

    /// Each item is put when the one before was taken, so the receiver sleeps, or is about to, most of
    /// the times.
    #[test]
    fn no_call_is_lost_between_threads() {
        const ITEMS: u32 = 5_000;
        let (there, back) = (Arc::new(Mailbox::new(1)), Arc::new(Mailbox::new(1)));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while there.wait(FOR_EVER) != Woken::Closed {
                    for item in there.take() {
                        assert_eq!(back.put(item), Ok(()));
                        back.rouse();
                    }
                }
            });
            for item in 0..ITEMS {
                assert_eq!(there.put(item), Ok(()));
                there.rouse();
                let mut came = back.take();
                while came.is_empty() {
                    assert_ne!(back.wait(FOR_EVER), Woken::Closed);
                    came = back.take();
                }
                assert_eq!(came, [item]);
            }
            there.close();
        });
    }
}
