//! The assembly of a node: checkpoint, engine, gateway; and its end, in order.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skein_base::ByteSize;
use skein_gateway::{Gateway, GatewayConfig, Metrics, Model, ServeError, TlsPem};
use skein_model::{LoadError, Pool, SliceModel};
use skein_runtime::{Clock, EntropyError, Secret32, SystemClock, Tasks};
use skein_serving::{Engine, EngineConfig, EngineHandle, ModelStage, StartError};
use skein_text::template::TemplateError;
use skein_text::tokenizer::TokenizerError;
use skein_text::{ChatTemplate, SamplingParams, Tokenizer};
use skein_weights::checkpoint::{StoredDtype, VocabularyError};
use skein_weights::vocabulary::{GenerationDefaults, Vocabulary};
use skein_weights::{Part, Slice};

use crate::budget::{self, NotEnoughMemory, Wishes};
use crate::config::{EngineSettings, GatewaySettings, Settings};
use crate::keys::{self, KeysError};
use crate::memory;
use crate::open::{OpenError, Opened};
use crate::stop::StopSignals;

/// Why a node did not start or did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// No model was named.
    #[error("no model is given: write --model MODEL, or set model.path in the configuration")]
    NoModel,
    /// The model cannot be found or read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no tokenizer.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The weights do not fit.
    #[error(transparent)]
    Memory(#[from] NotEnoughMemory),
    /// The weights cannot be loaded.
    #[error("the weights cannot be loaded")]
    Load(#[from] LoadError),
    /// The engine did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Engine settings without sense.
    #[error("[engine] {0}")]
    Engine(#[from] skein_serving::ConfigError),
    /// The gateway's settings are refused.
    #[error("[gateway] {0}")]
    Gateway(#[from] skein_gateway::ConfigError),
    /// The gateway failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The file of API keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A certificate without its key or the other way round.
    #[error("gateway.{missing} is not set: TLS needs both tls_certificate and tls_key")]
    HalfTls {
        /// The setting that is missing.
        missing: &'static str,
    },
    /// A file of the configuration cannot be read.
    #[error("cannot read {} (gateway.{setting})", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The setting that names it.
        setting: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The address is taken.
    #[error(
        "{listen} is in use: another program (or another skein) listens there; choose another with \
         --listen {}:PORT, or port 0 for a free one",
        listen.ip()
    )]
    AddressTaken {
        /// The address.
        listen: SocketAddr,
    },
    /// The address cannot be used.
    #[error("cannot listen on {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The asynchronous runtime or its signals cannot be had.
    #[error("the operating system gave no threads or signals")]
    System(#[source] io::Error),
    /// A part failed while serving.
    #[error("{0}")]
    Failed(String),
}

/// A model in this process, ready to answer.
#[derive(Debug)]
pub struct LocalModel {
    engine: Engine,
    /// Submits requests.
    pub handle: EngineHandle,
    /// Its name.
    pub name: String,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its chat template.
    pub template: Option<Arc<ChatTemplate>>,
    /// Sampling where nobody says otherwise.
    pub sampling: SamplingParams,
    /// Ids that end an answer.
    pub stop_ids: Vec<u32>,
    /// What fixes the answers beside the request, in short.
    pub fingerprint: String,
}

/// Threads that compute: as the settings say, else one for each core.
pub fn threads(setting: u32) -> usize {
    match setting {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        some => some as usize,
    }
}

impl LocalModel {
    /// Loads the model and starts its engine, whose metrics go to `metrics`.
    pub fn start(
        opened: &Opened,
        settings: &Settings,
        metrics: &Metrics,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, NodeError> {
        let checkpoint = opened.checkpoint.as_ref();
        let profile = checkpoint.profile();
        let name = settings
            .model
            .name
            .clone()
            .unwrap_or_else(|| opened.name.clone());
        // First what is quick and may fail: loading takes long.
        let config = engine_config(&settings.engine)?;
        let vocabulary = checkpoint.vocabulary()?;
        let tokenizer = Tokenizer::new(&vocabulary)?;
        let template = template(&vocabulary);
        let sampling = sampling(&checkpoint.generation_defaults()?);
        let slice = Slice::whole(profile.layers);
        let kv = kv_budget(opened, settings)?;
        tracing::info!(model = %name, layers = profile.layers, kv = %ByteSize(kv), "loading");
        let started = clock.now();
        let pool = Arc::new(Pool::new(threads(settings.engine.threads)));
        let model = SliceModel::load(checkpoint, slice, settings.model.format.dtype(), pool)?;
        let seconds = clock.now().since(started).as_secs_f32();
        let weights = ByteSize(model.weight_bytes());
        tracing::info!(model = %name, %weights, seconds, "loaded");
        let numerics = model.numerics_id().to_string();
        let stage = ModelStage::new(model, kv);
        let secret = Secret32::random()?;
        let engine = metrics.scope(|| Engine::start(stage, config, clock, secret))?;
        Ok(Self {
            handle: engine.handle(),
            engine,
            name,
            stop_ids: tokenizer.eos().to_vec(),
            tokenizer,
            template: template.map(Arc::new),
            sampling,
            fingerprint: format!("fp_{}", &numerics[..12]),
        })
    }

    /// What the gateway offers.
    fn offer(&self, clock: &dyn Clock) -> Model {
        let limits = self.handle.limits();
        Model {
            id: self.name.clone(),
            aliases: Vec::new(),
            created: clock.unix_time().as_secs(),
            fingerprint: self.fingerprint.clone(),
            context_length: limits.session_positions(),
            vocabulary: limits.vocabulary,
            tokenizer: self.tokenizer.clone(),
            template: self.template.clone(),
            stop_ids: self.stop_ids.clone(),
            sampling: self.sampling.clone(),
            backend: Arc::new(self.handle.clone()),
        }
    }

    /// Takes no more requests and ends after `drain` at the latest.
    ///
    /// # Cancel safety
    /// Cancelled, it ends the engine after the step in progress.
    pub async fn shutdown(self, drain: Duration) {
        self.engine.shutdown(drain).await;
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

/// The chat template; one that cannot be used leaves a model that completes, and says so.
fn template(vocabulary: &Vocabulary) -> Option<ChatTemplate> {
    match ChatTemplate::of(vocabulary) {
        Ok(template) => Some(template),
        Err(TemplateError::Missing) => None,
        Err(error) => {
            tracing::warn!(%error, "the chat template cannot be used: the model completes texts, but does not chat");
            None
        }
    }
}

fn kv_budget(opened: &Opened, settings: &Settings) -> Result<u64, NotEnoughMemory> {
    let checkpoint = opened.checkpoint.as_ref();
    let slice = Slice::whole(checkpoint.profile().layers);
    let format = settings.model.format.dtype();
    let needs = budget::needs(checkpoint, &slice, format);
    let stored = checkpoint.stored_dtype(Part::Embedding, "tokens.weight");
    let wide = stored.map(StoredDtype::canonical) == Some(skein_weights::Dtype::F32);
    let wishes = Wishes {
        kv: settings.engine.kv_memory.map(|size| size.0),
        sessions: u64::from(settings.engine.sessions_max),
        force: settings.model.force,
        halvable: match format {
            None => wide,
            Some(dtype) => dtype == skein_weights::Dtype::F32,
        },
    };
    budget::plan(needs, wishes, memory::available().map(|size| size.0))
}

/// The checkpoint's own sampling settings over the defaults.
pub fn sampling(defaults: &GenerationDefaults) -> SamplingParams {
    let base = SamplingParams::default();
    SamplingParams {
        temperature: defaults.temperature.unwrap_or(base.temperature),
        top_k: defaults.top_k.unwrap_or(base.top_k),
        top_p: defaults.top_p.unwrap_or(base.top_p),
        repetition_penalty: defaults
            .repetition_penalty
            .unwrap_or(base.repetition_penalty),
        ..base
    }
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
    gateway_config(settings).map(drop)
}

/// Takes the address, before anything slow is done.
pub fn listen(listen: SocketAddr) -> Result<TcpListener, NodeError> {
    TcpListener::bind(listen).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => NodeError::AddressTaken { listen },
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
    model: LocalModel,
    tasks: Tasks,
    settings: Settings,
}

impl Node {
    /// Loads the model, starts the engine and the gateway. Must be called within a runtime.
    pub fn start(
        opened: &Opened,
        settings: &Settings,
        listener: TcpListener,
    ) -> Result<Self, NodeError> {
        let config = gateway_config(settings)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let metrics = Metrics::new();
        // The engine counts on a thread of its own, which only a recorder of the whole process
        // reaches. With several nodes in one process the first one's page shows the engines.
        if metrics.install().is_err() {
            tracing::debug!("another node of this process shows the metrics of the engines");
        }
        let model = LocalModel::start(opened, settings, &metrics, Arc::clone(&clock))?;
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        let gateway = Gateway {
            config,
            models: vec![model.offer(clock.as_ref())],
            metrics,
            clock,
            secret: Secret32::random()?,
        };
        let stopping = tasks.stopping();
        tasks.spawn_critical("gateway", async move {
            skein_gateway::serve(listener, gateway, stopping).await
        });
        Ok(Self {
            model,
            tasks,
            settings: settings.clone(),
        })
    }

    /// Runs until a signal comes or a part fails, then ends everything in order: the gateway takes
    /// no more and lets answers finish within `runtime.drain`; the engine ends; the tasks end. Each
    /// of the last two gets `runtime.stop`. A second signal leaves at once.
    pub async fn run(self, signals: &mut StopSignals) -> Result<(), NodeError> {
        let stopping = self.tasks.stopping();
        tokio::select! {
            name = signals.next() => tracing::info!(signal = name, "stopping; once more leaves at once"),
            () = stopping.cancelled() => tracing::error!("a part of the node failed: stopping"),
        }
        let report = signals.or_exit(self.end()).await;
        match report.failures.first() {
            None => Ok(()),
            Some(failure) => Err(NodeError::Failed(failure.to_string())),
        }
    }

    async fn end(self) -> skein_runtime::ShutdownReport {
        let (drain, stop) = (self.settings.runtime.drain.0, self.settings.runtime.stop.0);
        let report = self.tasks.shutdown(drain.saturating_add(stop)).await;
        if !report.unfinished.is_empty() {
            tracing::warn!(tasks = ?report.unfinished, "did not end in time");
        }
        // Its clients are gone: what still runs there serves nobody.
        if tokio::time::timeout(stop, self.model.shutdown(Duration::ZERO))
            .await
            .is_err()
        {
            tracing::warn!("the engine did not end in time");
        }
        report
    }
}
