//! The entry of a network: an executor whose stages are on other nodes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use skein_base::NodeId;
use skein_model::kv::PAGE_POSITIONS;
use skein_model::numerics_id;
use skein_p2p::{Links, SendError};
use skein_routing::{
    Inbox, ModelSpec, Pipeline, PipelineConfig, Post, PostError, StageRecord, StaticDirectory,
};
use skein_runtime::{Secret32, entropy};
use skein_serving::wire::{CircuitId, Message, encode};

use crate::config::{NetworkSettings, Settings};
use crate::node::NodeError;
use crate::open::Opened;

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

/// Where the stages of the settings listen.
pub fn addresses(settings: &NetworkSettings) -> BTreeMap<NodeId, SocketAddr> {
    let stages = settings.stages.iter();
    stages.map(|stage| (stage.node, stage.address)).collect()
}

/// A way through the stages of the settings, over `links`, whose news come to `inbox`.
///
/// # Errors
/// If the stages leave layers out, if the model was not split, or without randomness.
pub fn pipeline(
    opened: &Opened,
    settings: &Settings,
    (links, inbox): (Links, Inbox),
) -> Result<Pipeline<LinksPost>, NodeError> {
    let checkpoint = opened.checkpoint.as_ref();
    let profile = checkpoint.profile();
    let model = checkpoint.model_id().ok_or_else(|| NodeError::NotSplit {
        path: opened.path.clone(),
    })?;
    let records: Vec<_> = settings.network.stages.iter().map(record).collect();
    if skein_routing::directory::cheapest(&records, profile.layers, |_| Some(0)).is_none() {
        return Err(NodeError::NoWay {
            layers: profile.layers,
        });
    }
    let spec = ModelSpec {
        model,
        numerics: numerics_id(settings.model.format.dtype(), settings.model.kv_format),
        layers: profile.layers,
        hidden: profile.hidden,
        vocabulary: profile.vocabulary,
        context: profile.context as usize,
    };
    let mut circuit = [0; 16];
    entropy(&mut circuit)?;
    Ok(Pipeline::new(
        spec,
        config(&settings.network),
        Box::new(StaticDirectory(records)),
        (LinksPost(links), inbox),
        (CircuitId(circuit), Secret32::random()?),
    ))
}

fn record(stage: &crate::config::StageAt) -> StageRecord {
    StageRecord {
        node: stage.node,
        layers: stage.layers.0.clone(),
    }
}

fn config(settings: &NetworkSettings) -> PipelineConfig {
    PipelineConfig {
        mode: settings.mode,
        pages: settings.kv_tokens.div_ceil(PAGE_POSITIONS as u32),
        open_timeout: settings.open_timeout.0,
        step_timeout: settings.step_timeout.0,
        shun: settings.shun.0,
        down_max: settings.down_max.0,
        ..PipelineConfig::default()
    }
}
