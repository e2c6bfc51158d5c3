//! The output head and the loss in one: logits of all tokens are never in memory at once.

use std::ops::Range;
use std::sync::OnceLock;

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp2, Error, Layout, Result, Shape, Tensor};

use super::Workers;
use super::real::{Real, largest, sum};
use super::rows::{Kernel, RowsMut, split, vectorised};
use super::storage::{by_type, output, values};
use crate::kernels::product::{Start, View};

/// Logits held at a time: 8 MiB of `f32`, a part of a third-level cache.
const LOGITS_MAX: usize = 2 << 20;
/// Fewest rows at a time, so that packed tables are worth their cost.
const ROWS_MIN: usize = 32;

/// The tokens that a loss is taken over.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    /// Row of the residual stream and the token that follows it, in the order of rows.
    pub(crate) list: Vec<(usize, u32)>,
    /// What each token's loss is multiplied by: one over their number gives the mean.
    pub(crate) weight: f64,
}

/// Weighted sum of the cross-entropies `log sum exp(l) - l[target]`, with logits `l = x W^T`.
///
/// The gradients are computed with the loss, while the logits are there, and only scaled in the
/// backward pass.
pub(crate) struct CrossEntropy {
    workers: Workers,
    targets: Targets,
    /// Whether the gradients of `x` and of the table are asked for.
    wanted: [bool; 2],
    grads: OnceLock<[Option<Tensor>; 2]>,
}

impl CrossEntropy {
    /// The loss, a scalar, of the normalised stream `x`, `[n, hidden]`, and a head `table`,
    /// `[vocabulary, hidden]`.
    pub(crate) fn apply(
        workers: &Workers,
        x: &Tensor,
        table: &Tensor,
        targets: Targets,
    ) -> Result<Tensor> {
        let op = Self {
            workers: workers.clone(),
            targets,
            wanted: [x.track_op(), table.track_op()],
            grads: OnceLock::new(),
        };
        x.contiguous()?.apply_op2(&table.contiguous()?, op)
    }

    fn forward<T: Real>(
        &self,
        [x, table]: [(&CpuStorage, &Layout); 2],
    ) -> Result<(CpuStorage, Shape)> {
        let (n, hidden) = x.1.shape().dims2()?;
        let (vocabulary, expected) = table.1.shape().dims2()?;
        let outside = |(row, id): &(usize, u32)| *row >= n || *id as usize >= vocabulary;
        if hidden != expected || self.targets.list.iter().any(outside) {
            candle_core::bail!("targets or head do not fit rows [{n}, {hidden}]");
        }
        let mut pass = Pass {
            op: self,
            x: values::<T>(x.0, x.1)?,
            table: View::new(values::<T>(table.0, table.1)?, hidden),
            dx: self.wanted[0].then(|| vec![T::ZERO; n * hidden]),
            dtable: self.wanted[1].then(|| vec![T::ZERO; vocabulary * hidden]),
        };
        let loss = pass.run();
        let device = candle_core::Device::Cpu;
        let dx = pass.dx.map(|dx| Tensor::from_vec(dx, (n, hidden), &device));
        let dtable = pass
            .dtable
            .map(|dtable| Tensor::from_vec(dtable, (vocabulary, hidden), &device));
        // A second forward pass over the same operation does not happen.
        let _ = self.grads.set([dx.transpose()?, dtable.transpose()?]);
        output(vec![T::of(loss)], ())
    }

    /// The gradients, times that of the loss itself.
    fn backward<T: Real>(&self, grad: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let missing = || Error::Msg("the loss has no forward pass to go back over".to_owned());
        let factor = grad.to_scalar::<T>()?.wide();
        let scaled = |grad: &Option<Tensor>| match grad {
            Some(grad) if factor == 1.0 => Ok(Some(grad.clone())),
            Some(grad) => grad.affine(factor, 0.0).map(Some),
            None => Ok(None),
        };
        let [dx, dtable] = self.grads.get().ok_or_else(missing)?;
        Ok([scaled(dx)?, scaled(dtable)?])
    }
}

/// One pass over all targets.
struct Pass<'a, T> {
    op: &'a CrossEntropy,
    x: &'a [T],
    table: View<'a, T>,
    dx: Option<Vec<T>>,
    dtable: Option<Vec<T>>,
}

impl<T: Real> Pass<'_, T> {
    /// The loss; fills the gradients that are asked for.
    fn run(&mut self) -> f64 {
        let (vocabulary, hidden) = (self.table.rows(), self.table.columns());
        let workers = &self.op.workers;
        let forward = T::pack(workers, self.table.transposed());
        let backward = self.dx.is_some().then(|| T::pack(workers, self.table));
        let rows = (LOGITS_MAX / vocabulary).max(ROWS_MIN);
        let mut logits = vec![T::ZERO; rows.min(self.op.targets.list.len()) * vocabulary];
        let mut loss = 0.0;
        for targets in self.op.targets.list.chunks(rows) {
            let logits = &mut logits[..targets.len() * vocabulary];
            let x = gather(self.x, targets, hidden);
            let view = View::new(&x, hidden);
            T::product(workers, view, &forward, Start::Zero, logits);
            loss += self.losses(targets, logits);
            let dlogits = View::new(&*logits, vocabulary);
            if let (Some(dx), Some(backward)) = (&mut self.dx, &backward) {
                let mut some = vec![T::ZERO; x.len()];
                T::product(workers, dlogits, backward, Start::Zero, &mut some);
                for ((row, _), some) in targets.iter().zip(some.chunks_exact(hidden)) {
                    dx[row * hidden..][..hidden].copy_from_slice(some);
                }
            }
            if let Some(dtable) = &mut self.dtable {
                let packed = T::pack(workers, view);
                T::product(workers, dlogits.transposed(), &packed, Start::Held, dtable);
            }
        }
        loss
    }

    /// The loss of some rows; turns their logits into the gradients by them.
    fn losses(&self, targets: &[(usize, u32)], logits: &mut [T]) -> f64 {
        let vocabulary = self.table.rows();
        let mut losses = vec![0.0; targets.len()];
        let shared = RowsMut::new(logits, vocabulary);
        let shared_losses = RowsMut::new(&mut losses, 1);
        split(&self.op.workers, targets.len(), vocabulary, &|range| {
            let kernel = LossRows {
                targets: &targets[range.clone()],
                weight: self.op.targets.weight,
                vocabulary,
                // SAFETY: the ranges of the threads are disjoint; the slice outlives them.
                logits: unsafe { shared.range(range.clone()) },
                // SAFETY: as for the logits: one loss for each of their rows.
                losses: unsafe { shared_losses.range(range) },
            };
            vectorised(self.op.workers.set, kernel);
        });
        losses.iter().sum()
    }
}

/// The rows of the targets, one after another.
fn gather<T: Real>(x: &[T], targets: &[(usize, u32)], hidden: usize) -> Vec<T> {
    let row = |(row, _): &(usize, u32)| -> Range<usize> { row * hidden..(row + 1) * hidden };
    let rows = targets.iter().map(|target| &x[row(target)]);
    rows.flatten().copied().collect()
}

struct LossRows<'a, T> {
    targets: &'a [(usize, u32)],
    weight: f64,
    vocabulary: usize,
    logits: &'a mut [T],
    losses: &'a mut [f64],
}

impl<T: Real> Kernel for LossRows<'_, T> {
    #[inline(always)]
    fn run(self) {
        let rows = self.logits.chunks_exact_mut(self.vocabulary);
        for (((_, id), row), loss) in self.targets.iter().zip(rows).zip(self.losses) {
            let id = *id as usize;
            let (most, target) = (largest(row), row[id]);
            row.iter_mut().for_each(|x| *x = (*x - most).exp());
            let total = sum(row);
            *loss = (most - target + total.ln()).wide() * self.weight;
            let scale = T::of(self.weight) / total;
            row.iter_mut().for_each(|x| *x *= scale);
            row[id] -= T::of(self.weight);
        }
    }
}

impl CustomOp2 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        table: &CpuStorage,
        table_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let both = [(x, x_layout), (table, table_layout)];
        by_type!(x.dtype(), T => self.forward::<T>(both))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        by_type!(grad.dtype(), T => self.backward::<T>(grad)).map(Into::into)
    }
}
