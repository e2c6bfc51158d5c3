//! `POST /v1/chat/completions`: reading the request.

use serde_json::Value;

use super::common::{self, Common, HARMLESS};
use super::{Message, Role};
use crate::error::{ApiError, quote};
use crate::json::{Fields, wrong_type};

/// Most messages of a conversation.
const MESSAGES_MAX: usize = 16_384;
/// Most alternatives listed per token; OpenAI's own bound.
const TOP_LOGPROBS_MAX: i64 = 20;

/// A chat request, checked as far as can be without the model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ChatRequest {
    pub(crate) messages: Vec<Message>,
    pub(crate) common: Common,
}

impl ChatRequest {
    /// Reads a request body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let mut common = common::take(&mut fields, "messages")?;
        common.logprobs = logprobs(&mut fields)?;
        let messages = messages(&mut fields)?;
        fields.finish(HARMLESS)?;
        Ok(Self { messages, common })
    }
}

fn logprobs(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let wanted = fields.boolean("logprobs")?.unwrap_or(false);
    let top = common::to_usize(fields.integer("top_logprobs", 0..=TOP_LOGPROBS_MAX)?);
    match (wanted, top) {
        (false, Some(1..)) => Err(ApiError::field(
            "top_logprobs",
            "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
        )),
        (true, top) => Ok(Some(top.unwrap_or(0))),
        (false, _) => Ok(None),
    }
}

fn messages(fields: &mut Fields) -> Result<Vec<Message>, ApiError> {
    let items = fields
        .array("messages")?
        .ok_or_else(|| fields.missing("messages"))?;
    if items.is_empty() {
        return Err(ApiError::field(
            "messages",
            "Invalid 'messages': empty array. Expected an array with at least one message.",
        )
        .with_code("empty_array"));
    }
    if items.len() > MESSAGES_MAX {
        return Err(ApiError::field(
            "messages",
            format!(
                "Invalid 'messages': at most {MESSAGES_MAX} are allowed, but got {}.",
                items.len()
            ),
        )
        .with_code("array_above_max_length"));
    }
    let read = |(index, item)| message(item, &format!("messages[{index}]"));
    items.into_iter().enumerate().map(read).collect()
}

fn message(value: Value, path: &str) -> Result<Message, ApiError> {
    let mut fields = Fields::of(value, path)?;
    let role = fields
        .string("role")?
        .ok_or_else(|| fields.missing("role"))?;
    let role = match role.as_str() {
        // OpenAI renamed the role; templates know the old name.
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => {
            let why = "this server offers its models without tool calls";
            return Err(ApiError::unsupported(
                fields.name("role"),
                format!("Messages of role '{role}' are not supported: {why}."),
            ));
        }
        other => {
            let message = format!(
                "Invalid value: '{}'. Supported values are: 'system', 'developer', 'user' and 'assistant'.",
                quote(other)
            );
            return Err(ApiError::field(fields.name("role"), message).with_code("invalid_value"));
        }
    };
    for name in ["tool_calls", "function_call", "tool_call_id", "audio"] {
        let full = fields.name(name);
        if fields
            .take(name)
            .is_some_and(|value| value != Value::Array(Vec::new()))
        {
            return Err(ApiError::unsupported(
                &full,
                format!("'{full}' is not supported by this server."),
            ));
        }
    }
    // An answer is sent back as it came: with an empty refusal, and notes of other servers.
    let content = content(&mut fields)?;
    let name = fields.string("name")?;
    fields.finish(&["refusal", "annotations"])?;
    Ok(Message {
        role,
        content,
        name,
    })
}

/// The text of a message: a string, or parts that are put together.
fn content(fields: &mut Fields) -> Result<String, ApiError> {
    let name = fields.name("content");
    match fields.take("content") {
        None => Err(fields.missing("content")),
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => {
            let mut text = String::new();
            for (index, part) in parts.into_iter().enumerate() {
                text.push_str(&text_part(part, &format!("{name}[{index}]"))?);
            }
            Ok(text)
        }
        Some(other) => Err(wrong_type(&name, "a string or an array of parts", &other)),
    }
}

fn text_part(value: Value, path: &str) -> Result<String, ApiError> {
    let mut fields = Fields::of(value, path)?;
    let kind = fields
        .string("type")?
        .ok_or_else(|| fields.missing("type"))?;
    match kind.as_str() {
        "text" => {
            let text = fields
                .string("text")?
                .ok_or_else(|| fields.missing("text"))?;
            fields.finish(&[])?;
            Ok(text)
        }
        "image_url" | "input_audio" | "file" | "refusal" => Err(ApiError::unsupported(
            fields.name("type"),
            format!(
                "Parts of type '{kind}' are not supported: the models of this server read text only."
            ),
        )),
        other => Err(ApiError::field(
            fields.name("type"),
            format!(
                "Invalid value: '{}'. Supported values are: 'text'.",
                quote(other)
            ),
        )
        .with_code("invalid_value")),
    }
}
