//! The stage role and the entry's end of it: state machines joined to links.

use std::time::Duration;

use skein_base::NodeId;
use skein_p2p::{LinkEvent, LinkEventKind, Links, SendError};
use skein_routing::{Inbox, Incoming, Post, PostError};
use skein_runtime::channel::Receiver;
use skein_runtime::{CancellationToken, Clock};
use skein_serving::Stage;
use skein_serving::host::{Host, LinkId, Sender, To};
use skein_serving::wire::{Message, decode, encode};

/// How often a host looks at its deadlines.
const TICK: Duration = Duration::from_millis(100);

/// Runs a host until it is stopped: messages in, batches computed, messages out. For a thread of its
/// own, which computes.
pub fn run_host<S: Stage>(
    mut host: Host<S>,
    links: &Links,
    mut events: Receiver<LinkEvent>,
    clock: &dyn Clock,
    (runtime, stopping): (&tokio::runtime::Handle, &CancellationToken),
) {
    let mut ticked = clock.now();
    while !stopping.is_cancelled() {
        let now = clock.now();
        while let Ok(event) = events.try_recv() {
            take_in(&mut host, links, event, clock);
        }
        if now.since(ticked) >= TICK {
            host.tick(now);
            ticked = now;
        }
        let ran = host.run(clock);
        give_out(&mut host, links);
        if !ran {
            let wait = skein_runtime::timeout(TICK, events.recv());
            match runtime.block_on(wait) {
                Some(Some(event)) => take_in(&mut host, links, event, clock),
                // The links have ended.
                Some(None) => return,
                None => {}
            }
        }
    }
}

fn take_in<S: Stage>(host: &mut Host<S>, links: &Links, event: LinkEvent, clock: &dyn Clock) {
    let link = LinkId(event.link);
    match event.kind {
        LinkEventKind::Frame(bytes) => match decode(&bytes) {
            Ok(message) => {
                let node = event.node;
                host.message(clock.now(), Sender { link, node }, message);
            }
            Err(error) => {
                tracing::warn!(node = %event.node, %error, "not a message: link closed");
                links.close(event.link);
            }
        },
        LinkEventKind::Closed { reason } => {
            tracing::debug!(node = %event.node, reason, "a link ended");
            host.link_closed(link);
            if event.dialled {
                host.unreachable(event.node);
            }
        }
    }
}

fn give_out<S: Stage>(host: &mut Host<S>, links: &Links) {
    // What cannot be sent ends circuits, which gives more to send: at most once for each circuit.
    loop {
        let sends = host.take_sends();
        if sends.is_empty() {
            return;
        }
        for (to, message) in sends {
            let bytes = encode(&message);
            match to {
                To::Link(LinkId(link)) => {
                    if links.send(link, bytes).is_err() {
                        links.close(link);
                        host.link_closed(LinkId(link));
                    }
                }
                To::Node(node) => {
                    if links.send_to(node, bytes).is_err() {
                        host.unreachable(node);
                    }
                }
            }
        }
    }
}

/// What an entry sends.
#[derive(Debug, Clone)]
pub struct LinksPost(
    /// Its links.
    pub Links,
);

impl Post for LinksPost {
    fn send(&mut self, to: NodeId, message: Message) -> Result<(), PostError> {
        let sent = self.0.send_to(to, encode(&message));
        sent.map_err(|_: SendError| PostError)
    }
}

/// Puts what links bring into the inbox of an entry, until it is stopped.
///
/// # Cancel safety
/// Safe: an event may be lost, and the entry with it.
pub async fn feed(
    inbox: Inbox,
    links: Links,
    mut events: Receiver<LinkEvent>,
    stopping: CancellationToken,
) {
    loop {
        let event = tokio::select! {
            () = stopping.cancelled() => return,
            event = events.recv() => event,
        };
        let Some(event) = event else { return };
        let incoming = match event.kind {
            LinkEventKind::Frame(bytes) => match decode(&bytes) {
                Ok(message) => Incoming::Message {
                    from: event.node,
                    message,
                },
                Err(error) => {
                    tracing::warn!(node = %event.node, %error, "not a message: link closed");
                    links.close(event.link);
                    continue;
                }
            },
            LinkEventKind::Closed { .. } if event.dialled => Incoming::Closed { node: event.node },
            LinkEventKind::Closed { .. } => continue,
        };
        if !inbox.put(incoming) {
            links.close(event.link);
        }
    }
}
