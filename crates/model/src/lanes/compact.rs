//! How units of [compact](crate::kernels::linear::compact) weights lie.

use super::LANES;

/// Inputs of a unit.
pub(crate) const STEPS: usize = 8;
/// Bytes of a unit.
pub(crate) const UNIT_BYTES: usize = 3 * LANES * STEPS / 2;
/// Weights of a unit's half.
pub(crate) const HALF: usize = LANES * STEPS / 2;

/// Whether a weight is in the second half of its unit, and where in the half.
pub(crate) const fn place(step: usize, lane: usize) -> (bool, usize) {
    let half = STEPS / 2;
    let place = 16 * (lane / 4) + 8 * (step % half / 2) + 2 * (lane % 4) + step % 2;
    (step >= half, place)
}

/// A weight from its byte of sign and fraction, and what the tables have for its exponent.
pub(crate) const fn compose(low: u8, exponent_low: u8, exponent_high: u8) -> u16 {
    u16::from_le_bytes([low & 0x7f | exponent_low, low & 0x80 | exponent_high])
}
