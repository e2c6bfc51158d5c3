//! Causal attention, recomputed in its backward pass: memory grows with the positions, not with
//! their square (Dao and others, FlashAttention, 2022).
//!
//! Queries and keys are taken in tiles of [`TILE`] positions; tiles of keys that no query of a tile
//! sees are skipped. A task is one row of the batch and one head of keys, with all the heads of
//! queries that share it: every output is written by one task, in one order.

mod backward;
mod forward;
mod head;

use std::sync::OnceLock;

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, Error, Layout, Result, Shape, Tensor};

use super::Workers;
use super::real::Real;
use super::storage::{Held, by_type, output, tensor, values};
use crate::memory::SharedMut;
use crate::twin::Attention;
use head::Head;

/// Positions of a tile: small, since half of a tile on the diagonal is computed in vain, and a
/// multiple of every register tile's height and width.
const TILE: usize = 48;

/// See [`Operations::attention`](crate::twin::Operations::attention).
pub(super) fn attention(
    workers: &Workers,
    qkv: &Tensor,
    norms: Option<[&Tensor; 2]>,
    attention: &Attention,
) -> Result<Tensor> {
    let op = Attend {
        workers: workers.clone(),
        attention: attention.clone(),
        log_sums: OnceLock::new(),
    };
    let qkv = qkv.contiguous()?;
    match norms {
        Some([q, k]) => qkv.apply_op3(q, k, op),
        None => qkv.apply_op1(op),
    }
}

struct Attend {
    workers: Workers,
    attention: Attention,
    /// Logarithm of the sum of the powers of each position's scores, `[n, heads]`, of the forward
    /// pass.
    log_sums: OnceLock<Tensor>,
}

/// Weights of the norms of q and k.
type Norms<'a, T> = Option<[&'a [T]; 2]>;

impl Attend {
    /// Rows of the batch times heads of keys.
    fn tasks(&self) -> usize {
        self.attention.rows.count() * self.attention.kv_heads
    }

    fn head<'a, T: Real>(&'a self, qkv: &'a [T], norms: Norms<'a, T>, task: usize) -> Head<'a, T> {
        let kv_heads = self.attention.kv_heads;
        Head::new(self, qkv, norms, [task / kv_heads, task % kv_heads])
    }

    fn check(&self, layout: &Layout) -> Result<()> {
        let (found, expected) = (
            layout.shape().dims2()?,
            (
                self.attention.rows.positions().len(),
                self.attention.width(),
            ),
        );
        if found != expected {
            candle_core::bail!("attention over {expected:?} values got {found:?}");
        }
        Ok(())
    }

    fn forward<T: Real>(
        &self,
        qkv: &CpuStorage,
        layout: &Layout,
        norms: Norms<'_, T>,
    ) -> Result<(CpuStorage, Shape)> {
        self.check(layout)?;
        let qkv = values::<T>(qkv, layout)?;
        let n = self.attention.rows.positions().len();
        let (heads, d) = (self.attention.heads, self.attention.head_dim);
        let mut out = vec![T::ZERO; n * heads * d];
        let mut log_sums = vec![T::ZERO; n * heads];
        let shared = [SharedMut::new(&mut out), SharedMut::new(&mut log_sums)];
        self.workers.pool.each(self.tasks(), &|task| {
            // SAFETY: a task is one row and one group of heads, which no other has; the slices
            // outlive them.
            unsafe { self.head(qkv, norms, task).forward(&shared) }
        });
        let log_sums = Tensor::from_vec(log_sums, (n, heads), &candle_core::Device::Cpu)?;
        // A second forward pass over the same operation does not happen.
        let _ = self.log_sums.set(log_sums);
        output(out, (n, heads * d))
    }

    /// The gradients of `qkv` and, if there are any, of the norms of q and k.
    fn backward<T: Real>(
        &self,
        qkv: &Tensor,
        norms: Option<[&Tensor; 2]>,
        [out, grad]: [&Tensor; 2],
    ) -> Result<(Tensor, [Option<Tensor>; 2])> {
        let missing = || Error::Msg("attention has no forward pass to go back over".to_owned());
        let log_sums = Held::new(self.log_sums.get().ok_or_else(missing)?);
        let (grad, qkv_held, out) = (grad.contiguous()?, Held::new(qkv), Held::new(out));
        let norms_held = norms.map(|norms| norms.map(Held::new));
        let weights: Norms<'_, T> = match &norms_held {
            Some([q, k]) => Some([q.values()?, k.values()?]),
            None => None,
        };
        let grad = Held::new(&grad);
        let known = backward::Known {
            log_sums: log_sums.values::<T>()?,
            out: out.values()?,
            grad: grad.values()?,
        };
        let qkv_values = qkv_held.values()?;
        let mut dqkv = vec![T::ZERO; qkv_values.len()];
        let d = self.attention.head_dim;
        let mut partial = vec![T::ZERO; self.tasks() * 2 * d];
        let shared = [SharedMut::new(&mut dqkv), SharedMut::new(&mut partial)];
        self.workers.pool.each(self.tasks(), &|task| {
            let head = self.head(qkv_values, weights, task);
            // SAFETY: each task writes its own rows and heads, and its own sums.
            unsafe {
                let sums = shared[1].range(task * 2 * d, 2 * d);
                head.backward(&known, &shared[0], sums);
            }
        });
        let mut dnorms = [None, None];
        if let Some(norms) = norms {
            for (which, (dnorm, norm)) in dnorms.iter_mut().zip(norms).enumerate() {
                let mut total = vec![T::ZERO; d];
                for partial in partial.chunks_exact(2 * d) {
                    super::rows::add_to(&partial[which * d..][..d], &mut total);
                }
                *dnorm = Some(tensor(total, norm)?);
            }
        }
        Ok((tensor(dqkv, qkv)?, dnorms))
    }
}

impl CustomOp1 for Attend {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_type!(qkv.dtype(), T => self.forward::<T>(qkv, layout, None))
    }

    fn bwd(&self, qkv: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (dqkv, _) = by_type!(grad.dtype(), T => self.backward::<T>(qkv, None, [out, grad]))?;
        Ok(Some(dqkv))
    }
}

impl CustomOp3 for Attend {
    fn name(&self) -> &'static str {
        "attention with norms"
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        layout: &Layout,
        q_norm: &CpuStorage,
        q_layout: &Layout,
        k_norm: &CpuStorage,
        k_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_type!(qkv.dtype(), T => {
            let norms = [values::<T>(q_norm, q_layout)?, values(k_norm, k_layout)?];
            self.forward::<T>(qkv, layout, Some(norms))
        })
    }

    fn bwd(
        &self,
        qkv: &Tensor,
        q_norm: &Tensor,
        k_norm: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let norms = Some([q_norm, k_norm]);
        let (dqkv, [dq_norm, dk_norm]) =
            by_type!(grad.dtype(), T => self.backward::<T>(qkv, norms, [out, grad]))?;
        Ok((Some(dqkv), dq_norm, dk_norm))
    }
}
