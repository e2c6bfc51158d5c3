//! A step: computed, then taken in.

use skein_base::Scores;
use skein_runtime::Instant;
use skein_text::Sampled;

use super::{Plan, Scheduler, SessionId, Step};
use crate::request::{Event, FinishReason, GenerationError, Token};
use crate::stage::{BatchEntry, Executor, Progress, StageError, Ticket};

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Flight {
    plan: Plan,
    began: Instant,
}

impl Flight {
    /// Whether sessions get a token from it.
    pub(super) fn decodes(&self) -> bool {
        self.plan.entries.iter().any(|entry| entry.scored)
    }
}

impl<E: Executor> Scheduler<E> {
    /// Begins a plan. If the batch is refused, each entry is begun alone, so that only those fail
    /// that are themselves at fault.
    pub fn begin(&mut self, now: Instant, plan: Plan, executor: &mut E) {
        let Err(error) = self.try_begin(now, &plan, executor) else {
            return;
        };
        if let [entry] = plan.entries.as_slice() {
            return self.refused(entry.session, error, executor);
        }
        tracing::warn!(%error, sessions = plan.sessions(), "batch refused, run one by one");
        for entry in plan.entries {
            let session = entry.session;
            let alone = Plan {
                entries: vec![entry],
            };
            // What does not fit into the pipeline now is planned again.
            if executor.is_open() {
                if let Err(error) = self.try_begin(now, &alone, executor) {
                    self.refused(session, error, executor);
                }
                self.drain(now, executor);
            }
        }
    }

    fn try_begin(&mut self, now: Instant, plan: &Plan, executor: &mut E) -> Result<(), StageError> {
        let mut ids = Vec::new();
        let mut batch = Vec::with_capacity(plan.entries.len());
        // Plan and sessions are both in order of age.
        let mut rest = plan.entries.iter().peekable();
        for (id, session) in &mut self.sessions {
            let Some(entry) = rest.next_if(|entry| entry.session == *id) else {
                continue;
            };
            let kv = session
                .kv
                .as_mut()
                .expect("a planned session keeps its KV until the batch is begun");
            ids.extend_from_slice(&session.history[entry.from..entry.from + entry.rows]);
            batch.push(BatchEntry {
                sequence: kv,
                rows: entry.rows,
                scored: entry.scored,
                asked: &entry.asked,
                trace: session.trace,
            });
        }
        let ticket = executor.begin(now, &mut batch, &ids)?;
        for entry in &plan.entries {
            if let Some(session) = self.sessions.get_mut(&entry.session) {
                session.awaited |= entry.scored;
            }
        }
        let plan = plan.clone();
        self.flights.insert(ticket, Flight { plan, began: now });
        Ok(())
    }

    fn refused(&mut self, id: SessionId, source: StageError, executor: &mut E) {
        let session = id.0;
        self.fail(id, GenerationError::Stage { session, source }, executor);
    }

    /// Takes in what the executor has to tell. Returns whether it had something.
    pub fn drain(&mut self, now: Instant, executor: &mut E) -> bool {
        let mut any = false;
        while let Some(progress) = executor.poll(now) {
            self.progress(now, progress, executor);
            any = true;
        }
        any
    }

    fn progress(&mut self, now: Instant, progress: Progress, executor: &mut E) {
        match progress {
            Progress::Done { ticket, scores } => self.done(now, ticket, scores, executor),
            Progress::Lost { reason } => {
                tracing::warn!(%reason, sessions = self.load().running, "replaying what was lost");
                self.lose_all(executor);
            }
            Progress::Broken { reason } => {
                self.lose_all(executor);
                let ids: Vec<_> = self.sessions.keys().copied().collect();
                for id in ids {
                    let reason = reason.clone();
                    self.refused(id, StageError::Broken { reason }, executor);
                }
            }
        }
    }

    /// No sequence holds anything any more; sessions wait to be replayed.
    fn lose_all(&mut self, executor: &mut E) {
        self.flights.clear();
        self.abandon_moves(executor);
        self.drop_retained(executor);
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for id in ids {
            if let Some(sequence) = self.take_away(id) {
                executor.release(sequence);
            }
            if let Some(session) = self.sessions.get_mut(&id) {
                session.awaited = false;
            }
        }
    }

    /// Takes a result in: chooses tokens and ends sessions.
    fn done(&mut self, now: Instant, ticket: Ticket, scores: Vec<Scores>, executor: &mut E) {
        let Some(Flight { plan, began }) = self.flights.remove(&ticket) else {
            tracing::debug!(?ticket, "a result that nobody waits for");
            return;
        };
        let entries = plan.entries.iter().filter(|entry| entry.scored);
        let scored: Vec<SessionId> = entries.map(|entry| entry.session).collect();
        if scored.len() != scores.len() {
            // The stage broke its contract: what it did to the sequences is unknown.
            for entry in &plan.entries {
                let error = StageError::ScoreCount {
                    found: scores.len(),
                    expected: scored.len(),
                };
                self.refused(entry.session, error, executor);
            }
            return;
        }
        self.stats.steps.push(Step {
            sessions: plan.sessions(),
            rows: plan.rows(),
            took: now.since(began),
        });
        for (id, scores) in scored.into_iter().zip(&scores) {
            self.token(now, id, scores, executor);
        }
    }

    fn token(&mut self, now: Instant, id: SessionId, scores: &Scores, stage: &mut E) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.awaited = false;
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
