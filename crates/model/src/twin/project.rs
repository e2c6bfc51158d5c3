//! Projections, with what was adapted to them.

use candle_core::{Device, Tensor};

use super::network::Scope;
use super::{Adapter, TwinError};

/// Weight and bias of a projection, by canonical name.
pub(super) type Names = [&'static str; 2];

impl Scope<'_> {
    /// `x W^T + b` of several projections side by side: `[n, inputs]` to `[n, outputs of all]`.
    /// Either all of them have a bias or none.
    pub(super) fn project(&self, names: &[Names], x: &Tensor) -> Result<Tensor, TwinError> {
        let weights = names.iter().map(|[weight, _]| self.get(weight));
        let weights = weights.collect::<Result<Vec<_>, _>>()?;
        let biases: Vec<&Tensor> = names
            .iter()
            .filter_map(|[_, bias]| self.find(bias))
            .collect();
        let bias = (!biases.is_empty()).then(|| join(&biases)).transpose()?;
        let product = self
            .network
            .operations
            .linear(x, &join(&weights)?, bias.as_ref())?;
        match self.adapted(names, &weights, x)? {
            Some(change) => Ok((product + change)?),
            None => Ok(product),
        }
    }

    /// What adapters add to these projections: `s (x A^T) B^T` of those that have one, zeros for
    /// the others; `None` if none has.
    fn adapted(
        &self,
        names: &[Names],
        weights: &[&Tensor],
        x: &Tensor,
    ) -> Result<Option<Tensor>, TwinError> {
        let find = |[weight, _]: &Names| self.network.parameters.adapter(self.part, weight);
        let adapters: Vec<Option<&Adapter>> = names.iter().map(find).collect();
        if adapters.iter().all(Option::is_none) {
            return Ok(None);
        }
        let operations = self.network.operations;
        let mut changes = Vec::with_capacity(names.len());
        for (adapter, weight) in adapters.into_iter().zip(weights) {
            changes.push(match adapter {
                Some(adapter) => {
                    let inner = operations.linear(x, &adapter.down, None)?;
                    let up = adapter.up.affine(adapter.scale, 0.0)?;
                    operations.linear(&inner, &up, None)?
                }
                None => Tensor::zeros((x.dim(0)?, weight.dim(0)?), x.dtype(), &Device::Cpu)?,
            });
        }
        Ok(Some(Tensor::cat(&changes, 1)?))
    }
}

/// One tensor above the other; without a copy if there is one alone.
fn join(tensors: &[&Tensor]) -> Result<Tensor, TwinError> {
    match tensors {
        [only] => Ok((*only).clone()),
        several => Ok(Tensor::cat(several, 0)?),
    }
}
