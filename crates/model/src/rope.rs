//! Rotary position embedding.
//!
//! Frequencies are computed in double precision by our own functions and rounded to `f32` once;
//! an angle is the `f32` product of position and frequency, as the reference implementations
//! compute it; sine and cosine are taken in double precision and rounded.

use std::f64::consts::TAU;

use skein_base::math;
use skein_weights::profile::RopeScaling;

/// `head_dim / 2` frequencies, in radians per position.
///
/// # Panics
/// If explicit divisors are fewer; a checked profile has `head_dim / 2` of them.
pub fn frequencies(head_dim: usize, theta: f64, scaling: &RopeScaling) -> Vec<f32> {
    (0..head_dim / 2)
        .map(|i| {
            let exponent = (2 * i) as f64 / head_dim as f64;
            scale(1.0 / math::pow64(theta, exponent), scaling, i) as f32
        })
        .collect()
}

fn scale(frequency: f64, scaling: &RopeScaling, index: usize) -> f64 {
    match *scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Divisors { ref divisors } => frequency / f64::from(divisors[index]),
        RopeScaling::Llama3 {
            factor,
            low_frequency_factor,
            high_frequency_factor,
            original_context,
        } => {
            let context = f64::from(original_context);
            let wavelength = TAU / frequency;
            if wavelength < context / high_frequency_factor {
                return frequency;
            }
            if wavelength > context / low_frequency_factor {
                return frequency / factor;
            }
            let smooth = (context / wavelength - low_frequency_factor)
                / (high_frequency_factor - low_frequency_factor);
            (1.0 - smooth) * frequency / factor + smooth * frequency
        }
    }
}

/// Cosines and sines of one position: `head_dim / 2` pairs.
pub(crate) fn angles(frequencies: &[f32], position: usize, out: &mut [(f32, f32)]) {
    for (out, frequency) in out.iter_mut().zip(frequencies) {
        let (sine, cosine) = math::sin_cos64(f64::from(position as f32 * frequency));
        *out = (cosine as f32, sine as f32);
    }
}

/// Rotates the pairs `(x[i], x[i + half])` of one head in place.
pub(crate) fn rotate(head: &mut [f32], angles: &[(f32, f32)]) {
    let (low, high) = head.split_at_mut(angles.len());
    for ((low, high), (cosine, sine)) in low.iter_mut().zip(high).zip(angles) {
        let (a, b) = (*low, *high);
        *low = a * cosine - b * sine;
        *high = b * cosine + a * sine;
    }
}
