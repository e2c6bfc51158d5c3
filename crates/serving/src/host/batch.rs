//! One pass over the weights for the waiting batches of several circuits.

use skein_base::TraceId;
use skein_model::{Input, Output};
use skein_runtime::{Clock, Instant};

use super::circuit::Held;
use super::{Host, To};
use crate::stage::{BatchEntry, Stage, StageError};
use crate::wire::{Change, CircuitId, Failure, Message, Outcome, Rows, Share, Spent, Work};

/// A batch with the sequences of its shares, taken out of its circuit.
struct Taken<Q> {
    circuit: CircuitId,
    work: Work,
    came: Instant,
    sequences: Vec<Held<Q>>,
}

impl<Q> Taken<Q> {
    fn rows(&self) -> usize {
        rows(&self.work)
    }

    fn scored(&self) -> usize {
        self.work.shares.iter().filter(|share| share.scored).count()
    }
}

impl<S: Stage> Host<S> {
    /// Runs what waits, as much as fits into one pass. False if there was nothing. The clock is
    /// read to say what it cost, and for nothing else.
    pub fn run(&mut self, clock: &dyn Clock) -> bool {
        let mut chosen = Vec::new();
        let mut total = 0;
        for id in self.in_turn() {
            let front = self.circuits.get(&id).and_then(|c| c.waiting.front());
            let Some((_, front)) = front else {
                continue;
            };
            let own = rows(front);
            if !chosen.is_empty() && total + own > self.config.rows_max {
                break;
            }
            match self.take(id) {
                Ok(taken) => {
                    total += own;
                    chosen.push(taken);
                }
                Err(failure) => self.end(id, Some((0, failure))),
            }
        }
        if chosen.is_empty() {
            return false;
        }
        self.pass(chosen, clock);
        true
    }

    /// Circuits with work, those served least recently first.
    fn in_turn(&self) -> Vec<CircuitId> {
        let busy = self
            .circuits
            .iter()
            .filter(|(_, circuit)| !circuit.waiting.is_empty());
        let mut order: Vec<_> = busy.map(|(&id, circuit)| (circuit.served, id)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, id)| id).collect()
    }

    /// Takes the first batch of a circuit: does its changes, checks its shares, reserves room.
    fn take(&mut self, id: CircuitId) -> Result<Taken<S::Sequence>, Failure> {
        self.turn += 1;
        let circuit = self.circuits.get_mut(&id).ok_or(Failure::Protocol)?;
        let (came, work) = circuit.waiting.pop_front().ok_or(Failure::Protocol)?;
        circuit.number += 1;
        circuit.served = self.turn;
        for change in &work.changes {
            self.change(id, *change)?;
        }
        let mut taken = Taken {
            circuit: id,
            work,
            came,
            sequences: Vec::new(),
        };
        for index in 0..taken.work.shares.len() {
            let share = &taken.work.shares[index];
            match self.share(id, share) {
                Ok(sequence) => taken.sequences.push(sequence),
                Err(failure) => {
                    self.give_back(&mut taken);
                    return Err(failure);
                }
            }
        }
        Ok(taken)
    }

    fn change(&mut self, id: CircuitId, change: Change) -> Result<(), Failure> {
        let circuit = self.circuits.get_mut(&id).ok_or(Failure::Protocol)?;
        let before = self.stage.free_pages();
        match change {
            Change::Release { sequence } => {
                // One that never had rows here is not known.
                if let Some(held) = circuit.sequences.remove(&sequence) {
                    tracing::debug!(trace = %held.trace, circuit = %id, sequence, "released");
                    self.stage.release(held.sequence);
                }
            }
            Change::Fork { new, of, len } => {
                let len = len as usize;
                let known = circuit.sequences.contains_key(&new);
                let of = circuit.sequences.get(&of).filter(|_| !known);
                let of = of.filter(|of| len <= self.stage.filled(&of.sequence));
                let of = of.ok_or(Failure::Protocol)?;
                let fork = Held {
                    sequence: self.stage.fork(&of.sequence, len),
                    trace: of.trace,
                };
                circuit.sequences.insert(new, fork);
            }
        }
        let freed = self.stage.free_pages() - before;
        circuit.used = circuit.used.saturating_sub(freed as u32);
        Ok(())
    }

    /// The sequence of a share, with room for its rows, out of the circuit.
    fn share(&mut self, id: CircuitId, share: &Share) -> Result<Held<S::Sequence>, Failure> {
        let circuit = self.circuits.get_mut(&id).ok_or(Failure::Protocol)?;
        let mut held = match circuit.sequences.remove(&share.sequence) {
            Some(held) => held,
            None if share.position == 0 => Held {
                sequence: self.stage.sequence(),
                trace: TraceId::default(),
            },
            None => return Err(Failure::Protocol),
        };
        if let Some(trace) = share.trace {
            held.trace = trace;
            let (sequence, position) = (share.sequence, share.position);
            tracing::debug!(%trace, circuit = %id, sequence, position, "works for a request");
        }
        let sequence = &mut held.sequence;
        let position = share.position as usize;
        let len = position + share.rows as usize;
        let needed = self.stage.pages_needed(sequence, len);
        let expected = share.rows > 0 && self.stage.filled(sequence) == position;
        let agreed = u64::from(circuit.used) + needed as u64 <= u64::from(circuit.pages);
        let reserved = expected && agreed && self.stage.reserve(sequence, len).is_ok();
        if !reserved {
            circuit.sequences.insert(share.sequence, held);
            return Err(Failure::Protocol);
        }
        circuit.used += needed as u32;
        Ok(held)
    }

    fn give_back(&mut self, taken: &mut Taken<S::Sequence>) {
        let names = taken.work.shares.iter().map(|share| share.sequence);
        let Some(circuit) = self.circuits.get_mut(&taken.circuit) else {
            return;
        };
        for (name, held) in names.zip(taken.sequences.drain(..)) {
            circuit.sequences.insert(name, held);
        }
    }

    /// Runs batches together; if they are refused, each alone.
    fn pass(&mut self, mut chosen: Vec<Taken<S::Sequence>>, clock: &dyn Clock) {
        let began = clock.now();
        let computed = self.compute(&mut chosen);
        let computed_us = micros(clock.now().since(began));
        self.report.computing_us += u64::from(computed_us);
        match computed {
            Ok(outcomes) => {
                for (taken, outcome) in chosen.iter_mut().zip(outcomes) {
                    taken.work.spent.push(Spent {
                        waited_us: micros(began.since(taken.came)),
                        computed_us,
                    });
                    self.give_back(taken);
                    self.onward(taken, outcome);
                }
            }
            Err(error) if chosen.len() == 1 => {
                let id = chosen[0].circuit;
                self.give_back(&mut chosen[0]);
                tracing::warn!(%error, "a batch was refused");
                self.end(id, Some((0, failure_of(&error))));
            }
            Err(_) => {
                for taken in chosen {
                    self.pass(vec![taken], clock);
                }
            }
        }
    }

    fn compute(&mut self, chosen: &mut [Taken<S::Sequence>]) -> Result<Vec<Outcome>, StageError> {
        let (mut ids, mut hidden) = (Vec::new(), Vec::new());
        for taken in chosen.iter() {
            match &taken.work.rows {
                Rows::Ids(rows) => ids.extend_from_slice(rows),
                Rows::Hidden(rows) => hidden.extend_from_slice(rows),
            }
        }
        // Both kinds at once cannot be right; the stage refuses what does not fit its slice.
        let input = match ids.is_empty() {
            true => Input::Hidden(&hidden),
            false => Input::Ids(&ids),
        };
        let rows: Vec<usize> = chosen.iter().map(Taken::rows).collect();
        let scored: Vec<usize> = chosen.iter().map(Taken::scored).collect();
        let mut batch = Vec::new();
        for taken in chosen.iter_mut() {
            for (share, held) in taken.work.shares.iter().zip(&mut taken.sequences) {
                batch.push(BatchEntry {
                    sequence: &mut held.sequence,
                    rows: share.rows as usize,
                    scored: share.scored,
                    asked: &share.asked,
                    trace: held.trace,
                });
            }
        }
        let output = self.stage.run(&mut batch, input)?;
        self.stats.passes += 1;
        self.stats.batches += rows.len() as u64;
        let total: usize = rows.iter().sum();
        self.stats.rows += total as u64;
        self.report.passes += 1;
        self.report.rows += total as u64;
        match output {
            Output::Scores(scores) => {
                let expected: usize = scored.iter().sum();
                let found = scores.len();
                if found != expected {
                    return Err(StageError::ScoreCount { found, expected });
                }
                let mut scores = scores.into_iter();
                let part = |count: usize| Outcome::Scores(scores.by_ref().take(count).collect());
                Ok(scored.into_iter().map(part).collect())
            }
            Output::Hidden(values) => {
                let width = values.len() / total.max(1);
                let mut values = values.into_iter();
                let part =
                    |rows: usize| Outcome::Hidden(values.by_ref().take(rows * width).collect());
                Ok(rows.into_iter().map(part).collect())
            }
        }
    }

    /// Passes on what came out.
    fn onward(&mut self, taken: &mut Taken<S::Sequence>, outcome: Outcome) {
        let Some(circuit) = self.circuits.get(&taken.circuit) else {
            return;
        };
        let (name, number) = (circuit.name, taken.work.number);
        let spent = std::mem::take(&mut taken.work.spent);
        match (circuit.next, circuit.answers, outcome) {
            (Some(next), _, Outcome::Hidden(values)) => {
                let work = Work {
                    name,
                    number,
                    changes: std::mem::take(&mut taken.work.changes),
                    shares: std::mem::take(&mut taken.work.shares),
                    rows: Rows::Hidden(values),
                    spent,
                };
                self.sends.push((To::Node(next), Message::Work(work)));
            }
            (None, Some(link), outcome) => {
                let answer = Message::Answer {
                    name,
                    number,
                    outcome,
                    spent,
                };
                self.sends.push((To::Link(link), answer));
            }
            // Scores in the middle of a route: the entry put the head in front of other layers.
            _ => self.end(taken.circuit, Some((0, Failure::Protocol))),
        }
    }
}

/// Rows of a batch.
pub(super) fn rows(work: &Work) -> usize {
    work.shares.iter().map(|share| share.rows as usize).sum()
}

fn micros(time: std::time::Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

fn failure_of(error: &StageError) -> Failure {
    match error {
        StageError::Forward(skein_model::ForwardError::NotFinite { .. }) => Failure::NotFinite,
        _ => Failure::Refused,
    }
}
