//! The stage role: a slice, and the threads that compute it.

mod shared;

use std::sync::Arc;
use std::time::Duration;

use skein_base::ByteSize;
use skein_model::{Pool, SliceModel};
use skein_serving::ModelStage;
use skein_serving::host::{Host, HostConfig, SliceIdentity};
use skein_weights::Slice;

pub use self::shared::{HostEvent, Inlet, Outlet, SharedStage, shared};
use crate::budget::{self, Wishes};
use crate::config::{Settings, StageSettings};
use crate::memory;
use crate::node::{NodeError, threads_for};
use crate::open::Opened;

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
    let (format, kv_format) = (settings.model.format.dtype(), settings.model.kv_format);
    let wishes = Wishes {
        kv: settings.engine.kv_memory.map(|size| size.0),
        sessions: u64::from(settings.engine.sessions_max),
        force: settings.model.force,
        smaller: None,
    };
    let needs = budget::needs(checkpoint, &slice, format, kv_format);
    let kv = budget::plan(needs, wishes, memory::available().map(|size| size.0))?;
    tracing::info!(name = %opened.name, %slice, kv = %ByteSize(kv), "loading");
    let pool = Arc::new(Pool::new(threads_for(
        settings.engine.threads,
        needs.weights,
    )));
    let loaded = SliceModel::load(checkpoint, slice, format, pool)?;
    let stage = ModelStage::new(loaded, kv_format, kv);
    let identity = SliceIdentity {
        model,
        numerics: stage.numerics_id(),
        layers: layers.clone(),
    };
    let config = host_config(&settings.stage, settings.network.open_timeout.0);
    Ok(Host::new(stage, identity, config))
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
