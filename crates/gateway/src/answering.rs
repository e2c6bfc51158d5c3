//! One request's choices while they are generated.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll, Stream, StreamExt as _};
use skein_serving::Event;

use crate::assembly::{Assembly, End, Piece};
use crate::error::ApiError;
use crate::openai::answer::Usage;
use crate::state::{Client, Place, State};

/// How long clients are told to wait when no answer began in time.
const TIMED_OUT_RETRY: Duration = Duration::from_secs(10);

/// A piece of one choice.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) choice: usize,
    pub(crate) piece: Piece,
}

/// All choices of a request. Dropping it ends their work at once.
#[derive(Debug)]
pub(crate) struct Answering {
    running: SelectAll<Running>,
    ledger: Ledger,
}

/// One choice; ends by dropping its source, so that what nobody will read is not computed.
struct Running {
    choice: usize,
    assembly: Assembly,
    events: Option<BoxStream<'static, Event>>,
    counted: usize,
}

/// Accounts for a request, at the latest when it is dropped.
#[derive(Debug)]
struct Ledger {
    state: Arc<State>,
    client: Client,
    span: tracing::Span,
    arrived: Duration,
    /// Tokens of all distinct prompts, and how many of them were reused at most.
    prompt: usize,
    choices_per_prompt: usize,
    reused: Vec<usize>,
    completion: Vec<usize>,
    ended: usize,
    _place: Place,
}

/// What belongs to the request rather than to a choice.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) state: Arc<State>,
    pub(crate) client: Client,
    pub(crate) place: Place,
    /// When it came, since the clock's start.
    pub(crate) arrived: Duration,
    /// Tokens of all its prompts together.
    pub(crate) prompt_tokens: usize,
    pub(crate) choices_per_prompt: usize,
}

impl Answering {
    /// `choices` in the order of their index: for each prompt its choices.
    pub(crate) fn new(origin: Origin, choices: Vec<(Assembly, BoxStream<'static, Event>)>) -> Self {
        let count = choices.len();
        let running = choices
            .into_iter()
            .enumerate()
            .map(|(choice, (assembly, events))| Running {
                choice,
                assembly,
                events: Some(events),
                counted: 0,
            });
        origin
            .state
            .metrics
            .prompt_tokens
            .increment(origin.prompt_tokens as u64);
        let ledger = Ledger {
            state: origin.state,
            client: origin.client,
            span: tracing::Span::current(),
            arrived: origin.arrived,
            prompt: origin.prompt_tokens,
            choices_per_prompt: origin.choices_per_prompt,
            reused: vec![0; count],
            completion: vec![0; count],
            ended: 0,
            _place: origin.place,
        };
        Self {
            running: running.collect(),
            ledger,
        }
    }

    /// The next piece of any choice; `None` when all have ended.
    ///
    /// # Errors
    /// What a client is told if a choice failed. All others are to be dropped then.
    ///
    /// # Cancel safety
    /// Safe: a piece is either returned or still to come.
    pub(crate) async fn next(&mut self) -> Result<Option<Part>, ApiError> {
        let Some((part, counts)) = self.running.next().await else {
            return Ok(None);
        };
        self.ledger.count(part.choice, counts);
        match &part.piece.end {
            None => return Ok(Some(part)),
            Some(_) => self.ledger.ended += 1,
        }
        match &part.piece.end {
            Some(End::Failed(reason)) => {
                tracing::error!(choice = part.choice, %reason, "generation failed");
                Err(ApiError::internal())
            }
            Some(End::TimedOut) => Err(ApiError::overloaded(TIMED_OUT_RETRY)),
            Some(End::Stopping) => Err(ApiError::unavailable(
                "The server is stopping. Please try again in a moment.",
            )),
            Some(End::Finished(_)) | None => Ok(Some(part)),
        }
    }

    /// Tokens so far.
    pub(crate) fn usage(&self) -> Usage {
        let ledger = &self.ledger;
        // The choices of one prompt share it; it counts once, as it is billed by others.
        let reused = ledger
            .reused
            .iter()
            .step_by(ledger.choices_per_prompt.max(1));
        let completion = ledger.completion.iter().sum();
        Usage::new(ledger.prompt, completion, reused.sum())
    }
}

impl Ledger {
    fn count(&mut self, choice: usize, (usage, fresh): (skein_serving::Usage, usize)) {
        if fresh > 0 {
            let now = self.state.now();
            if self.completion.iter().all(|&count| count == 0) {
                let waited = now.saturating_sub(self.arrived);
                self.state
                    .metrics
                    .first_token_seconds
                    .record(waited.as_secs_f64());
            }
            self.client.charge_tokens(fresh, now);
            self.state.metrics.completion_tokens.increment(fresh as u64);
        }
        self.reused[choice] = usage.reused;
        self.completion[choice] = usage.completion;
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let reused: usize = self
            .reused
            .iter()
            .step_by(self.choices_per_prompt.max(1))
            .sum();
        self.state.metrics.cached_tokens.increment(reused as u64);
        let abandoned = self.ended < self.completion.len();
        if abandoned {
            self.state.metrics.abandoned.increment(1);
        }
        let took = self.state.now().saturating_sub(self.arrived);
        let completion: usize = self.completion.iter().sum();
        let _in_span = self.span.enter();
        tracing::info!(
            prompt_tokens = self.prompt,
            cached_tokens = reused,
            completion_tokens = completion,
            seconds = took.as_secs_f64(),
            abandoned,
            "answer ended"
        );
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("choice", &self.choice)
            .field("assembly", &self.assembly)
            .finish_non_exhaustive()
    }
}

impl Stream for Running {
    /// A part, and the choice's tokens so far and since the last part.
    type Item = (Part, (skein_serving::Usage, usize));

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(events) = &mut this.events else {
            return Poll::Ready(None);
        };
        let Poll::Ready(event) = events.poll_next_unpin(cx) else {
            return Poll::Pending;
        };
        let piece = this.assembly.push(event);
        if piece.end.is_some() {
            this.events = None;
        }
        let usage = this.assembly.usage();
        let fresh = usage.completion.saturating_sub(this.counted);
        this.counted = usage.completion;
        let part = Part {
            choice: this.choice,
            piece,
        };
        Poll::Ready(Some((part, (usage, fresh))))
    }
}
