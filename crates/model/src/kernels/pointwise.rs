//! Norms and activations, row by row.
//!
//! Sums over a row: value `i` goes to lane `i mod 16`, lanes are added in a fixed tree at the end.

use skein_base::math;
use skein_weights::profile::NormKind;

use crate::lanes::{self, InstructionSet, LANES, Lanes, dispatch};
use crate::memory::SharedMut;
use crate::pool::Pool;

/// Fewer values than this are not worth waking other threads for.
const SPLIT_VALUES: usize = 16 << 10;

/// Values that a thread takes at a time, where there are many: some microseconds.
const GRAIN_VALUES: usize = 8 << 10;

/// A norm over vectors of the width of `weight`.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) kind: NormKind,
    pub(crate) epsilon: f32,
    pub(crate) weight: Vec<f32>,
    /// Empty for [`NormKind::Rms`].
    pub(crate) bias: Vec<f32>,
}

/// Runs `work` over ranges of rows, on all threads if there is enough to do.
fn split_rows(
    pool: &Pool,
    rows: usize,
    width: usize,
    work: &(dyn Fn(std::ops::Range<usize>) + Sync),
) {
    if rows * width < SPLIT_VALUES {
        work(0..rows)
    } else {
        pool.spread(rows, GRAIN_VALUES.div_ceil(width), work)
    }
}

/// Normalises every row of `x` into `out`; both are `[rows, width]`.
pub(crate) fn norm(pool: &Pool, set: InstructionSet, norm: &Norm, x: &[f32], out: &mut [f32]) {
    let width = norm.weight.len();
    assert_eq!(x.len(), out.len(), "shapes match");
    let rows = x.len() / width;
    let shared = SharedMut::new(out);
    split_rows(pool, rows, width, &|range| {
        for row in range {
            let x = &x[row * width..][..width];
            // SAFETY: each row belongs to one thread; `set` was detected.
            unsafe {
                let out = shared.range(row * width, width);
                out.copy_from_slice(x);
                norm_row(set, norm, out);
            }
        }
    });
}

dispatch! {
    /// Normalises `row` in place.
    ///
    /// # Safety
    /// `set` is available; `row` has the width of the norm.
    pub(crate) unsafe fn norm_row = norm_row_body(norm: &Norm, row: &mut [f32])
}

#[inline(always)]
unsafe fn norm_row_body<L: Lanes>(norm: &Norm, row: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe {
        match norm.kind {
            NormKind::Rms => rms_row::<L>(norm, row),
            NormKind::Layer => layer_row::<L>(norm, row),
        }
    }
}

/// Stores as many of the sixteen values as `to` has room for.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn store<L: Lanes>(value: L, to: &mut [f32]) {
    // SAFETY: a whole chunk has room for sixteen values; a shorter one goes through a copy.
    unsafe {
        if to.len() >= LANES {
            return value.store(to.as_mut_ptr());
        }
        let mut padded = [0.0; LANES];
        value.store(padded.as_mut_ptr());
        to.copy_from_slice(&padded[..to.len()]);
    }
}

#[inline(always)]
unsafe fn rms_row<L: Lanes>(norm: &Norm, row: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe {
        let mut squares = L::splat(0.0);
        for chunk in row.chunks(LANES) {
            let x = lanes::load_up_to::<L>(0.0, chunk);
            squares = x.fma(x, squares);
        }
        let mean = squares.tree_sum() / row.len() as f32;
        let scale = L::splat(1.0 / (mean + norm.epsilon).sqrt());
        for (chunk, weight) in row.chunks_mut(LANES).zip(norm.weight.chunks(LANES)) {
            let y = lanes::load_up_to::<L>(0.0, chunk)
                .mul(scale)
                .mul(lanes::load_up_to::<L>(0.0, weight));
            store(y, chunk);
        }
    }
}

#[inline(always)]
unsafe fn layer_row<L: Lanes>(norm: &Norm, row: &mut [f32]) {
    let width = row.len() as f32;
    // SAFETY: the caller's.
    unsafe {
        let mut total = L::splat(0.0);
        for chunk in row.chunks(LANES) {
            total = total.add(lanes::load_up_to::<L>(0.0, chunk));
        }
        let mean = L::splat(total.tree_sum() / width);
        for chunk in row.chunks_mut(LANES) {
            store(lanes::load_up_to::<L>(0.0, chunk).sub(mean), chunk);
        }
        let mut squares = L::splat(0.0);
        for chunk in row.chunks(LANES) {
            let x = lanes::load_up_to::<L>(0.0, chunk);
            squares = x.fma(x, squares);
        }
        let variance = squares.tree_sum() / width;
        let scale = L::splat(1.0 / (variance + norm.epsilon).sqrt());
        let parameters = norm.weight.chunks(LANES).zip(norm.bias.chunks(LANES));
        for (chunk, (weight, bias)) in row.chunks_mut(LANES).zip(parameters) {
            let y = lanes::load_up_to::<L>(0.0, chunk).mul(scale).fma(
                lanes::load_up_to::<L>(0.0, weight),
                lanes::load_up_to::<L>(0.0, bias),
            );
            store(y, chunk);
        }
    }
}

dispatch! {
    /// `out = silu(gate) * up`, where `gate_up` holds sixteen values of each in turn.
    ///
    /// # Safety
    /// `set` is available.
    pub(crate) unsafe fn gated_silu = gated_silu_body(gate_up: &[f32], out: &mut [f32])
}

#[inline(always)]
unsafe fn gated_silu_body<L: Lanes>(gate_up: &[f32], out: &mut [f32]) {
    let pairs = gate_up.chunks_exact(2 * LANES);
    for (pair, out) in pairs.zip(out.chunks_mut(LANES)) {
        // SAFETY: the caller's; a pair holds twice sixteen values.
        unsafe {
            let x = L::load(pair.as_ptr());
            let one = L::splat(1.0);
            let negated = L::splat(-0.0).sub(x);
            let silu = x.div(one.add(lanes::exp(negated)));
            store(silu.mul(L::load(pair[LANES..].as_ptr())), out);
        }
    }
}

dispatch! {
    /// GELU in its tanh form.
    ///
    /// # Safety
    /// `set` is available.
    pub(crate) unsafe fn gelu_tanh = gelu_body(x: &[f32], out: &mut [f32])
}

#[inline(always)]
unsafe fn gelu_body<L: Lanes>(x: &[f32], out: &mut [f32]) {
    for (x, out) in x.chunks(LANES).zip(out.chunks_mut(LANES)) {
        // SAFETY: the caller's.
        unsafe {
            let x = lanes::load_up_to::<L>(0.0, x);
            let one = L::splat(1.0);
            let cubic = L::splat(math::GELU_CUBIC).mul(x).mul(x).mul(x);
            let inner = L::splat(math::GELU_SCALE).mul(cubic.add(x));
            let e = lanes::exp(inner.add(inner));
            let tanh = one.sub(L::splat(2.0).div(e.add(one)));
            store(L::splat(0.5).mul(x).mul(one.add(tanh)), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, same_bits};

    fn norm_of(kind: NormKind, width: usize, random: &mut Random) -> Norm {
        let bias = if kind == NormKind::Layer {
            random.values(width, 0.3)
        } else {
            vec![]
        };
        Norm {
            kind,
            epsilon: 1e-6,
            weight: random.values(width, 1.0),
            bias,
        }
    }

    #[test]
    fn norms_agree_with_double_precision_and_across_instruction_sets() {
        let mut random = Random::new(1);
        for width in [1, 5, 16, 72, 896] {
            for kind in [NormKind::Rms, NormKind::Layer] {
                let parameters = norm_of(kind, width, &mut random);
                let x = random.values(3 * width, 4.0);
                let mut reference = vec![0.0; x.len()];
                let pool = Pool::new(1);
                norm(
                    &pool,
                    InstructionSet::Scalar,
                    &parameters,
                    &x,
                    &mut reference,
                );
                for set in InstructionSet::available() {
                    let mut out = vec![0.0; x.len()];
                    norm(&Pool::new(2), set, &parameters, &x, &mut out);
                    same_bits(&out, &reference, &format!("{kind:?} {width} {set:?}"));
                }
                check_norm(&parameters, &x, &reference);
            }
        }
    }

    fn check_norm(norm: &Norm, x: &[f32], found: &[f32]) {
        let width = norm.weight.len();
        for (x, found) in x.chunks(width).zip(found.chunks(width)) {
            let layer = norm.kind == NormKind::Layer;
            let n = width as f64;
            let mean = if layer {
                x.iter().map(|v| f64::from(*v)).sum::<f64>() / n
            } else {
                0.0
            };
            let variance = x
                .iter()
                .map(|v| (f64::from(*v) - mean).powi(2))
                .sum::<f64>()
                / n;
            let scale = 1.0 / (variance + f64::from(norm.epsilon)).sqrt();
            for (i, found) in found.iter().enumerate() {
                let bias = norm.bias.get(i).copied().map_or(0.0, f64::from);
                let exact = (f64::from(x[i]) - mean) * scale * f64::from(norm.weight[i]) + bias;
                assert!((f64::from(*found) - exact).abs() < 1e-4, "{found} {exact}");
            }
        }
    }

    #[test]
    fn activations_equal_their_scalar_twins() {
        let mut random = Random::new(2);
        for width in [1usize, 16, 37, 176] {
            let pairs = random.values(2 * width.next_multiple_of(LANES), 8.0);
            for set in InstructionSet::available() {
                let (mut gated, mut curved) = (vec![0.0; width], vec![0.0; pairs.len()]);
                // SAFETY: the set is available.
                unsafe {
                    gated_silu(set, &pairs, &mut gated);
                    gelu_tanh(set, &pairs, &mut curved);
                }
                for (i, found) in gated.iter().enumerate() {
                    let place = i / LANES * 2 * LANES + i % LANES;
                    let twin = math::silu(pairs[place]) * pairs[place + LANES];
                    assert_eq!(found.to_bits(), twin.to_bits(), "{set:?} {}", pairs[place]);
                }
                for (x, y) in pairs.iter().zip(&curved) {
                    assert_eq!(y.to_bits(), math::gelu_tanh(*x).to_bits(), "{set:?} {x}");
                }
            }
        }
    }
}
