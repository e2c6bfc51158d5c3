//! Loss and gradients of a batch.
//!
//! The graph is cut at every layer: a layer's gradients are taken as soon as those of what follows
//! it are known, and what it remembered is freed. A remembered layer can as well be one that is
//! computed again: that is all of activation checkpointing (Chen and others, 2016).

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use skein_weights::{Part, Profile};

use super::Batch;
use super::learned::Learned;
use super::operations::{CrossEntropy, Fused, Seed, Targets};
use crate::twin::{Network, Parameters, TwinError};

/// A model to take gradients of.
pub(super) struct Model<'a> {
    pub(super) profile: &'a Profile,
    pub(super) parameters: &'a Parameters,
    pub(super) learned: &'a [Learned],
    pub(super) operations: &'a Fused,
    /// Whether layers are computed again instead of being remembered.
    pub(super) recompute: bool,
}

/// Loss of a batch, and the gradient of each tensor that learns (`None` where the batch does not
/// depend on it), in their order.
#[derive(Debug)]
pub(super) struct Gradients {
    pub(super) loss: f64,
    pub(super) list: Vec<Option<Tensor>>,
}

impl Gradients {
    pub(super) fn zero(learned: &[Learned]) -> Self {
        Self {
            loss: 0.0,
            list: vec![None; learned.len()],
        }
    }

    /// Adds what a graph gave.
    fn collect(&mut self, learned: &[Learned], store: &GradStore) -> Result<(), TwinError> {
        for (sum, one) in self.list.iter_mut().zip(learned) {
            let Some(grad) = store.get(&one.variable) else {
                continue;
            };
            *sum = Some(match sum.take() {
                Some(sum) => (sum + grad)?,
                None => grad.clone(),
            });
        }
        Ok(())
    }
}

/// A layer with what it takes as a variable, and what it gives unless that is computed again.
struct Segment {
    index: u32,
    input: Var,
    output: Option<Tensor>,
}

/// What a pass forward leaves: the embedding's graph if it learns, the layers that do, and the
/// stream after them.
type Forward = (Option<Tensor>, Vec<Segment>, Tensor);

impl Model<'_> {
    /// Adds loss and gradients of `batch` to `sums`; each token's loss counts `weight`.
    pub(super) fn add(
        &self,
        batch: &Batch,
        weight: f64,
        sums: &mut Gradients,
    ) -> Result<(), TwinError> {
        let network = self.network(self.parameters, batch)?;
        let first = self.first_layer();
        let (embedded, segments, last) = self.forward(&network, batch, first)?;
        let input = Var::from_tensor(&last)?;
        drop(last);
        let loss = self.loss(&network, input.as_tensor(), batch, weight)?;
        sums.loss += loss.to_scalar::<f32>().map(f64::from)?;
        let mut store = loss.backward()?;
        drop(loss);
        sums.collect(self.learned, &store)?;
        let mut grad = store.remove(&input);
        for segment in segments.into_iter().rev() {
            let output = match segment.output {
                Some(output) => output,
                None => network.layer(segment.index, segment.input.as_tensor())?,
            };
            let Some(above) = grad else {
                return Ok(());
            };
            let seed = Seed { grad: above }.apply(&output)?;
            drop(output);
            store = seed.backward()?;
            drop(seed);
            sums.collect(self.learned, &store)?;
            grad = store.remove(&segment.input);
        }
        if let (Some(embedded), Some(grad)) = (embedded, grad) {
            let store = Seed { grad }.apply(&embedded)?.backward()?;
            sums.collect(self.learned, &store)?;
        }
        Ok(())
    }

    /// The embedding's graph if it learns, the layers from `first` on, and the stream after them.
    fn forward(
        &self,
        network: &Network<'_>,
        batch: &Batch,
        first: u32,
    ) -> Result<Forward, TwinError> {
        let frozen = self.parameters.detached();
        let plain = self.network(&frozen, batch)?;
        let embedded = network.embed(batch.ids())?;
        let mut x = embedded.detach();
        let mut segments = Vec::new();
        for index in 0..self.profile.layers {
            if index < first {
                x = plain.layer(index, &x)?;
                continue;
            }
            let input = Var::from_tensor(&x)?;
            let output = if self.recompute {
                x = plain.layer(index, &x)?;
                None
            } else {
                let output = network.layer(index, input.as_tensor())?;
                x = output.detach();
                Some(output)
            };
            segments.push(Segment {
                index,
                input,
                output,
            });
        }
        let embedded = embedded.track_op().then_some(embedded);
        Ok((embedded, segments, x))
    }

    /// Weighted sum of the losses of a batch's targets, given the stream after the last layer.
    pub(super) fn loss(
        &self,
        network: &Network<'_>,
        x: &Tensor,
        batch: &Batch,
        weight: f64,
    ) -> Result<Tensor, TwinError> {
        let vocabulary = self.profile.vocabulary;
        let outside = batch.targets().iter().find(|(_, id)| *id >= vocabulary);
        if let Some(&(_, id)) = outside {
            return Err(TwinError::TokenOutOfRange { id, vocabulary });
        }
        let targets = Targets {
            list: batch.targets().to_vec(),
            weight,
        };
        let normed = network.normed(x)?;
        let workers = &self.operations.workers;
        Ok(CrossEntropy::apply(
            workers,
            &normed,
            network.table()?,
            targets,
        )?)
    }

    pub(super) fn network<'b>(
        &'b self,
        parameters: &'b Parameters,
        batch: &Batch,
    ) -> Result<Network<'b>, TwinError> {
        Network::new(self.profile, parameters, self.operations, batch.rows())
    }

    /// The first layer whose gradients are of use: below, nothing learns.
    fn first_layer(&self) -> u32 {
        let first = |learned: &Learned| match learned.part {
            Part::Embedding => 0,
            Part::Layer(index) => index,
            Part::Head => self.profile.layers,
        };
        self.learned.iter().map(first).min().unwrap_or(0)
    }
}
