//! Norms over rows.

use std::ops::Range;

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::Workers;
use super::real::{Real, sum, sum_pairs};
use super::rows::{Kernel, RowsMut, split, sum_blocks, vectorised};
use super::storage::{Held, by_type, output, tensor, values};

/// RMSNorm; see [`Operations::rms_norm`](crate::twin::Operations::rms_norm).
pub(super) fn rms(workers: &Workers, x: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor> {
    let op = Norm::new(workers, epsilon, false);
    x.contiguous()?.apply_op2(weight, op)
}

/// LayerNorm; see [`Operations::layer_norm`](crate::twin::Operations::layer_norm).
pub(super) fn layer(
    workers: &Workers,
    x: &Tensor,
    [weight, bias]: [&Tensor; 2],
    epsilon: f32,
) -> Result<Tensor> {
    let op = Norm::new(workers, epsilon, true);
    x.contiguous()?.apply_op3(weight, bias, op)
}

struct Norm {
    workers: Workers,
    epsilon: f64,
    /// Whether the mean is taken away first.
    centred: bool,
}

/// The mean (zero if it is not taken away) of a row, and what the rest is multiplied by.
#[inline(always)]
pub(super) fn moments<T: Real>(x: &[T], epsilon: f64, centred: bool) -> (T, T) {
    let width = T::of(x.len() as f64);
    let mean = if centred { sum(x) / width } else { T::ZERO };
    let squares = sum_pairs(x, x, |x, _, sum| (x - mean).fma(x - mean, sum));
    let scale = T::ONE / (squares / width + T::of(epsilon)).sqrt();
    (mean, scale)
}

/// `dx` of a row: `scale (g - mean(g) - y mean(g y))` with `g = dy w` and `y` the normalised row;
/// the first mean only where `x` was centred. `g` is room for a row.
#[inline(always)]
pub(super) fn row_backward<T: Real>(
    x: &[T],
    weight: &[T],
    grad: &[T],
    (mean, scale): (T, T),
    centred: bool,
    [g, dx]: [&mut [T]; 2],
) {
    let width = T::of(x.len() as f64);
    for (g, (grad, weight)) in g.iter_mut().zip(grad.iter().zip(weight)) {
        *g = *grad * *weight;
    }
    let lost = if centred { sum(g) / width } else { T::ZERO };
    let along = sum_pairs(g, x, |g, x, sum| g.fma((x - mean) * scale, sum)) / width;
    for (dx, (g, x)) in dx.iter_mut().zip(g.iter().zip(x)) {
        *dx = scale * (*g - lost - (*x - mean) * scale * along);
    }
}

struct ForwardRows<'a, T> {
    norm: &'a Norm,
    x: &'a [T],
    weight: &'a [T],
    bias: Option<&'a [T]>,
    out: &'a mut [T],
}

impl<T: Real> Kernel for ForwardRows<'_, T> {
    #[inline(always)]
    fn run(self) {
        let width = self.weight.len();
        let rows = self.x.chunks_exact(width);
        for (x, out) in rows.zip(self.out.chunks_exact_mut(width)) {
            let (mean, scale) = moments(x, self.norm.epsilon, self.norm.centred);
            for (out, (x, weight)) in out.iter_mut().zip(x.iter().zip(self.weight)) {
                *out = (*x - mean) * scale * *weight;
            }
            if let Some(bias) = self.bias {
                super::rows::add_to(bias, out);
            }
        }
    }
}

struct BackwardRows<'a, T> {
    norm: &'a Norm,
    x: &'a [T],
    weight: &'a [T],
    grad: &'a [T],
    dx: &'a mut [T],
}

impl<T: Real> Kernel for BackwardRows<'_, T> {
    #[inline(always)]
    fn run(self) {
        let (width, centred) = (self.weight.len(), self.norm.centred);
        let mut g = vec![T::ZERO; width];
        let rows = self
            .x
            .chunks_exact(width)
            .zip(self.grad.chunks_exact(width));
        for ((x, grad), dx) in rows.zip(self.dx.chunks_exact_mut(width)) {
            let moments = moments(x, self.norm.epsilon, centred);
            row_backward(x, self.weight, grad, moments, centred, [&mut g, dx]);
        }
    }
}

/// Adds `dy y` of each row (`y` normalised) to `sums`.
struct WeightRows<'a, T> {
    norm: &'a Norm,
    x: &'a [T],
    grad: &'a [T],
    sums: &'a mut [T],
}

impl<T: Real> Kernel for WeightRows<'_, T> {
    #[inline(always)]
    fn run(self) {
        let width = self.sums.len();
        let rows = self
            .x
            .chunks_exact(width)
            .zip(self.grad.chunks_exact(width));
        for (x, grad) in rows {
            let (mean, scale) = moments(x, self.norm.epsilon, self.norm.centred);
            for (sum, (x, grad)) in self.sums.iter_mut().zip(x.iter().zip(grad)) {
                *sum += *grad * ((*x - mean) * scale);
            }
        }
    }
}

impl Norm {
    fn new(workers: &Workers, epsilon: f32, centred: bool) -> Self {
        Self {
            workers: workers.clone(),
            epsilon: f64::from(epsilon),
            centred,
        }
    }

    fn forward<T: Real>(
        &self,
        x: (&CpuStorage, &Layout),
        weight: (&CpuStorage, &Layout),
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = x.1.shape().clone();
        let (rows, width) = shape.dims2()?;
        let (x, weight) = (values::<T>(x.0, x.1)?, values::<T>(weight.0, weight.1)?);
        let bias = bias.map(|bias| values::<T>(bias.0, bias.1)).transpose()?;
        if weight.len() != width || bias.is_some_and(|bias| bias.len() != width) {
            candle_core::bail!("a norm of {} does not fit rows of {width}", weight.len());
        }
        let mut out = vec![T::ZERO; x.len()];
        let shared = RowsMut::new(&mut out, width);
        split(&self.workers, rows, width, &|range| {
            let kernel = ForwardRows {
                norm: self,
                x: &x[of(&range, width)],
                weight,
                bias,
                // SAFETY: the ranges of the threads are disjoint; the slice outlives them.
                out: unsafe { shared.range(range) },
            };
            vectorised(self.workers.set, kernel);
        });
        output(out, shape)
    }

    /// The gradients of `x`, weight and, if `biased`, bias.
    fn backward<T: Real>(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let (rows, width) = x.dims2()?;
        let grad = grad.contiguous()?;
        let (x_held, weight_held, grad_held) = (Held::new(x), Held::new(weight), Held::new(&grad));
        let (x_values, grad) = (x_held.values::<T>()?, grad_held.values::<T>()?);
        let mut dx = vec![T::ZERO; x_values.len()];
        let (shared, weights) = (RowsMut::new(&mut dx, width), weight_held.values::<T>()?);
        split(&self.workers, rows, width, &|range| {
            let kernel = BackwardRows {
                norm: self,
                x: &x_values[of(&range, width)],
                weight: weights,
                grad: &grad[of(&range, width)],
                // SAFETY: the ranges of the threads are disjoint; the slice outlives them.
                dx: unsafe { shared.range(range) },
            };
            vectorised(self.workers.set, kernel);
        });
        let dw = weight.track_op().then(|| {
            let sums = sum_blocks(&self.workers, rows, width, &|range, sums: &mut [T]| {
                let kernel = WeightRows {
                    norm: self,
                    x: &x_values[of(&range, width)],
                    grad: &grad[of(&range, width)],
                    sums,
                };
                vectorised(self.workers.set, kernel);
            });
            tensor(sums, weight)
        });
        let db = bias.filter(|bias| bias.track_op()).map(|bias| {
            let sums = sum_blocks(&self.workers, rows, width, &|range, sums: &mut [T]| {
                let rows = grad[of(&range, width)].chunks_exact(width);
                rows.for_each(|row| super::rows::add_to(row, sums));
            });
            tensor(sums, bias)
        });
        Ok([Some(tensor(dx, x)?), dw.transpose()?, db.transpose()?])
    }
}

/// The values of a range of rows.
fn of(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}

impl CustomOp2 for Norm {
    fn name(&self) -> &'static str {
        "rms norm"
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
        let [dx, dw, _] = by_type!(grad.dtype(), T => self.backward::<T>(x, weight, None, grad))?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for Norm {
    fn name(&self) -> &'static str {
        "layer norm"
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
        by_type!(grad.dtype(), T => self.backward::<T>(x, weight, Some(bias), grad)).map(Into::into)
    }
}
