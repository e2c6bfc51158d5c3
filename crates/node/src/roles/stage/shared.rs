//! A stage that two threads share: its own, and that of the links.
//!
//! Waking a thread costs more than a small pass over a small slice. So what the links bring is computed right there, on the
//! thread that read it, if it is short and nobody computes; everything else is left to the stage's own thread.
//! Whoever computes holds the lock of the stage and takes from its mailbox in order, so nothing overtakes.
//!
//! **Nothing is forgotten.** The thread of links never waits for the lock. Where it does not get it, whoever has it may
//! have looked into the mailbox already, so the stage's thread is roused; where it leaves work behind, too. A call
//! outlives the moment: the thread that is about to sleep does not ([`Mailbox::rouse`]).
//!
//! **Links stay alive.** Whoever computes on their thread reads nothing meanwhile and sends no sign of life. One pass at
//! a time is run there, which by the last one's measure takes at most [`HERE_MAX`]; then the links have their turn. Signs of
//! life are due every quarter of the silence that is borne: each 250 ms under `skein up`, which bears a second. A batch that
//! the slice refuses is the worst case: each of at most [`HERE_ROWS_MAX`] batches is then run again, alone, which is a third
//! of a second.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use skein_base::NodeId;
use skein_p2p::Links;
use skein_runtime::{CancellationToken, Clock, Instant, Tasks};
use skein_serving::host::{Host, LinkId, Sender as From, To};
use skein_serving::wire::{Message, encode};
use skein_serving::{Stage, metrics};

use crate::roles::mailbox::{Mailbox, Refused, Woken};

/// How often a host looks at its deadlines and counts.
const TICK: Duration = Duration::from_millis(100);
/// Most events that wait for the host.
const EVENTS_MAX: usize = 512;
/// Most rows of a pass on the thread of links: decoding of a few sessions, no prompt.
const HERE_ROWS_MAX: usize = 16;
/// Longest pass on the thread of links. For longer ones a wake-up is no matter.
const HERE_MAX: Duration = Duration::from_millis(20);

/// What links bring to a host.
#[derive(Debug)]
pub enum HostEvent {
    /// A message.
    Message {
        /// The link that it came by.
        link: u64,
        /// The node at its other end.
        node: NodeId,
        /// The message.
        message: Message,
    },
    /// A link ended, or could not be made.
    Closed {
        /// Which.
        link: u64,
        /// The node at its other end.
        node: NodeId,
        /// Whether this side made it.
        dialled: bool,
    },
}

/// Sends what a host wants to be sent. Does not wait.
pub trait Outlet {
    /// False if it cannot be sent; a link for which that holds is over.
    fn send(&self, to: To, message: &Message) -> bool;
}

impl Outlet for Links {
    fn send(&self, to: To, message: &Message) -> bool {
        let bytes = encode(message);
        match to {
            To::Link(LinkId(link)) => {
                let sent = self.send(link, bytes).is_ok();
                if !sent {
                    self.close(link);
                }
                sent
            }
            To::Node(node) => self.send_to(node, bytes).is_ok(),
        }
    }
}

/// The stage's end.
#[derive(Debug)]
pub struct SharedStage<S: Stage>(Arc<Shared<S>>);

/// The end of the links: when it is dropped, the stage's thread ends.
#[derive(Debug)]
pub struct Inlet<S: Stage>(Arc<Shared<S>>);

#[derive(Debug)]
struct Shared<S: Stage> {
    mailbox: Mailbox<HostEvent>,
    computing: Mutex<Computing<S>>,
}

/// What whoever computes holds.
#[derive(Debug)]
struct Computing<S: Stage> {
    host: Host<S>,
    clock: Arc<dyn Clock>,
    ticked: Instant,
    /// Rows of the last pass that had few, and what it took.
    last: Option<(usize, Duration)>,
}

/// Both ends of a stage. Nothing is computed before [`SharedStage::start`], except what is short.
pub fn shared<S: Stage>(host: Host<S>, clock: Arc<dyn Clock>) -> (SharedStage<S>, Inlet<S>) {
    let ticked = clock.now();
    let shared = Arc::new(Shared {
        mailbox: Mailbox::new(EVENTS_MAX),
        computing: Mutex::new(Computing {
            host,
            clock,
            ticked,
            last: None,
        }),
    });
    (SharedStage(Arc::clone(&shared)), Inlet(shared))
}

impl<S: Stage + 'static> SharedStage<S> {
    /// Starts the thread that computes; it ends with `tasks` or with the [`Inlet`], after what it has taken, for
    /// which it has as long as `drain`.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start<O: Outlet + Send + 'static>(
        self,
        out: O,
        (tasks, drain): (&Tasks, Duration),
    ) -> io::Result<()> {
        let body = move |stopping: CancellationToken| self.0.serve(&out, &stopping, (TICK, drain));
        tasks.thread("skein-stage", body).map(drop)
    }
}

impl<S: Stage> Inlet<S> {
    /// Leaves something for the stage, which does not notice before [`Self::run_here`] or [`Self::rouse`].
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn put(&self, event: HostEvent) -> Result<(), Refused<HostEvent>> {
        self.0.mailbox.put(event)
    }

    /// Lets the stage's thread do what there is.
    pub fn rouse(&self) {
        self.0.mailbox.rouse();
    }

    /// Does what there is on this thread, if nobody does already and it is short; the stage's thread does the rest. For
    /// the thread of links alone.
    pub fn run_here(&self, out: &impl Outlet) {
        // Held by the other thread, or its holder panicked, for which the other one ends the node.
        let Ok(mut stage) = self.0.computing.try_lock() else {
            return self.rouse();
        };
        stage.take_in(&self.0.mailbox);
        if stage.is_short() {
            stage.pass();
        }
        stage.give_out(out);
        let more = stage.host.has_work();
        drop(stage);
        if more {
            self.rouse();
        }
    }
}

impl<S: Stage> Drop for Inlet<S> {
    fn drop(&mut self) {
        self.0.mailbox.close();
    }
}

impl<S: Stage> Shared<S> {
    fn serve(
        &self,
        out: &impl Outlet,
        stopping: &CancellationToken,
        (patience, drain): (Duration, Duration),
    ) {
        // Also if a pass panics: the links shall not wait for room.
        let _closing = Closing(&self.mailbox);
        while !stopping.is_cancelled() {
            let ran = self.computing().turn(&self.mailbox, out);
            if !ran && self.mailbox.wait(patience) == Woken::Closed {
                break;
            }
        }
        self.computing().leave(&self.mailbox, out, drain);
    }

    fn computing(&self) -> MutexGuard<'_, Computing<S>> {
        let held = self.computing.lock();
        held.expect("a pass that panicked on the links' thread ends this one as well")
    }
}

/// Closes the mailbox when the stage's thread ends, however it does.
struct Closing<'a>(&'a Mailbox<HostEvent>);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<S: Stage> Computing<S> {
    /// Does what there is, one pass at most. False if there was nothing to compute.
    fn turn(&mut self, mailbox: &Mailbox<HostEvent>, out: &impl Outlet) -> bool {
        self.take_in(mailbox);
        let ran = self.pass();
        self.give_out(out);
        ran
    }

    /// Takes what waits, and minds deadlines.
    fn take_in(&mut self, mailbox: &Mailbox<HostEvent>) {
        for event in mailbox.take() {
            self.take(event);
        }
        let now = self.clock.now();
        if now.since(self.ticked) >= TICK {
            self.host.tick(now);
            metrics::stage(&self.host.take_stats(), &self.host.report());
            self.ticked = now;
        }
    }

    fn pass(&mut self) -> bool {
        let (rows, began) = (self.host.next_rows(), self.clock.now());
        let ran = self.host.run(self.clock.as_ref());
        if ran && rows <= HERE_ROWS_MAX {
            self.last = Some((rows, self.clock.now().since(began)));
        }
        ran
    }

    /// Whether the next pass has few rows and, as far as the last such one tells, will not take long.
    fn is_short(&self) -> bool {
        let rows = self.host.next_rows();
        let Some((before, took)) = self.last.filter(|_| (1..=HERE_ROWS_MAX).contains(&rows)) else {
            return false;
        };
        // No more than in proportion: the weights are read once, however many rows there are.
        took * rows.div_ceil(before.max(1)) as u32 <= HERE_MAX
    }

    /// Finishes what was taken and tells everybody to go elsewhere. Nothing is taken in any more.
    fn leave(&mut self, mailbox: &Mailbox<HostEvent>, out: &impl Outlet, drain: Duration) {
        let until = self.clock.now().after(drain);
        mailbox.close();
        for event in mailbox.take() {
            self.take(event);
        }
        self.host.leave();
        self.give_out(out);
        while self.clock.now() < until && self.host.run(self.clock.as_ref()) {
            self.host.leave();
            self.give_out(out);
        }
    }

    fn take(&mut self, event: HostEvent) {
        match event {
            HostEvent::Message {
                link,
                node,
                message,
            } => {
                let link = LinkId(link);
                let now = self.clock.now();
                self.host.message(now, From { link, node }, message);
            }
            HostEvent::Closed {
                link,
                node,
                dialled,
            } => {
                self.host.link_closed(LinkId(link));
                if dialled {
                    self.host.unreachable(node);
                }
            }
        }
    }

    fn give_out(&mut self, out: &impl Outlet) {
        // What cannot be sent ends circuits, which gives more to send: at most once for each circuit.
        loop {
            let sends = self.host.take_sends();
            if sends.is_empty() {
                return;
            }
            for (to, message) in sends {
                if out.send(to, &message) {
                    continue;
                }
                match to {
                    To::Link(link) => self.host.link_closed(link),
                    To::Node(node) => self.host.unreachable(node),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
