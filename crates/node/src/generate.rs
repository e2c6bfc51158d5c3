//! Answers as they are made: in this process from tokens to text, or by a server.

use std::io;

use skein_serving::{Event, FinishReason, Generation, GenerationError, SubmitError, Usage};
use skein_text::stop::StopError;
use skein_text::template::TemplateError;
use skein_text::tokenizer::EncodeError;
use skein_text::{Detokenizer, StopMatcher, Tokenizer};

use crate::remote::RemoteError;

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
    /// The server did not answer.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The text could not be written.
    #[error("cannot write the answer")]
    Output(#[from] io::Error),
}

/// A finished answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// Its tokens, without the one that ended it; `None` if a server does not tell.
    pub tokens: Option<Vec<u32>>,
    /// `stop`, `length` or `interrupted`; `other` for what other servers may say.
    pub finish: &'static str,
    /// What was used; `None` if a server does not tell.
    pub usage: Option<Usage>,
}

/// An answer in the making.
pub trait Source {
    /// The text that comes next; `None` when all has come.
    fn next(&mut self) -> impl Future<Output = Result<Option<String>, GenerateError>>;

    /// What there is. Ends the work if it is still going on.
    fn into_answer(self) -> Answer;
}

/// An answer that this process makes.
#[derive(Debug)]
pub struct LocalAnswer {
    generation: Generation,
    assembly: Assembly,
}

impl LocalAnswer {
    /// What `generation` says, put together by `assembly`.
    pub fn new(generation: Generation, assembly: Assembly) -> Self {
        Self {
            generation,
            assembly,
        }
    }
}

impl Source for LocalAnswer {
    /// # Cancel safety
    /// Safe: an event is either taken or still to come.
    async fn next(&mut self) -> Result<Option<String>, GenerateError> {
        if self.assembly.ended() {
            return Ok(None);
        }
        match self.generation.next().await {
            Some(event) => Ok(Some(self.assembly.push(event)?)),
            None => Ok(None),
        }
    }

    fn into_answer(self) -> Answer {
        self.assembly.into_answer()
    }
}

/// Turns events into text, without I/O.
#[derive(Debug)]
pub struct Assembly {
    detokenizer: Detokenizer,
    stop: StopMatcher,
    text: String,
    tokens: Vec<u32>,
    finish: &'static str,
    usage: Usage,
    ended: bool,
}

impl Assembly {
    /// For one answer that ends before any of `stops`.
    pub fn new(tokenizer: &Tokenizer, stops: &[String]) -> Result<Self, StopError> {
        Ok(Self {
            detokenizer: Detokenizer::new(tokenizer),
            stop: StopMatcher::new(stops, STOPS_MAX)?,
            text: String::new(),
            tokens: Vec::new(),
            finish: "interrupted",
            usage: Usage::default(),
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
                self.usage.prompt = prompt_tokens;
                self.usage.reused = reused_tokens;
                Ok(String::new())
            }
            Event::Token(token) => {
                self.tokens.push(token.id);
                self.usage.completion += 1;
                let text = self.detokenizer.push(token.id);
                Ok(self.show(&text))
            }
            Event::Finished { reason, usage } => {
                self.usage = usage;
                self.finish = match reason {
                    FinishReason::Stop(_) => "stop",
                    FinishReason::Length => "length",
                    _ => "interrupted",
                };
                let rest = self.detokenizer.finish();
                let mut text = self.show(&rest);
                if !self.ended {
                    let held = self.stop.finish();
                    self.text.push_str(&held);
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
            self.finish = "stop";
        }
        self.text.push_str(&step.text);
        step.text
    }

    /// What there is.
    pub fn into_answer(self) -> Answer {
        Answer {
            text: self.text,
            tokens: Some(self.tokens),
            finish: self.finish,
            usage: Some(self.usage),
        }
    }
}

/// Reads an answer to its end, or until `interrupted` is done, handing its text to `show`.
///
/// # Cancel safety
/// Dropping it ends the work; what was shown stays shown.
pub async fn read(
    mut source: impl Source,
    interrupted: impl Future<Output = ()>,
    mut show: impl FnMut(&str) -> io::Result<()>,
) -> Result<Answer, GenerateError> {
    let mut interrupted = std::pin::pin!(interrupted);
    loop {
        let text = tokio::select! {
            biased;
            () = &mut interrupted => break,
            text = source.next() => text?,
        };
        match text {
            None => break,
            Some(text) if text.is_empty() => {}
            Some(text) => show(&text)?,
        }
    }
    Ok(source.into_answer())
}
