//! The stage role: a slice, and the thread that computes it.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use skein_base::{ByteSize, NodeId};
use skein_model::{Pool, SliceModel};
use skein_p2p::Links;
use skein_runtime::{CancellationToken, Clock, Instant, Tasks};
use skein_serving::host::{Host, HostConfig, LinkId, Sender as From, SliceIdentity, To};
use skein_serving::wire::{Message, encode};
use skein_serving::{ModelStage, Stage, metrics};
use skein_weights::Slice;

use crate::budget::{self, Wishes};
use crate::config::{Settings, StageSettings};
use crate::memory;
use crate::node::{NodeError, threads};
use crate::open::Opened;

/// How often a host looks at its deadlines and counts.
const TICK: Duration = Duration::from_millis(100);
/// Most events that wait for the host.
const EVENTS_MAX: usize = 512;

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

/// Where links put what is for a host, and where the host takes it from. A channel of threads: it wakes
/// the one that computes without a detour through the asynchronous runtime.
pub fn events() -> (SyncSender<HostEvent>, Receiver<HostEvent>) {
    sync_channel(EVENTS_MAX)
}

/// Loads the slice that the settings name.
///
/// # Errors
/// See [`NodeError`].
pub fn load(opened: &Opened, settings: &Settings) -> Result<Host<ModelStage>, NodeError> {
    let layers = settings.stage.layers.as_ref();
    let layers = &layers.ok_or(NodeError::NoLayers)?.0;
    let checkpoint = opened.checkpoint.as_ref();
    let profile = checkpoint.profile();
    let model = checkpoint.model_id();
    let model = model.ok_or_else(|| NodeError::NotSplit {
        path: opened.path.clone(),
    })?;
    let slice = Slice::new(layers.clone(), profile.layers);
    let slice = slice.ok_or(NodeError::LayersOutside {
        last: layers.end - 1,
        layers: profile.layers,
    })?;
    let format = settings.model.format.dtype();
    let wishes = Wishes {
        kv: settings.engine.kv_memory.map(|size| size.0),
        sessions: u64::from(settings.engine.sessions_max),
        force: settings.model.force,
        halvable: false,
    };
    let needs = budget::needs(checkpoint, &slice, format);
    let kv = budget::plan(needs, wishes, memory::available().map(|size| size.0))?;
    tracing::info!(name = %opened.name, %slice, kv = %ByteSize(kv), "loading");
    let pool = Arc::new(Pool::new(threads(settings.engine.threads)));
    let loaded = SliceModel::load(checkpoint, slice, format, pool)?;
    let identity = SliceIdentity {
        model,
        numerics: loaded.numerics_id(),
        layers: layers.clone(),
    };
    let config = host_config(&settings.stage, settings.network.open_timeout.0);
    Ok(Host::new(ModelStage::new(loaded, kv), identity, config))
}

fn host_config(settings: &StageSettings, open_timeout: Duration) -> HostConfig {
    HostConfig {
        circuits_max: settings.circuits_max as usize,
        rows_max: settings.rows_max as usize,
        idle_timeout: settings.idle_timeout.0,
        open_timeout,
        ..HostConfig::default()
    }
}

/// Starts the thread that computes; it ends with `tasks`, after what it has taken.
///
/// # Errors
/// If the system gives no thread.
pub fn start<S: Stage + 'static>(
    host: Host<S>,
    links: Links,
    events: Receiver<HostEvent>,
    (clock, tasks, drain): (Arc<dyn Clock>, &Tasks, Duration),
) -> io::Result<()> {
    let body = move |stopping: CancellationToken| {
        let mut running = Running {
            host,
            links,
            events,
            clock,
        };
        running.run(&stopping);
        running.leave(drain);
    };
    tasks.thread("skein-stage", body).map(drop)
}

struct Running<S: Stage> {
    host: Host<S>,
    links: Links,
    events: Receiver<HostEvent>,
    clock: Arc<dyn Clock>,
}

impl<S: Stage> Running<S> {
    fn run(&mut self, stopping: &CancellationToken) {
        let mut ticked = self.clock.now();
        while !stopping.is_cancelled() {
            self.take_what_waits();
            self.tick(&mut ticked);
            let ran = self.host.run(self.clock.as_ref());
            self.give_out();
            if !ran && !self.wait() {
                return;
            }
        }
    }

    fn tick(&mut self, ticked: &mut Instant) {
        let now = self.clock.now();
        if now.since(*ticked) >= TICK {
            self.host.tick(now);
            metrics::stage(&self.host.take_stats(), &self.host.report());
            *ticked = now;
        }
    }

    fn take_what_waits(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.take_in(event);
        }
    }

    /// Waits for an event, not beyond the next tick. False if none will come any more.
    fn wait(&mut self) -> bool {
        match self.events.recv_timeout(TICK) {
            Ok(event) => self.take_in(event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    /// Finishes what was taken and tells everybody to go elsewhere.
    fn leave(&mut self, drain: Duration) {
        let until = self.clock.now().after(drain);
        self.take_what_waits();
        self.host.leave();
        self.give_out();
        while self.clock.now() < until && self.host.run(self.clock.as_ref()) {
            self.host.leave();
            self.give_out();
        }
    }

    fn take_in(&mut self, event: HostEvent) {
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

    fn give_out(&mut self) {
        // What cannot be sent ends circuits, which gives more to send: at most once for each circuit.
        loop {
            let sends = self.host.take_sends();
            if sends.is_empty() {
                return;
            }
            for (to, message) in sends {
                let bytes = encode(&message);
                match to {
                    To::Link(LinkId(link)) => {
                        if self.links.send(link, bytes).is_err() {
                            self.links.close(link);
                            self.host.link_closed(LinkId(link));
                        }
                    }
                    To::Node(node) => {
                        if self.links.send_to(node, bytes).is_err() {
                            self.host.unreachable(node);
                        }
                    }
                }
            }
        }
    }
}
