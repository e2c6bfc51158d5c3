//! Where a backward pass begins that goes on from another.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::storage::{by_type, output};

/// Takes any tensor and gives a scalar whose gradient by it is `grad`.
pub(crate) struct Seed {
    /// The gradient of the loss by the tensor, in its shape.
    pub(crate) grad: Tensor,
}

impl Seed {
    /// The scalar; its own value means nothing.
    pub(crate) fn apply(self, x: &Tensor) -> Result<Tensor> {
        x.apply_op1(self)
    }
}

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, x: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        by_type!(x.dtype(), T => output::<T>(vec![0.0], ()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.grad.clone()))
    }
}
