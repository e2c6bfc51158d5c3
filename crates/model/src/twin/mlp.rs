//! The feed-forward layer.

use candle_core::Tensor;
use skein_weights::profile::Mlp;

use super::{Scope, TwinError};

/// `[n, hidden]` to the same.
pub(super) fn forward(scope: &Scope<'_>, x: &Tensor) -> Result<Tensor, TwinError> {
    let up = scope.linear("mlp_up.weight", "mlp_up.bias", x)?;
    let inner = match scope.profile.mlp {
        Mlp::GatedSilu => {
            (scope
                .linear("mlp_gate.weight", "mlp_gate.bias", x)?
                .silu()?
                * up)?
        }
        Mlp::GeluTanh => gelu_tanh(&up)?,
    };
    scope.linear("mlp_down.weight", "mlp_down.bias", &inner)
}

/// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))` (Hendrycks and Gimpel, 2016).
fn gelu_tanh(x: &Tensor) -> Result<Tensor, TwinError> {
    let cubic = (x.sqr()? * x)?.affine(0.044_715, 0.0)?;
    let inner = (x + cubic)?.affine((2.0 / std::f64::consts::PI).sqrt(), 0.0)?;
    Ok((x.affine(0.5, 0.0)? * inner.tanh()?.affine(1.0, 1.0)?)?)
}
