//! A training from here to its end.

use super::{Batch, Evaluation, Feed, Step, TrainError, Trainer};

/// When to do what beside steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Batches whose gradients make one step; at least one is taken.
    pub accumulate: usize,
    /// Steps between evaluations; zero for one at the end alone.
    pub evaluate_every: u64,
    /// Steps between saved states; zero for one at the end alone.
    pub save_every: u64,
    /// The step to end behind, if the schedule goes further.
    pub until: Option<u64>,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Save and end.
    Stop,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All steps that were planned were taken.
    Finished,
    /// The observer stopped it.
    Stopped,
}

/// Who is told of a run, keeps its states and may end it.
pub trait Observer {
    /// Why a state could not be kept.
    type Error: From<TrainError>;

    /// After each step.
    fn stepped(&mut self, step: &Step) -> Flow;

    /// After an evaluation, with how many steps had been taken.
    fn evaluated(&mut self, step: u64, evaluation: &Evaluation);

    /// Keeps the state: [`super::write_state`] gives the bytes.
    fn save(&mut self, trainer: &Trainer, feed: &Feed) -> Result<(), Self::Error>;
}

/// Takes steps until the schedule or the plan ends, with an evaluation on `held_out` (unless it is empty), or
/// until the observer says so; saves at either end.
///
/// A state is saved before the evaluation that is due at its step, and whoever goes on from it
/// begins with that one: stopped or not, the same evaluations are made.
pub fn run<O: Observer>(
    trainer: &mut Trainer,
    feed: &mut Feed,
    held_out: &[Batch],
    plan: &Plan,
    observer: &mut O,
) -> Result<Ended, O::Error> {
    let is_due = |every: u64, step: u64| every > 0 && step > 0 && step.is_multiple_of(every);
    let steps = trainer.config().steps;
    let last = plan.until.map_or(steps, |until| until.min(steps));
    let mut is_new = false;
    while trainer.steps_taken() < last {
        let taken = trainer.steps_taken();
        if is_new && is_due(plan.save_every, taken) {
            observer.save(trainer, feed)?;
        }
        if is_due(plan.evaluate_every, taken) {
            evaluate(trainer, held_out, observer)?;
        }
        let batches = (0..plan.accumulate.max(1)).map(|_| feed.next_batch());
        let step = trainer.step(&batches.collect::<Vec<_>>())?;
        is_new = true;
        if observer.stepped(&step) == Flow::Stop {
            observer.save(trainer, feed)?;
            return Ok(Ended::Stopped);
        }
    }
    // First: an evaluation may take long, and be killed.
    observer.save(trainer, feed)?;
    evaluate(trainer, held_out, observer)?;
    Ok(Ended::Finished)
}

fn evaluate<O: Observer>(
    trainer: &Trainer,
    held_out: &[Batch],
    observer: &mut O,
) -> Result<(), TrainError> {
    if !held_out.is_empty() {
        let evaluation = trainer.evaluate(held_out)?;
        observer.evaluated(trainer.steps_taken(), &evaluation);
    }
    Ok(())
}
