//! Normalisation over the last dimension.

use candle_core::{D, Tensor};
use skein_weights::profile::NormKind;

use super::{Scope, TwinError};

/// The norm of the residual stream, `[n, hidden]` to the same, of the kind that the profile says.
pub(super) fn residual(
    scope: &Scope<'_>,
    weight: &'static str,
    bias: &'static str,
    x: &Tensor,
) -> Result<Tensor, TwinError> {
    let epsilon = scope.profile.norm_epsilon;
    match scope.profile.norm {
        NormKind::Rms => rms(x, scope.get(weight)?, epsilon),
        NormKind::Layer => {
            let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
            let scaled = rms(&centred, scope.get(weight)?, epsilon)?;
            Ok(scaled.broadcast_add(scope.get(bias)?)?)
        }
    }
}

/// `x / sqrt(mean(x^2) + epsilon) * weight`, over the last dimension of any shape.
pub(super) fn rms(x: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor, TwinError> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    let size = mean.affine(1.0, f64::from(epsilon))?.sqrt()?;
    Ok(x.broadcast_div(&size)?.broadcast_mul(weight)?)
}
