//! The lanes of x86-64: two registers of AVX2, or one of AVX-512.

use std::arch::x86_64::*;

use skein_base::math::ROUND_MAGIC;

use super::{Lanes, MAGNITUDE};

/// Two registers of eight lanes.
#[derive(Clone, Copy)]
pub(crate) struct Avx2Lanes(pub(crate) __m256, pub(crate) __m256);

/// One register of sixteen lanes.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Lanes(pub(crate) __m512);

/// Applies a two-operand intrinsic to both halves.
macro_rules! both {
    ($f:ident, $a:expr, $b:expr) => {
        // SAFETY: the contract of `Lanes`: AVX2 and FMA are enabled where this is called.
        unsafe { Avx2Lanes($f($a.0, $b.0), $f($a.1, $b.1)) }
    };
}

impl Lanes for Avx2Lanes {
    // Six rows times two registers leave four of sixteen for weights and a broadcast.
    const TILE_ROWS: usize = 6;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the contract of `Lanes`.
        let v = unsafe { _mm256_set1_ps(value) };
        Self(v, v)
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the contract of `Lanes`: sixteen readable values, unaligned loads.
        unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the contract of `Lanes`: sixteen readable values, an unaligned load.
        unsafe {
            let bits = _mm256_loadu_si256(from.cast());
            let high = _mm256_and_si256(bits, _mm256_set1_epi32(0xffff_0000_u32 as i32));
            Self(
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits)),
                _mm256_castsi256_ps(high),
            )
        }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: the contract of `Lanes`: sixteen readable values, an unaligned load.
        unsafe {
            let bytes = _mm_loadu_si128(from.cast());
            let high = _mm_unpackhi_epi64(bytes, bytes);
            Self(
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high)),
            )
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the contract of `Lanes`: room for sixteen values, unaligned stores.
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        both!(_mm256_add_ps, self, other)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        both!(_mm256_sub_ps, self, other)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        both!(_mm256_mul_ps, self, other)
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        both!(_mm256_div_ps, self, other)
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: the contract of `Lanes`.
        unsafe {
            Self(
                _mm256_fmadd_ps(self.0, b.0, c.0),
                _mm256_fmadd_ps(self.1, b.1, c.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        both!(_mm256_max_ps, self, other)
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        both!(_mm256_min_ps, self, other)
    }

    #[inline(always)]
    unsafe fn scale_by_power_of_two(self, shifted: Self) -> Self {
        // SAFETY: the contract of `Lanes`.
        unsafe { Self(scale_avx2(self.0, shifted.0), scale_avx2(self.1, shifted.1)) }
    }

    #[inline(always)]
    unsafe fn store_rounded(self, to: *mut i8) {
        // SAFETY: the contract of `Lanes`: room for sixteen bytes, an unaligned store.
        unsafe {
            let (low, high) = (_mm256_cvtps_epi32(self.0), _mm256_cvtps_epi32(self.1));
            // Halves come out alternating.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high));
            let (low, high) = (
                _mm256_castsi256_si128(words),
                _mm256_extracti128_si256::<1>(words),
            );
            _mm_storeu_si128(to.cast(), _mm_packs_epi16(low, high));
        }
    }

    #[inline(always)]
    unsafe fn tree_sum(self) -> f32 {
        // SAFETY: the contract of `Lanes`.
        unsafe { tree_sum_avx(_mm256_add_ps(self.0, self.1)) }
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: the contract of `Lanes`.
        unsafe { largest_avx(_mm256_max_ps(self.1, self.0)) }
    }

    #[inline(always)]
    unsafe fn largest_magnitude(self, other: Self) -> f32 {
        // SAFETY: the contract of `Lanes`.
        unsafe {
            let one = _mm256_max_epu32(magnitude_avx2(self.0), magnitude_avx2(self.1));
            let two = _mm256_max_epu32(magnitude_avx2(other.0), magnitude_avx2(other.1));
            largest_bits_avx2(_mm256_max_epu32(one, two))
        }
    }
}

/// Halves onto halves.
///
/// # Safety
/// AVX must be enabled.
#[inline(always)]
unsafe fn tree_sum_avx(eight: __m256) -> f32 {
    // SAFETY: the caller's.
    unsafe {
        let four = _mm_add_ps(
            _mm256_castps256_ps128(eight),
            _mm256_extractf128_ps::<1>(eight),
        );
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}

/// Halves against halves: the lower one where they are equal or not ordered.
///
/// # Safety
/// AVX must be enabled.
#[inline(always)]
unsafe fn largest_avx(eight: __m256) -> f32 {
    // SAFETY: the caller's.
    unsafe {
        let four = _mm_max_ps(
            _mm256_extractf128_ps::<1>(eight),
            _mm256_castps256_ps128(eight),
        );
        let two = _mm_max_ps(_mm_movehl_ps(four, four), four);
        _mm_cvtss_f32(_mm_max_ss(_mm_movehdup_ps(two), two))
    }
}

/// # Safety
/// AVX2 must be enabled.
#[inline(always)]
unsafe fn magnitude_avx2(values: __m256) -> __m256i {
    // SAFETY: the caller's.
    unsafe {
        _mm256_and_si256(
            _mm256_castps_si256(values),
            _mm256_set1_epi32(MAGNITUDE as i32),
        )
    }
}

/// The number with the largest bits.
///
/// # Safety
/// AVX2 must be enabled.
#[inline(always)]
unsafe fn largest_bits_avx2(eight: __m256i) -> f32 {
    // SAFETY: the caller's.
    unsafe {
        let four = _mm_max_epu32(
            _mm256_castsi256_si128(eight),
            _mm256_extracti128_si256::<1>(eight),
        );
        let two = _mm_max_epu32(four, _mm_shuffle_epi32::<0b10_11_10_11>(four));
        let one = _mm_max_epu32(two, _mm_shuffle_epi32::<0b01_01_01_01>(two));
        f32::from_bits(_mm_cvtsi128_si32(one) as u32)
    }
}

/// # Safety
/// AVX2 must be enabled.
#[inline(always)]
unsafe fn scale_avx2(y: __m256, shifted: __m256) -> __m256 {
    // SAFETY: the caller's.
    unsafe {
        let magic = _mm256_set1_epi32(ROUND_MAGIC.to_bits() as i32);
        let n = _mm256_sub_epi32(_mm256_castps_si256(shifted), magic);
        let half = _mm256_srai_epi32::<1>(n);
        let rest = _mm256_sub_epi32(n, half);
        let bias = _mm256_set1_epi32(127);
        let first = _mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias));
        let second = _mm256_slli_epi32::<23>(_mm256_add_epi32(rest, bias));
        let y = _mm256_mul_ps(y, _mm256_castsi256_ps(first));
        _mm256_mul_ps(y, _mm256_castsi256_ps(second))
    }
}

impl Lanes for Avx512Lanes {
    // Eight independent chains hide the latency of two multiply-add units.
    const TILE_ROWS: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the contract of `Lanes`.
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the contract of `Lanes`: sixteen readable values, an unaligned load.
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the contract of `Lanes`: sixteen readable values, an unaligned load.
        unsafe {
            let bits = _mm512_broadcast_i64x4(_mm256_loadu_si256(from.cast()));
            // The first eight lanes shift their half up; the others have it there already.
            let shifts = _mm512_inserti64x4::<1>(_mm512_set1_epi32(16), _mm256_setzero_si256());
            let bits = _mm512_sllv_epi32(bits, shifts);
            let mask = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            Self(_mm512_castsi512_ps(_mm512_and_si512(bits, mask)))
        }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: the contract of `Lanes`: sixteen readable values, an unaligned load.
        unsafe {
            let bytes = _mm_loadu_si128(from.cast());
            Self(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the contract of `Lanes`: room for sixteen values, an unaligned store.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the contract of `Lanes`.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: the contract of `Lanes`.
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the contract of `Lanes`.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: the contract of `Lanes`.
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: the contract of `Lanes`.
        Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: the contract of `Lanes`.
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: the contract of `Lanes`.
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn scale_by_power_of_two(self, shifted: Self) -> Self {
        // SAFETY: the contract of `Lanes`.
        unsafe {
            let magic = _mm512_set1_epi32(ROUND_MAGIC.to_bits() as i32);
            let n = _mm512_sub_epi32(_mm512_castps_si512(shifted.0), magic);
            let half = _mm512_srai_epi32::<1>(n);
            let rest = _mm512_sub_epi32(n, half);
            let bias = _mm512_set1_epi32(127);
            let first = _mm512_slli_epi32::<23>(_mm512_add_epi32(half, bias));
            let second = _mm512_slli_epi32::<23>(_mm512_add_epi32(rest, bias));
            let y = _mm512_mul_ps(self.0, _mm512_castsi512_ps(first));
            Self(_mm512_mul_ps(y, _mm512_castsi512_ps(second)))
        }
    }

    #[inline(always)]
    unsafe fn store_rounded(self, to: *mut i8) {
        // SAFETY: the contract of `Lanes`: room for sixteen bytes, an unaligned store.
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(self.0));
            _mm_storeu_si128(to.cast(), bytes);
        }
    }

    #[inline(always)]
    unsafe fn store_rounded_pair(self, other: Self, to: *mut i8) -> i32 {
        // SAFETY: the contract of `Lanes`: room for twice sixteen bytes, unaligned stores.
        unsafe {
            let (one, two) = (_mm512_cvtps_epi32(self.0), _mm512_cvtps_epi32(other.0));
            _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(one));
            _mm_storeu_si128(to.add(16).cast(), _mm512_cvtepi32_epi8(two));
            // Where bytes are those of the integers, so is their sum.
            _mm512_reduce_add_epi32(_mm512_add_epi32(one, two))
        }
    }

    #[inline(always)]
    unsafe fn tree_sum(self) -> f32 {
        // SAFETY: the contract of `Lanes`.
        unsafe {
            let (low, high) = halves_avx512(self.0);
            tree_sum_avx(_mm256_add_ps(low, high))
        }
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: the contract of `Lanes`.
        unsafe {
            let (low, high) = halves_avx512(self.0);
            largest_avx(_mm256_max_ps(high, low))
        }
    }

    #[inline(always)]
    unsafe fn largest_magnitude(self, other: Self) -> f32 {
        // SAFETY: the contract of `Lanes`.
        unsafe {
            let mask = _mm512_set1_epi32(MAGNITUDE as i32);
            let one = _mm512_and_si512(_mm512_castps_si512(self.0), mask);
            let two = _mm512_and_si512(_mm512_castps_si512(other.0), mask);
            let most = _mm512_max_epu32(one, two);
            largest_bits_avx2(_mm256_max_epu32(
                _mm512_castsi512_si256(most),
                _mm512_extracti64x4_epi64::<1>(most),
            ))
        }
    }
}

/// The lower and the upper eight lanes.
///
/// # Safety
/// AVX-512F must be enabled.
#[inline(always)]
unsafe fn halves_avx512(lanes: __m512) -> (__m256, __m256) {
    // SAFETY: the caller's.
    unsafe {
        let high = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(lanes));
        (_mm512_castps512_ps256(lanes), _mm256_castpd_ps(high))
    }
}
