//! What is to be answered, and its token ids.

use serde::Serialize;
use serde_json::json;
use skein_runtime::{Clock as _, SystemClock};
use skein_text::{ChatRequest, Specials};

use crate::generate::GenerateError;
use crate::node::LocalModel;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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

/// What is to be answered. As JSON: the field of a request that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Prompt<'a> {
    /// A conversation.
    #[serde(rename = "messages")]
    Chat(&'a [Message]),
    /// A text to continue as it is.
    #[serde(rename = "prompt")]
    Raw(&'a str),
}

impl Prompt<'_> {
    /// The ids up to where the answer begins.
    pub fn ids(&self, model: &LocalModel) -> Result<Vec<u32>, GenerateError> {
        match self {
            Self::Chat(messages) => chat_ids(model, messages),
            Self::Raw(text) => Ok(model.tokenizer.encode(text, Specials::AddAndParse)?),
        }
    }
}

fn chat_ids(model: &LocalModel, messages: &[Message]) -> Result<Vec<u32>, GenerateError> {
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
