//! All links of a node: dialled when something is to be sent, accepted from others, kept alive, and
//! ended with a word about why.
//!
//! Every link has one task for each direction and one bounded queue. Whoever sends never waits: a frame
//! goes to the system at once, on the thread that sends it, unless others wait already; then the link's
//! task sends it. A full queue is an error, and the receiver's to blame. What arrives goes to one bounded channel; a link
//! whose messages nobody takes stops reading, and its peer's queue fills.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use skein_base::NodeId;
use skein_runtime::Tasks;
use skein_runtime::channel::Sender;
use tokio::net::{TcpListener, TcpStream};

use crate::identity::Identity;
use crate::link::{Halves, LinkConfig, LinkError, LinkReader, accept, connect};
use crate::outgoing::Outgoing;

/// Knows where nodes listen.
pub trait AddressBook: fmt::Debug + Send + Sync {
    /// The address of a node, if known.
    fn address(&self, node: NodeId) -> Option<SocketAddr>;
}

impl AddressBook for BTreeMap<NodeId, SocketAddr> {
    fn address(&self, node: NodeId) -> Option<SocketAddr> {
        self.get(&node).copied()
    }
}

/// Bounds of all links together.
#[derive(Debug, Clone)]
pub struct LinksConfig {
    /// Of each link.
    pub link: LinkConfig,
    /// The protocol that all links are for.
    pub protocol: String,
    /// Most links that others made, those that still shake hands included.
    pub accepted_max: usize,
    /// Most links that one node made.
    pub accepted_per_node_max: usize,
    /// The nodes that may make links; `None` lets anyone who proves a key.
    pub admitted: Option<BTreeSet<NodeId>>,
    /// Most frames that wait to be sent on one link.
    pub queue_max: usize,
    /// How often an idle link says that it is alive; well below [`LinkConfig::silence_max`].
    pub keepalive: Duration,
}

/// What happens on links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkEvent {
    /// Which link; numbers are never used again.
    pub link: u64,
    /// The node at its other end, as it proved.
    pub node: NodeId,
    /// Whether this side dialled it: then it is the way to that node, else only the way back.
    pub dialled: bool,
    /// What happened.
    pub kind: LinkEventKind,
}

/// See [`LinkEvent`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEventKind {
    /// A frame came.
    Frame(Vec<u8>),
    /// The link ended, or could not be made.
    Closed {
        /// Why.
        reason: String,
    },
}

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Nobody knows where the node listens.
    #[error("the address of the node is not known")]
    NoAddress,
    /// The link is not there any more.
    #[error("the link has ended")]
    Ended,
    /// The other side takes frames too slowly.
    #[error("too many frames wait on the link")]
    Full,
}

/// Sends frames; clones are the same links.
#[derive(Debug, Clone)]
pub struct Links {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    own: Identity,
    config: LinksConfig,
    addresses: Box<dyn AddressBook>,
    tasks: Tasks,
    events: Sender<LinkEvent>,
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queues: BTreeMap<u64, Arc<Outgoing>>,
    /// Links that this node dialled.
    dialled: BTreeMap<NodeId, u64>,
    accepted: usize,
    by_node: BTreeMap<NodeId, usize>,
}

impl Links {
    /// Accepts from `listener`, if there is one, until the tasks are stopped; `events` gets all that
    /// happens.
    pub fn start(
        own: Identity,
        listener: Option<TcpListener>,
        addresses: Box<dyn AddressBook>,
        config: LinksConfig,
        (tasks, events): (Tasks, Sender<LinkEvent>),
    ) -> Self {
        let shared = Arc::new(Shared {
            own,
            config,
            addresses,
            tasks: tasks.clone(),
            events,
            next: AtomicU64::new(0),
            state: Mutex::default(),
        });
        let links = Self { shared };
        if let Some(listener) = listener {
            let accepting = links.clone();
            tasks.spawn_critical("links", async move { accepting.accept_all(listener).await });
        }
        links
    }

    /// Sends to a node over the link that was dialled to it; dials if there is none.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send_to(&self, node: NodeId, frame: Vec<u8>) -> Result<(), SendError> {
        let known = self.shared.state().dialled.get(&node).copied();
        let link = match known {
            Some(link) => link,
            None => self.dial(node)?,
        };
        self.send(link, frame)
    }

    /// Sends over a link.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(&self, link: u64, frame: Vec<u8>) -> Result<(), SendError> {
        let queue = self.shared.state().queues.get(&link).cloned();
        queue.ok_or(SendError::Ended)?.send(frame)
    }

    /// Ends a link, as for a peer that misbehaves; what waits is still sent.
    pub fn close(&self, link: u64) {
        if let Some(queue) = self.shared.state().queues.remove(&link) {
            queue.close();
        }
    }

    fn number(&self) -> (u64, Arc<Outgoing>) {
        let link = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let queue = Arc::new(Outgoing::new(self.shared.config.queue_max));
        self.shared.state().queues.insert(link, Arc::clone(&queue));
        (link, queue)
    }

    fn dial(&self, node: NodeId) -> Result<u64, SendError> {
        let address = self.shared.addresses.address(node);
        let address = address.ok_or(SendError::NoAddress)?;
        let (link, queue) = self.number();
        self.shared.state().dialled.insert(node, link);
        let links = self.clone();
        self.shared
            .tasks
            .spawn(format!("link to {node}"), async move {
                let shared = &links.shared;
                let (protocol, config) = (&shared.config.protocol, shared.config.link);
                let ended = match connect(&shared.own, (node, address), protocol, config).await {
                    Ok(halves) => links.run((link, node, true), halves, queue).await,
                    Err(error) => error,
                };
                links.ended((link, node, true), &ended).await;
            });
        Ok(link)
    }

    async fn accept_all(&self, listener: TcpListener) -> Result<(), std::io::Error> {
        let stopping = self.shared.tasks.stopping();
        loop {
            let stream = tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            // One that failed before it was taken is no reason to stop.
            let Ok((stream, _)) = stream else { continue };
            let full = {
                let mut state = self.shared.state();
                let full = state.accepted >= self.shared.config.accepted_max;
                state.accepted += usize::from(!full);
                full
            };
            if !full {
                let links = self.clone();
                let task = async move { links.accepted(stream).await };
                self.shared.tasks.spawn("accepted link", task);
            }
        }
    }

    async fn accepted(&self, stream: TcpStream) {
        let (protocol, config) = (&self.shared.config.protocol, self.shared.config.link);
        // Who does not even shake hands is nobody, and so is who may not come: no event.
        if let Ok((node, halves)) = accept(&self.shared.own, stream, protocol, config).await
            && self.admit(node)
        {
            let (link, queue) = self.number();
            let ended = self.run((link, node, false), halves, queue).await;
            self.ended((link, node, false), &ended).await;
            self.let_go(node);
        }
        self.shared.state().accepted -= 1;
    }

    fn admit(&self, node: NodeId) -> bool {
        let config = &self.shared.config;
        if config
            .admitted
            .as_ref()
            .is_some_and(|set| !set.contains(&node))
        {
            return false;
        }
        let mut state = self.shared.state();
        let links = state.by_node.entry(node).or_default();
        let room = *links < config.accepted_per_node_max;
        *links += usize::from(room);
        room
    }

    fn let_go(&self, node: NodeId) {
        let mut state = self.shared.state();
        if let Some(links) = state.by_node.get_mut(&node) {
            *links -= 1;
            if *links == 0 {
                state.by_node.remove(&node);
            }
        }
    }

    /// Carries frames both ways until something ends it. Stopped, it still sends what waits.
    async fn run(
        &self,
        name: (u64, NodeId, bool),
        (reader, writer): Halves,
        queue: Arc<Outgoing>,
    ) -> LinkError {
        let stopping = self.shared.tasks.stopping();
        let close = async {
            stopping.cancelled().await;
            // Without a sender the writer comes to an end.
            self.close(name.0);
            std::future::pending::<LinkError>().await
        };
        tokio::select! {
            error = close => error,
            error = self.read(name, reader) => error,
            error = queue.write(writer, self.shared.config.keepalive) => error,
        }
    }

    async fn read(&self, name: (u64, NodeId, bool), mut reader: LinkReader) -> LinkError {
        loop {
            let frame = match reader.recv().await {
                Ok(frame) => frame,
                Err(error) => return error,
            };
            if !self.tell(name, LinkEventKind::Frame(frame)).await {
                return LinkError::Ended;
            }
        }
    }

    async fn ended(&self, name: (u64, NodeId, bool), why: &LinkError) {
        let (link, node, _) = name;
        {
            let mut state = self.shared.state();
            if let Some(queue) = state.queues.remove(&link) {
                queue.close();
            }
            if state.dialled.get(&node) == Some(&link) {
                state.dialled.remove(&node);
            }
        }
        let reason = why.to_string();
        // Nobody listens any more at the end of the process.
        self.tell(name, LinkEventKind::Closed { reason }).await;
    }

    /// False if nobody listens any more.
    async fn tell(&self, (link, node, dialled): (u64, NodeId, bool), kind: LinkEventKind) -> bool {
        let event = LinkEvent {
            link,
            node,
            dialled,
            kind,
        };
        self.shared.events.send(event).await.is_ok()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use skein_runtime::channel::{Receiver, bounded};
    use skein_runtime::timeout;

    use super::*;

    fn identity(number: u8) -> Identity {
        Identity::from_seed(&[number; 32]).expect("a key")
    }

    struct Peer {
        links: Links,
        events: Receiver<LinkEvent>,
        tasks: Tasks,
    }

    /// Nodes on loopback that know each other.
    async fn peers(numbers: &[u8], queue_max: usize) -> Vec<Peer> {
        let mut listeners = Vec::new();
        let mut book = BTreeMap::new();
        for number in numbers {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            book.insert(identity(*number).node(), address);
            listeners.push((identity(*number), listener));
        }
        let start = |(own, listener)| {
            let tasks = Tasks::new(tokio::runtime::Handle::current());
            let (sender, events) = bounded(64);
            let config = LinksConfig {
                link: LinkConfig {
                    silence_max: Duration::from_secs(2),
                    ..LinkConfig::default()
                },
                protocol: "/skein/test/1".to_owned(),
                accepted_max: 4,
                accepted_per_node_max: 2,
                admitted: None,
                queue_max,
                keepalive: Duration::from_millis(100),
            };
            let ends = (tasks.clone(), sender);
            let links = Links::start(own, Some(listener), Box::new(book.clone()), config, ends);
            Peer {
                links,
                events,
                tasks,
            }
        };
        listeners.into_iter().map(start).collect()
    }

    async fn next(peer: &mut Peer) -> LinkEvent {
        let event = timeout(Duration::from_secs(20), peer.events.recv()).await;
        event.expect("in time").expect("the links live")
    }

    #[tokio::test]
    async fn frames_go_both_ways_and_idle_links_stay() {
        let mut peers = peers(&[1, 2], 16).await;
        let (one, two) = (identity(1).node(), identity(2).node());
        peers[0]
            .links
            .send_to(two, b"hello".to_vec())
            .expect("taken");
        let event = next(&mut peers[1]).await;
        assert_eq!(
            (event.node, event.kind),
            (one, LinkEventKind::Frame(b"hello".to_vec()))
        );
        // Longer than silence is borne.
        skein_runtime::sleep(Duration::from_millis(2500)).await;
        peers[1]
            .links
            .send(event.link, b"back".to_vec())
            .expect("taken");
        let back = next(&mut peers[0]).await;
        assert_eq!(
            (back.node, back.kind),
            (two, LinkEventKind::Frame(b"back".to_vec()))
        );
        // Its end is told, and the next frame makes another link.
        peers[1].links.close(event.link);
        let closed = next(&mut peers[0]).await;
        assert!(
            matches!(closed.kind, LinkEventKind::Closed { .. }),
            "{closed:?}"
        );
        peers[0]
            .links
            .send_to(two, b"again".to_vec())
            .expect("taken");
        let first = next(&mut peers[1]).await;
        assert!(
            matches!(first.kind, LinkEventKind::Closed { .. }),
            "{first:?}"
        );
        let second = next(&mut peers[1]).await;
        assert_eq!(second.kind, LinkEventKind::Frame(b"again".to_vec()));
        assert_ne!(second.link, event.link);
        for peer in peers {
            assert!(
                peer.tasks
                    .shutdown(Duration::from_secs(10))
                    .await
                    .is_clean()
            );
        }
    }

    #[tokio::test]
    async fn who_cannot_be_reached_is_told() {
        let mut peers = peers(&[1, 2], 1).await;
        let unknown = peers[0].links.send_to(identity(9).node(), Vec::new());
        assert_eq!(unknown, Err(SendError::NoAddress));
        let gone = peers.remove(1);
        assert!(
            gone.tasks
                .shutdown(Duration::from_secs(10))
                .await
                .is_clean()
        );
        let two = identity(2).node();
        peers[0].links.send_to(two, vec![1]).expect("taken");
        assert_eq!(peers[0].links.send_to(two, vec![2]), Err(SendError::Full));
        let closed = next(&mut peers[0]).await;
        assert_eq!(closed.node, two);
        assert!(
            matches!(closed.kind, LinkEventKind::Closed { .. }),
            "{closed:?}"
        );
    }

    /// Sins: a stranger, and a node that makes links without end.
    #[tokio::test]
    async fn strangers_and_floods_of_links_are_turned_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        let (sender, mut events) = bounded(64);
        let config = LinksConfig {
            link: LinkConfig::default(),
            protocol: "/skein/test/1".to_owned(),
            accepted_max: 8,
            accepted_per_node_max: 2,
            admitted: Some(BTreeSet::from([identity(2).node()])),
            queue_max: 4,
            keepalive: Duration::from_millis(100),
        };
        let book = Box::new(BTreeMap::new());
        let ends = (tasks.clone(), sender);
        let _links = Links::start(identity(1), Some(listener), book, config, ends);
        let one = identity(1).node();
        let dial = async |number: u8| {
            let own = identity(number);
            let protocol = "/skein/test/1";
            let (mut reader, mut writer) =
                connect(&own, (one, address), protocol, LinkConfig::default())
                    .await
                    .expect("shakes hands");
            // Turned away, sending may fail already.
            let _ = writer.send(b"hello").await;
            let told = timeout(Duration::from_millis(500), reader.recv()).await;
            (told.is_none(), reader, writer)
        };
        let (stranger, ..) = dial(3).await;
        assert!(!stranger, "its link is ended");
        let first = dial(2).await;
        let second = dial(2).await;
        let third = dial(2).await;
        assert_eq!((first.0, second.0, third.0), (true, true, false));
        for _ in 0..2 {
            let event = timeout(Duration::from_secs(20), events.recv()).await;
            let event = event.expect("in time").expect("the links live");
            assert_eq!(event.node, identity(2).node());
        }
        assert!(events.try_recv().is_err(), "nothing of the others");
        drop(first);
        // Its place is free again, as soon as its end was seen.
        let mut again = false;
        for _ in 0..40 {
            again = again || dial(2).await.0;
        }
        assert!(again);
        assert!(tasks.shutdown(Duration::from_secs(10)).await.is_clean());
    }
}
