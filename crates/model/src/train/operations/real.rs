//! The float types that operations are written over.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

use candle_core::WithDType;
use skein_base::math;

use super::Workers;
use crate::kernels::product::{self, Start, View};
use crate::lanes::LANES;

/// `f32`, which training runs in, or `f64`, in which gradients are checked.
pub(crate) trait Real:
    WithDType
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + Sum
{
    const ZERO: Self;
    const ONE: Self;
    const LOWEST: Self;

    /// The right-hand side of a product, prepared.
    type Packed: Send + Sync;

    fn of(value: f64) -> Self;
    fn wide(self) -> f64;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn sqrt(self) -> Self;
    fn fma(self, b: Self, c: Self) -> Self;

    /// Prepares the right-hand side of products; threads share the work.
    fn pack(workers: &Workers, b: View<'_, Self>) -> Self::Packed;

    /// As [`Self::pack`], on the calling thread alone.
    fn pack_here(b: View<'_, Self>) -> Self::Packed;

    /// `out = start + a * b`; threads share the rows.
    fn product(
        workers: &Workers,
        a: View<'_, Self>,
        b: &Self::Packed,
        start: Start<'_, Self>,
        out: &mut [Self],
    );

    /// As [`Self::product`], on the calling thread alone.
    fn product_here(
        workers: &Workers,
        a: View<'_, Self>,
        b: &Self::Packed,
        start: Start<'_, Self>,
        out: &mut [Self],
    );
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = Self::NEG_INFINITY;

    type Packed = product::Packed;

    #[inline(always)]
    fn of(value: f64) -> Self {
        value as Self
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn exp(self) -> Self {
        math::exp(self)
    }

    #[inline(always)]
    fn ln(self) -> Self {
        math::ln64(f64::from(self)) as Self
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }

    fn pack(workers: &Workers, b: View<'_, Self>) -> Self::Packed {
        product::Packed::new(&workers.pool, b)
    }

    fn pack_here(b: View<'_, Self>) -> Self::Packed {
        product::Packed::here(b)
    }

    fn product(
        workers: &Workers,
        a: View<'_, Self>,
        b: &Self::Packed,
        start: Start<'_, Self>,
        out: &mut [Self],
    ) {
        product::product(&workers.pool, workers.set, a, b, start, out);
    }

    fn product_here(
        workers: &Workers,
        a: View<'_, Self>,
        b: &Self::Packed,
        start: Start<'_, Self>,
        out: &mut [Self],
    ) {
        product::product_here(workers.set, a, b, start, out);
    }
}

/// A matrix row after row.
#[derive(Debug)]
pub(crate) struct Plain {
    values: Vec<f64>,
    columns: usize,
}

/// For checks alone: plain loops.
impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = Self::NEG_INFINITY;

    type Packed = Plain;

    fn of(value: f64) -> Self {
        value
    }

    fn wide(self) -> f64 {
        self
    }

    fn exp(self) -> Self {
        math::exp64(self)
    }

    fn ln(self) -> Self {
        math::ln64(self)
    }

    fn sqrt(self) -> Self {
        self.sqrt()
    }

    fn fma(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }

    fn pack(_: &Workers, b: View<'_, Self>) -> Self::Packed {
        Self::pack_here(b)
    }

    fn pack_here(b: View<'_, Self>) -> Self::Packed {
        let columns = b.columns();
        let cells = 0..b.rows() * columns;
        Plain {
            values: cells.map(|at| b.at(at / columns, at % columns)).collect(),
            columns,
        }
    }

    fn product(
        workers: &Workers,
        a: View<'_, Self>,
        b: &Self::Packed,
        start: Start<'_, Self>,
        out: &mut [Self],
    ) {
        Self::product_here(workers, a, b, start, out);
    }

    fn product_here(
        _: &Workers,
        a: View<'_, Self>,
        b: &Self::Packed,
        start: Start<'_, Self>,
        out: &mut [Self],
    ) {
        for (row, out) in out.chunks_exact_mut(b.columns).enumerate() {
            match start {
                Start::Zero => out.fill(0.0),
                Start::Held => {}
                Start::Bias(bias) => out.copy_from_slice(bias),
            }
            for (k, b) in b.values.chunks_exact(b.columns).enumerate() {
                let a = a.at(row, k);
                out.iter_mut().zip(b).for_each(|(out, b)| *out += a * b);
            }
        }
    }
}

/// Adds `f(a, b)` over pairs: pair `i` goes to lane `i mod 16`, lanes are added in a fixed tree.
#[inline(always)]
pub(super) fn sum_pairs<T: Real>(a: &[T], b: &[T], f: impl Fn(T, T, T) -> T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] = f(a[lane], b[lane], lanes[lane]);
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(rest) {
        *lane = f(*a, *b, *lane);
    }
    tree(lanes, |a, b| a + b)
}

/// `sum a b`, as [`sum_pairs`] adds.
#[inline(always)]
pub(crate) fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    sum_pairs(a, b, |a, b, sum| a.fma(b, sum))
}

/// `sum a`, as [`sum_pairs`] adds.
#[inline(always)]
pub(super) fn sum<T: Real>(a: &[T]) -> T {
    sum_pairs(a, a, |a, _, sum| sum + a)
}

/// The largest value; `T::LOWEST` of none.
#[inline(always)]
pub(super) fn largest<T: Real>(a: &[T]) -> T {
    let mut lanes = [T::LOWEST; LANES];
    let chunks = a.chunks_exact(LANES);
    let rest = chunks.remainder();
    for a in chunks {
        for lane in 0..LANES {
            lanes[lane] = greater(lanes[lane], a[lane]);
        }
    }
    for (lane, a) in lanes.iter_mut().zip(rest) {
        *lane = greater(*lane, *a);
    }
    tree(lanes, greater)
}

#[inline(always)]
fn greater<T: Real>(a: T, b: T) -> T {
    if a > b { a } else { b }
}

#[inline(always)]
fn tree<T: Real>(mut lanes: [T; LANES], join: impl Fn(T, T) -> T) -> T {
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            lanes[lane] = join(lanes[lane], lanes[lane + width]);
        }
    }
    lanes[0]
}
