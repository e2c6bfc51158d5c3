//! Rotary position embedding.

use candle_core::{D, Device, Tensor};
use skein_weights::Profile;
use skein_weights::profile::Positions;

use super::TwinError;
use crate::rope;

/// Cosines and sines of positions `0..n`, `[n, d / 2]` each.
pub(super) struct Rotary {
    cosines: Tensor,
    sines: Tensor,
}

impl Rotary {
    /// The angles of `n` positions; `None` if positions enter otherwise.
    pub(super) fn new(profile: &Profile, n: usize) -> Result<Option<Self>, TwinError> {
        let Positions::Rope { theta, scaling } = &profile.positions else {
            return Ok(None);
        };
        let frequencies = rope::frequencies(profile.head_dim as usize, *theta, scaling);
        let frequencies = Tensor::new(frequencies, &Device::Cpu)?.unsqueeze(0)?;
        let positions: Vec<f32> = (0..n).map(|position| position as f32).collect();
        let angles = Tensor::new(positions, &Device::Cpu)?
            .unsqueeze(1)?
            .matmul(&frequencies)?;
        Ok(Some(Self {
            cosines: angles.cos()?,
            sines: angles.sin()?,
        }))
    }

    /// Rotates the pairs `(x[i], x[i + d/2])` of every head of `x`, `[heads, n, d]`.
    pub(super) fn rotate(&self, x: &Tensor) -> Result<Tensor, TwinError> {
        let half = x.dim(D::Minus1)? / 2;
        let (low, high) = (
            x.narrow(D::Minus1, 0, half)?,
            x.narrow(D::Minus1, half, half)?,
        );
        let turned_low = (low.broadcast_mul(&self.cosines)? - high.broadcast_mul(&self.sines)?)?;
        let turned_high = (high.broadcast_mul(&self.cosines)? + low.broadcast_mul(&self.sines)?)?;
        Ok(Tensor::cat(&[turned_low, turned_high], D::Minus1)?)
    }
}
