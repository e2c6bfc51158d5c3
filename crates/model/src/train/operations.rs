//! Operations made for training: a few large steps, each with its own backward pass.
//!
//! All are plain code over slices, generic over `f32` and `f64`: the formulas that finite
//! differences are compared with in double precision are those that run in single. Every sum has
//! one order that neither threads nor instruction set change.

mod activation;
mod attention;
mod dropout;
mod linear;
mod loss;
mod norm;
mod real;
mod rows;
mod seed;
mod storage;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use candle_core::{Result, Tensor};
use skein_weights::Part;

use crate::lanes::InstructionSet;
use crate::pool::Pool;
use crate::twin::{Attention, Operations, Site};

pub(super) use dropout::Dropout;
pub(super) use loss::{CrossEntropy, Targets};
pub(super) use real::dot;
pub(super) use rows::{Kernel, RowsMut, split, vectorised};
pub(super) use seed::Seed;
pub(super) use storage::Held;

/// Threads and instructions to compute with.
#[derive(Debug, Clone)]
pub(super) struct Workers {
    pub(super) pool: Arc<Pool>,
    pub(super) set: InstructionSet,
}

/// The operations of a network in training.
#[derive(Debug, Clone)]
pub(super) struct Fused {
    pub(super) workers: Workers,
    pub(super) dropout: Option<Dropout>,
}

impl Operations for Fused {
    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        linear::linear(&self.workers, x, weight, bias)
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor> {
        norm::rms(&self.workers, x, weight, epsilon)
    }

    fn layer_norm(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        epsilon: f32,
    ) -> Result<Tensor> {
        norm::layer(&self.workers, x, [weight, bias], epsilon)
    }

    fn attention(
        &self,
        qkv: &Tensor,
        norms: Option<[&Tensor; 2]>,
        attention: &Attention,
    ) -> Result<Tensor> {
        attention::attention(&self.workers, qkv, norms, attention)
    }

    fn gated_silu(&self, x: &Tensor) -> Result<Tensor> {
        activation::gated_silu(&self.workers, x)
    }

    fn gelu_tanh(&self, x: &Tensor) -> Result<Tensor> {
        activation::gelu_tanh(&self.workers, x)
    }

    fn dropout(&self, x: &Tensor, part: Part, site: Site) -> Result<Tensor> {
        match &self.dropout {
            Some(dropout) => dropout.apply(&self.workers, x, part, site),
            None => Ok(x.clone()),
        }
    }
}
