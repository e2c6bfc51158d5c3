//! Conversations as token ids.

use serde_json::json;
use skein_runtime::{Clock as _, SystemClock};
use skein_text::ChatRequest;

use crate::generate::GenerateError;
use crate::node::LocalModel;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// What was said.
    pub content: String,
}

impl Message {
    /// `content`, said by `role`.
    pub fn new(role: &'static str, content: &str) -> Self {
        Self {
            role,
            content: content.to_owned(),
        }
    }
}

/// The ids of a conversation up to where the answer begins.
pub fn chat_prompt(model: &LocalModel, messages: &[Message]) -> Result<Vec<u32>, GenerateError> {
    let missing = || GenerateError::NoTemplate {
        model: model.name.clone(),
    };
    let template = model.template.as_ref().ok_or_else(missing)?;
    let messages: Vec<_> = messages
        .iter()
        .map(|message| json!({ "role": message.role, "content": message.content }))
        .collect();
    let request = ChatRequest {
        messages: &messages,
        tools: None,
        add_generation_prompt: true,
        extra: None,
        now_unix: i64::try_from(SystemClock::new().unix_time().as_secs()).unwrap_or(i64::MAX),
    };
    let rendered = template.render(&request, model.tokenizer.control_tokens())?;
    Ok(model.tokenizer.encode_chat(&rendered)?)
}
