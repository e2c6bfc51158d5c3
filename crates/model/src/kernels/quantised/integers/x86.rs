//! Integer kernels of x86-64.
//!
//! No closures here, `map` among them: they would be compiled without the instruction set.

use std::arch::x86_64::*;

use super::{Integers, SCALES_BYTES};
use crate::lanes::{Avx2Lanes, Avx512Lanes};

/// AVX2 with F16C.
pub(crate) struct Avx2;

/// AVX-512 with the instructions for bytes and words.
pub(crate) struct Avx512;

/// AVX-512 with VNNI.
pub(crate) struct Vnni;

/// The word at place `index`, in every lane.
///
/// # Safety
/// AVX2 is enabled, and the word is there.
#[inline(always)]
unsafe fn word(x: *const u8, index: usize) -> __m256i {
    // SAFETY: the caller's.
    unsafe { _mm256_set1_epi32(x.cast::<i32>().add(index).read_unaligned()) }
}

/// Thirty-two bytes.
///
/// # Safety
/// AVX2 is enabled, and the bytes are there.
#[inline(always)]
unsafe fn bytes(w: *const u8) -> __m256i {
    // SAFETY: the caller's.
    unsafe { _mm256_loadu_si256(w.cast()) }
}

impl Integers for Avx2 {
    type Floats = Avx2Lanes;

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Avx2Lanes {
        // SAFETY: the caller's: sixteen readable values, F16C.
        unsafe {
            let low = _mm_loadu_si128(from.cast());
            let high = _mm_loadu_si128(from.add(8).cast());
            Avx2Lanes(_mm256_cvtph_ps(low), _mm256_cvtph_ps(high))
        }
    }

    #[inline(always)]
    unsafe fn sums_q8<const R: usize>(
        x: *const u8,
        w: *const u8,
        starts: *const i32,
    ) -> [Avx2Lanes; R] {
        // SAFETY: the caller's: eight groups of `R` rows, of sixteen outputs.
        unsafe {
            let mask = _mm256_set1_epi16(0xff);
            let mut sums = [[_mm256_setzero_si256(); 2]; R];
            for (r, sums) in sums.iter_mut().enumerate() {
                *sums = [_mm256_set1_epi32(*starts.add(r)); 2];
            }
            for group in 0..8 {
                let low = bytes(w.add(group * 64));
                let high = bytes(w.add(group * 64 + 32));
                let even = [_mm256_and_si256(low, mask), _mm256_and_si256(high, mask)];
                let odd = [_mm256_srli_epi16::<8>(low), _mm256_srli_epi16::<8>(high)];
                for (r, sums) in sums.iter_mut().enumerate() {
                    let (first, second) = (
                        word(x, (group * R + r) * 2),
                        word(x, (group * R + r) * 2 + 1),
                    );
                    let mut half = 0;
                    while half < 2 {
                        // At most 255 * 127 twice: exact in 32 bits.
                        let one = _mm256_madd_epi16(even[half], first);
                        let other = _mm256_madd_epi16(odd[half], second);
                        sums[half] = _mm256_add_epi32(sums[half], _mm256_add_epi32(one, other));
                        half += 1;
                    }
                }
            }
            let mut floats = [Avx2Lanes(_mm256_setzero_ps(), _mm256_setzero_ps()); R];
            for (float, [low, high]) in floats.iter_mut().zip(sums) {
                *float = Avx2Lanes(_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high));
            }
            floats
        }
    }

    #[inline(always)]
    unsafe fn sums_q4<const R: usize>(
        x: *const u8,
        w: *const u8,
        starts: *const i32,
    ) -> [Avx2Lanes; R] {
        // SAFETY: the caller's: four double groups of `R` rows, of sixteen outputs.
        unsafe {
            let mask = _mm256_set1_epi8(15);
            let mut sums = [[_mm256_setzero_si256(); 2]; R];
            for group in 0..4 {
                let low = bytes(w.add(group * 64));
                let high = bytes(w.add(group * 64 + 32));
                let first = [_mm256_and_si256(low, mask), _mm256_and_si256(high, mask)];
                let second = [
                    _mm256_and_si256(_mm256_srli_epi16::<4>(low), mask),
                    _mm256_and_si256(_mm256_srli_epi16::<4>(high), mask),
                ];
                for (r, sums) in sums.iter_mut().enumerate() {
                    let one = word(x, 2 * group * R + r);
                    let other = word(x, (2 * group + 1) * R + r);
                    let mut half = 0;
                    while half < 2 {
                        // Sixteen products of at most 15 * 128 make 30720: exact in 16 bits.
                        let one = _mm256_maddubs_epi16(first[half], one);
                        let other = _mm256_maddubs_epi16(second[half], other);
                        sums[half] = _mm256_add_epi16(sums[half], _mm256_add_epi16(one, other));
                        half += 1;
                    }
                }
            }
            let ones = _mm256_set1_epi16(1);
            let mut floats = [Avx2Lanes(_mm256_setzero_ps(), _mm256_setzero_ps()); R];
            for (r, (float, [low, high])) in floats.iter_mut().zip(sums).enumerate() {
                let start = _mm256_set1_epi32(*starts.add(r));
                let low = _mm256_add_epi32(start, _mm256_madd_epi16(low, ones));
                let high = _mm256_add_epi32(start, _mm256_madd_epi16(high, ones));
                *float = Avx2Lanes(_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high));
            }
            floats
        }
    }
}

/// # Safety
/// AVX-512F is enabled.
#[inline(always)]
unsafe fn to_floats<const R: usize>(sums: [__m512i; R]) -> [Avx512Lanes; R] {
    // SAFETY: the caller's.
    unsafe {
        let mut floats = [Avx512Lanes(_mm512_setzero_ps()); R];
        for (float, sum) in floats.iter_mut().zip(sums) {
            *float = Avx512Lanes(_mm512_cvtepi32_ps(sum));
        }
        floats
    }
}

/// Widens sixteen `f16`.
///
/// # Safety
/// AVX-512F is enabled; sixteen readable values.
#[inline(always)]
unsafe fn widen_f16(from: *const u16) -> Avx512Lanes {
    // SAFETY: the caller's.
    unsafe { Avx512Lanes(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))) }
}

/// The word at place `index`, in every lane.
///
/// # Safety
/// AVX-512F is enabled, and the word is there.
#[inline(always)]
unsafe fn wide_word(x: *const u8, index: usize) -> __m512i {
    // SAFETY: the caller's.
    unsafe { _mm512_set1_epi32(x.cast::<i32>().add(index).read_unaligned()) }
}

/// As [`Avx2`], in registers of twice the width.
impl Integers for Avx512 {
    type Floats = Avx512Lanes;

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Avx512Lanes {
        // SAFETY: the caller's.
        unsafe { widen_f16(from) }
    }

    #[inline(always)]
    unsafe fn sums_q8<const R: usize>(
        x: *const u8,
        w: *const u8,
        starts: *const i32,
    ) -> [Avx512Lanes; R] {
        // SAFETY: the caller's: eight groups of `R` rows, of sixteen outputs.
        unsafe {
            let mask = _mm512_set1_epi16(0xff);
            let mut sums = [_mm512_setzero_si512(); R];
            for (r, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_set1_epi32(*starts.add(r));
            }
            for group in 0..8 {
                let weights = _mm512_loadu_si512(w.add(group * 64).cast());
                let even = _mm512_and_si512(weights, mask);
                let odd = _mm512_srli_epi16::<8>(weights);
                for (r, sum) in sums.iter_mut().enumerate() {
                    let at = (group * R + r) * 2;
                    // At most 255 * 127 twice: exact in 32 bits.
                    let one = _mm512_madd_epi16(even, wide_word(x, at));
                    let other = _mm512_madd_epi16(odd, wide_word(x, at + 1));
                    *sum = _mm512_add_epi32(*sum, _mm512_add_epi32(one, other));
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
    ) -> [Avx512Lanes; R] {
        // SAFETY: the caller's: four double groups of `R` rows, of sixteen outputs.
        unsafe {
            let mask = _mm512_set1_epi8(15);
            let mut sums = [_mm512_setzero_si512(); R];
            for group in 0..4 {
                let weights = _mm512_loadu_si512(w.add(group * 64).cast());
                let first = _mm512_and_si512(weights, mask);
                let second = _mm512_and_si512(_mm512_srli_epi16::<4>(weights), mask);
                for (r, sum) in sums.iter_mut().enumerate() {
                    // Sixteen products of at most 15 * 128 make 30720: exact in 16 bits.
                    let one = _mm512_maddubs_epi16(first, wide_word(x, 2 * group * R + r));
                    let at = (2 * group + 1) * R + r;
                    let other = _mm512_maddubs_epi16(second, wide_word(x, at));
                    *sum = _mm512_add_epi16(*sum, _mm512_add_epi16(one, other));
                }
            }
            let ones = _mm512_set1_epi16(1);
            for (r, sum) in sums.iter_mut().enumerate() {
                let start = _mm512_set1_epi32(*starts.add(r));
                *sum = _mm512_add_epi32(start, _mm512_madd_epi16(*sum, ones));
            }
            to_floats(sums)
        }
    }
}

impl Integers for Vnni {
    type Floats = Avx512Lanes;
    const ABREAST: usize = 2;

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Avx512Lanes {
        // SAFETY: the caller's.
        unsafe { widen_f16(from) }
    }

    #[inline(always)]
    unsafe fn sums_q8<const R: usize>(
        x: *const u8,
        w: *const u8,
        starts: *const i32,
    ) -> [Avx512Lanes; R] {
        // SAFETY: the caller's.
        let [sums] = unsafe { vnni_q8(x, [w], starts) };
        sums
    }

    #[inline(always)]
    unsafe fn sums_q4<const R: usize>(
        x: *const u8,
        w: *const u8,
        starts: *const i32,
    ) -> [Avx512Lanes; R] {
        // SAFETY: the caller's.
        let [sums] = unsafe { vnni_q4(x, [w], starts) };
        sums
    }

    #[inline(always)]
    unsafe fn panels_q8<const R: usize, const P: usize>(
        x: *const u8,
        w: [*const u8; P],
        starts: *const i32,
    ) -> [[Avx512Lanes; R]; P] {
        // SAFETY: the caller's: values follow the scales.
        unsafe { vnni_q8(x, behind_scales(w), starts) }
    }

    #[inline(always)]
    unsafe fn panels_q4<const R: usize, const P: usize>(
        x: *const u8,
        w: [*const u8; P],
        starts: *const i32,
    ) -> [[Avx512Lanes; R]; P] {
        // SAFETY: the caller's: values follow the scales.
        unsafe { vnni_q4(x, behind_scales(w), starts) }
    }
}

/// Where the values of blocks begin.
///
/// # Safety
/// Each points to a block.
#[inline(always)]
unsafe fn behind_scales<const P: usize>(mut w: [*const u8; P]) -> [*const u8; P] {
    for w in &mut w {
        // SAFETY: the caller's.
        *w = unsafe { w.add(SCALES_BYTES) };
    }
    w
}

/// The numbers that the sums of `R` rows start from, for each of `P` panels.
///
/// # Safety
/// AVX-512F is enabled; `starts` points to `R` numbers.
#[inline(always)]
unsafe fn wide_starts<const R: usize, const P: usize>(starts: *const i32) -> [[__m512i; R]; P] {
    // SAFETY: the caller's.
    unsafe {
        let mut first = [_mm512_setzero_si512(); R];
        for (r, sum) in first.iter_mut().enumerate() {
            *sum = _mm512_set1_epi32(*starts.add(r));
        }
        [first; P]
    }
}

/// [`to_floats`] for each panel.
///
/// # Safety
/// AVX-512F is enabled.
#[inline(always)]
unsafe fn all_to_floats<const R: usize, const P: usize>(
    sums: [[__m512i; R]; P],
) -> [[Avx512Lanes; R]; P] {
    // SAFETY: the caller's.
    unsafe {
        let mut floats = [[Avx512Lanes(_mm512_setzero_ps()); R]; P];
        for (floats, sums) in floats.iter_mut().zip(sums) {
            *floats = to_floats(sums);
        }
        floats
    }
}

/// Adds the products of the group at place `group` of all rows to the sums of all panels: each value of the activations
/// is fetched once.
///
/// # Safety
/// AVX-512 with VNNI is enabled; the group is there.
#[inline(always)]
unsafe fn vnni_group<const R: usize, const P: usize>(
    sums: &mut [[__m512i; R]; P],
    weights: [__m512i; P],
    x: *const u8,
    group: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut r = 0;
        while r < R {
            let x = wide_word(x, group * R + r);
            let mut p = 0;
            while p < P {
                sums[p][r] = _mm512_dpbusd_epi32(sums[p][r], weights[p], x);
                p += 1;
            }
            r += 1;
        }
    }
}

/// # Safety
/// As for [`Integers::sums_q8`], for each panel.
#[inline(always)]
unsafe fn vnni_q8<const R: usize, const P: usize>(
    x: *const u8,
    w: [*const u8; P],
    starts: *const i32,
) -> [[Avx512Lanes; R]; P] {
    // SAFETY: the caller's: eight groups of `R` rows, of sixteen outputs.
    unsafe {
        let mut sums = wide_starts::<R, P>(starts);
        for group in 0..8 {
            let mut weights = [_mm512_setzero_si512(); P];
            for (weights, w) in weights.iter_mut().zip(w) {
                *weights = _mm512_loadu_si512(w.add(group * 64).cast());
            }
            vnni_group(&mut sums, weights, x, group);
        }
        all_to_floats(sums)
    }
}

/// # Safety
/// As for [`Integers::sums_q4`], for each panel.
#[inline(always)]
unsafe fn vnni_q4<const R: usize, const P: usize>(
    x: *const u8,
    w: [*const u8; P],
    starts: *const i32,
) -> [[Avx512Lanes; R]; P] {
    // SAFETY: the caller's: four double groups of `R` rows, of sixteen outputs.
    unsafe {
        let mask = _mm512_set1_epi8(15);
        let mut sums = wide_starts::<R, P>(starts);
        for group in 0..4 {
            let mut halves = [[_mm512_setzero_si512(); P]; 2];
            for (p, w) in w.into_iter().enumerate() {
                let weights = _mm512_loadu_si512(w.add(group * 64).cast());
                halves[0][p] = _mm512_and_si512(weights, mask);
                halves[1][p] = _mm512_and_si512(_mm512_srli_epi16::<4>(weights), mask);
            }
            for (half, weights) in halves.into_iter().enumerate() {
                vnni_group(&mut sums, weights, x, 2 * group + half);
            }
        }
        all_to_floats(sums)
    }
}
