//! Steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;
use skein_weights::Profile;

use super::adamw::{self, Factors, Moments};
use super::gradients::{Gradients, Model};
use super::learned::{self, Learned};
use super::operations::{Dropout, Fused, Workers};
use super::{Batch, ConfigError, LearnedError, ParameterSet, TrainConfig, schedule};
use crate::lanes::InstructionSet;
use crate::pool::Pool;
use crate::twin::{Parameters, Twin, TwinError};

/// Why training does not go on. The weights are as they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What is to learn does not exist.
    #[error(transparent)]
    Learned(#[from] LearnedError),
    /// A forward or backward pass was refused.
    #[error(transparent)]
    Pass(#[from] TwinError),
    /// The batches have no target.
    #[error("the batches have no token to learn")]
    NoTargets,
    /// Loss or gradients outgrew their type.
    #[error(
        "step {step} has loss {loss} and gradients of norm {norm}: lower the learning rate, or \
         warm up longer"
    )]
    Diverged {
        /// The step that could not be taken, counted from 1.
        step: u64,
        /// Its loss.
        loss: f64,
        /// The norm of its gradients.
        norm: f64,
    },
}

impl From<candle_core::Error> for TrainError {
    fn from(error: candle_core::Error) -> Self {
        Self::Pass(error.into())
    }
}

/// What a step was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// How many steps have been taken, this one included.
    pub step: u64,
    /// Mean loss of the targets before the step, in nats.
    pub loss: f64,
    /// The learning rate.
    pub rate: f64,
    /// The norm of the gradient, before it was clipped.
    pub norm: f64,
    /// Positions that went through the model.
    pub tokens: usize,
    /// Of these, how many were learned from.
    pub targets: usize,
}

/// Loss over held-out samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Mean loss of the targets, in nats; `exp` of it is the perplexity.
    pub loss: f64,
    /// How many targets there were.
    pub targets: usize,
}

/// A model in training.
#[derive(Debug)]
pub struct Trainer {
    profile: Profile,
    parameters: Parameters,
    set: ParameterSet,
    config: TrainConfig,
    operations: Fused,
    pub(super) learned: Vec<Learned>,
    pub(super) moments: Vec<Moments>,
    /// Steps taken.
    pub(super) step: u64,
}

impl Trainer {
    /// Trains `set` of a model with these parameters, which are copied. `pool` computes.
    pub fn new(
        profile: Profile,
        mut parameters: Parameters,
        set: &ParameterSet,
        config: TrainConfig,
        pool: Arc<Pool>,
    ) -> Result<Self, TrainError> {
        config.check()?;
        parameters.own()?;
        let learned = learned::prepare(&profile, set, config.seed, &mut parameters)?;
        let count = |one: &Learned| Moments::zero(one.variable.elem_count());
        let moments = learned.iter().map(count).collect();
        let workers = Workers {
            pool,
            set: InstructionSet::detect(),
        };
        Ok(Self {
            profile,
            parameters,
            set: set.clone(),
            config,
            operations: Fused {
                workers,
                dropout: None,
            },
            learned,
            moments,
            step: 0,
        })
    }

    /// The architecture.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// How it trains.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The parameters as they are now, adapters apart.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// How many steps have been taken.
    pub fn steps_taken(&self) -> u64 {
        self.step
    }

    /// How many numbers learn.
    pub fn learned_count(&self) -> usize {
        let counts = self.learned.iter().map(|one| one.variable.elem_count());
        counts.sum()
    }

    /// What learns, as a text.
    pub(super) fn learns(&self) -> String {
        self.set.describe()
    }

    /// The model as it is now, adapters merged into its weights, with the same bits on every
    /// machine: a source to serve or to write from. What adapters do not touch is shared with the
    /// trainer, not copied: take it anew after a step.
    pub fn model(&self) -> Result<Twin, TrainError> {
        let merged = self.parameters.merged(&self.operations)?;
        Ok(Twin::new(self.profile.clone(), merged))
    }

    /// One step over several batches, whose gradients are added up: the mean is over all their
    /// targets.
    ///
    /// # Errors
    /// If a batch does not fit the model, or loss or gradients are not finite. Nothing has changed
    /// then.
    pub fn step(&mut self, batches: &[Batch]) -> Result<Step, TrainError> {
        let gradients = self.sum(batches)?;
        let squares = self.squares(&gradients)?;
        let (scales, norm) = clipping(&self.config, &squares);
        if !(gradients.loss.is_finite() && norm.is_finite()) {
            return Err(TrainError::Diverged {
                step: self.step + 1,
                loss: gradients.loss,
                norm,
            });
        }
        let rate = schedule::rate(&self.config, self.step);
        self.update(&gradients, rate, &scales)?;
        self.step += 1;
        Ok(Step {
            step: self.step,
            loss: gradients.loss,
            rate,
            norm,
            tokens: batches.iter().map(|batch| batch.ids().len()).sum(),
            targets: count_targets(batches)?,
        })
    }

    /// Mean loss over the targets of all batches, and its gradient by each tensor that learns, by
    /// name (`layers.3.attn_q.weight`), as the next step would take them. A tensor that the
    /// batches do not depend on has none.
    pub fn gradients(
        &self,
        batches: &[Batch],
    ) -> Result<(f64, BTreeMap<String, Tensor>), TrainError> {
        let gradients = self.sum(batches)?;
        let names = self.learned.iter().map(|one| one.name.clone());
        let named = names.zip(gradients.list);
        let list = named.filter_map(|(name, grad)| Some((name, grad?)));
        Ok((gradients.loss, list.collect()))
    }

    /// Mean loss over batches, without dropout; nothing changes.
    pub fn evaluate(&self, batches: &[Batch]) -> Result<Evaluation, TrainError> {
        let targets = count_targets(batches)?;
        let (parameters, operations) = (self.parameters.detached(), self.operations.clone());
        let model = Model {
            parameters: &parameters,
            ..self.model_of(&operations)
        };
        let mut loss = 0.0;
        for batch in batches {
            let network = model.network(&parameters, batch)?;
            let mut x = network.embed(batch.ids())?;
            for index in 0..self.profile.layers {
                x = network.layer(index, &x)?;
            }
            let sum = model.loss(&network, &x, batch, 1.0)?;
            loss += sum.to_scalar::<f32>().map(f64::from)?;
        }
        Ok(Evaluation {
            loss: loss / targets as f64,
            targets,
        })
    }

    fn model_of<'a>(&'a self, operations: &'a Fused) -> Model<'a> {
        Model {
            profile: &self.profile,
            parameters: &self.parameters,
            learned: &self.learned,
            operations,
            recompute: self.config.recompute,
        }
    }

    /// Mean loss and gradients.
    fn sum(&self, batches: &[Batch]) -> Result<Gradients, TrainError> {
        let weight = 1.0 / count_targets(batches)? as f64;
        let mut sums = Gradients::zero(&self.learned);
        for (index, batch) in batches.iter().enumerate() {
            let mut operations = self.operations.clone();
            operations.dropout = (self.config.dropout > 0.0).then_some(Dropout {
                rate: self.config.dropout,
                seed: self.config.seed,
                pass: [self.step, index as u64],
            });
            self.model_of(&operations).add(batch, weight, &mut sums)?;
        }
        Ok(sums)
    }

    /// Sums of squares of each gradient.
    fn squares(&self, gradients: &Gradients) -> Result<Vec<f64>, TrainError> {
        let workers = &self.operations.workers;
        let square = |grad: &Option<Tensor>| match grad {
            Some(grad) => Ok(adamw::square_sum(workers, grad)?),
            None => Ok(0.0),
        };
        gradients.list.iter().map(square).collect()
    }

    fn update(
        &mut self,
        gradients: &Gradients,
        rate: f64,
        scales: &[f64],
    ) -> Result<(), TrainError> {
        let (config, workers) = (&self.config, &self.operations.workers);
        let all = self.learned.iter().zip(&mut self.moments);
        for ((learned, moments), (grad, scale)) in all.zip(gradients.list.iter().zip(scales)) {
            let Some(grad) = grad else {
                continue;
            };
            let mut factors = Factors::new(config, self.step, rate, *scale);
            if learned.decays() {
                factors = factors.decaying(config, rate);
            }
            adamw::update(workers, &learned.variable, grad, moments, factors)?;
        }
        Ok(())
    }
}

/// How many targets batches have together; at least one.
fn count_targets(batches: &[Batch]) -> Result<usize, TrainError> {
    match batches.iter().map(|batch| batch.targets().len()).sum() {
        0 => Err(TrainError::NoTargets),
        targets => Ok(targets),
    }
}

/// What each gradient is multiplied by, given their sums of squares, and the norm of all before.
fn clipping(config: &TrainConfig, squares: &[f64]) -> (Vec<f64>, f64) {
    // A hair under the bound, as PyTorch does.
    let shrink = |norm: f64, bound: Option<f64>| match bound {
        Some(bound) => (bound / (norm + 1e-6)).min(1.0),
        None => 1.0,
    };
    let own = |square: &f64| shrink(square.sqrt(), config.clip_tensor);
    let scales: Vec<f64> = squares.iter().map(own).collect();
    let clipped = scales.iter().zip(squares);
    let together: f64 = clipped.map(|(scale, square)| scale * scale * square).sum();
    let all = shrink(together.sqrt(), config.clip_norm);
    let norm = squares.iter().sum::<f64>().sqrt();
    (scales.into_iter().map(|scale| scale * all).collect(), norm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_bounds_each_tensor_then_all() {
        let config = |clip_tensor, clip_norm| TrainConfig {
            clip_tensor,
            clip_norm,
            ..TrainConfig::default()
        };
        let squares = [9.0, 16.0];
        let (scales, norm) = clipping(&config(None, None), &squares);
        assert_eq!((scales, norm), (vec![1.0, 1.0], 5.0));
        let (scales, _) = clipping(&config(None, Some(2.5)), &squares);
        assert!(scales.iter().all(|scale| (scale - 0.5).abs() < 1e-6));
        let (scales, _) = clipping(&config(Some(3.5), None), &squares);
        assert_eq!(scales[0], 1.0);
        assert!((scales[1] - 0.875).abs() < 1e-6);
        let (scales, norm) = clipping(&config(Some(3.0), Some(1.0)), &squares);
        let lengths = [3.0 * scales[0], 4.0 * scales[1]];
        assert!((lengths[0].hypot(lengths[1]) - 1.0).abs() < 1e-5 && norm == 5.0);
        assert!((lengths[0] - lengths[1]).abs() < 1e-5);
    }
}
