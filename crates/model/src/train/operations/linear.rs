//! Projections.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::Workers;
use super::real::Real;
use super::rows::{add_to, sum_blocks};
use super::storage::{Held, by_type, output, tensor, values};
use crate::kernels::product::{Start, View};

/// `x W^T + b`; see [`Operations::linear`](crate::twin::Operations::linear).
pub(super) fn linear(
    workers: &Workers,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let op = Linear(workers.clone());
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op),
        None => x.apply_op2(&weight, op),
    }
}

struct Linear(Workers);

impl Linear {
    fn forward<T: Real>(
        &self,
        x: (&CpuStorage, &Layout),
        weight: (&CpuStorage, &Layout),
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, inputs) = x.1.shape().dims2()?;
        let (outputs, expected) = weight.1.shape().dims2()?;
        if inputs != expected {
            candle_core::bail!("{inputs} columns do not fit a projection of {expected}");
        }
        let (x, weight) = (values::<T>(x.0, x.1)?, values::<T>(weight.0, weight.1)?);
        let bias = bias.map(|bias| values::<T>(bias.0, bias.1)).transpose()?;
        let packed = T::pack(&self.0, View::new(weight, inputs).transposed());
        let mut out = vec![T::ZERO; n * outputs];
        let start = bias.map_or(Start::Zero, Start::Bias);
        T::product(&self.0, View::new(x, inputs), &packed, start, &mut out);
        output(out, (n, outputs))
    }

    /// `dx = dy W`, `dW = dy^T x`, each where somebody asks for it.
    fn backward(&self, x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 2]> {
        by_type!(grad.dtype(), T => self.backward_as::<T>(x, weight, grad))
    }

    fn backward_as<T: Real>(
        &self,
        x: &Tensor,
        weight: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        let (outputs, inputs) = weight.dims2()?;
        let grad = grad.contiguous()?;
        let (x_held, weight_held, grad) = (Held::new(x), Held::new(weight), Held::new(&grad));
        let grad = View::new(grad.values::<T>()?, outputs);
        let multiply = |a, b, like: &Tensor| {
            let packed = T::pack(&self.0, b);
            let mut out = vec![T::ZERO; like.elem_count()];
            T::product(&self.0, a, &packed, Start::Zero, &mut out);
            tensor(out, like)
        };
        let dx = x.track_op().then(|| {
            let weight = View::new(weight_held.values::<T>()?, inputs);
            multiply(grad, weight, x)
        });
        let dw = weight.track_op().then(|| {
            let x = View::new(x_held.values::<T>()?, inputs);
            multiply(grad.transposed(), x, weight)
        });
        Ok([dx.transpose()?, dw.transpose()?])
    }

    fn bias_backward<T: Real>(&self, bias: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let (rows, width) = grad.dims2()?;
        let grad = grad.contiguous()?;
        let held = Held::new(&grad);
        let grad = held.values::<T>()?;
        let sums = sum_blocks(&self.0, rows, width, &|range, sums| {
            let rows = &grad[range.start * width..range.end * width];
            rows.chunks_exact(width).for_each(|row| add_to(row, sums));
        });
        tensor(sums, bias)
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = ((x, x_layout), (weight, weight_layout));
        by_type!(x.0.dtype(), T => self.forward::<T>(x, weight, None))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.backward(x, weight, grad).map(Into::into)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear with bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = ((x, x_layout), (weight, weight_layout));
        let bias = Some((bias, bias_layout));
        by_type!(x.0.dtype(), T => self.forward::<T>(x, weight, bias))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw] = self.backward(x, weight, grad)?;
        let db = bias
            .track_op()
            .then(|| by_type!(grad.dtype(), T => self.bias_backward::<T>(bias, grad)));
        Ok((dx, dw, db.transpose()?))
    }
}
