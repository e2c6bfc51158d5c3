//! Values left out at random.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use skein_base::splitmix;
use skein_weights::Part;

use super::Workers;
use super::real::Real;
use super::rows::{RowsMut, split};
use super::storage::{Held, by_type, output, tensor, values};
use crate::random::{Purpose, derive, unit};
use crate::twin::Site;

/// Each value is left out with the same probability, and those that stay are scaled so that the
/// expectation stays. Which ones is a function of seed, place in the model and place in the
/// tensor: a layer that is computed again in its backward pass leaves out the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    /// Probability of being left out, under 1.
    pub(crate) rate: f64,
    /// The seed of the training.
    pub(crate) seed: u64,
    /// Which step, and which batch of it: another choice in each.
    pub(crate) pass: [u64; 2],
}

impl Dropout {
    pub(super) fn apply(
        &self,
        workers: &Workers,
        x: &Tensor,
        part: Part,
        site: Site,
    ) -> Result<Tensor> {
        let part = match part {
            Part::Embedding => 0,
            Part::Head => 1,
            Part::Layer(index) => 2 + u64::from(index),
        };
        let [step, batch] = self.pass;
        let op = Drop {
            workers: workers.clone(),
            rate: self.rate,
            key: derive(
                self.seed,
                Purpose::Dropout,
                &[step, batch, part, site as u64],
            ),
        };
        x.contiguous()?.apply_op1(op)
    }
}

struct Drop {
    workers: Workers,
    rate: f64,
    key: u64,
}

impl Drop {
    /// What value `index` is multiplied by.
    fn factor<T: Real>(&self, index: usize) -> T {
        if unit(splitmix::mix(self.key ^ index as u64)) < self.rate {
            T::ZERO
        } else {
            T::of(1.0 / (1.0 - self.rate))
        }
    }

    fn scaled<T: Real>(&self, x: &[T]) -> Vec<T> {
        let mut out = vec![T::ZERO; x.len()];
        let shared = RowsMut::new(&mut out, 1);
        split(&self.workers, x.len(), 1, &|range| {
            // SAFETY: the ranges of the threads are disjoint; the slice outlives them.
            let out = unsafe { shared.range(range.clone()) };
            for (out, index) in out.iter_mut().zip(range) {
                *out = x[index] * self.factor(index);
            }
        });
        out
    }

    fn backward<T: Real>(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let grad = grad.contiguous()?;
        let held = Held::new(&grad);
        tensor(self.scaled(held.values::<T>()?), x)
    }
}

impl CustomOp1 for Drop {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_type!(x.dtype(), T => {
            output(self.scaled(values::<T>(x, layout)?), layout.shape().clone())
        })
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        by_type!(grad.dtype(), T => self.backward::<T>(x, grad)).map(Some)
    }
}
