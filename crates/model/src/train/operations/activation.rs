//! Activations of feed-forward layers.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::Workers;
use super::real::Real;
use super::rows::{Kernel, RowsMut, split, vectorised};
use super::storage::{Held, by_type, output, tensor, values};

/// See [`Operations::gated_silu`](crate::twin::Operations::gated_silu).
pub(super) fn gated_silu(workers: &Workers, x: &Tensor) -> Result<Tensor> {
    let op = Activation {
        workers: workers.clone(),
        kind: Kind::GatedSilu,
    };
    x.contiguous()?.apply_op1(op)
}

/// See [`Operations::gelu_tanh`](crate::twin::Operations::gelu_tanh).
pub(super) fn gelu_tanh(workers: &Workers, x: &Tensor) -> Result<Tensor> {
    let op = Activation {
        workers: workers.clone(),
        kind: Kind::GeluTanh,
    };
    x.contiguous()?.apply_op1(op)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    GatedSilu,
    GeluTanh,
}

impl Kind {
    /// Values read for each value given.
    fn inputs(self) -> usize {
        match self {
            Self::GatedSilu => 2,
            Self::GeluTanh => 1,
        }
    }
}

struct Activation {
    workers: Workers,
    kind: Kind,
}

/// `x` `[rows, inputs * width]` to `out` `[rows, width]`.
struct ForwardRows<'a, T> {
    kind: Kind,
    width: usize,
    x: &'a [T],
    out: &'a mut [T],
}

impl<T: Real> Kernel for ForwardRows<'_, T> {
    #[inline(always)]
    fn run(self) {
        let rows = self.x.chunks_exact(self.kind.inputs() * self.width);
        for (x, out) in rows.zip(self.out.chunks_exact_mut(self.width)) {
            match self.kind {
                Kind::GatedSilu => {
                    let (gate, up) = x.split_at(self.width);
                    for (out, (gate, up)) in out.iter_mut().zip(gate.iter().zip(up)) {
                        *out = *gate * sigmoid(*gate) * *up;
                    }
                }
                Kind::GeluTanh => {
                    for (out, x) in out.iter_mut().zip(x) {
                        *out = T::of(0.5) * *x * (T::ONE + tanh(gelu_inner(*x)));
                    }
                }
            }
        }
    }
}

struct BackwardRows<'a, T> {
    kind: Kind,
    width: usize,
    x: &'a [T],
    grad: &'a [T],
    dx: &'a mut [T],
}

impl<T: Real> Kernel for BackwardRows<'_, T> {
    #[inline(always)]
    fn run(self) {
        let (width, inputs) = (self.width, self.kind.inputs() * self.width);
        let rows = self
            .x
            .chunks_exact(inputs)
            .zip(self.grad.chunks_exact(width));
        for ((x, grad), dx) in rows.zip(self.dx.chunks_exact_mut(inputs)) {
            match self.kind {
                Kind::GatedSilu => gated_silu_backward(x, grad, dx),
                Kind::GeluTanh => gelu_tanh_backward(x, grad, dx),
            }
        }
    }
}

/// With `s = sigmoid(gate)`: `d gate = dy up s (1 + gate (1 - s))`, `d up = dy gate s`.
#[inline(always)]
fn gated_silu_backward<T: Real>(x: &[T], grad: &[T], dx: &mut [T]) {
    let (gate, up) = x.split_at(grad.len());
    let (dgate, dup) = dx.split_at_mut(grad.len());
    let inputs = gate.iter().zip(up).zip(grad);
    for ((dgate, dup), ((gate, up), grad)) in dgate.iter_mut().zip(dup).zip(inputs) {
        let s = sigmoid(*gate);
        *dgate = *grad * *up * s * (T::ONE + *gate * (T::ONE - s));
        *dup = *grad * *gate * s;
    }
}

/// With `t = tanh(inner(x))`: `dx = dy (1 + t) / 2 + dy x (1 - t^2) inner'(x) / 2`.
#[inline(always)]
fn gelu_tanh_backward<T: Real>(x: &[T], grad: &[T], dx: &mut [T]) {
    let (scale, cubic) = gelu_constants::<T>();
    for (dx, (x, grad)) in dx.iter_mut().zip(x.iter().zip(grad)) {
        let t = tanh(gelu_inner(*x));
        let slope = scale * (T::ONE + T::of(3.0) * cubic * *x * *x);
        let change = T::ONE + t + *x * (T::ONE - t * t) * slope;
        *dx = T::of(0.5) * *grad * change;
    }
}

#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp())
}

#[inline(always)]
fn tanh<T: Real>(x: T) -> T {
    T::ONE - T::of(2.0) / ((x + x).exp() + T::ONE)
}

#[inline(always)]
fn gelu_constants<T: Real>() -> (T, T) {
    // sqrt(2 / pi), and the coefficient of the paper.
    (T::of(0.797_884_560_802_865_4), T::of(0.044_715))
}

#[inline(always)]
fn gelu_inner<T: Real>(x: T) -> T {
    let (scale, cubic) = gelu_constants::<T>();
    scale * (cubic * x * x * x + x)
}

impl Activation {
    fn forward<T: Real>(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, columns) = layout.shape().dims2()?;
        let width = columns / self.kind.inputs();
        let x = values::<T>(x, layout)?;
        let mut out = vec![T::ZERO; rows * width];
        let shared = RowsMut::new(&mut out, width);
        split(&self.workers, rows, columns, &|range| {
            let kernel = ForwardRows {
                kind: self.kind,
                width,
                x: &x[range.start * columns..range.end * columns],
                // SAFETY: the ranges of the threads are disjoint; the slice outlives them.
                out: unsafe { shared.range(range) },
            };
            vectorised(self.workers.set, kernel);
        });
        output(out, (rows, width))
    }

    fn backward<T: Real>(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let (rows, columns) = x.dims2()?;
        let width = columns / self.kind.inputs();
        let grad = grad.contiguous()?;
        let (x_held, grad) = (Held::new(x), Held::new(&grad));
        let (x_values, grad) = (x_held.values::<T>()?, grad.values::<T>()?);
        let mut dx = vec![T::ZERO; x_values.len()];
        let shared = RowsMut::new(&mut dx, columns);
        split(&self.workers, rows, columns, &|range| {
            let kernel = BackwardRows {
                kind: self.kind,
                width,
                x: &x_values[range.start * columns..range.end * columns],
                grad: &grad[range.start * width..range.end * width],
                // SAFETY: the ranges of the threads are disjoint; the slice outlives them.
                dx: unsafe { shared.range(range) },
            };
            vectorised(self.workers.set, kernel);
        });
        tensor(dx, x)
    }
}

impl CustomOp1 for Activation {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::GatedSilu => "gated silu",
            Kind::GeluTanh => "gelu",
        }
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_type!(x.dtype(), T => self.forward::<T>(x, layout))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        by_type!(grad.dtype(), T => self.backward::<T>(x, grad)).map(Some)
    }
}
