//! What a network asks of its operations, so that training can bring faster ones.

use std::fmt;
use std::sync::Arc;

use candle_core::{Result, Tensor};
use skein_weights::Part;

use super::positions::{Rotary, Rows};

/// The operations of a transformer, each differentiable in every tensor that it takes.
pub(crate) trait Operations: fmt::Debug + Send + Sync {
    /// `x W^T + b`: `x` `[n, inputs]`, `W` `[outputs, inputs]`, `b` `[outputs]`, to `[n, outputs]`.
    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor>;

    /// `x / sqrt(mean(x^2) + epsilon) * weight` over the last dimension of `x`, `[n, width]`.
    fn rms_norm(&self, x: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor>;

    /// `(x - mean) / sqrt(variance + epsilon) * weight + bias` over the last dimension.
    fn layer_norm(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        epsilon: f32,
    ) -> Result<Tensor>;

    /// Causal attention: `[n, (heads + 2 * kv_heads) * d]` of queries, keys and values side by side
    /// to `[n, heads * d]`. Queries and keys are first normalised per head by `norms` (`[d]` each),
    /// then rotated, where the model does either.
    fn attention(
        &self,
        qkv: &Tensor,
        norms: Option<[&Tensor; 2]>,
        attention: &Attention,
    ) -> Result<Tensor>;

    /// `silu(gate) * up` of gate and up side by side: `[n, 2 * width]` to `[n, width]`.
    fn gated_silu(&self, x: &Tensor) -> Result<Tensor>;

    /// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))` (Hendrycks and Gimpel, 2016).
    fn gelu_tanh(&self, x: &Tensor) -> Result<Tensor>;

    /// Leaves values out at random where training asks for it; else `x` itself.
    fn dropout(&self, x: &Tensor, part: Part, site: Site) -> Result<Tensor>;
}

/// Where values may be left out: each is added to the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    /// The embeddings.
    Embedding,
    /// What attention adds.
    Attention,
    /// What the feed-forward layer adds.
    Mlp,
}

/// The dimensions of an attention, and which position sees which.
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    /// How many positions, its own included, a token sees; `None` for all before it.
    pub(crate) window: Option<usize>,
    /// What the norms of q and k add to the mean square.
    pub(crate) epsilon: f32,
    pub(crate) rows: Arc<Rows>,
    pub(crate) rotary: Option<Arc<Rotary>>,
}

impl Attention {
    /// Columns of queries, keys and values side by side.
    pub(crate) fn width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// The first position of its row that position `at` of a row sees.
    pub(crate) fn first_seen(&self, row: usize, at: usize) -> usize {
        let document = self.rows.document_start(row, at);
        let reach = self.window.unwrap_or(usize::MAX);
        document.max((at + 1).saturating_sub(reach))
    }
}
