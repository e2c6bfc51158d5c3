//! The assembly of a node: its roles, and their end in order.

mod error;
mod model;

use std::fs;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skein_base::NodeId;
use skein_gateway::{Gateway, GatewayConfig, Metrics, Model, TlsPem};
use skein_p2p::Links;
use skein_routing::Inbox;
use skein_runtime::{Clock, Secret32, ShutdownReport, SystemClock, Tasks};
use skein_serving::EngineConfig;

pub use self::error::NodeError;
pub use self::model::{LocalModel, sampling};
use crate::config::{EngineSettings, GatewaySettings, Role, Settings};
use crate::keys;
use crate::open::Opened;
use crate::roles::identity::identity;
use crate::roles::links::{self, Recipients};
use crate::roles::{entry, stage};
use crate::stop::StopSignals;

/// Threads that compute: as the settings say, else one for each core.
pub fn threads(setting: u32) -> usize {
    match setting {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        some => some as usize,
    }
}

/// Weights that are worth a thread, in bytes: with less, threads wait for each other longer than they
/// compute.
const WEIGHTS_PER_THREAD: u64 = 4 << 20;

/// Threads that compute a slice with `weights` bytes of weights: as the settings say, else one for
/// each core that has enough to do.
pub fn threads_for(setting: u32, weights: u64) -> usize {
    match setting {
        0 => threads(0).min(weights.div_ceil(WEIGHTS_PER_THREAD).max(1) as usize),
        some => some as usize,
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

/// The engine's settings, checked.
pub fn engine_config(
    settings: &EngineSettings,
) -> Result<EngineConfig, skein_serving::ConfigError> {
    let config = EngineConfig {
        sessions_max: settings.sessions_max as usize,
        decode_rows_max: settings.decode_rows_max as usize,
        prefill_rows_max: settings.prefill_rows_max as usize,
        growth_pages: settings.growth_pages as usize,
        waiting_max: settings.waiting_max as usize,
        waiting_per_client_max: settings.waiting_per_client_max as usize,
        retained_max: settings.retained_max as usize,
        events_max: settings.events_max as usize,
        stall_max: settings.stall_max.0,
    };
    config.check().map(|()| config)
}

/// The gateway's settings, with the files that they name, checked.
pub fn gateway_config(settings: &Settings) -> Result<GatewayConfig, NodeError> {
    let gateway = &settings.gateway;
    let keys = gateway.keys_file.as_deref().map(keys::read).transpose()?;
    let config = GatewayConfig {
        keys: keys.unwrap_or_default(),
        tls: tls(gateway)?,
        allow_insecure: gateway.allow_insecure,
        hosts: gateway.hosts.clone(),
        cors_origins: gateway.cors_origins.clone(),
        body_bytes_max: usize::try_from(gateway.body_max.0).unwrap_or(usize::MAX),
        requests_max: gateway.requests_max as usize,
        connections_max: gateway.connections_max as usize,
        header_timeout: gateway.header_timeout.0,
        body_timeout: gateway.body_timeout.0,
        answer_timeout: gateway.answer_timeout.0,
        shutdown_timeout: settings.runtime.drain.0,
        metrics_public: gateway.metrics_public,
    };
    config.validate(gateway.listen)?;
    Ok(config)
}

fn tls(settings: &GatewaySettings) -> Result<Option<TlsPem>, NodeError> {
    let read = |path: &Path, setting| {
        fs::read(path).map_err(|source| NodeError::File {
            path: path.to_owned(),
            setting,
            source,
        })
    };
    match (&settings.tls_certificate, &settings.tls_key) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(NodeError::HalfTls { missing: "tls_key" }),
        (None, Some(_)) => Err(NodeError::HalfTls {
            missing: "tls_certificate",
        }),
        (Some(certificate), Some(key)) => Ok(Some(TlsPem {
            certificates: read(certificate, "tls_certificate")?,
            key: read(key, "tls_key")?,
        })),
    }
}

/// Checks what can be checked without loading anything.
pub fn check_settings(settings: &Settings) -> Result<(), NodeError> {
    engine_config(&settings.engine)?;
    gateway_config(settings)?;
    let is = |role| settings.node.roles.contains(&role);
    if settings.node.roles.is_empty() {
        return Err(NodeError::NoRole);
    }
    if is(Role::Stage) && settings.stage.layers.is_none() {
        return Err(NodeError::NoLayers);
    }
    if is(Role::Stage) && settings.node.listen.is_none() {
        return Err(NodeError::NoNodeAddress);
    }
    Ok(())
}

/// Addresses that were taken before anything slow is done.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For the API.
    pub gateway: Option<TcpListener>,
    /// For links.
    pub node: Option<TcpListener>,
    /// For metrics.
    pub metrics: Option<TcpListener>,
}

impl Listeners {
    /// Takes what the settings name.
    ///
    /// # Errors
    /// If an address is in use or cannot be had.
    pub fn take(settings: &Settings) -> Result<Self, NodeError> {
        let gateway = settings.node.roles.contains(&Role::Gateway);
        let gateway = gateway.then_some(settings.gateway.listen);
        let take = |address: Option<SocketAddr>, flag| {
            let take = |address| listen(address, flag);
            address.map(take).transpose()
        };
        Ok(Self {
            gateway: take(gateway, "--listen")?,
            node: take(settings.node.listen, "node.listen")?,
            metrics: take(settings.metrics.listen, "metrics.listen")?,
        })
    }
}

/// Takes an address, named by `flag` where it is refused.
///
/// # Errors
/// If it is in use or cannot be had.
pub fn listen(listen: SocketAddr, flag: &'static str) -> Result<TcpListener, NodeError> {
    TcpListener::bind(listen).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => NodeError::AddressTaken { listen, flag },
        _ => NodeError::Listen { listen, source },
    })
}

/// An asynchronous runtime for a whole command.
pub fn runtime() -> Result<tokio::runtime::Runtime, NodeError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("skein-io")
        // The compute threads have the cores; these wait most of the time.
        .worker_threads(2)
        .build()
        .map_err(NodeError::System)
}

/// Everything that serves, and how it ends.
#[derive(Debug)]
pub struct Node {
    model: Option<LocalModel>,
    gateway: Tasks,
    stage: Tasks,
    links: Tasks,
    settings: Settings,
    /// Its name among nodes, if it has links.
    id: Option<NodeId>,
}

impl Node {
    /// Starts the roles of the settings. Must be called within a runtime.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub fn start(
        opened: &Opened,
        settings: &Settings,
        listeners: Listeners,
    ) -> Result<Self, NodeError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let metrics = Metrics::new();
        // Engines and stages count on threads of their own, which only a recorder of the whole process
        // reaches. With several nodes in one process the first one's page shows them all.
        if metrics.install().is_err() {
            tracing::debug!("another node of this process shows the metrics of the engines");
        }
        let owner = || Tasks::new(tokio::runtime::Handle::current());
        let mut node = Self {
            model: None,
            gateway: owner(),
            stage: owner(),
            links: owner(),
            settings: settings.clone(),
            id: None,
        };
        let ends = node.start_links(opened, listeners.node, &clock)?;
        let mut models = Vec::new();
        if let Some(listener) = listeners.gateway {
            let model = match ends {
                Some(ends) => {
                    let surroundings = (&metrics, Arc::clone(&clock));
                    LocalModel::start_on_network(opened, settings, surroundings, ends)?
                }
                None => LocalModel::start(opened, settings, &metrics, Arc::clone(&clock))?,
            };
            models.push(model.offer(clock.as_ref()));
            node.model = Some(model);
            node.serve(listener, (models, metrics.clone()), &clock)?;
        }
        if let Some(listener) = listeners.metrics {
            node.serve(listener, (Vec::new(), metrics), &clock)?;
        }
        Ok(node)
    }

    /// The links, and the stage if there is one; what an entry needs, if it shall use them.
    fn start_links(
        &mut self,
        opened: &Opened,
        listener: Option<TcpListener>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<(Links, Inbox)>, NodeError> {
        let settings = &self.settings;
        let serves = settings.node.roles.contains(&Role::Stage);
        let enters =
            settings.node.roles.contains(&Role::Gateway) && !settings.network.stages.is_empty();
        if !serves && !enters {
            return Ok(None);
        }
        let own = identity(settings.node.key_file.as_deref())?;
        self.id = Some(own.node());
        // The slice first: whoever reaches this node shall find a stage.
        let host = serves.then(|| stage::load(opened, settings)).transpose()?;
        let ends = host.map(|host| stage::shared(host, Arc::clone(clock)));
        let (stage, inlet) = ends.unzip();
        let inbox = enters.then(Inbox::new);
        let recipients = Recipients {
            host: inlet,
            inbox: inbox.clone(),
        };
        let addresses = entry::addresses(&settings.network);
        let ends = (&self.links, recipients);
        let links = links::start(own, listener, addresses, &settings.node, ends);
        let links = links.map_err(NodeError::System)?;
        if let Some(stage) = stage {
            let owner = (&self.stage, settings.runtime.stop.0);
            let started = stage.start(links.clone(), owner);
            started.map_err(NodeError::System)?;
        }
        Ok(inbox.map(|inbox| (links, inbox)))
    }

    fn serve(
        &self,
        listener: TcpListener,
        (models, metrics): (Vec<Model>, Metrics),
        clock: &Arc<dyn Clock>,
    ) -> Result<(), NodeError> {
        let gateway = Gateway {
            config: gateway_config(&self.settings)?,
            models,
            metrics,
            clock: Arc::clone(clock),
            secret: Secret32::random()?,
        };
        let stopping = self.gateway.stopping();
        self.gateway.spawn_critical("gateway", async move {
            skein_gateway::serve(listener, gateway, stopping).await
        });
        Ok(())
    }

    /// Its name among nodes, if it has links.
    pub fn id(&self) -> Option<NodeId> {
        self.id
    }

    /// Runs until a signal comes, a part fails or `orphaned` is done, then ends everything in order:
    /// the gateway takes no more and lets answers finish within `runtime.drain`; the engine ends; the
    /// stage finishes what it has taken and says that it leaves; the links end. Each of the last
    /// three gets `runtime.stop`. A second signal leaves at once, and so does an orphan.
    ///
    /// # Errors
    /// What failed.
    pub async fn run(
        self,
        signals: &mut StopSignals,
        orphaned: impl Future<Output = ()>,
    ) -> Result<(), NodeError> {
        let tokens = [&self.gateway, &self.stage, &self.links].map(Tasks::stopping);
        let [gateway, stage, links] = &tokens;
        let mut drain = self.settings.runtime.drain.0;
        tokio::select! {
            name = signals.next() => tracing::info!(signal = name, "stopping; once more leaves at once"),
            () = orphaned => {
                tracing::warn!("whoever started this node is gone: stopping");
                drain = Duration::ZERO;
            }
            () = gateway.cancelled() => tracing::error!("the gateway failed: stopping"),
            () = stage.cancelled() => tracing::error!("the stage failed: stopping"),
            () = links.cancelled() => tracing::error!("the links failed: stopping"),
        }
        let failures = signals.or_exit(self.end(drain)).await;
        match failures.into_iter().next() {
            None => Ok(()),
            Some(failure) => Err(NodeError::Failed(failure)),
        }
    }

    async fn end(self, drain: Duration) -> Vec<String> {
        let stop = self.settings.runtime.stop.0;
        let mut failures = Vec::new();
        let mut note = |report: ShutdownReport| {
            if !report.unfinished.is_empty() {
                tracing::warn!(tasks = ?report.unfinished, "did not end in time");
            }
            failures.extend(report.failures.iter().map(ToString::to_string));
        };
        note(self.gateway.shutdown(drain.saturating_add(stop)).await);
        if let Some(model) = self.model {
            // Its clients are gone: what still runs there serves nobody.
            let ended = tokio::time::timeout(stop, model.shutdown(Duration::ZERO)).await;
            if ended.is_err() {
                tracing::warn!("the engine did not end in time");
            }
        }
        note(self.stage.shutdown(stop.saturating_mul(2)).await);
        note(self.links.shutdown(stop).await);
        failures
    }
}
