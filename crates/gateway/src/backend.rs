//! What the gateway offers, and what it asks of the serving side for it.

use std::fmt;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use skein_serving::view::View;
use skein_serving::{EngineHandle, Event, Request, SubmitError};
use skein_text::{ChatTemplate, SamplingParams, Tokenizer};

/// Something that continues prompts: the engine of this process, or a way through several nodes.
pub trait Backend: fmt::Debug + Send + Sync {
    /// Takes a request, or says at once why not.
    ///
    /// The stream yields the request's events in order and ends after `Finished` or `Failed`.
    /// Dropping it ends the work at once.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was started then.
    fn submit(&self, request: Request) -> Result<BoxStream<'static, Event>, SubmitError>;

    /// Whether requests would be taken now.
    fn ready(&self) -> bool;

    /// How things were a moment ago. Answers at once.
    fn view(&self) -> View;
}

/// A model on offer.
#[derive(Debug, Clone)]
pub struct Model {
    /// The name by which clients ask for it.
    pub id: String,
    /// Other names that are taken as well, but not listed.
    pub aliases: Vec<String>,
    /// When it was made or loaded, in seconds since 1970.
    pub created: u64,
    /// Names all that fixes an answer beside the request: a short form of model id and numerics id.
    pub fingerprint: String,
    /// Most tokens of prompt and answer together: the model's context, or less if memory is short.
    pub context_length: usize,
    /// Rows of the model's output head: one more than the highest token id.
    pub vocabulary: u32,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its chat template; without one it only completes.
    pub template: Option<Arc<ChatTemplate>>,
    /// Token ids that end an answer.
    pub stop_ids: Vec<u32>,
    /// Sampling where a request does not say.
    pub sampling: SamplingParams,
    /// Who continues prompts with it.
    pub backend: Arc<dyn Backend>,
}

impl Backend for EngineHandle {
    fn submit(&self, request: Request) -> Result<BoxStream<'static, Event>, SubmitError> {
        let generation = Self::submit(self, request)?;
        let events = stream::unfold(generation, |mut generation| async move {
            let event = generation.next().await?;
            Some((event, generation))
        });
        Ok(events.boxed())
    }

    fn ready(&self) -> bool {
        self.is_open()
    }

    fn view(&self) -> View {
        Self::view(self)
    }
}
