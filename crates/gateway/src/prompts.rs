//! From words to what the serving side is asked.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use serde_json::Value;
use skein_base::TraceId;
use skein_serving::{ClientId, Event, Request, SubmitError};
use skein_text::{ChatRequest, Specials};

use crate::backend::Model;
use crate::error::ApiError;
use crate::openai::Message;
use crate::openai::common::{AnswerLength, Common};
use crate::openai::completion::Prompt;

/// The token ids of a conversation, up to where the answer begins. `now` is the wall clock, for
/// templates that tell the date.
pub(crate) async fn of_chat(
    model: Arc<Model>,
    messages: Vec<Message>,
    now: Duration,
) -> Result<Vec<u32>, ApiError> {
    blocking(move || {
        let Some(template) = &model.template else {
            return Err(ApiError::invalid(format!(
                "The model '{}' has no chat template, so it cannot chat; use /v1/completions.",
                model.id
            ))
            .with_code("model_not_supported"));
        };
        let messages: Vec<Value> = messages.into_iter().map(Message::into_json).collect();
        let request = ChatRequest {
            messages: &messages,
            tools: None,
            add_generation_prompt: true,
            extra: None,
            now_unix: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        };
        let refused = |error: String| ApiError::field("messages", error);
        let tokenizer = &model.tokenizer;
        let chat = template
            .render(&request, tokenizer.control_tokens())
            .map_err(|error| refused(error.to_string()))?;
        tokenizer
            .encode_chat(&chat)
            .map_err(|error| refused(error.to_string()))
    })
    .await
}

/// The token ids of the prompts of a completion.
pub(crate) async fn of_completion(
    model: Arc<Model>,
    prompts: Vec<Prompt>,
) -> Result<Vec<Vec<u32>>, ApiError> {
    blocking(move || {
        let encode = |(index, prompt)| match prompt {
            Prompt::Ids(ids) => check_ids(&model, index, ids),
            Prompt::Text(text) => {
                let ids = model.tokenizer.encode(&text, Specials::AddAndParse);
                ids.map_err(|error| ApiError::field("prompt", error.to_string()))
            }
        };
        prompts.into_iter().enumerate().map(encode).collect()
    })
    .await
}

fn check_ids(model: &Model, prompt: usize, ids: Vec<u32>) -> Result<Vec<u32>, ApiError> {
    match ids.iter().find(|&&id| id >= model.vocabulary) {
        None => Ok(ids),
        Some(id) => Err(ApiError::field(
            "prompt",
            format!(
                "Invalid token id {id} in prompt {prompt}: the vocabulary of this model ends at {}.",
                model.vocabulary
            ),
        )
        .with_code("invalid_value")),
    }
}

/// Long texts take long to encode, and others wait for this thread meanwhile.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match skein_runtime::blocking(work).await {
        Some(result) => result,
        None => {
            tracing::error!("encoding a prompt panicked");
            Err(ApiError::internal())
        }
    }
}

/// For each prompt, how long its answer may be.
pub(crate) fn lengths(
    model: &Model,
    common: &Common,
    prompts: &[Vec<u32>],
) -> Result<Vec<usize>, ApiError> {
    let limit = model.context_length;
    let length = |prompt: &Vec<u32>| {
        let (asked, granted) = match common.max_tokens {
            AnswerLength::AtMost(tokens) => (tokens, tokens),
            _ => (1, limit.saturating_sub(prompt.len())),
        };
        if prompt.len().saturating_add(asked) <= limit {
            return Ok(granted);
        }
        let param = if prompt.len() >= limit {
            common.prompt_param
        } else {
            common.max_tokens_param
        };
        Err(ApiError::context_length(limit, prompt.len(), asked, param))
    };
    prompts.iter().map(length).collect()
}

/// What all choices of a request have in common.
pub(crate) struct Submission<'a> {
    pub(crate) client: &'a Arc<str>,
    pub(crate) model: &'a Model,
    pub(crate) common: &'a Common,
    pub(crate) deadline: Duration,
    pub(crate) trace: TraceId,
}

impl Submission<'_> {
    /// Submits one choice.
    pub(crate) fn submit(
        &self,
        prompt: Vec<u32>,
        max_tokens: usize,
        seed: u64,
    ) -> Result<BoxStream<'static, Event>, ApiError> {
        let top = self.common.logprobs.unwrap_or(0);
        let mut sampling = self.common.sampling.over(&self.model.sampling);
        sampling.seed = seed;
        sampling.top_logprobs = u32::try_from(top).unwrap_or(u32::MAX);
        let request = Request {
            client: ClientId::new(Arc::clone(self.client)),
            prompt,
            max_tokens,
            sampling,
            stop_ids: self.model.stop_ids.clone(),
            ignore_eos: self.common.ignore_eos,
            deadline: Some(self.deadline),
            trace: self.trace,
        };
        self.model.backend.submit(request).map_err(refused)
    }
}

/// A refusal of the serving side in OpenAI's words.
fn refused(error: SubmitError) -> ApiError {
    match error {
        SubmitError::EmptyPrompt => {
            ApiError::field("prompt", "The prompt has no tokens: give at least one.")
        }
        SubmitError::TokenOutOfRange { .. } => {
            ApiError::field("prompt", error.to_string()).with_code("invalid_value")
        }
        SubmitError::NoTokens => ApiError::field("max_tokens", error.to_string()),
        SubmitError::Sampling { .. } => {
            ApiError::invalid(error.to_string()).with_code("invalid_value")
        }
        SubmitError::ContextTooLong {
            prompt,
            max_tokens,
            context,
        } => ApiError::context_length(context, prompt, max_tokens, "max_tokens"),
        SubmitError::NeverFits { .. } => {
            ApiError::invalid(error.to_string()).with_code("context_length_exceeded")
        }
        SubmitError::Busy { retry_after, .. } => ApiError::overloaded(retry_after),
        SubmitError::ShuttingDown => {
            ApiError::unavailable("The server is stopping. Please try again in a moment.")
        }
        other => {
            tracing::error!(error = %other, "a request was refused for a reason that is not known here");
            ApiError::internal()
        }
    }
}
