//! Causal attention with grouped queries and, where the profile says so, a sliding window.

use candle_core::{D, Device, Tensor};

use super::positions::Rotary;
use super::{Scope, TwinError, norm};

/// Attention of layer `index` over the normalised residual stream `x`, `[n, hidden]` to the same.
pub(super) fn forward(
    scope: &Scope<'_>,
    index: u32,
    x: &Tensor,
    rotary: Option<&Rotary>,
) -> Result<Tensor, TwinError> {
    let (n, profile) = (x.dim(0)?, scope.profile);
    let (heads, kv_heads) = (profile.heads as usize, profile.kv_heads as usize);
    let q = split(&scope.linear("attn_q.weight", "attn_q.bias", x)?, heads)?;
    let k = split(&scope.linear("attn_k.weight", "attn_k.bias", x)?, kv_heads)?;
    let v = split(&scope.linear("attn_v.weight", "attn_v.bias", x)?, kv_heads)?;
    let q = position(scope, "q_norm.weight", q, rotary)?;
    let k = position(scope, "k_norm.weight", k, rotary)?;
    let (k, v) = (share(&k, heads)?, share(&v, heads)?);
    let scale = 1.0 / f64::from(profile.head_dim).sqrt();
    let scores = q
        .matmul(&k.transpose(1, 2)?.contiguous()?)?
        .affine(scale, 0.0)?;
    let scores = scores.broadcast_add(&mask(n, profile.window(index))?)?;
    let mixed = softmax(&scores)?.matmul(&v)?;
    let rows = mixed.transpose(0, 1)?.reshape((n, ()))?;
    scope.linear("attn_o.weight", "attn_o.bias", &rows)
}

/// `[n, heads * d]` to `[heads, n, d]`.
fn split(x: &Tensor, heads: usize) -> Result<Tensor, TwinError> {
    let (n, width) = x.dims2()?;
    Ok(x.reshape((n, heads, width / heads))?
        .transpose(0, 1)?
        .contiguous()?)
}

/// Norm per head, then rotation, of `[heads, n, d]`; each where the model has it.
fn position(
    scope: &Scope<'_>,
    weight: &'static str,
    x: Tensor,
    rotary: Option<&Rotary>,
) -> Result<Tensor, TwinError> {
    let x = match scope.find(weight) {
        Some(weight) => norm::rms(&x, weight, scope.profile.norm_epsilon)?,
        None => x,
    };
    rotary.map_or(Ok(x.clone()), |rotary| rotary.rotate(&x))
}

/// Repeats each of `[kv_heads, n, d]` for its group of queries: `[heads, n, d]`.
fn share(x: &Tensor, heads: usize) -> Result<Tensor, TwinError> {
    let (kv_heads, n, d) = x.dims3()?;
    let grouped = x
        .unsqueeze(1)?
        .broadcast_as((kv_heads, heads / kv_heads, n, d))?;
    Ok(grouped.reshape((heads, n, d))?)
}

/// `[n, n]`: zero where row `i` may attend to column `j`, minus infinity elsewhere.
fn mask(n: usize, window: Option<u32>) -> Result<Tensor, TwinError> {
    let reach = window.map_or(n, |window| window as usize);
    let allowed = |i: usize, j: usize| j <= i && i - j < reach;
    let cell = |at: usize| {
        if allowed(at / n, at % n) {
            0.0
        } else {
            f32::NEG_INFINITY
        }
    };
    let cells: Vec<f32> = (0..n * n).map(cell).collect();
    Ok(Tensor::from_vec(cells, (n, n), &Device::Cpu)?)
}

/// Softmax over the last dimension. Each row has a finite score: a token attends to itself.
fn softmax(scores: &Tensor) -> Result<Tensor, TwinError> {
    // The maximum only keeps the powers in range and cancels out, gradient included.
    let largest = scores.max_keepdim(D::Minus1)?.detach();
    let powers = scores.broadcast_sub(&largest)?.exp()?;
    Ok(powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?)
}
