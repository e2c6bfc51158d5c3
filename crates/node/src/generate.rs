//! One answer in this process: from a request to text.

use std::io;

use skein_serving::{Event, FinishReason, Generation, GenerationError, SubmitError, Usage};
use skein_text::stop::StopError;
use skein_text::template::TemplateError;
use skein_text::tokenizer::EncodeError;
use skein_text::{Detokenizer, StopMatcher, Tokenizer};

/// Most stop texts of an answer.
const STOPS_MAX: usize = 16;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The prompt cannot be turned into tokens.
    #[error("the prompt cannot be turned into tokens")]
    Encode(#[from] EncodeError),
    /// The chat template failed.
    #[error("{0}; `skein run --raw` continues a prompt without it")]
    Template(#[from] TemplateError),
    /// There is no chat template.
    #[error(
        "{model} has no chat template, so it cannot chat: use `skein run --raw` to continue a text, or put a chat_template.jinja beside the model"
    )]
    NoTemplate {
        /// The model's name.
        model: String,
    },
    /// Sampling parameters out of their range.
    #[error(transparent)]
    Sampling(#[from] skein_text::sampler::ParamsError),
    /// A stop text that cannot be.
    #[error("--stop: {0}")]
    Stop(#[from] StopError),
    /// The prompt fills the context.
    #[error(
        "the prompt has {prompt} tokens and the context {context}: no room is left for an answer"
    )]
    ContextFull {
        /// Tokens of the prompt.
        prompt: usize,
        /// The context.
        context: usize,
    },
    /// The engine refused.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The engine failed.
    #[error(transparent)]
    Failed(#[from] GenerationError),
    /// The text could not be written.
    #[error("cannot write the answer")]
    Output(#[from] io::Error),
}

/// A finished answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// Its tokens, without the one that ended it.
    pub tokens: Vec<u32>,
    /// `stop`, `length` or `interrupted`.
    pub finish: &'static str,
    /// What was used.
    pub usage: Usage,
}

/// Turns events into text, without I/O.
#[derive(Debug)]
pub struct Assembly {
    detokenizer: Detokenizer,
    stop: StopMatcher,
    answer: Answer,
    ended: bool,
}

impl Assembly {
    /// For one answer that ends before any of `stops`.
    pub fn new(tokenizer: &Tokenizer, stops: &[String]) -> Result<Self, StopError> {
        Ok(Self {
            detokenizer: Detokenizer::new(tokenizer),
            stop: StopMatcher::new(stops, STOPS_MAX)?,
            answer: Answer {
                text: String::new(),
                tokens: Vec::new(),
                finish: "interrupted",
                usage: Usage::default(),
            },
            ended: false,
        })
    }

    /// Whether the answer has ended: what still runs for it is to be dropped.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The text that an event adds.
    pub fn push(&mut self, event: Event) -> Result<String, GenerationError> {
        match event {
            Event::Started {
                prompt_tokens,
                reused_tokens,
            } => {
                self.answer.usage.prompt = prompt_tokens;
                self.answer.usage.reused = reused_tokens;
                Ok(String::new())
            }
            Event::Token(token) => {
                self.answer.tokens.push(token.id);
                self.answer.usage.completion += 1;
                let text = self.detokenizer.push(token.id);
                Ok(self.show(&text))
            }
            Event::Finished { reason, usage } => {
                self.answer.usage = usage;
                self.answer.finish = match reason {
                    FinishReason::Stop(_) => "stop",
                    FinishReason::Length => "length",
                    _ => "interrupted",
                };
                let rest = self.detokenizer.finish();
                let mut text = self.show(&rest);
                if !self.ended {
                    let held = self.stop.finish();
                    self.answer.text.push_str(&held);
                    text.push_str(&held);
                }
                self.ended = true;
                Ok(text)
            }
            Event::Failed { error } => Err(error),
        }
    }

    fn show(&mut self, text: &str) -> String {
        let step = self.stop.push(text);
        if step.stopped.is_some() {
            self.ended = true;
            self.answer.finish = "stop";
        }
        self.answer.text.push_str(&step.text);
        step.text
    }

    /// What there is.
    pub fn into_answer(self) -> Answer {
        self.answer
    }
}

/// Reads an answer to its end, or until `interrupted` is done, handing its text to `show`.
///
/// # Cancel safety
/// Dropping it ends the work; what was shown stays shown.
pub async fn read(
    mut generation: Generation,
    mut assembly: Assembly,
    interrupted: impl Future<Output = ()>,
    mut show: impl FnMut(&str) -> io::Result<()>,
) -> Result<Answer, GenerateError> {
    let mut interrupted = std::pin::pin!(interrupted);
    while !assembly.ended() {
        let event = tokio::select! {
            biased;
            () = &mut interrupted => break,
            event = generation.next() => event,
        };
        let Some(event) = event else { break };
        let text = assembly.push(event)?;
        if !text.is_empty() {
            show(&text)?;
        }
    }
    Ok(assembly.into_answer())
}
