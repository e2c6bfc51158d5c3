//! How keys and values get into their pages.

use skein_base::math::ROUND_MAGIC;

use super::{Shape, Span};
use crate::kernels::quantised::activations::scales;
use crate::kv::{KvFormat, PAGE_POSITIONS};
use crate::lanes::LANES;

/// Writes the key and value of one head at one position.
///
/// # Safety
/// The page of `position` is the session's own, and no other thread touches this position.
pub(crate) unsafe fn write_kv(
    shape: &Shape,
    span: &Span,
    head: usize,
    position: usize,
    key: &[f32],
    value: &[f32],
) {
    let layout = &shape.layout;
    let page = span.pages[position / PAGE_POSITIONS];
    let slot = position % PAGE_POSITIONS;
    let half = (slot / LANES) * layout.head_dim * LANES;
    let (first_key, first_value) = (half + slot % LANES, slot * layout.padded_dim);
    // SAFETY: the offsets lie inside the page by its layout; exclusive by the caller's promise.
    unsafe {
        let keys = page.add(layout.keys(shape.layer, head));
        let values = page.add(layout.values(shape.layer, head));
        match layout.format {
            KvFormat::F32 => {
                let (keys, values) = (keys.cast::<f32>(), values.cast::<f32>());
                let as_it_is = |x: f32| x;
                put(keys.add(first_key), LANES, key, key.len(), as_it_is);
                put(
                    values.add(first_value),
                    1,
                    value,
                    layout.padded_dim,
                    as_it_is,
                );
            }
            KvFormat::Int8 => {
                let (keys, values) = (keys.cast::<i8>(), values.cast::<i8>());
                let scales = page.add(layout.scales(shape.layer, head)).cast::<f32>();
                let scale = put_bytes(keys.add(first_key), LANES, key, key.len());
                scales.add(slot).write(scale);
                let scale = put_bytes(values.add(first_value), 1, value, layout.padded_dim);
                scales.add(PAGE_POSITIONS + slot).write(scale);
            }
        }
    }
}

/// As [`put`], rounded; returns the scale.
///
/// # Safety
/// As there.
unsafe fn put_bytes(to: *mut i8, stride: usize, values: &[f32], count: usize) -> f32 {
    let (scale, inverse) = scale_of(values);
    // SAFETY: the caller's.
    unsafe { put(to, stride, values, count, |x| round(x * inverse)) };
    scale
}

/// Puts `values`, then zeros up to `count`, `stride` apart.
///
/// # Safety
/// There is room, and it is the caller's alone.
unsafe fn put<T: Copy + Default>(
    to: *mut T,
    stride: usize,
    values: &[f32],
    count: usize,
    convert: impl Fn(f32) -> T,
) {
    for index in 0..count {
        let value = values.get(index);
        let value = value.map_or_else(T::default, |value| convert(*value));
        // SAFETY: the caller's.
        unsafe { to.add(index * stride).write(value) };
    }
}

/// The scale of a vector that is rounded to bytes, and what values are multiplied by before: as blocks of
/// activations. NaN if it holds an infinity or NaN, so that no score passes for a number.
fn scale_of(values: &[f32]) -> (f32, f32) {
    let magnitudes = values.iter().map(|value| value.abs());
    let largest = magnitudes.fold(0.0, |a: f32, b| if b > a { b } else { a });
    match values.iter().all(|value| value.is_finite()) {
        true => scales(largest),
        false => (f32::NAN, 0.0),
    }
}

/// To the nearest, ties to even; the magnitude is at most 127, or the scale is NaN and any byte will do.
fn round(x: f32) -> i8 {
    // Added to a magnitude below 2^22, it leaves the nearest integer in the lowest bits.
    (x + ROUND_MAGIC).to_bits() as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_nearest_of_their_scale() {
        let (scale, inverse) = scale_of(&[1.0, -2.54, 0.0]);
        assert_eq!(scale, 2.54 / 127.0);
        let rounded = [1.0, -2.54, 0.0, 0.01, 0.03].map(|x: f32| round(x * inverse));
        // 0.01 is half a step and 0.03 one and a half, up to the rounding of the reciprocal.
        assert_eq!(rounded[..3], [50, -127, 0]);
        assert!((0..=1).contains(&rounded[3]) && (1..=2).contains(&rounded[4]));
        assert_eq!([0.5, 1.5, 2.5, -0.5, -1.5].map(round), [0, 2, 2, 0, -2]);
    }

    #[test]
    fn nothing_and_no_number_have_scales_of_their_own() {
        assert_eq!(scale_of(&[0.0, -1e-31]), (0.0, 0.0));
        for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            assert!(scale_of(&[1.0, bad]).0.is_nan());
        }
    }
}
