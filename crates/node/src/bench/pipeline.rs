//! Measuring a model cut over processes, next to the same model in one.
//!
//! # Floors
//! - **A hop** carries a residual row (4 bytes times the width, 3.5 KiB at 896) through one encrypted
//!   TCP connection of loopback. The transport alone took 21 us at p50 and 64 us at p99 for such a
//!   frame (`docs/transport.md`); the rest is waking the thread of links, and the one
//!   that computes where a pass is long.
//! - **Decode of one session** cannot be faster than one process: every weight is read once for a
//!   token, wherever it is, and every hop is on the way. So it is that time plus the legs.
//! - **Decode of many sessions**: a batch reads the weights once for all of them. Stages of one machine
//!   share its memory and its cores, so the bound is that of one process.
//! - **Prefill in chunks**: with a core for each stage, the time of `C` chunks through `S` stages is
//!   `(C + S - 1) / (C * S)` of what one stage after the other takes.
//! - **A fault** stops a session until the fault is noticed, a way is set up again, and what the session
//!   had (prompt and answer so far) is computed again: its prefill through all stages. Cold, a process
//!   must be started and its weights be read before.
//! - **Delay**: a token takes what is computed, and each leg once.

use std::sync::Arc;
use std::time::Duration;

use skein_runtime::{Clock, Instant};
use skein_serving::view::View;
use skein_serving::{
    ClientId, EngineHandle, Event, Generation, GenerationError, Request, SubmitError,
};
use skein_text::SamplingParams;

use super::checkpoint::Random;

/// Why a measurement failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineBenchError {
    /// A request was refused.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// A request failed.
    #[error(transparent)]
    Failed(#[from] GenerationError),
    /// An answer ended too early.
    #[error("an answer ended before its last token")]
    Ended,
}

/// Tokens of each session before its speed is measured: until all of them run.
const WARM: usize = 4;
/// Tokens after a fault, among which the stall is.
const AFTER: usize = 12;

/// An engine, whatever is behind it.
#[derive(Debug)]
pub struct Subject {
    /// Submits to it.
    pub handle: EngineHandle,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Prompts.
    pub random: Random,
}

impl Subject {
    fn request(&mut self, prompt: usize, tokens: usize) -> Request {
        let vocabulary = self.handle.limits().vocabulary;
        Request {
            client: ClientId::new("bench"),
            prompt: self.random.ids(prompt, vocabulary),
            max_tokens: tokens,
            sampling: SamplingParams {
                temperature: 0.0,
                ..SamplingParams::default()
            },
            stop_ids: Vec::new(),
            ignore_eos: true,
            deadline: None,
            trace: skein_base::TraceId::default(),
        }
    }

    /// Seconds from a request to its first token, for a prompt that nobody has seen.
    ///
    /// # Errors
    /// See [`PipelineBenchError`].
    ///
    /// # Cancel safety
    /// Cancelled, the request ends.
    pub async fn first_token(&mut self, prompt: usize) -> Result<f64, PipelineBenchError> {
        let request = self.request(prompt, 1);
        let began = self.clock.now();
        let mut generation = self.handle.submit(request)?;
        token(&mut generation).await?;
        Ok(self.clock.now().since(began).as_secs_f64())
    }

    /// Tokens a second of so many sessions together, each after `prompt` tokens.
    ///
    /// # Errors
    /// See [`PipelineBenchError`].
    ///
    /// # Cancel safety
    /// Cancelled, the requests end.
    pub async fn decode(
        &mut self,
        sessions: usize,
        (prompt, tokens): (usize, usize),
    ) -> Result<f64, PipelineBenchError> {
        let requests: Vec<_> = (0..sessions)
            .map(|_| self.request(prompt, tokens + WARM + 1))
            .collect();
        let mut times = vec![Vec::new(); sessions];
        let mut reading = Vec::new();
        for (request, times) in requests.into_iter().zip(&mut times) {
            let generation = self.handle.submit(request)?;
            reading.push(read(generation, self.clock.as_ref(), times));
        }
        all(reading).await?;
        if times.iter().any(|times| times.len() < WARM + tokens) {
            return Err(PipelineBenchError::Ended);
        }
        Ok(speed(&times, tokens))
    }

    /// Longest time between two tokens of a session, in seconds, when `fault` happens after some of
    /// them and `prompt` tokens.
    ///
    /// # Errors
    /// See [`PipelineBenchError`].
    ///
    /// # Cancel safety
    /// Cancelled, the request ends.
    pub async fn stall(
        &mut self,
        prompt: usize,
        fault: impl FnOnce(),
    ) -> Result<f64, PipelineBenchError> {
        let request = self.request(prompt, WARM + AFTER);
        let mut generation = self.handle.submit(request)?;
        for _ in 0..WARM {
            token(&mut generation).await?;
        }
        fault();
        let (mut last, mut longest) = (self.clock.now(), Duration::ZERO);
        for _ in 0..AFTER {
            token(&mut generation).await?;
            let now = self.clock.now();
            longest = longest.max(now.since(last));
            last = now;
        }
        Ok(longest.as_secs_f64())
    }

    /// What the engine says of itself.
    pub fn view(&self) -> View {
        self.handle.view()
    }
}

async fn token(generation: &mut Generation) -> Result<(), PipelineBenchError> {
    loop {
        match generation.next().await {
            Some(Event::Token(_)) => return Ok(()),
            Some(Event::Failed { error }) => return Err(error.into()),
            Some(Event::Started { .. }) => {}
            Some(Event::Finished { .. }) | None => return Err(PipelineBenchError::Ended),
        }
    }
}

/// Notes when each token came, until the end.
async fn read(
    mut generation: Generation,
    clock: &dyn Clock,
    times: &mut Vec<Instant>,
) -> Result<(), PipelineBenchError> {
    loop {
        match generation.next().await {
            Some(Event::Token(_)) => times.push(clock.now()),
            Some(Event::Failed { error }) => return Err(error.into()),
            Some(Event::Started { .. }) => {}
            Some(Event::Finished { .. }) | None => return Ok(()),
        }
    }
}

/// All of them, on this task.
async fn all<T: Future<Output = Result<(), PipelineBenchError>>>(
    futures: Vec<T>,
) -> Result<(), PipelineBenchError> {
    let mut running: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(move |context| {
        let mut failed = None;
        running.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Pending => true,
            std::task::Poll::Ready(done) => {
                failed = failed.take().or(done.err());
                false
            }
        });
        match (failed, running.is_empty()) {
            (Some(error), _) => std::task::Poll::Ready(Err(error)),
            (None, true) => std::task::Poll::Ready(Ok(())),
            (None, false) => std::task::Poll::Pending,
        }
    })
    .await
}

/// From when all sessions run to when the first one is through: tokens a second of all. Each session
/// has more than `tokens` after the first [`WARM`].
fn speed(times: &[Vec<Instant>], tokens: usize) -> f64 {
    let began = times.iter().map(|times| times[WARM - 1]).max();
    let ended = times.iter().map(|times| times[WARM + tokens - 1]).min();
    let (Some(began), Some(ended)) = (began, ended) else {
        return 0.0;
    };
    let between = |at: &&Instant| (began < **at) && (**at <= ended);
    let count = times.iter().flatten().filter(between).count();
    count as f64 / ended.since(began).as_secs_f64().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_while_all_run_count() {
        let at = |ms: u64| Instant::START.after(Duration::from_millis(ms));
        // One every 10 ms from 0 on, and one every 20 ms from 100 on.
        let quick: Vec<_> = (0..20).map(|n| at(10 * n)).collect();
        let slow: Vec<_> = (0..20).map(|n| at(100 + 20 * n)).collect();
        // All have four at 160 ms; the quick one's fourteenth came at 130 ms: never all at once.
        assert_eq!(speed(&[quick.clone(), slow], 10), 0.0);
        let later: Vec<_> = (0..20).map(|n| at(50 + 10 * n)).collect();
        // From 80 to 130 ms, five of each.
        assert_eq!(speed(&[quick.clone(), later], 10), 10.0 / 0.05);
        assert_eq!(speed(&[quick], 10), 100.0);
    }
}
