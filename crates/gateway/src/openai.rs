//! OpenAI's requests and answers as types.

pub(crate) mod answer;
pub(crate) mod chat;
pub(crate) mod common;
pub(crate) mod completion;
pub(crate) mod render;

use serde_json::{Value, json};
use skein_text::SamplingParams;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    User,
    Assistant,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) role: Role,
    pub(crate) content: String,
    /// What the speaker is called, for templates that tell it.
    pub(crate) name: Option<String>,
}

impl Message {
    /// The message as a template takes it.
    pub(crate) fn into_json(self) -> Value {
        let role = match self.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let mut message = json!({"role": role, "content": self.content});
        if let Some(name) = self.name {
            message["name"] = name.into();
        }
        message
    }
}

/// Sampling as far as a request says something about it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct SamplingFields {
    pub(crate) temperature: Option<f32>,
    pub(crate) top_p: Option<f32>,
    pub(crate) top_k: Option<u32>,
    pub(crate) min_p: Option<f32>,
    pub(crate) repetition_penalty: Option<f32>,
    pub(crate) presence_penalty: Option<f32>,
    pub(crate) frequency_penalty: Option<f32>,
    pub(crate) logit_bias: Vec<(u32, f32)>,
}

impl SamplingFields {
    /// The model's `defaults` where the request says nothing.
    pub(crate) fn over(&self, defaults: &SamplingParams) -> SamplingParams {
        let mut params = defaults.clone();
        params.temperature = self.temperature.unwrap_or(params.temperature);
        params.top_p = self.top_p.unwrap_or(params.top_p);
        params.top_k = self.top_k.unwrap_or(params.top_k);
        params.min_p = self.min_p.unwrap_or(params.min_p);
        params.repetition_penalty = self.repetition_penalty.unwrap_or(params.repetition_penalty);
        params.presence_penalty = self.presence_penalty.unwrap_or(params.presence_penalty);
        params.frequency_penalty = self.frequency_penalty.unwrap_or(params.frequency_penalty);
        params.logit_bias.extend(self.logit_bias.iter().copied());
        params
    }
}
