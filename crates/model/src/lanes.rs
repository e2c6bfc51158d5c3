//! Sixteen `f32` lanes over whatever the processor has.
//!
//! Kernels are written once over [`Lanes`] and compiled for every instruction set; each lane does
//! the same IEEE 754 operations everywhere, so the instruction set cannot change a bit. Rust
//! never contracts `a * b + c` into a fused operation by itself: where [`Lanes::fma`] stands, all
//! paths fuse; elsewhere none does.

pub(crate) mod compact;

use skein_base::math;

use self::compact::CompactLanes;

/// How many lanes: the interleaving of packed weights.
pub(crate) const LANES: usize = 16;

/// An instruction set that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum InstructionSet {
    /// Portable code; the reference.
    Scalar,
    /// aarch64 with NEON.
    Neon,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512F and AVX-512BW.
    Avx512,
    /// x86-64 with AVX-512F, AVX-512BW and AVX-512 VNNI.
    Avx512Vnni,
}

impl InstructionSet {
    /// The best one of this machine.
    pub fn detect() -> Self {
        *Self::available()
            .last()
            .expect("the scalar path always exists")
    }

    /// All that this machine can run, the best last.
    pub fn available() -> Vec<Self> {
        let all = [
            Self::Scalar,
            Self::Neon,
            Self::Avx2,
            Self::Avx512,
            Self::Avx512Vnni,
        ];
        all.into_iter().filter(|set| set.is_available()).collect()
    }

    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let avx512 =
            avx2 && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        match self {
            Self::Scalar => true,
            Self::Neon => false,
            Self::Avx2 => avx2,
            Self::Avx512 => avx512,
            Self::Avx512Vnni => avx512 && is_x86_feature_detected!("avx512vnni"),
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            _ => false,
        }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn is_available(self) -> bool {
        self == Self::Scalar
    }
}

/// Sixteen `f32` values, operated on lane by lane.
///
/// # Safety
/// The methods of an implementation may only be called where its instruction set is enabled:
/// inside a function with that `target_feature`, reached after run-time detection. Pointers must
/// be valid for sixteen elements; they need no alignment.
pub(crate) trait Lanes: CompactLanes {
    /// How many rows a register tile of this instruction set has.
    const TILE_ROWS: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// Widens sixteen `bf16`, exactly. Lane `i` is at place [`bf16_place`]`(i)`: lanes `i` and
    /// `i + 8` share a 32-bit word, so that a shift and a mask widen eight each.
    unsafe fn load_bf16(from: *const u16) -> Self;
    /// Widens sixteen signed bytes, exactly.
    unsafe fn load_i8(from: *const i8) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self * b + c`, rounded once.
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    /// `if self > other { self } else { other }`: `other` where one is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// `if self < other { self } else { other }`: `other` where one is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// The last step of [`math::exp`]: `self * 2^n` in two multiplications, `n` being the integer
    /// that `shifted` carries in its low bits.
    unsafe fn scale_by_power_of_two(self, shifted: Self) -> Self;
    /// Stores sixteen integers of one byte: each value rounded to the nearest, ties to even. Any byte
    /// where the magnitude is above 127, or NaN.
    #[inline(always)]
    unsafe fn store_rounded(self, to: *mut i8) {
        let mut lanes = [0.0; LANES];
        // SAFETY: the contract of `Lanes`; the array and `to` have room for sixteen values.
        unsafe {
            // The nearest integer is left in the lowest bits.
            let shifted = self.add(Self::splat(math::ROUND_MAGIC));
            shifted.store(lanes.as_mut_ptr());
            for (lane, value) in lanes.into_iter().enumerate() {
                *to.add(lane) = value.to_bits() as i8;
            }
        }
    }
}

/// Asks for the cache line of an address, which need not be readable: a hint, where there is one.
#[inline(always)]
pub(crate) fn prefetch(from: *const u8) {
    hint::<false>(from);
}

/// As [`prefetch`], for what is read once and need not stay.
#[inline(always)]
pub(crate) fn prefetch_once(from: *const u8) {
    hint::<true>(from);
}

#[inline(always)]
fn hint<const ONCE: bool>(from: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; any address is good.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_NTA, _MM_HINT_T0, _mm_prefetch};
        if ONCE {
            _mm_prefetch::<_MM_HINT_NTA>(from.cast());
        } else {
            _mm_prefetch::<_MM_HINT_T0>(from.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// Where lane `lane` of sixteen packed `bf16` is.
pub(crate) const fn bf16_place(lane: usize) -> usize {
    2 * (lane % 8) + lane / 8
}

/// [`math::exp`] on every lane.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn exp<L: Lanes>(x: L) -> L {
    // SAFETY: the caller runs where L's instruction set is enabled.
    unsafe {
        let x = L::splat(math::EXP_LOW).max(x);
        let x = L::splat(math::EXP_HIGH).min(x);
        let magic = L::splat(math::ROUND_MAGIC);
        let shifted = x.fma(L::splat(std::f32::consts::LOG2_E), magic);
        let n = shifted.sub(magic);
        let r = n.fma(L::splat(-math::LN2_HIGH), x);
        let r = n.fma(L::splat(-math::LN2_LOW), r);
        let mut p = L::splat(math::EXP_POLYNOMIAL[0]);
        let mut i = 1;
        while i < math::EXP_POLYNOMIAL.len() {
            p = p.fma(r, L::splat(math::EXP_POLYNOMIAL[i]));
            i += 1;
        }
        let y = p.fma(r.mul(r), r).add(L::splat(1.0));
        y.scale_by_power_of_two(shifted)
    }
}

/// Adds the lanes: halves onto halves, in the one fixed order.
#[inline(always)]
pub(crate) fn tree_sum(mut lanes: [f32; LANES]) -> f32 {
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

/// The largest lane, halves against halves; where some are NaN, any lane.
#[inline(always)]
pub(crate) fn largest(mut lanes: [f32; LANES]) -> f32 {
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            let (one, other) = (lanes[i], lanes[i + width]);
            lanes[i] = if one < other { other } else { one };
        }
    }
    lanes[0]
}

/// The portable lanes.
#[derive(Clone, Copy)]
pub(crate) struct ScalarLanes(pub(crate) [f32; LANES]);

impl ScalarLanes {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self.0;
        for (out, other) in out.iter_mut().zip(other.0) {
            *out = f(*out, other);
        }
        Self(out)
    }
}

impl Lanes for ScalarLanes {
    const TILE_ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller gives sixteen readable values; arrays of f32 need no more alignment
        // than read_unaligned asks.
        Self(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the caller gives sixteen readable values.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        Self(std::array::from_fn(|lane| {
            f32::from_bits(u32::from(bits[bf16_place(lane)]) << 16)
        }))
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: the caller gives sixteen readable values.
        let bytes = unsafe { from.cast::<[i8; LANES]>().read_unaligned() };
        Self(bytes.map(f32::from))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller gives room for sixteen values.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        let mut out = c.0;
        for (out, (a, b)) in out.iter_mut().zip(self.0.into_iter().zip(b.0)) {
            *out = a.mul_add(b, *out);
        }
        Self(out)
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    unsafe fn scale_by_power_of_two(self, shifted: Self) -> Self {
        self.zip(shifted, |y, s| {
            let n = (s.to_bits() as i32).wrapping_sub(math::ROUND_MAGIC.to_bits() as i32);
            let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
            y * power(n >> 1) * power(n.wrapping_sub(n >> 1))
        })
    }
}

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::NeonLanes;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2Lanes, Avx512Lanes};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use skein_base::math::ROUND_MAGIC;

    use super::Lanes;

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
    }
}

/// Compiles `$body::<L>` for every instruction set and picks one at run time.
///
/// `$body` is `unsafe fn $body<L: Lanes>(args)`, marked `#[inline(always)]` so that it takes on
/// the caller's target features.
macro_rules! dispatch {
    ($(#[$doc:meta])* $visibility:vis unsafe fn $name:ident = $body:ident($($arg:ident: $type:ty),* $(,)?)) => {
        $(#[$doc])*
        $visibility unsafe fn $name(set: $crate::lanes::InstructionSet, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $type),*) {
                // SAFETY: the caller's contract, with AVX2 and FMA enabled here.
                unsafe { $body::<$crate::lanes::Avx2Lanes>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx2,fma")]
            unsafe fn avx512($($arg: $type),*) {
                // SAFETY: the caller's contract, with AVX-512F and AVX-512BW enabled here.
                unsafe { $body::<$crate::lanes::Avx512Lanes>($($arg),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            unsafe fn neon($($arg: $type),*) {
                // SAFETY: the caller's contract, with NEON enabled here.
                unsafe { $body::<$crate::lanes::NeonLanes>($($arg),*) }
            }
            match set {
                // SAFETY: portable code; the rest is the caller's contract.
                $crate::lanes::InstructionSet::Scalar => unsafe {
                    $body::<$crate::lanes::ScalarLanes>($($arg),*)
                },
                // SAFETY: the caller says that the machine has AVX2 and FMA.
                #[cfg(target_arch = "x86_64")]
                $crate::lanes::InstructionSet::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: the caller says that the machine has AVX-512F and AVX-512BW.
                #[cfg(target_arch = "x86_64")]
                $crate::lanes::InstructionSet::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::lanes::InstructionSet::Avx512Vnni => unsafe { avx512($($arg),*) },
                // SAFETY: the caller says that the machine has NEON.
                #[cfg(target_arch = "aarch64")]
                $crate::lanes::InstructionSet::Neon => unsafe { neon($($arg),*) },
                _ => unreachable!("only detected instruction sets are constructed"),
            }
        }
    };
}
pub(crate) use dispatch;
