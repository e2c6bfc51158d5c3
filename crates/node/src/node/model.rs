//! A model with its engine, tokenizer and template.

use std::sync::Arc;
use std::time::Duration;

use skein_base::{ByteSize, NumericsId};
use skein_gateway::{Metrics, Model};
use skein_model::{KvPages, Pool, SliceModel, numerics_id};
use skein_p2p::Links;
use skein_routing::Inbox;
use skein_runtime::{Clock, ScratchFile, Secret32};
use skein_serving::view::CircuitView;
use skein_serving::{Engine, EngineConfig, EngineHandle, ModelStage};
use skein_text::template::TemplateError;
use skein_text::{ChatTemplate, SamplingParams, Tokenizer};
use skein_weights::Slice;
use skein_weights::vocabulary::{GenerationDefaults, Vocabulary};

use super::{NodeError, engine_config, threads_for};
use crate::budget::{self, NotEnoughMemory, Wishes};
use crate::config::Settings;
use crate::memory;
use crate::open::Opened;
use crate::roles::entry;

/// A model that this process answers with: computed here, or on the stages of a network.
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

/// What is known before anything is loaded.
struct Prepared {
    name: String,
    config: EngineConfig,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    sampling: SamplingParams,
}

impl Prepared {
    /// What is quick and may fail: loading takes long.
    fn new(opened: &Opened, settings: &Settings) -> Result<Self, NodeError> {
        let checkpoint = opened.checkpoint.as_ref();
        let name = settings.model.name.as_ref().unwrap_or(&opened.name).clone();
        let config = engine_config(&settings.engine)?;
        let vocabulary = checkpoint.vocabulary()?;
        Ok(Self {
            name,
            config,
            tokenizer: Tokenizer::new(&vocabulary)?,
            template: template(&vocabulary),
            sampling: sampling(&checkpoint.generation_defaults()?),
        })
    }

    fn with(self, engine: Engine, numerics: NumericsId) -> LocalModel {
        let numerics = numerics.to_string();
        LocalModel {
            handle: engine.handle(),
            engine,
            name: self.name,
            stop_ids: self.tokenizer.eos().to_vec(),
            tokenizer: self.tokenizer,
            template: self.template.map(Arc::new),
            sampling: self.sampling,
            fingerprint: format!("fp_{}", &numerics[..12]),
        }
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
        let prepared = Prepared::new(opened, settings)?;
        let checkpoint = opened.checkpoint.as_ref();
        let layers = checkpoint.profile().layers;
        let slice = Slice::whole(layers);
        let kv = kv_budget(opened, settings)?;
        let disk = disk(opened, settings)?;
        let name = &prepared.name;
        tracing::info!(model = %name, layers, kv = %ByteSize(kv), "loading");
        let started = clock.now();
        let format = settings.model.format.dtype();
        let kv_format = settings.model.kv_format;
        let weights = budget::weights(checkpoint, &slice, format);
        let pool = Pool::new(threads_for(settings.engine.threads, weights));
        let model = SliceModel::load(checkpoint, slice, format, Arc::new(pool))?;
        let seconds = clock.now().since(started).as_secs_f32();
        let weights = ByteSize(model.weight_bytes());
        tracing::info!(model = %name, %weights, seconds, "loaded");
        let mut stage = ModelStage::new(model, kv_format, kv);
        if let Some(file) = disk {
            stage = stage.with_store(Box::new(file), settings.engine.kv_disk.0);
        }
        let numerics = stage.numerics_id();
        let (config, secret) = (prepared.config.clone(), Secret32::random()?);
        let engine = metrics.scope(|| Engine::start(stage, config, clock, secret))?;
        Ok(prepared.with(engine, numerics))
    }

    /// Starts an engine that computes on the stages of the network's settings.
    pub fn start_on_network(
        opened: &Opened,
        settings: &Settings,
        (metrics, clock): (&Metrics, Arc<dyn Clock>),
        ends: (Links, Inbox),
    ) -> Result<Self, NodeError> {
        let prepared = Prepared::new(opened, settings)?;
        let pipeline = entry::pipeline(opened, settings, ends)?;
        if settings.engine.kv_disk.0 > 0 {
            tracing::warn!(
                "engine.kv_disk is not used: the stages of a network compute again what gives way"
            );
        }
        let (config, secret) = (prepared.config.clone(), Secret32::random()?);
        let start = || Engine::start_with(pipeline, config, clock, secret);
        let engine = metrics.scope(start)?;
        wait_for_a_way(&engine.handle(), settings.network.open_timeout.0);
        let numerics = numerics_id(settings.model.format.dtype(), settings.model.kv_format);
        Ok(prepared.with(engine, numerics))
    }

    /// What the gateway offers.
    pub(super) fn offer(&self, clock: &dyn Clock) -> Model {
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

/// Whoever hears that the node is ready shall find it so; but stages that are not there yet are no
/// reason not to start.
fn wait_for_a_way(engine: &EngineHandle, patience: Duration) {
    let step = Duration::from_millis(10);
    let mut waited = Duration::ZERO;
    while engine.view().executor.circuit != CircuitView::Open {
        if waited >= patience {
            tracing::warn!("no way through the stages yet: requests will wait for it");
            return;
        }
        std::thread::park_timeout(step);
        waited += step;
    }
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

/// A file for keys and values that give way in memory, if the settings say so.
fn disk(opened: &Opened, settings: &Settings) -> Result<Option<ScratchFile>, NodeError> {
    let given = settings.engine.kv_disk;
    if given.0 == 0 {
        return Ok(None);
    }
    let profile = opened.checkpoint.profile();
    let slice = Slice::whole(profile.layers);
    let page = KvPages::page_bytes_of(profile, &slice, settings.model.kv_format);
    let page = ByteSize(page);
    if given < page {
        return Err(NodeError::KvDiskSmall { given, page });
    }
    let folder = settings.engine.kv_disk_folder.clone();
    let folder = folder.unwrap_or_else(std::env::temp_dir);
    let file = ScratchFile::create(&folder);
    file.map(Some)
        .map_err(|source| NodeError::KvDisk { folder, source })
}

fn kv_budget(opened: &Opened, settings: &Settings) -> Result<u64, NotEnoughMemory> {
    let checkpoint = opened.checkpoint.as_ref();
    let slice = Slice::whole(checkpoint.profile().layers);
    let format = settings.model.format.dtype();
    let needs = budget::needs(checkpoint, &slice, format, settings.model.kv_format);
    let wishes = Wishes {
        kv: settings.engine.kv_memory.map(|size| size.0),
        sessions: u64::from(settings.engine.sessions_max),
        force: settings.model.force,
        smaller: budget::smaller(checkpoint, &slice, needs),
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
