//! A step: computed, then taken in.

use skein_base::Scores;
use skein_runtime::Instant;
use skein_text::Sampled;

use super::plan::PlanEntry;
use super::{Plan, Scheduler, SessionId};
use crate::request::{Event, FinishReason, GenerationError, Token};
use crate::stage::{BatchEntry, Stage, StageError};

/// What became of one entry of a plan: scores if it was to be scored.
pub(crate) type EntryResult = Result<Option<Scores>, StageError>;

/// What became of a plan, entry by entry.
#[derive(Debug)]
pub struct StepResult {
    entries: Vec<EntryResult>,
}

impl<S: Stage> Scheduler<S> {
    /// Computes a plan. If the stage refuses the batch, each entry is run alone, so that only those
    /// fail that are themselves at fault.
    pub fn forward(&mut self, plan: &Plan, stage: &mut S) -> StepResult {
        let entries = match self.run(&plan.entries, stage) {
            Ok(scores) => scores.into_iter().map(Ok).collect(),
            // The stage broke its contract: what it did to the sequences is unknown.
            Err(error @ StageError::ScoreCount { .. }) => {
                plan.entries.iter().map(|_| Err(error.clone())).collect()
            }
            Err(error) if plan.entries.len() == 1 => vec![Err(error)],
            Err(error) => {
                tracing::warn!(%error, sessions = plan.sessions(), "batch refused, run one by one");
                plan.entries
                    .iter()
                    .map(|entry| self.run_alone(entry, stage))
                    .collect()
            }
        };
        StepResult { entries }
    }

    fn run_alone(&mut self, entry: &PlanEntry, stage: &mut S) -> EntryResult {
        let mut scores = self.run(std::slice::from_ref(entry), stage)?;
        Ok(scores.pop().flatten())
    }

    fn run(
        &mut self,
        entries: &[PlanEntry],
        stage: &mut S,
    ) -> Result<Vec<Option<Scores>>, StageError> {
        let mut ids = Vec::new();
        let mut batch = Vec::with_capacity(entries.len());
        // Plan and sessions are both in order of age.
        let mut rest = entries.iter().peekable();
        for (id, session) in &mut self.sessions {
            let Some(entry) = rest.next_if(|entry| entry.session == *id) else {
                continue;
            };
            let kv = session
                .kv
                .as_mut()
                .expect("a planned session keeps its KV until completed");
            ids.extend_from_slice(&session.history[entry.from..entry.from + entry.rows]);
            batch.push(BatchEntry {
                sequence: kv,
                rows: entry.rows,
                scored: entry.scored,
                asked: &entry.asked,
            });
        }
        let scores = stage.forward(&mut batch, &ids)?;
        let expected = entries.iter().filter(|entry| entry.scored).count();
        if scores.len() != expected {
            return Err(StageError::ScoreCount {
                found: scores.len(),
                expected,
            });
        }
        let mut scores = scores.into_iter();
        Ok(entries
            .iter()
            .map(|entry| entry.scored.then(|| scores.next()).flatten())
            .collect())
    }

    /// Takes the result of a plan in: chooses tokens and ends sessions.
    pub fn complete(&mut self, now: Instant, plan: &Plan, result: StepResult, stage: &mut S) {
        for (entry, result) in plan.entries.iter().zip(result.entries) {
            match result {
                Ok(Some(scores)) => self.token(now, entry.session, &scores, stage),
                Ok(None) => {}
                Err(error) => {
                    let error = GenerationError::Stage {
                        session: entry.session.0,
                        source: error,
                    };
                    self.fail(entry.session, error, stage);
                }
            }
        }
    }

    fn token(&mut self, now: Instant, id: SessionId, scores: &Scores, stage: &mut S) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Sampled {
            id: token,
            logprob,
            top,
        } = match session.sampler.sample(scores) {
            Ok(sampled) => sampled,
            Err(source) => {
                let error = GenerationError::Sampling {
                    session: id.0,
                    source,
                };
                return self.fail(id, error, stage);
            }
        };
        session.completion += 1;
        self.stats.tokens += 1;
        if session.completion == 1 {
            self.stats.first_token.push(now.since(session.submitted));
        }
        if session.stop_ids.binary_search(&token).is_ok() {
            return self.finish(id, FinishReason::Stop(token), stage);
        }
        session.history.push(token);
        let full = session.completion >= session.max_tokens;
        self.events.push((
            id,
            Event::Token(Token {
                id: token,
                logprob,
                top,
            }),
        ));
        if full {
            self.finish(id, FinishReason::Length, stage);
        }
    }
}
