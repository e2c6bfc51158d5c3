//! Exact integer sums of a block, on whatever the processor has.

use skein_weights::BlockFormat;
use skein_weights::blocks::BLOCK;

use super::packed::{SCALES_BYTES, stride};
use crate::lanes::{InstructionSet, LANES, Lanes, ScalarLanes};

/// The tallest tile of any instruction set.
pub(crate) const MAX_HEIGHT: usize = 8;

/// How the activations of a block lie, in groups of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Packing {
    /// Four bytes.
    #[default]
    Bytes,
    /// Four 16-bit numbers: the first, third, second and fourth. Weights of four bytes a word widen so by a mask
    /// and a shift.
    Words,
}

impl Packing {
    /// What the kernels of an instruction set want for weights of `format`, and how many rows their tiles have; `many`:
    /// there are so many rows that panels are walked [abreast](Integers::ABREAST).
    pub(crate) fn of(set: InstructionSet, format: BlockFormat, many: bool) -> (Self, usize) {
        match (set, format) {
            (InstructionSet::Scalar | InstructionSet::Neon, _) => (Self::Bytes, 4),
            // Twelve sums of two panels, twelve totals and what they are made of fill 32 registers.
            (InstructionSet::Avx512Vnni, _) if many => (Self::Bytes, 6),
            (InstructionSet::Avx512Vnni, _) => (Self::Bytes, 8),
            (InstructionSet::Avx512, BlockFormat::Q8) => (Self::Words, 8),
            (InstructionSet::Avx512, BlockFormat::Q4) => (Self::Bytes, 8),
            (InstructionSet::Avx2, BlockFormat::Q8) => (Self::Words, 4),
            (InstructionSet::Avx2, BlockFormat::Q4) => (Self::Bytes, 4),
        }
    }

    /// Bytes of a row's block.
    pub(crate) const fn block_bytes(self) -> usize {
        match self {
            Self::Bytes => BLOCK,
            Self::Words => 2 * BLOCK,
        }
    }

    /// Writes the values of row `r` of `rows` into the tile's block.
    #[inline(always)]
    pub(crate) fn write(self, quants: &[i8; BLOCK], rows: usize, r: usize, block: &mut [u8]) {
        let groups = quants.as_chunks::<4>().0.iter();
        // Sizes that the compiler knows: each piece is one instruction instead of a call.
        match self {
            Self::Bytes => {
                let to = block.as_chunks_mut::<4>().0.iter_mut();
                for (to, quants) in to.skip(r).step_by(rows).zip(groups) {
                    *to = quants.map(|q| q as u8);
                }
            }
            Self::Words => {
                let to = block.as_chunks_mut::<8>().0.iter_mut();
                for (to, quants) in to.skip(r).step_by(rows).zip(groups) {
                    let words = [quants[0], quants[2], quants[1], quants[3]].map(i16::from);
                    for (to, word) in to.as_chunks_mut::<2>().0.iter_mut().zip(words) {
                        *to = word.to_ne_bytes();
                    }
                }
            }
        }
    }
}

/// An instruction set's way to sum up a block for `R` rows and sixteen outputs.
///
/// `x` points to the packed activations of the tile's block, `w` to the packed values, `starts` to `R` numbers from
/// which the sums start; a sum's magnitude stays below 2^20, so it is exact as `f32`.
///
/// # Safety
/// As for [`Lanes`]; the pointers are good for a block of `R` rows.
pub(crate) trait Integers {
    type Floats: Lanes;
    /// Panels that many rows walk abreast: one, or two where the registers hold twice the sums, so that each value of
    /// the activations is fetched for both.
    const ABREAST: usize = 1;

    /// Widens sixteen `f16`, exactly. They are finite.
    unsafe fn load_f16(from: *const u16) -> Self::Floats;
    /// The sums of values of eight bits.
    unsafe fn sums_q8<const R: usize>(
        x: *const u8,
        w: *const u8,
        starts: *const i32,
    ) -> [Self::Floats; R];
    /// The sums of values of four bits.
    unsafe fn sums_q4<const R: usize>(
        x: *const u8,
        w: *const u8,
        starts: *const i32,
    ) -> [Self::Floats; R];
    /// [`Self::sums_q8`] of several panels, each of which begins with its scales.
    #[inline(always)]
    unsafe fn panels_q8<const R: usize, const P: usize>(
        x: *const u8,
        w: [*const u8; P],
        starts: *const i32,
    ) -> [[Self::Floats; R]; P] {
        // SAFETY: the caller's.
        unsafe {
            let mut sums = [[Self::Floats::splat(0.0); R]; P];
            for (sums, w) in sums.iter_mut().zip(w) {
                *sums = Self::sums_q8::<R>(x, w.add(SCALES_BYTES), starts);
            }
            sums
        }
    }
    /// [`Self::sums_q4`] of several panels, each of which begins with its scales.
    #[inline(always)]
    unsafe fn panels_q4<const R: usize, const P: usize>(
        x: *const u8,
        w: [*const u8; P],
        starts: *const i32,
    ) -> [[Self::Floats; R]; P] {
        // SAFETY: the caller's.
        unsafe {
            let mut sums = [[Self::Floats::splat(0.0); R]; P];
            for (sums, w) in sums.iter_mut().zip(w) {
                *sums = Self::sums_q4::<R>(x, w.add(SCALES_BYTES), starts);
            }
            sums
        }
    }
}

/// A format of weights.
pub(crate) trait Form {
    /// Bytes of a block of sixteen outputs.
    const STRIDE: usize;
    /// The sums of a block of several panels, each of which begins with its scales.
    ///
    /// # Safety
    /// As for [`Integers`].
    unsafe fn sums<I: Integers, const R: usize, const P: usize>(
        x: *const u8,
        w: [*const u8; P],
        starts: *const i32,
    ) -> [[I::Floats; R]; P];
}

/// [`BlockFormat::Q8`].
pub(crate) struct Eight;

impl Form for Eight {
    const STRIDE: usize = stride(BlockFormat::Q8);

    #[inline(always)]
    unsafe fn sums<I: Integers, const R: usize, const P: usize>(
        x: *const u8,
        w: [*const u8; P],
        starts: *const i32,
    ) -> [[I::Floats; R]; P] {
        // SAFETY: the caller's, behind the scales of each panel.
        unsafe { I::panels_q8::<R, P>(x, w, starts) }
    }
}

/// [`BlockFormat::Q4`].
pub(crate) struct Four;

impl Form for Four {
    const STRIDE: usize = stride(BlockFormat::Q4);

    #[inline(always)]
    unsafe fn sums<I: Integers, const R: usize, const P: usize>(
        x: *const u8,
        w: [*const u8; P],
        starts: *const i32,
    ) -> [[I::Floats; R]; P] {
        // SAFETY: the caller's, behind the scales of each panel.
        unsafe { I::panels_q4::<R, P>(x, w, starts) }
    }
}

/// Portable code.
pub(crate) struct Portable;

impl Portable {
    /// Adds the products of a group of four, whose weights are one byte each.
    #[inline(always)]
    fn add_group(sums: &mut [i32; LANES], weights: &[u8; 4 * LANES], x: [i8; 4]) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            for (j, x) in x.into_iter().enumerate() {
                *sum += i32::from(weights[4 * lane + j]) * i32::from(x);
            }
        }
    }
}

impl Integers for Portable {
    type Floats = ScalarLanes;

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> ScalarLanes {
        // SAFETY: the caller gives sixteen readable values; the array holds as many lanes.
        unsafe {
            let bits = from.cast::<[u16; LANES]>().read_unaligned();
            ScalarLanes::load(bits.map(widen_f16).as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn sums_q8<const R: usize>(
        x: *const u8,
        w: *const u8,
        starts: *const i32,
    ) -> [ScalarLanes; R] {
        // SAFETY: the caller's: eight groups of `R` rows, of sixteen outputs.
        unsafe {
            let mut sums = from_starts::<R>(starts);
            for group in 0..8 {
                let weights = w.add(group * 64).cast::<[u8; 64]>().read_unaligned();
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = x.add((group * R + r) * 4).cast::<[i8; 4]>();
                    Self::add_group(sums, &weights, x.read_unaligned());
                }
            }
            sums.map(to_floats)
        }
    }

    #[inline(always)]
    unsafe fn sums_q4<const R: usize>(
        x: *const u8,
        w: *const u8,
        starts: *const i32,
    ) -> [ScalarLanes; R] {
        // SAFETY: the caller's: four double groups of `R` rows, of sixteen outputs.
        unsafe {
            let mut sums = from_starts::<R>(starts);
            for group in 0..8 {
                let bytes = w.add(group / 2 * 64).cast::<[u8; 64]>().read_unaligned();
                let weights = bytes.map(|byte| byte >> (4 * (group % 2)) & 15);
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = x.add((group * R + r) * 4).cast::<[i8; 4]>();
                    Self::add_group(sums, &weights, x.read_unaligned());
                }
            }
            sums.map(to_floats)
        }
    }
}

/// # Safety
/// `starts` points to `R` values.
#[inline(always)]
unsafe fn from_starts<const R: usize>(starts: *const i32) -> [[i32; LANES]; R] {
    // SAFETY: the caller's.
    std::array::from_fn(|r| [unsafe { *starts.add(r) }; LANES])
}

#[inline(always)]
fn to_floats(sums: [i32; LANES]) -> ScalarLanes {
    let floats = sums.map(|sum| sum as f32);
    // SAFETY: sixteen values; portable code.
    unsafe { ScalarLanes::load(floats.as_ptr()) }
}

/// The value of a finite `f16`: its bits as those of an `f32` are 2^112 times too small.
#[inline(always)]
pub(crate) fn widen_f16(bits: u16) -> f32 {
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    f32::from_bits(magnitude.to_bits() | u32::from(bits & 0x8000) << 16)
}

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512, Vnni};

#[cfg(target_arch = "x86_64")]
mod x86;

/// Compiles `$body::<I>` for every instruction set with integer kernels and picks one at run time; see
/// [`crate::lanes::dispatch`].
macro_rules! dispatch_integers {
    ($(#[$doc:meta])* unsafe fn $name:ident = $body:ident($($arg:ident: $type:ty),* $(,)?)) => {
        $(#[$doc])*
        unsafe fn $name(set: InstructionSet, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2($($arg: $type),*) {
                // SAFETY: the caller's contract, with AVX2, FMA and F16C enabled here.
                unsafe { $body::<$crate::kernels::quantised::integers::Avx2>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx2,fma,f16c")]
            unsafe fn avx512($($arg: $type),*) {
                // SAFETY: the caller's contract, with AVX-512 enabled here.
                unsafe { $body::<$crate::kernels::quantised::integers::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            unsafe fn neon($($arg: $type),*) {
                // SAFETY: the caller's contract, with NEON enabled here.
                unsafe { $body::<$crate::kernels::quantised::integers::Neon>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
            unsafe fn vnni($($arg: $type),*) {
                // SAFETY: the caller's contract, with AVX-512 and VNNI enabled here.
                unsafe { $body::<$crate::kernels::quantised::integers::Vnni>($($arg),*) }
            }
            match set {
                // SAFETY: portable code; the rest is the caller's contract.
                InstructionSet::Scalar => unsafe {
                    $body::<$crate::kernels::quantised::integers::Portable>($($arg),*)
                },
                // SAFETY: the caller says that the machine has AVX2, FMA and F16C.
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: the caller says that the machine has AVX-512F and AVX-512BW.
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: the caller says that the machine has AVX-512 with VNNI.
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512Vnni => unsafe { vnni($($arg),*) },
                // SAFETY: the caller says that the machine has NEON.
                #[cfg(target_arch = "aarch64")]
                InstructionSet::Neon => unsafe { neon($($arg),*) },
                _ => unreachable!("only detected instruction sets are constructed"),
            }
        }
    };
}
pub(super) use dispatch_integers;
