//! A model in this process for `run` and `chat`, and requests to it.

use std::sync::Arc;

use skein_gateway::Metrics;
use skein_runtime::{Clock, SystemClock, entropy};
use skein_serving::{ClientId, Request};
use skein_text::SamplingParams;
use skein_text::sampler::ParamsError;

use super::args::SamplingArgs;
use super::{CommandError, Context};
use crate::generate::GenerateError;
use crate::hub::Fetching;
use crate::node::{LocalModel, NodeError};
use crate::open;

/// Loads a model, to run it as the settings say.
pub(super) fn load(context: &Context, path: &str) -> Result<LocalModel, CommandError> {
    let settings = &context.loaded.settings;
    let opened = open::open(path, Fetching::new(&settings.model, false), context.console)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    Ok(LocalModel::start(
        &opened,
        settings,
        &Metrics::new(),
        clock,
    )?)
}

impl SamplingArgs {
    /// Refuses what can be refused without a model.
    pub(super) fn check(&self) -> Result<(), CommandError> {
        let sampling = self.over(&SamplingParams::default())?;
        let refused = |error: ParamsError| CommandError::Usage(error.to_string());
        sampling.validate(u32::MAX).map_err(refused)
    }

    /// These over those of the model; a seed that is not given is drawn.
    pub(super) fn over(&self, model: &SamplingParams) -> Result<SamplingParams, CommandError> {
        let seed = match self.seed {
            Some(seed) => seed,
            None => {
                let mut bytes = [0; 8];
                entropy(&mut bytes).map_err(NodeError::from)?;
                u64::from_le_bytes(bytes)
            }
        };
        Ok(SamplingParams {
            temperature: self.temperature.unwrap_or(model.temperature),
            top_k: self.top_k.unwrap_or(model.top_k),
            top_p: self.top_p.unwrap_or(model.top_p),
            min_p: self.min_p.unwrap_or(model.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(model.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(model.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(model.frequency_penalty),
            seed,
            ..model.clone()
        })
    }

    /// A request that continues `prompt`.
    pub(super) fn request(
        &self,
        model: &LocalModel,
        prompt: Vec<u32>,
    ) -> Result<Request, CommandError> {
        let limits = model.handle.limits();
        let sampling = self.over(&model.sampling)?;
        sampling
            .validate(limits.vocabulary)
            .map_err(GenerateError::from)?;
        let context = limits.session_positions();
        let room = context.saturating_sub(prompt.len());
        if room == 0 {
            return Err(GenerateError::ContextFull {
                prompt: prompt.len(),
                context,
            }
            .into());
        }
        Ok(Request {
            client: ClientId::new("local"),
            prompt,
            max_tokens: self.max_tokens.unwrap_or(room),
            sampling,
            stop_ids: model.stop_ids.clone(),
            ignore_eos: false,
            deadline: None,
            trace: skein_base::TraceId::default(),
        })
    }
}
