//! Integer kernels of aarch64, by the instructions that every such processor has.
//!
//! Sixteen bytes are four outputs of a group of four inputs. No closures here: they would be compiled without the
//! instruction set where it is not that of the whole program.

use std::arch::aarch64::*;

use super::Integers;
use crate::lanes::NeonLanes;

/// NEON.
pub(crate) struct Neon;

/// Sums of sixteen outputs.
type Sums = [int32x4_t; 4];

/// Adds the products of sixteen weights, signed (`q8`) or from 0 to 15 (`q4`), to four outputs.
///
/// # Safety
/// NEON is enabled.
#[inline(always)]
unsafe fn add(sum: int32x4_t, weights: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: the caller's.
    unsafe {
        let low = vmull_s8(vget_low_s8(weights), vget_low_s8(x));
        let high = vmull_high_s8(weights, x);
        // Two products of at most 128 * 127 are 32512: exact in 16 bits.
        vpadalq_s16(sum, vpaddq_s16(low, high))
    }
}

/// The four values of a row's group, four times.
///
/// # Safety
/// NEON is enabled, and the word is there.
#[inline(always)]
unsafe fn word(x: *const u8, index: usize) -> int8x16_t {
    // SAFETY: the caller's.
    unsafe { vreinterpretq_s8_s32(vdupq_n_s32(x.cast::<i32>().add(index).read_unaligned())) }
}

/// # Safety
/// NEON is enabled.
#[inline(always)]
unsafe fn to_floats<const R: usize>(sums: [Sums; R]) -> [NeonLanes; R] {
    // SAFETY: the caller's.
    unsafe {
        let mut floats = [NeonLanes([vdupq_n_f32(0.0); 4]); R];
        for (float, sums) in floats.iter_mut().zip(sums) {
            for (float, sum) in float.0.iter_mut().zip(sums) {
                *float = vcvtq_f32_s32(sum);
            }
        }
        floats
    }
}

/// Widens four `f16`, exactly: their bits as those of an `f32` are 2^112 times too small.
///
/// # Safety
/// NEON is enabled.
#[inline(always)]
unsafe fn widen_f16(bits: uint16x4_t) -> float32x4_t {
    // SAFETY: the caller's.
    unsafe {
        let bits = vmovl_u16(bits);
        let magnitude = vshlq_n_u32::<13>(vandq_u32(bits, vdupq_n_u32(0x7fff)));
        let magnitude = vreinterpretq_f32_u32(magnitude);
        let magnitude = vmulq_f32(magnitude, vreinterpretq_f32_u32(vdupq_n_u32(0x7780_0000)));
        let sign = vshlq_n_u32::<16>(vandq_u32(bits, vdupq_n_u32(0x8000)));
        vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(magnitude), sign))
    }
}

impl Integers for Neon {
    type Floats = NeonLanes;

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> NeonLanes {
        // SAFETY: the caller's: sixteen readable values.
        unsafe {
            let (low, high) = (vld1q_u16(from), vld1q_u16(from.add(8)));
            NeonLanes([
                widen_f16(vget_low_u16(low)),
                widen_f16(vget_high_u16(low)),
                widen_f16(vget_low_u16(high)),
                widen_f16(vget_high_u16(high)),
            ])
        }
    }

    /// Weights become signed again, so sums start from nothing.
    #[inline(always)]
    unsafe fn sums_q8<const R: usize>(
        x: *const u8,
        w: *const u8,
        _starts: *const i32,
    ) -> [NeonLanes; R] {
        // SAFETY: the caller's: eight groups of `R` rows, of sixteen outputs.
        unsafe {
            let flip = vdupq_n_u8(0x80);
            let mut sums = [[vdupq_n_s32(0); 4]; R];
            for group in 0..8 {
                let w = w.add(group * 64);
                let mut weights = [vdupq_n_s8(0); 4];
                for (quarter, weights) in weights.iter_mut().enumerate() {
                    let bytes = veorq_u8(vld1q_u8(w.add(16 * quarter)), flip);
                    *weights = vreinterpretq_s8_u8(bytes);
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = word(x, group * R + r);
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        *sum = add(*sum, weights, x);
                    }
                }
            }
            to_floats(sums)
        }
    }

    #[inline(always)]
    unsafe fn sums_q4<const R: usize>(
        x: *const u8,
        w: *const u8,
        starts: *const i32,
    ) -> [NeonLanes; R] {
        // SAFETY: the caller's: four double groups of `R` rows, of sixteen outputs.
        unsafe {
            let mask = vdupq_n_u8(15);
            let mut sums = [[vdupq_n_s32(0); 4]; R];
            for (r, sums) in sums.iter_mut().enumerate() {
                *sums = [vdupq_n_s32(*starts.add(r)); 4];
            }
            for group in 0..4 {
                let w = w.add(group * 64);
                let mut halves = [[vdupq_n_s8(0); 4]; 2];
                for quarter in 0..4 {
                    let bytes = vld1q_u8(w.add(16 * quarter));
                    halves[0][quarter] = vreinterpretq_s8_u8(vandq_u8(bytes, mask));
                    halves[1][quarter] = vreinterpretq_s8_u8(vshrq_n_u8::<4>(bytes));
                }
                for (half, weights) in halves.into_iter().enumerate() {
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let x = word(x, (2 * group + half) * R + r);
                        for (sum, weights) in sums.iter_mut().zip(weights) {
                            *sum = add(*sum, weights, x);
                        }
                    }
                }
            }
            to_floats(sums)
        }
    }
}
