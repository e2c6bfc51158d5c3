//! The lanes of aarch64: NEON, which every such processor has.

use std::arch::aarch64::*;

use skein_base::math::ROUND_MAGIC;

use super::Lanes;

/// Four registers of four lanes.
#[derive(Clone, Copy)]
pub(crate) struct NeonLanes(pub(crate) [float32x4_t; 4]);

/// Applies an operation of two operands to all four registers. No closures, which would be compiled without the
/// instruction set where it is not that of the whole program.
macro_rules! each {
    ($f:ident, $a:expr, $b:expr) => {
        // SAFETY: the contract of `Lanes`: NEON is enabled where this is called.
        unsafe {
            NeonLanes([
                $f($a.0[0], $b.0[0]),
                $f($a.0[1], $b.0[1]),
                $f($a.0[2], $b.0[2]),
                $f($a.0[3], $b.0[3]),
            ])
        }
    };
}

impl Lanes for NeonLanes {
    // Six rows of four registers leave eight of thirty-two for weights and a broadcast.
    const TILE_ROWS: usize = 6;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the contract of `Lanes`.
        Self([unsafe { vdupq_n_f32(value) }; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the contract of `Lanes`: sixteen readable values, loads without alignment.
        unsafe {
            Self([
                vld1q_f32(from),
                vld1q_f32(from.add(4)),
                vld1q_f32(from.add(8)),
                vld1q_f32(from.add(12)),
            ])
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the contract of `Lanes`: sixteen readable values, loads without alignment.
        unsafe {
            let low = vreinterpretq_u32_u16(vld1q_u16(from));
            let high = vreinterpretq_u32_u16(vld1q_u16(from.add(8)));
            let mask = vdupq_n_u32(0xffff_0000);
            Self([
                vreinterpretq_f32_u32(vshlq_n_u32::<16>(low)),
                vreinterpretq_f32_u32(vshlq_n_u32::<16>(high)),
                vreinterpretq_f32_u32(vandq_u32(low, mask)),
                vreinterpretq_f32_u32(vandq_u32(high, mask)),
            ])
        }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: the contract of `Lanes`: sixteen readable values, a load without alignment.
        unsafe {
            let bytes = vld1q_s8(from);
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
            Self([
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                vcvtq_f32_s32(vmovl_high_s16(low)),
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                vcvtq_f32_s32(vmovl_high_s16(high)),
            ])
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the contract of `Lanes`: room for sixteen values, stores without alignment.
        unsafe {
            vst1q_f32(to, self.0[0]);
            vst1q_f32(to.add(4), self.0[1]);
            vst1q_f32(to.add(8), self.0[2]);
            vst1q_f32(to.add(12), self.0[3]);
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        each!(vaddq_f32, self, other)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        each!(vsubq_f32, self, other)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        each!(vmulq_f32, self, other)
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        each!(vdivq_f32, self, other)
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: the contract of `Lanes`.
        unsafe {
            Self([
                vfmaq_f32(c.0[0], self.0[0], b.0[0]),
                vfmaq_f32(c.0[1], self.0[1], b.0[1]),
                vfmaq_f32(c.0[2], self.0[2], b.0[2]),
                vfmaq_f32(c.0[3], self.0[3], b.0[3]),
            ])
        }
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        each!(larger, self, other)
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        each!(smaller, self, other)
    }

    #[inline(always)]
    unsafe fn scale_by_power_of_two(self, shifted: Self) -> Self {
        each!(scale, self, shifted)
    }
}

/// `if a > b { a } else { b }`: NEON's own maximum treats NaN in another way.
///
/// # Safety
/// NEON is enabled.
#[inline(always)]
unsafe fn larger(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: the caller's.
    unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
}

/// `if a < b { a } else { b }`.
///
/// # Safety
/// NEON is enabled.
#[inline(always)]
unsafe fn smaller(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: the caller's.
    unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
}

/// See [`Lanes::scale_by_power_of_two`].
///
/// # Safety
/// NEON is enabled.
#[inline(always)]
unsafe fn scale(y: float32x4_t, shifted: float32x4_t) -> float32x4_t {
    // SAFETY: the caller's.
    unsafe {
        let magic = vdupq_n_s32(ROUND_MAGIC.to_bits() as i32);
        let n = vsubq_s32(vreinterpretq_s32_f32(shifted), magic);
        let half = vshrq_n_s32::<1>(n);
        let rest = vsubq_s32(n, half);
        let bias = vdupq_n_s32(127);
        let first = vshlq_n_s32::<23>(vaddq_s32(half, bias));
        let second = vshlq_n_s32::<23>(vaddq_s32(rest, bias));
        let y = vmulq_f32(y, vreinterpretq_f32_s32(first));
        vmulq_f32(y, vreinterpretq_f32_s32(second))
    }
}
