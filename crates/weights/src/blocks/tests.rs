use proptest::prelude::*;

use super::*;
use crate::stored::tests::{tensor, values};

const FORMATS: [BlockFormat; 2] = [BlockFormat::Q8, BlockFormat::Q4];

fn encoded(format: BlockFormat, values: &[f32]) -> Result<Vec<u8>, OutOfRange> {
    let mut bytes = vec![0xaa; format.row_bytes(values.len())];
    format.encode_row(values, &mut bytes).map(|()| bytes)
}

fn decoded(format: BlockFormat, bytes: &[u8], columns: usize) -> Vec<f32> {
    let mut values = vec![f32::NAN; columns];
    format.decode_row(bytes, &mut values);
    values
}

/// Sum of squared differences over sum of squares.
fn loss(before: &[f32], after: &[f32]) -> f64 {
    let square = |value: f32| f64::from(value).powi(2);
    let lost: f64 = before.iter().zip(after).map(|(a, b)| square(a - b)).sum();
    lost / before.iter().map(|value| square(*value)).sum::<f64>()
}

/// Rows and their blocks by gguf-py: `scripts/fixtures/make_blocks.py`.
#[test]
fn less_is_lost_than_by_the_rounding_of_ggml() {
    for (label, format, name, most) in [
        ("gaussian", BlockFormat::Q8, "Q8_0", 0.88),
        ("gaussian", BlockFormat::Q4, "Q4_0", 0.90),
        ("heavy", BlockFormat::Q8, "Q8_0", 0.91),
        ("heavy", BlockFormat::Q4, "Q4_0", 0.94),
    ] {
        let rows = values(&format!("{label}.rows"));
        let theirs = decoded(format, &tensor(&format!("{label}.{name}")), rows.len());
        let ours = decoded(format, &encoded(format, &rows).unwrap(), rows.len());
        let ratio = loss(&rows, &ours) / loss(&rows, &theirs);
        assert!(ratio < most && ratio > 0.8, "{label} {name}: {ratio}");
    }
}

/// Changes only if quantised models do: then ids of models and numerics change as well.
#[test]
fn golden_bytes() {
    let rows = values("heavy.rows");
    let found = FORMATS.map(|format| {
        let bytes = encoded(format, &rows).unwrap();
        skein_base::Blake3::of(&bytes).to_string()
    });
    assert_eq!(found, GOLDEN);
}

const GOLDEN: [&str; 2] = [
    "4d2366727641f517ac24cb86d81c6a5c599a58de1b0a9477a49bb8951e13fbf3",
    "baa90feb2073d951f496f6f8234ffaf241d6398e96473342ead094e2bc95fb48",
];

#[test]
fn padding_is_zero_and_takes_no_part() {
    for format in FORMATS {
        for columns in [1_usize, 7, 31, 33, 63, 95] {
            let values: Vec<f32> = (0..columns).map(|i| 1.0 + i as f32).collect();
            let bytes = encoded(format, &values).unwrap();
            let whole = columns.next_multiple_of(BLOCK);
            let all = decoded(format, &bytes, whole);
            assert!(all[columns..].iter().all(|value| *value == 0.0));
            assert_eq!(decoded(format, &bytes, columns), all[..columns]);
        }
    }
}

#[test]
fn zeros_and_what_is_below_the_scales_become_zeros() {
    for format in FORMATS {
        let zeros = encoded(format, &[0.0; 64]).unwrap();
        for values in [[-0.0; 64], [1e-8; 64], [f32::from_bits(1); 64]] {
            assert_eq!(encoded(format, &values).unwrap(), zeros, "{values:?}");
        }
        let plus: Vec<u32> = decoded(format, &zeros, 64)
            .iter()
            .map(|value| value.to_bits())
            .collect();
        assert_eq!(plus, [0; 64]);
    }
}

#[test]
fn what_has_no_scale_is_refused() {
    // The largest finite half-precision number is 65504; up to 65520 rounds to it.
    for (format, widest) in [(BlockFormat::Q8, 127.0), (BlockFormat::Q4, 8.0)] {
        for sign in [1.0, -1.0] {
            let mut values = [0.5; 40];
            values[37] = sign * 65504.0 * widest;
            let back = decoded(format, &encoded(format, &values).unwrap(), 40);
            assert!((back[37] / values[37] - 1.0).abs() < 0.13, "{back:?}");
            values[37] = sign * 65521.0 * widest;
            assert_eq!(encoded(format, &values), Err(OutOfRange));
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            let mut values = [0.5; 40];
            values[3] = bad;
            assert_eq!(encoded(format, &values), Err(OutOfRange), "{bad}");
        }
    }
}

#[test]
fn four_bits_are_exact_in_eight() {
    let bytes = tensor("Q4_0.bytes");
    let columns = bytes.len() / 18 * BLOCK;
    let widen = BlockFormat::Q4.exact(BlockFormat::Q8).unwrap();
    let mut wide = vec![0; BlockFormat::Q8.row_bytes(columns)];
    widen(&bytes, &mut wide);
    let bits = |format, bytes: &[u8]| {
        let values = decoded(format, bytes, columns).into_iter();
        values.map(f32::to_bits).collect::<Vec<_>>()
    };
    assert_eq!(bits(BlockFormat::Q8, &wide), bits(BlockFormat::Q4, &bytes));
    assert!(BlockFormat::Q8.exact(BlockFormat::Q4).is_none());
}

/// Weights over the whole range of scales, zeros among them.
fn weights() -> impl Strategy<Value = Vec<f32>> {
    let one = (-30..4_i32, -1.0..1.0_f32, 0..8_u8);
    let value = one.prop_map(|(power, value, rare)| match rare {
        0 => 0.0,
        1 => value * 2.0_f32.powi(power),
        _ => value,
    });
    (-20..15_i32, prop::collection::vec(value, 1..100)).prop_map(|(power, values)| {
        let scale = 2.0_f32.powi(power);
        values.iter().map(|value| value * scale).collect()
    })
}

proptest! {
    #[test]
    fn no_value_moves_far(values in weights()) {
        for (format, steps) in [(BlockFormat::Q8, 124.0), (BlockFormat::Q4, 6.0)] {
            let bytes = encoded(format, &values).unwrap();
            let after = decoded(format, &bytes, values.len());
            for (before, after) in values.chunks(BLOCK).zip(after.chunks(BLOCK)) {
                let largest = before.iter().fold(0.0_f32, |max, v| max.max(v.abs()));
                // At worst all values are as large, and their squares together decide.
                let sum: f32 = before.iter().zip(after).map(|(b, a)| (b - a).powi(2)).sum();
                // Half a step each, and what half precision cannot tell apart below its least scale.
                let step = largest / steps + 2.0_f32.powi(-24);
                prop_assert!(sum.sqrt() <= 0.51 * step * (before.len() as f32).sqrt());
            }
        }
    }

    #[test]
    fn what_was_quantised_is_found_again(values in weights()) {
        for format in FORMATS {
            let bytes = encoded(format, &values).unwrap();
            let once = decoded(format, &bytes, values.len());
            let twice = decoded(format, &encoded(format, &once).unwrap(), values.len());
            let pairs = once.chunks(BLOCK).zip(twice.chunks(BLOCK));
            for (block, (once, twice)) in bytes.chunks(format.block_bytes()).zip(pairs) {
                // Smaller scales lie too far apart.
                if f16::from_le_bytes([block[0], block[1]]).is_normal() {
                    prop_assert_eq!(once, twice);
                }
            }
        }
    }

    #[test]
    fn any_bytes_have_values(bytes in prop::collection::vec(any::<u8>(), 34), columns in 1..=BLOCK) {
        for format in FORMATS {
            let found = decoded(format, &bytes[..format.block_bytes()], columns);
            let all = decoded(format, &bytes[..format.block_bytes()], BLOCK);
            for (found, all) in found.iter().zip(all) {
                prop_assert!(found.to_bits() == all.to_bits() || found.is_nan());
            }
        }
    }
}
