//! One transformer layer.

use candle_core::Tensor;

use super::positions::Rotary;
use super::{Scope, TwinError, attention, mlp, norm};

/// Layer `index` of the residual stream `x`, `[n, hidden]` to the same: attention, then the
/// feed-forward layer, each on the normalised stream and added to it.
pub(super) fn forward(
    scope: &Scope<'_>,
    index: u32,
    x: &Tensor,
    rotary: Option<&Rotary>,
) -> Result<Tensor, TwinError> {
    let normed = norm::residual(scope, "attn_norm.weight", "attn_norm.bias", x)?;
    let x = (x + attention::forward(scope, index, &normed, rotary)?)?;
    let normed = norm::residual(scope, "mlp_norm.weight", "mlp_norm.bias", &x)?;
    Ok((&x + mlp::forward(scope, &normed)?)?)
}
