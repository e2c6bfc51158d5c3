//! `POST /v1/completions`: reading the request.

use serde_json::Value;

use super::common::{self, AnswerLength, CHOICES_MAX, Common, HARMLESS};
use crate::error::ApiError;
use crate::json::{Fields, wrong_type};

/// Length of an answer when none is asked for; OpenAI's own default.
pub(crate) const MAX_TOKENS_DEFAULT: usize = 16;
/// Most alternatives listed per token; OpenAI's own bound.
const LOGPROBS_MAX: i64 = 5;

/// One prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

/// A completion request, checked as far as can be without the model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CompletionRequest {
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) common: Common,
}

impl CompletionRequest {
    /// Reads a request body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let mut common = common::take(&mut fields, "prompt")?;
        common.logprobs = common::to_usize(fields.integer("logprobs", 0..=LOGPROBS_MAX)?);
        if common.max_tokens == AnswerLength::Unsaid {
            common.max_tokens = AnswerLength::AtMost(MAX_TOKENS_DEFAULT);
        }
        if fields.boolean("echo")? == Some(true) {
            return Err(ApiError::unsupported(
                "echo",
                "'echo' is not supported by this server: the answer does not repeat the prompt.",
            ));
        }
        let best_of = common::to_usize(fields.integer("best_of", 1..=CHOICES_MAX as i64)?);
        if best_of.is_some_and(|best_of| best_of != common.choices) {
            return Err(ApiError::unsupported(
                "best_of",
                "'best_of' other than 'n' is not supported by this server.",
            ));
        }
        let prompts = prompts(&mut fields)?;
        if prompts.len().saturating_mul(common.choices) > CHOICES_MAX {
            let message = format!(
                "Invalid 'prompt': {} prompts with n = {} make more than {CHOICES_MAX} choices.",
                prompts.len(),
                common.choices
            );
            return Err(ApiError::field("prompt", message).with_code("array_above_max_length"));
        }
        fields.finish(HARMLESS)?;
        Ok(Self { prompts, common })
    }
}

fn prompts(fields: &mut Fields) -> Result<Vec<Prompt>, ApiError> {
    let expected = "a string, an array of strings, an array of token ids or an array of those";
    let items = match fields.take("prompt") {
        None => return Err(fields.missing("prompt")),
        Some(Value::String(text)) => return Ok(vec![Prompt::Text(text)]),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(wrong_type("prompt", expected, &other)),
    };
    match items.first() {
        None => Err(empty("prompt")),
        Some(Value::Number(_)) => Ok(vec![Prompt::Ids(ids(&items, "prompt")?)]),
        Some(_) if items.len() > CHOICES_MAX => Err(ApiError::field(
            "prompt",
            format!(
                "Invalid 'prompt': at most {CHOICES_MAX} prompts are allowed, but got {}.",
                items.len()
            ),
        )
        .with_code("array_above_max_length")),
        Some(_) => items.into_iter().enumerate().map(prompt).collect(),
    }
}

fn prompt((index, item): (usize, Value)) -> Result<Prompt, ApiError> {
    let name = format!("prompt[{index}]");
    match item {
        Value::String(text) => Ok(Prompt::Text(text)),
        Value::Array(items) if items.is_empty() => Err(empty(&name)),
        Value::Array(items) => Ok(Prompt::Ids(ids(&items, &name)?)),
        other => Err(wrong_type(
            &name,
            "a string or an array of token ids",
            &other,
        )),
    }
}

fn ids(items: &[Value], name: &str) -> Result<Vec<u32>, ApiError> {
    let id = |(index, item): (usize, &Value)| {
        item.as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| wrong_type(&format!("{name}[{index}]"), "a token id", item))
    };
    items.iter().enumerate().map(id).collect()
}

fn empty(name: &str) -> ApiError {
    ApiError::field(
        name,
        format!("Invalid '{name}': it is empty, so there is nothing to complete."),
    )
    .with_code("empty_array")
}
