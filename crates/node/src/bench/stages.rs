//! The measurements themselves, on the stage that serves requests, with the sampler that does.

use skein_base::Scores;
use skein_model::KvFull;
use skein_runtime::Clock;
use skein_serving::stage::{BatchEntry, ModelStage, Paging, Stage as _, StageError};
use skein_text::sampler::{SampleError, Sampler, SamplingParams};

use super::checkpoint::Random;

/// Why a measurement failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// The model refused.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// No room for the sessions.
    #[error("not enough KV memory for the measurement")]
    Kv(#[from] KvFull),
    /// No next token.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The model's context is too short.
    #[error(
        "{needed} tokens are needed, the model's context has {context}; lower --prompt or --decode"
    )]
    Context {
        /// Tokens needed.
        needed: usize,
        /// The context length.
        context: usize,
    },
}

/// Tokens in one pass while a prompt is read: what the engine does by default.
const CHUNK: usize = 512;

type Sequence = <ModelStage as Paging>::Sequence;

/// Measures one model.
#[derive(Debug)]
pub struct Measured<'a> {
    /// The model.
    pub stage: ModelStage,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Prompts.
    pub random: Random,
}

/// A session in the middle of a measurement.
struct Session {
    sequence: Sequence,
    sampler: Sampler,
    next: u32,
}

impl Session {
    fn entry(&mut self) -> BatchEntry<'_, Sequence> {
        BatchEntry {
            sequence: &mut self.sequence,
            rows: 1,
            scored: true,
            asked: &[],
            trace: skein_base::TraceId::default(),
        }
    }
}

impl Measured<'_> {
    /// Refuses measurements that the model has no room for.
    pub fn check(&self, tokens: usize) -> Result<(), MeasureError> {
        let context = self.stage.limits().context;
        match tokens > context {
            true => Err(MeasureError::Context {
                needed: tokens,
                context,
            }),
            false => Ok(()),
        }
    }

    /// Seconds from the prompt to its first token.
    pub fn first_token(&mut self, prompt: usize) -> Result<f64, MeasureError> {
        let ids = self.random.ids(prompt, self.stage.limits().vocabulary);
        let start = self.clock.now();
        let session = self.begin(&ids)?;
        let seconds = self.clock.now().since(start).as_secs_f64();
        self.stage.release(session.sequence);
        Ok(seconds)
    }

    /// Tokens per second, of all together, of `batch` sessions with `before` tokens each that get
    /// `tokens` more.
    pub fn decode(
        &mut self,
        batch: usize,
        before: usize,
        tokens: usize,
    ) -> Result<f64, MeasureError> {
        let mut sessions = Vec::with_capacity(batch);
        for _ in 0..batch {
            let ids = self.random.ids(before, self.stage.limits().vocabulary);
            sessions.push(self.begin(&ids)?);
        }
        let seconds = self.steps(&mut sessions, tokens)?;
        self.release(sessions);
        Ok((batch * tokens) as f64 / seconds.max(1e-9))
    }

    /// One session with `tokens` tokens gets as many more, in pieces: the tokens and the seconds of each. `between` is
    /// called before the first piece and after each.
    pub fn decode_in_pieces(
        &mut self,
        tokens: usize,
        piece: usize,
        between: &mut dyn FnMut(),
    ) -> Result<Vec<(usize, f64)>, MeasureError> {
        let ids = self.random.ids(tokens, self.stage.limits().vocabulary);
        let mut sessions = vec![self.begin(&ids)?];
        let mut pieces = Vec::with_capacity(tokens.div_ceil(piece));
        between();
        for first in (0..tokens).step_by(piece) {
            let length = piece.min(tokens - first);
            pieces.push((length, self.steps(&mut sessions, length)?));
            between();
        }
        self.release(sessions);
        Ok(pieces)
    }

    /// Seconds that so many steps take.
    fn steps(&mut self, sessions: &mut [Session], count: usize) -> Result<f64, MeasureError> {
        let start = self.clock.now();
        for _ in 0..count {
            self.step(sessions)?;
        }
        Ok(self.clock.now().since(start).as_secs_f64())
    }

    fn release(&mut self, sessions: Vec<Session>) {
        for session in sessions {
            self.stage.release(session.sequence);
        }
    }

    fn begin(&mut self, ids: &[u32]) -> Result<Session, MeasureError> {
        let mut sequence = self.stage.sequence();
        let mut sampler = Sampler::new(greedy(), ids);
        let mut scores = Vec::new();
        for (index, chunk) in ids.chunks(CHUNK).enumerate() {
            let filled = self.stage.filled(&sequence);
            self.stage.reserve(&mut sequence, filled + chunk.len())?;
            let scored = (index + 1) * CHUNK >= ids.len();
            let entry = BatchEntry {
                sequence: &mut sequence,
                rows: chunk.len(),
                scored,
                asked: &[],
                trace: skein_base::TraceId::default(),
            };
            scores = self.stage.forward(&mut [entry], chunk)?;
        }
        let next = choose(&mut sampler, scores.first())?;
        Ok(Session {
            sequence,
            sampler,
            next,
        })
    }

    fn step(&mut self, sessions: &mut [Session]) -> Result<(), MeasureError> {
        for session in sessions.iter_mut() {
            let filled = self.stage.filled(&session.sequence);
            self.stage.reserve(&mut session.sequence, filled + 1)?;
        }
        let ids: Vec<u32> = sessions.iter().map(|session| session.next).collect();
        let mut batch: Vec<_> = sessions.iter_mut().map(Session::entry).collect();
        let scores = self.stage.forward(&mut batch, &ids)?;
        for (session, scores) in sessions.iter_mut().zip(&scores) {
            session.next = choose(&mut session.sampler, Some(scores))?;
        }
        Ok(())
    }
}

fn greedy() -> SamplingParams {
    SamplingParams {
        temperature: 0.0,
        ..SamplingParams::default()
    }
}

fn choose(sampler: &mut Sampler, scores: Option<&Scores>) -> Result<u32, MeasureError> {
    let missing = StageError::ScoreCount {
        found: 0,
        expected: 1,
    };
    Ok(sampler.sample(scores.ok_or(missing)?)?.id)
}
