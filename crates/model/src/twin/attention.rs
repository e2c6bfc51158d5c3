//! Attention of a layer: projections around [`Operations::attention`](super::Operations).

use candle_core::Tensor;

use super::network::Scope;
use super::{Attention, TwinError};

/// Attention of layer `index` over the normalised residual stream `x`, `[n, hidden]` to the same.
pub(super) fn forward(scope: &Scope<'_>, index: u32, x: &Tensor) -> Result<Tensor, TwinError> {
    let (network, profile) = (scope.network, scope.network.profile);
    let qkv = [
        ["attn_q.weight", "attn_q.bias"],
        ["attn_k.weight", "attn_k.bias"],
        ["attn_v.weight", "attn_v.bias"],
    ];
    let qkv = scope.project(&qkv, x)?;
    let norms = scope.find("q_norm.weight").zip(scope.find("k_norm.weight"));
    let attention = Attention {
        heads: profile.heads as usize,
        kv_heads: profile.kv_heads as usize,
        head_dim: profile.head_dim as usize,
        window: profile.window(index).map(|window| window as usize),
        epsilon: profile.norm_epsilon,
        rows: network.rows.clone(),
        rotary: network.rotary.clone(),
    };
    let norms = norms.map(|(q, k)| [q, k]);
    let mixed = network.operations.attention(&qkv, norms, &attention)?;
    scope.project(&[["attn_o.weight", "attn_o.bias"]], &mixed)
}
