//! The links of a node, on a thread of their own.
//!
//! One thread carries all frames: more of them cost wake-ups, and the processor belongs to the
//! threads that compute (`docs/transport.md` of the repository has the measurements). What arrives is
//! decoded here and given to whoever it is for: the stage, the entry, or both. Short passes of a stage are run
//! here as well, while its own thread sleeps: see [`Inlet::run_here`]. So are the steps of an entry's engine, which
//! check and send on what arrives and compute nothing: see [`Inbox::wake`].

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use skein_base::NodeId;
use skein_p2p::{Identity, LinkConfig, LinkEvent, LinkEventKind, Links, LinksConfig};
use skein_routing::{Inbox, Incoming};
use skein_runtime::Tasks;
use skein_runtime::channel::{Receiver, bounded};
use skein_serving::ModelStage;
use skein_serving::wire::{Message, PROTOCOL, decode};

use super::mailbox::Refused;
use super::stage::{HostEvent, Inlet};
use crate::config::NodeSettings;

/// Most events that wait to be given out.
const EVENTS_MAX: usize = 1024;
/// Most frames that wait on a link.
const QUEUE_MAX: usize = 512;
/// Most links that one node makes to this one.
const LINKS_PER_NODE_MAX: usize = 4;
/// How often to look whether a host has room again.
const ROOM: Duration = Duration::from_millis(1);
/// Idle links say so many times that they are alive before silence counts.
const SIGNS: u32 = 4;

/// Who gets what arrives.
#[derive(Debug, Default)]
pub struct Recipients {
    /// The stage of this node.
    pub host: Option<Inlet<ModelStage>>,
    /// The entry of this node.
    pub inbox: Option<Inbox>,
}

/// Starts the thread of links; it ends with `tasks`.
///
/// # Errors
/// If the system gives no thread.
pub fn start(
    own: Identity,
    listener: Option<TcpListener>,
    addresses: BTreeMap<NodeId, SocketAddr>,
    settings: &NodeSettings,
    (tasks, recipients): (&Tasks, Recipients),
) -> io::Result<Links> {
    let config = config(settings, own.node());
    let (ready, started) = sync_channel(1);
    let all = tasks.clone();
    tasks.thread("skein-links", move |stopping| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let inner = Tasks::new(runtime.handle().clone());
        runtime.block_on(async {
            let listener = listener.map(listening).transpose();
            let listener = match listener {
                Ok(listener) => listener,
                Err(error) => return drop(ready.send(Err(error))),
            };
            let (sender, events) = bounded(EVENTS_MAX);
            let ends = (inner.clone(), sender);
            let links = Links::start(own, listener, Box::new(addresses), config, ends);
            let giving = give_out(links.clone(), events, recipients);
            // The engine's turns and a stage's passes run in it: without it the node is half alive.
            inner.spawn_critical("links give out", async move {
                giving.await;
                Ok::<(), Infallible>(())
            });
            // The other side waits for it.
            let _ = ready.send(Ok(links));
            tokio::select! {
                () = stopping.cancelled() => {}
                () = inner.stopping().cancelled_owned() => all.stop(),
            }
            let report = inner.shutdown(Duration::from_secs(1)).await;
            tracing::debug!(?report, "links ended");
        });
    })?;
    started
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the thread of links ended at once")))
}

fn listening(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

fn config(settings: &NodeSettings, own: NodeId) -> LinksConfig {
    let admitted: BTreeSet<_> = settings.admit.iter().copied().chain([own]).collect();
    LinksConfig {
        link: LinkConfig {
            silence_max: settings.silence.0,
            ..LinkConfig::default()
        },
        protocol: PROTOCOL.to_owned(),
        accepted_max: settings.links_max as usize,
        accepted_per_node_max: LINKS_PER_NODE_MAX,
        admitted: (!settings.admit.is_empty()).then_some(admitted),
        queue_max: QUEUE_MAX,
        keepalive: settings.silence.0 / SIGNS,
    }
}

/// Gives out what links bring, until nobody brings any more.
async fn give_out(links: Links, mut events: Receiver<LinkEvent>, to: Recipients) {
    while let Some(event) = events.recv().await {
        give(&links, &to, event).await;
        if to.host.is_some() {
            // Frames of other links that can be read already shall be in the same pass.
            tokio::task::yield_now().await;
        }
        while let Ok(event) = events.try_recv() {
            give(&links, &to, event).await;
        }
        match (&to.inbox, &to.host) {
            (None, None) => {}
            (None, Some(host)) => host.run_here(&links),
            (Some(inbox), None) => inbox.wake(),
            // An entry waits for what its links bring while its own stage computes.
            (Some(inbox), Some(host)) => {
                host.rouse();
                inbox.wake();
            }
        }
    }
}

async fn give(links: &Links, to: &Recipients, event: LinkEvent) {
    let LinkEvent {
        link,
        node,
        dialled,
        kind,
    } = event;
    match kind {
        LinkEventKind::Frame(bytes) => match decode(&bytes) {
            Ok(message) => give_message(links, to, (link, node), message).await,
            Err(error) => {
                tracing::warn!(%node, %error, "not a message: link closed");
                links.close(link);
            }
        },
        LinkEventKind::Closed { reason } => {
            tracing::debug!(%node, reason, "a link ended");
            if let (Some(inbox), true) = (&to.inbox, dialled) {
                inbox.put(Incoming::Closed { node });
            }
            if let Some(host) = &to.host {
                let closed = HostEvent::Closed {
                    link,
                    node,
                    dialled,
                };
                hand(to, host, closed).await;
            }
        }
    }
}

async fn give_message(links: &Links, to: &Recipients, from: (u64, NodeId), message: Message) {
    let (link, node) = from;
    let (for_entry, for_host) = match &message {
        Message::Answer { .. } | Message::Told { .. } => (true, false),
        // Told to whoever opened: an entry, or a stage in front of another.
        Message::Opened { .. } | Message::Failed { .. } => (true, true),
        _ => (false, true),
    };
    if let (true, Some(inbox)) = (for_entry, &to.inbox) {
        let message = match for_host && to.host.is_some() {
            true => message.clone(),
            false => {
                if !inbox.put(Incoming::Message {
                    from: node,
                    message,
                }) {
                    links.close(link);
                }
                return;
            }
        };
        if !inbox.put(Incoming::Message {
            from: node,
            message,
        }) {
            links.close(link);
        }
    }
    if let (true, Some(host)) = (for_host, &to.host) {
        let message = HostEvent::Message {
            link,
            node,
            message,
        };
        hand(to, host, message).await;
    }
}

/// Waits for room: a host that computes makes some after its pass. One that is gone misses nothing.
async fn hand(to: &Recipients, host: &Inlet<ModelStage>, mut event: HostEvent) {
    while let Err(Refused::Full(back)) = host.put(event) {
        event = back;
        host.rouse();
        // What came before is not to wait that long.
        if let Some(inbox) = &to.inbox {
            inbox.wake();
        }
        skein_runtime::sleep(ROOM).await;
    }
}
