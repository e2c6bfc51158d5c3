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
    /// [`Self::store_rounded`] of `self` and `other`, one after another; the sum of the bytes, or any number where they
    /// may be any bytes.
    #[inline(always)]
    unsafe fn store_rounded_pair(self, other: Self, to: *mut i8) -> i32 {
        // SAFETY: the contract of `Lanes`, with room for twice as many bytes.
        unsafe {
            self.store_rounded(to);
            other.store_rounded(to.add(LANES));
            let bytes = to.cast::<[i8; 2 * LANES]>().read_unaligned();
            bytes.into_iter().map(i32::from).sum()
        }
    }
    /// Adds the lanes: halves onto halves, in the one fixed order.
    #[inline(always)]
    unsafe fn tree_sum(self) -> f32 {
        let mut lanes = [0.0; LANES];
        // SAFETY: room for sixteen values.
        unsafe { self.store(lanes.as_mut_ptr()) };
        halve(&mut lanes, |one, other| one + other)
    }
    /// The largest lane, halves against halves; where some are NaN, any lane.
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        let mut lanes = [0.0; LANES];
        // SAFETY: room for sixteen values.
        unsafe { self.store(lanes.as_mut_ptr()) };
        halve(
            &mut lanes,
            |one, other| if one < other { other } else { one },
        )
    }
    /// The largest magnitude of thirty-two values; an infinity or NaN if there is one.
    #[inline(always)]
    unsafe fn largest_magnitude(self, other: Self) -> f32 {
        let mut lanes = [[0.0_f32; LANES]; 2];
        // SAFETY: room for sixteen values twice.
        unsafe {
            self.store(lanes[0].as_mut_ptr());
            other.store(lanes[1].as_mut_ptr());
        }
        // As integers, magnitudes are ordered as they are as numbers, with infinities and then NaN above.
        let bits = |lane: usize| lanes.map(|lanes| lanes[lane].to_bits() & MAGNITUDE);
        let mut most = std::array::from_fn(|lane| bits(lane)[0].max(bits(lane)[1]));
        f32::from_bits(halve(&mut most, u32::max))
    }
}

/// All bits of an `f32` but that of the sign.
const MAGNITUDE: u32 = 0x7fff_ffff;

/// Joins halves with halves until one value is left.
#[inline(always)]
fn halve<T: Copy>(lanes: &mut [T; LANES], join: impl Fn(T, T) -> T) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = join(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Asks for the cache line of an address, which need not be readable: a hint, where there is one.
#[inline(always)]
pub(crate) fn prefetch(from: *const u8) {
    hint(from, Caches::All);
}

/// As [`prefetch`], for what is read once and need not stay.
#[inline(always)]
pub(crate) fn prefetch_once(from: *const u8) {
    hint(from, Caches::Nearest);
}

/// As [`prefetch`], into the second-level cache: for more than the first one holds.
#[inline(always)]
pub(crate) fn prefetch_near(from: *const u8) {
    hint(from, Caches::Second);
}

/// Up to sixteen values, and `padding` behind them.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn load_up_to<L: Lanes>(padding: f32, values: &[f32]) -> L {
    // SAFETY: a whole chunk has sixteen values; a shorter one is copied first.
    unsafe {
        if values.len() >= LANES {
            return L::load(values.as_ptr());
        }
        let mut padded = [padding; LANES];
        padded[..values.len()].copy_from_slice(values);
        L::load(padded.as_ptr())
    }
}

/// Which caches a line is fetched into.
enum Caches {
    All,
    Nearest,
    Second,
}

#[inline(always)]
fn hint(from: *const u8, caches: Caches) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; any address is good.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_NTA, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        match caches {
            Caches::All => _mm_prefetch::<_MM_HINT_T0>(from.cast()),
            Caches::Nearest => _mm_prefetch::<_MM_HINT_NTA>(from.cast()),
            Caches::Second => _mm_prefetch::<_MM_HINT_T1>(from.cast()),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, caches);
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

/// The portable lanes.
#[derive(Clone, Copy)]
pub(crate) struct ScalarLanes([f32; LANES]);

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
mod x86;

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

#[cfg(test)]
mod tests;
