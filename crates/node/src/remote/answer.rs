//! An answer of a server: what is asked, and the text that its chunks make.

use serde::{Deserialize, Serialize};
use skein_runtime::channel::Receiver;
use skein_runtime::timeout;
use skein_serving::Usage;

use super::error::words;
use super::{Address, Deadlines, RemoteError};
use crate::generate::{Answer, GenerateError, Source};
use crate::prompt::Prompt;

/// Largest text of an answer, in bytes; some times what the longest contexts hold.
const TEXT_BYTES_MAX: usize = 64 << 20;
/// Most tokens of an answer whose ids are kept.
const TOKENS_MAX: usize = 16 << 20;
/// What ends a stream.
const DONE: &str = "[DONE]";

/// How to choose tokens, under the names of the interface. What is left out is as the server says.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct SamplingFields {
    /// Most tokens of an answer; -1 for as many as fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<i64>,
    /// 0 always takes the best token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Among the best tokens of this total probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Among the best tokens of this number; 0 for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Among tokens of at least this share of the best one's probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// Divides the scores of tokens already seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    /// Lowers the scores of tokens already said, once each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// Lowers the scores of tokens already said, for each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// The 64 bits of the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Texts before which the answer ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
}

/// What a server is asked to answer.
#[derive(Debug, Clone)]
pub struct AnswerRequest<'a> {
    /// The model, as the server calls it.
    pub model: &'a str,
    /// What to answer.
    pub prompt: Prompt<'a>,
    /// How to choose tokens.
    pub sampling: SamplingFields,
    /// Whether to ask for the ids of the tokens as well.
    pub token_ids: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    #[serde(flatten)]
    prompt: &'a Prompt<'a>,
    stream: bool,
    stream_options: StreamOptions,
    /// Other servers need not know this field, so it is sent only where it is needed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    return_token_ids: bool,
    #[serde(flatten)]
    sampling: &'a SamplingFields,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

impl AnswerRequest<'_> {
    /// The endpoint that takes such a request.
    pub(super) fn path(&self) -> &'static str {
        match self.prompt {
            Prompt::Chat(_) => "/v1/chat/completions",
            Prompt::Raw(_) => "/v1/completions",
        }
    }

    /// The request as JSON.
    pub(super) fn body(&self) -> String {
        let body = Body {
            model: self.model,
            prompt: &self.prompt,
            stream: true,
            stream_options: StreamOptions {
                include_usage: true,
            },
            return_token_ids: self.token_ids,
            sampling: &self.sampling,
        };
        serde_json::to_string(&body).expect("strings, numbers and lists always serialise")
    }
}

/// One event of an answer: a chunk, or an error instead.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<UsageObject>,
    error: Option<ErrorObject>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: usize,
    /// Of a chat.
    delta: Option<Delta>,
    /// Of a completion.
    text: Option<String>,
    finish_reason: Option<String>,
    token_ids: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
}

#[derive(Deserialize)]
struct UsageObject {
    prompt_tokens: usize,
    completion_tokens: usize,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<usize>,
}

/// Servers put either of these behind `error`.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum ErrorObject {
    Object {
        message: String,
        /// Some servers put a number here.
        code: Option<serde_json::Value>,
    },
    Text(String),
}

impl ErrorObject {
    /// The server's words, fit for a terminal.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Object { message, .. } | Self::Text(message) => words(message),
        }
    }

    /// What programs tell errors apart by.
    pub(super) fn code(&self) -> Option<String> {
        match self {
            Self::Object { code, .. } => code.as_ref()?.as_str().map(str::to_owned),
            Self::Text(_) => None,
        }
    }
}

/// An answer in the making, without I/O.
#[derive(Debug)]
pub(super) struct Reading {
    address: Address,
    answer: Answer,
    /// The server has said how it ended.
    finished: bool,
    done: bool,
}

impl Reading {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            answer: Answer {
                text: String::new(),
                tokens: None,
                finish: "interrupted",
                usage: None,
            },
            finished: false,
            done: false,
        }
    }

    /// Takes the `data` of the next event; the text that it adds.
    pub(super) fn push(&mut self, data: &str) -> Result<String, RemoteError> {
        if data == DONE {
            self.done = true;
            return if self.finished {
                Ok(String::new())
            } else {
                Err(self.unfinished())
            };
        }
        let chunk: Chunk = serde_json::from_str(data).map_err(|error| RemoteError::Foreign {
            address: self.address.clone(),
            reason: format!("an event of its stream is no chunk of an answer ({error})"),
        })?;
        if let Some(error) = chunk.error {
            return Err(RemoteError::Failed {
                message: error.words(),
            });
        }
        if let Some(usage) = chunk.usage {
            let details = usage.prompt_tokens_details;
            self.answer.usage = Some(Usage {
                prompt: usage.prompt_tokens,
                completion: usage.completion_tokens,
                reused: details
                    .and_then(|details| details.cached_tokens)
                    .unwrap_or(0),
            });
        }
        let choices = chunk.choices.into_iter();
        // One was asked for; others would be somebody else's.
        let texts = choices
            .filter(|choice| choice.index == 0)
            .map(|choice| self.take(choice));
        texts.collect()
    }

    fn take(&mut self, choice: Choice) -> Result<String, RemoteError> {
        let delta = choice.delta.and_then(|delta| delta.content);
        let text = delta.or(choice.text).unwrap_or_default();
        self.answer.text.push_str(&text);
        if let Some(ids) = choice.token_ids {
            self.answer.tokens.get_or_insert_default().extend(ids);
        }
        if let Some(reason) = choice.finish_reason {
            self.finished = true;
            self.answer.finish = match reason.as_str() {
                "stop" => "stop",
                "length" => "length",
                _ => "other",
            };
        }
        let tokens = self.answer.tokens.as_ref().map_or(0, Vec::len);
        if self.answer.text.len() > TEXT_BYTES_MAX || tokens > TOKENS_MAX {
            return Err(RemoteError::TooLong {
                address: self.address.clone(),
            });
        }
        Ok(text)
    }

    fn unfinished(&self) -> RemoteError {
        RemoteError::Unfinished {
            address: self.address.clone(),
        }
    }
}

/// An answer on its way. Dropping it closes the connection, which ends the work for it.
#[derive(Debug)]
pub struct AnswerStream {
    reading: Reading,
    events: Receiver<Result<String, RemoteError>>,
    /// Has this answer's connection and no other; `None` when closed.
    agent: Option<ureq::Agent>,
    deadlines: Deadlines,
    begun: bool,
}

impl AnswerStream {
    /// What `events` yields; `agent` is what their reader reads with.
    pub(super) fn new(
        address: Address,
        events: Receiver<Result<String, RemoteError>>,
        agent: ureq::Agent,
        deadlines: Deadlines,
    ) -> Self {
        Self {
            reading: Reading::new(address),
            events,
            agent: Some(agent),
            deadlines,
            begun: false,
        }
    }

    /// The next event's text.
    async fn event(&mut self) -> Result<String, RemoteError> {
        let address = || self.reading.address.clone();
        let waited = match self.begun {
            false => self.deadlines.first_event,
            true => self.deadlines.between_events,
        };
        match timeout(waited, self.events.recv()).await {
            Some(Some(event)) => {
                self.begun = true;
                self.reading.push(&event?)
            }
            Some(None) => Err(self.reading.unfinished()),
            None if self.begun => Err(RemoteError::Silent {
                address: address(),
                waited,
            }),
            None => Err(RemoteError::Late {
                address: address(),
                waited,
            }),
        }
    }
}

impl Source for AnswerStream {
    /// # Cancel safety
    /// Safe: an event is either taken or still to come.
    async fn next(&mut self) -> Result<Option<String>, GenerateError> {
        if self.reading.done {
            return Ok(None);
        }
        Ok(Some(self.event().await?))
    }

    fn into_answer(mut self) -> Answer {
        let empty = Reading::new(self.reading.address.clone());
        std::mem::replace(&mut self.reading, empty).answer
    }
}

impl Drop for AnswerStream {
    fn drop(&mut self) {
        // Wakes the thread that reads, wherever it waits.
        if let Some(agent) = self.agent.take() {
            agent.shutdown();
        }
    }
}

#[cfg(test)]
mod tests;
