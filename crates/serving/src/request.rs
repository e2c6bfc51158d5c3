//! What goes into the engine and what comes out.

use std::sync::Arc;
use std::time::Duration;

use skein_base::TraceId;

use crate::stage::{StageError, StageLimits};

/// Who asks. Fairness is between clients, and KV is shared within one client only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// The client of that name: an account, a hash of an API key, an address.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A prompt to be continued.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who asks.
    pub client: ClientId,
    /// Token ids; at least one.
    pub prompt: Vec<u32>,
    /// Most tokens to generate; at least one. `prompt + max_tokens` may not exceed the context.
    pub max_tokens: usize,
    /// How to choose tokens, and how many alternatives to report with each.
    pub sampling: skein_text::SamplingParams,
    /// Ids that end the answer: those of the model and those of the request.
    pub stop_ids: Vec<u32>,
    /// Whether to go on past [`Self::stop_ids`] up to `max_tokens`, as benchmarks do.
    pub ignore_eos: bool,
    /// Time from submission after which the answer ends as it is.
    pub deadline: Option<Duration>,
    /// Names the request in the logs of all machines that work for it.
    pub trace: TraceId,
}

/// What happens to a request, in order: `Started` once, `Token` for each, then `Finished` or
/// `Failed`, after which nothing comes. A request may end before it started.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Computing began.
    Started {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// How many of them were not computed again; always fewer than `prompt_tokens`.
        reused_tokens: usize,
    },
    /// One more token.
    Token(Token),
    /// The end.
    Finished {
        /// Why it ended.
        reason: FinishReason,
        /// What was used.
        usage: Usage,
    },
    /// The end without an answer.
    Failed {
        /// What went wrong.
        error: GenerationError,
    },
}

/// A generated token. The one that ended the answer is in [`FinishReason::Stop`] instead.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Natural logarithm of its probability under the model, before any sampling rule.
    pub logprob: f32,
    /// The best tokens with theirs, best first, as many as were asked for.
    pub top: Vec<(u32, f32)>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinishReason {
    /// This stop id was chosen.
    Stop(u32),
    /// `max_tokens` were generated.
    Length,
    /// The request's time was over.
    Deadline,
    /// The engine is shutting down.
    Shutdown,
}

/// Tokens that a request used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens generated, the stop id included.
    pub completion: usize,
    /// Tokens of the prompt that were taken from an earlier sequence of the same client.
    pub reused: usize,
}

/// Why an accepted request failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerationError {
    /// The model refused this session's rows. Other sessions go on.
    #[error("session {session} failed in the model: {source}")]
    Stage {
        /// The session.
        session: u64,
        /// What the model said.
        source: StageError,
    },
    /// No next token could be chosen.
    #[error("session {session}: no token can be chosen: {source}")]
    Sampling {
        /// The session.
        session: u64,
        /// What the sampler said.
        source: skein_text::sampler::SampleError,
    },
    /// The reader took no events for longer than the engine allows.
    #[error("session {session} was ended: its events were not read for {seconds} s")]
    Stalled {
        /// The session.
        session: u64,
        /// How long it waited.
        seconds: u64,
    },
    /// The engine ended before the answer did.
    #[error("the engine stopped; submit the request again once it runs")]
    EngineStopped,
}

/// Why a request was not accepted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// There is nothing to continue.
    #[error("the prompt is empty: give at least one token")]
    EmptyPrompt,
    /// Nothing is asked for.
    #[error("max_tokens is 0: ask for at least one token")]
    NoTokens,
    /// A token id outside the vocabulary.
    #[error("token id {id} at {index} of the prompt is outside the vocabulary of {vocabulary}")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Its place in the prompt.
        index: usize,
        /// The vocabulary's size.
        vocabulary: u32,
    },
    /// Prompt and answer are longer than the model's context.
    #[error(
        "{prompt} prompt tokens and max_tokens {max_tokens} exceed the context of {context}: \
         shorten the prompt or lower max_tokens"
    )]
    ContextTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens asked for.
        max_tokens: usize,
        /// The context length.
        context: usize,
    },
    /// Prompt and answer are longer than all KV memory holds.
    #[error(
        "{prompt} prompt tokens and max_tokens {max_tokens} need {needed} KV pages, there are \
         {total} in all: lower max_tokens or give the server more KV memory"
    )]
    NeverFits {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens asked for.
        max_tokens: usize,
        /// Pages needed.
        needed: usize,
        /// Pages there are.
        total: usize,
    },
    /// A sampling parameter is out of its range.
    #[error(transparent)]
    Sampling(#[from] skein_text::sampler::ParamsError),
    /// The queue is full.
    #[error("busy: {waiting} requests wait already; retry after {} s", retry_after.as_secs())]
    Busy {
        /// Requests waiting, of all clients or of this one, whichever bound was met.
        waiting: usize,
        /// When to try again: whole seconds, at least one.
        retry_after: Duration,
    },
    /// The engine takes no more requests.
    #[error("the engine is shutting down")]
    ShuttingDown,
}

impl Request {
    /// Refuses at once what can never be served.
    pub fn check(&self, limits: &StageLimits) -> Result<(), SubmitError> {
        let (prompt, max_tokens) = (self.prompt.len(), self.max_tokens);
        if prompt == 0 {
            return Err(SubmitError::EmptyPrompt);
        }
        if max_tokens == 0 {
            return Err(SubmitError::NoTokens);
        }
        let context = limits.context;
        if prompt.saturating_add(max_tokens) > context {
            return Err(SubmitError::ContextTooLong {
                prompt,
                max_tokens,
                context,
            });
        }
        // The last token is told and never fed, so it needs no position.
        let needed = (prompt + max_tokens - 1).div_ceil(limits.page_positions);
        let total = limits.total_pages;
        if needed > total {
            return Err(SubmitError::NeverFits {
                prompt,
                max_tokens,
                needed,
                total,
            });
        }
        let vocabulary = limits.vocabulary;
        self.sampling.validate(vocabulary)?;
        match self.prompt.iter().position(|&id| id >= vocabulary) {
            Some(index) => {
                let id = self.prompt[index];
                Err(SubmitError::TokenOutOfRange {
                    id,
                    index,
                    vocabulary,
                })
            }
            None => Ok(()),
        }
    }
}
