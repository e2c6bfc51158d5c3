//! Units of [compact](crate::kernels::linear::compact) weights: how they lie, and how they are widened.

use super::{LANES, ScalarLanes};

/// Inputs of a unit.
pub(crate) const STEPS: usize = 8;
/// Inputs of a unit's half.
pub(crate) const HALF_STEPS: usize = STEPS / 2;
/// Weights of a unit's half.
pub(crate) const HALF: usize = LANES * HALF_STEPS;
/// Bytes of a unit: half a byte with the exponent's place for each weight, then one with its sign and fraction.
pub(crate) const UNIT_BYTES: usize = 3 * HALF;

/// Whether a weight is in the second half of its unit, and where in the half.
pub(crate) const fn place(step: usize, lane: usize) -> (bool, usize) {
    let place = 16 * (lane / 4) + 8 * (step % HALF_STEPS / 2) + 2 * (lane % 4) + step % 2;
    (step >= HALF_STEPS, place)
}

/// Where the signs and fractions of a half begin in a unit.
pub(crate) const fn values_place(upper: bool) -> usize {
    if upper { 2 * HALF } else { HALF }
}

/// A weight from its byte of sign and fraction, and what the tables have for its exponent.
pub(crate) const fn compose(low: u8, exponent_low: u8, exponent_high: u8) -> u16 {
    u16::from_le_bytes([low & 0x7f | exponent_low, low & 0x80 | exponent_high])
}

/// Sixteen lanes that can widen compact weights.
///
/// # Safety
/// As for [`Lanes`](super::Lanes).
pub(crate) trait CompactLanes: Copy {
    /// A panel's tables, where this instruction set looks things up.
    type Tables: Copy;

    /// `from` has 32 bytes, which stay as long as the tables are used.
    unsafe fn compact_tables(from: *const u8) -> Self::Tables;

    /// Widens four inputs of a unit, the later ones if `UPPER`: sixteen outputs of each. `unit` has [`UNIT_BYTES`].
    /// Exceptions are somebody else's.
    unsafe fn load_compact<const UPPER: bool>(
        tables: Self::Tables,
        unit: *const u8,
    ) -> [Self; HALF_STEPS];
}

impl CompactLanes for ScalarLanes {
    type Tables = *const u8;

    #[inline(always)]
    unsafe fn compact_tables(from: *const u8) -> *const u8 {
        from
    }

    #[inline(always)]
    unsafe fn load_compact<const UPPER: bool>(
        tables: *const u8,
        unit: *const u8,
    ) -> [Self; HALF_STEPS] {
        let shift = if UPPER { 4 } else { 0 };
        let mut wide = [Self([0.0; LANES]); HALF_STEPS];
        for (step, wide) in wide.iter_mut().enumerate() {
            for (lane, wide) in wide.0.iter_mut().enumerate() {
                let (_, place) = place(step, lane);
                // SAFETY: the contract of `Lanes`: a whole unit, and tables.
                let bits = unsafe {
                    let code = usize::from(*unit.add(place) >> shift & 15);
                    let low = *unit.add(values_place(UPPER) + place);
                    compose(low, *tables.add(code), *tables.add(16 + code))
                };
                *wide = f32::from_bits(u32::from(bits) << 16);
            }
        }
        wide
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{CompactLanes, HALF_STEPS, values_place};
    use crate::lanes::{Avx2Lanes, Avx512Lanes};

    impl CompactLanes for Avx2Lanes {
        type Tables = [__m256i; 2];

        #[inline(always)]
        unsafe fn compact_tables(from: *const u8) -> Self::Tables {
            // SAFETY: the contract of `Lanes`: 32 readable bytes.
            unsafe {
                [
                    _mm256_broadcastsi128_si256(_mm_loadu_si128(from.cast())),
                    _mm256_broadcastsi128_si256(_mm_loadu_si128(from.add(16).cast())),
                ]
            }
        }

        #[inline(always)]
        unsafe fn load_compact<const UPPER: bool>(
            tables: Self::Tables,
            unit: *const u8,
        ) -> [Self; HALF_STEPS] {
            // SAFETY: the contract of `Lanes`: a whole unit.
            unsafe {
                // Outputs 0 to 7, then 8 to 15.
                let a = eight_outputs::<UPPER>(tables, unit);
                let b = eight_outputs::<UPPER>(tables, unit.add(32));
                [
                    Self(a[0], b[0]),
                    Self(a[1], b[1]),
                    Self(a[2], b[2]),
                    Self(a[3], b[3]),
                ]
            }
        }
    }

    /// Four inputs of eight outputs.
    ///
    /// # Safety
    /// AVX2 must be enabled; `unit` is a unit, or 32 bytes into it.
    #[inline(always)]
    unsafe fn eight_outputs<const UPPER: bool>(
        [exponent_low, exponent_high]: [__m256i; 2],
        unit: *const u8,
    ) -> [__m256; HALF_STEPS] {
        // SAFETY: the caller's.
        unsafe {
            let sign = _mm256_set1_epi8(-128);
            let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            let bytes = _mm256_loadu_si256(unit.add(values_place(UPPER)).cast());
            let codes = _mm256_loadu_si256(unit.cast());
            let codes = if UPPER {
                _mm256_srli_epi16::<4>(codes)
            } else {
                codes
            };
            let codes = _mm256_and_si256(codes, _mm256_set1_epi8(0x0f));
            let low = _mm256_shuffle_epi8(exponent_low, codes);
            let low = _mm256_or_si256(_mm256_andnot_si256(sign, bytes), low);
            let high = _mm256_shuffle_epi8(exponent_high, codes);
            let high = _mm256_or_si256(_mm256_and_si256(sign, bytes), high);
            let first = _mm256_unpacklo_epi8(low, high);
            let second = _mm256_unpackhi_epi8(low, high);
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(first)),
                _mm256_castsi256_ps(_mm256_and_si256(first, upper)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(second)),
                _mm256_castsi256_ps(_mm256_and_si256(second, upper)),
            ]
        }
    }

    impl CompactLanes for Avx512Lanes {
        type Tables = [__m512i; 2];

        #[inline(always)]
        unsafe fn compact_tables(from: *const u8) -> Self::Tables {
            // SAFETY: the contract of `Lanes`: 32 readable bytes.
            unsafe {
                [
                    _mm512_broadcast_i32x4(_mm_loadu_si128(from.cast())),
                    _mm512_broadcast_i32x4(_mm_loadu_si128(from.add(16).cast())),
                ]
            }
        }

        #[inline(always)]
        unsafe fn load_compact<const UPPER: bool>(
            [exponent_low, exponent_high]: Self::Tables,
            unit: *const u8,
        ) -> [Self; HALF_STEPS] {
            // SAFETY: the contract of `Lanes`: a whole unit.
            unsafe {
                let fraction = _mm512_set1_epi8(0x7f);
                let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
                let bytes = _mm512_loadu_si512(unit.add(values_place(UPPER)).cast());
                let codes = _mm512_loadu_si512(unit.cast());
                let codes = if UPPER {
                    _mm512_srli_epi16::<4>(codes)
                } else {
                    codes
                };
                let codes = _mm512_and_si512(codes, _mm512_set1_epi8(0x0f));
                // The exponent's part, and of the other byte what the mask has, or has not.
                let low = _mm512_shuffle_epi8(exponent_low, codes);
                let low = _mm512_ternarylogic_epi32::<0xec>(bytes, low, fraction);
                let high = _mm512_shuffle_epi8(exponent_high, codes);
                let high = _mm512_ternarylogic_epi32::<0xdc>(bytes, high, fraction);
                let first = _mm512_unpacklo_epi8(low, high);
                let second = _mm512_unpackhi_epi8(low, high);
                [
                    Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(first))),
                    Self(_mm512_castsi512_ps(_mm512_and_si512(first, upper))),
                    Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(second))),
                    Self(_mm512_castsi512_ps(_mm512_and_si512(second, upper))),
                ]
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::*;

    use super::{CompactLanes, HALF_STEPS, values_place};
    use crate::lanes::NeonLanes;

    impl CompactLanes for NeonLanes {
        type Tables = [uint8x16_t; 2];

        #[inline(always)]
        unsafe fn compact_tables(from: *const u8) -> Self::Tables {
            // SAFETY: the contract of `Lanes`: 32 readable bytes.
            unsafe { [vld1q_u8(from), vld1q_u8(from.add(16))] }
        }

        #[inline(always)]
        unsafe fn load_compact<const UPPER: bool>(
            tables: Self::Tables,
            unit: *const u8,
        ) -> [Self; HALF_STEPS] {
            // SAFETY: the contract of `Lanes`: a whole unit.
            unsafe {
                let a = four_outputs::<UPPER>(tables, unit);
                let b = four_outputs::<UPPER>(tables, unit.add(16));
                let c = four_outputs::<UPPER>(tables, unit.add(32));
                let d = four_outputs::<UPPER>(tables, unit.add(48));
                [
                    NeonLanes([a[0], b[0], c[0], d[0]]),
                    NeonLanes([a[1], b[1], c[1], d[1]]),
                    NeonLanes([a[2], b[2], c[2], d[2]]),
                    NeonLanes([a[3], b[3], c[3], d[3]]),
                ]
            }
        }
    }

    /// Four inputs of four outputs.
    ///
    /// # Safety
    /// NEON must be enabled; `unit` is a unit, or 16, 32 or 48 bytes into it.
    #[inline(always)]
    unsafe fn four_outputs<const UPPER: bool>(
        [exponent_low, exponent_high]: [uint8x16_t; 2],
        unit: *const u8,
    ) -> [float32x4_t; HALF_STEPS] {
        // SAFETY: the caller's.
        unsafe {
            let sign = vdupq_n_u8(0x80);
            let upper = vdupq_n_u32(0xffff_0000);
            let bytes = vld1q_u8(unit.add(values_place(UPPER)));
            let codes = vld1q_u8(unit);
            let codes = if UPPER {
                vshrq_n_u8::<4>(codes)
            } else {
                vandq_u8(codes, vdupq_n_u8(0x0f))
            };
            let low = vorrq_u8(vbicq_u8(bytes, sign), vqtbl1q_u8(exponent_low, codes));
            let high = vorrq_u8(vandq_u8(bytes, sign), vqtbl1q_u8(exponent_high, codes));
            let first = vreinterpretq_u32_u8(vzip1q_u8(low, high));
            let second = vreinterpretq_u32_u8(vzip2q_u8(low, high));
            [
                vreinterpretq_f32_u32(vshlq_n_u32::<16>(first)),
                vreinterpretq_f32_u32(vandq_u32(first, upper)),
                vreinterpretq_f32_u32(vshlq_n_u32::<16>(second)),
                vreinterpretq_f32_u32(vandq_u32(second, upper)),
            ]
        }
    }
}
