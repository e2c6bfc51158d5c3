//! The optimiser: AdamW (Loshchilov and Hutter, 2017), as PyTorch computes it.

use std::cell::RefCell;

use candle_core::{CpuStorage, Error, InplaceOp1, Layout, Result, Tensor, Var};
use skein_base::math;

use super::TrainConfig;
use super::operations::{Held, Kernel, RowsMut, Workers, dot, split, vectorised};

/// Running means of a tensor's gradient and of its square.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moments {
    pub(super) first: Vec<f32>,
    pub(super) second: Vec<f32>,
}

impl Moments {
    pub(super) fn zero(count: usize) -> Self {
        Self {
            first: vec![0.0; count],
            second: vec![0.0; count],
        }
    }
}

/// The factors of one step, the same for every value of a tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factors {
    /// What gradients are multiplied by: clipping.
    gradient: f32,
    /// What weights are multiplied by: decay.
    keep: f32,
    /// Learning rate over the first moment's bias correction.
    rate: f32,
    /// Root of the second moment's bias correction.
    second_root: f32,
    /// What the first moment takes on of the gradient.
    first_new: f32,
    /// What the second moment keeps, and what it takes on of the gradient's square.
    second_kept: f32,
    second_new: f32,
    epsilon: f32,
}

impl Factors {
    /// Of step `step`, counted from zero, at this learning rate.
    pub(super) fn new(config: &TrainConfig, step: u64, rate: f64, gradient: f64) -> Self {
        let correction = |beta: f64| 1.0 - math::pow64(beta, (step + 1) as f64);
        Self {
            gradient: gradient as f32,
            keep: 1.0,
            rate: (rate / correction(config.beta1)) as f32,
            second_root: correction(config.beta2).sqrt() as f32,
            first_new: (1.0 - config.beta1) as f32,
            second_kept: config.beta2 as f32,
            second_new: (1.0 - config.beta2) as f32,
            epsilon: config.epsilon as f32,
        }
    }

    /// The same with weights decaying.
    pub(super) fn decaying(self, config: &TrainConfig, rate: f64) -> Self {
        Self {
            keep: (1.0 - rate * config.weight_decay) as f32,
            ..self
        }
    }
}

/// The sum of the squares of a gradient, in one order.
pub(super) fn square_sum(workers: &Workers, gradient: &Tensor) -> Result<f64> {
    let gradient = gradient.contiguous()?;
    let held = Held::new(&gradient);
    let gradient = held.values::<f32>()?;
    let blocks = gradient.len().div_ceil(SQUARES);
    let mut partial = vec![0.0; blocks];
    let shared = RowsMut::new(&mut partial, 1);
    workers.pool.split(blocks, &|range| {
        for block in range {
            let end = gradient.len().min((block + 1) * SQUARES);
            let kernel = Squares {
                values: &gradient[block * SQUARES..end],
                // SAFETY: the blocks of the threads are disjoint; the slice outlives them.
                sum: unsafe { &mut shared.range(block..block + 1)[0] },
            };
            vectorised(workers.set, kernel);
        }
    });
    Ok(partial.iter().sum())
}

/// Values whose squares are added up in `f32`, before `f64` goes on.
const SQUARES: usize = 4096;

struct Squares<'a> {
    values: &'a [f32],
    sum: &'a mut f64,
}

impl Kernel for Squares<'_> {
    #[inline(always)]
    fn run(self) {
        *self.sum = f64::from(dot(self.values, self.values));
    }
}

/// Moves a variable along its gradient.
pub(super) fn update(
    workers: &Workers,
    variable: &Var,
    gradient: &Tensor,
    moments: &mut Moments,
    factors: Factors,
) -> Result<()> {
    let gradient = gradient.contiguous()?;
    let held = Held::new(&gradient);
    variable.as_tensor().inplace_op1(&Update {
        workers,
        gradient: held.values()?,
        moments: RefCell::new(moments),
        factors,
    })
}

struct Update<'a> {
    workers: &'a Workers,
    gradient: &'a [f32],
    moments: RefCell<&'a mut Moments>,
    factors: Factors,
}

impl InplaceOp1 for Update<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let offsets = layout.contiguous_offsets();
        let (CpuStorage::F32(weights), Some((start, end))) = (storage, offsets) else {
            return Err(Error::Msg("only f32 weights in one piece learn".to_owned()));
        };
        let weights = &mut weights[start..end];
        let mut moments = self.moments.borrow_mut();
        let moments: &mut Moments = &mut moments;
        let count = weights.len();
        if self.gradient.len() != count || moments.first.len() != count {
            return Err(Error::Msg("gradient and weight differ in shape".to_owned()));
        }
        let (gradient, factors, set) = (self.gradient, self.factors, self.workers.set);
        let weights = RowsMut::new(weights, 1);
        let first = RowsMut::new(&mut moments.first, 1);
        let second = RowsMut::new(&mut moments.second, 1);
        split(self.workers, count, 1, &|range| {
            // SAFETY: the ranges of the threads are disjoint; the slice outlives them.
            let kernel = unsafe {
                Values {
                    gradient: &gradient[range.clone()],
                    weights: weights.range(range.clone()),
                    first: first.range(range.clone()),
                    second: second.range(range),
                    factors,
                }
            };
            vectorised(set, kernel);
        });
        Ok(())
    }
}

struct Values<'a> {
    gradient: &'a [f32],
    weights: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    factors: Factors,
}

impl Kernel for Values<'_> {
    #[inline(always)]
    fn run(self) {
        let f = self.factors;
        let moments = self.first.iter_mut().zip(self.second);
        let all = self.weights.iter_mut().zip(moments).zip(self.gradient);
        for ((weight, (first, second)), gradient) in all {
            let gradient = gradient * f.gradient;
            *first += (gradient - *first) * f.first_new;
            *second = *second * f.second_kept + gradient * gradient * f.second_new;
            let size = second.sqrt() / f.second_root + f.epsilon;
            *weight = *weight * f.keep - f.rate * (*first / size);
        }
    }
}
