use proptest::prelude::*;

use super::*;
use crate::kernels::linear::{Epilogue, Finished, Machine, Matrix, Operand, Rows, linear};
use crate::pool::Pool;
use crate::testing::{Parts, Random, any_blocks, digest, pack, same_bits};
use skein_weights::blocks::BLOCK;

const FORMATS: [BlockFormat; 2] = [BlockFormat::Q8, BlockFormat::Q4];

/// The product in the plainest words, from blocks as they are stored.
fn reference(x: &[f32], rows: &[u8], inputs: usize, format: BlockFormat) -> Vec<f32> {
    let mut out = Vec::new();
    for x in x.chunks(inputs) {
        for row in rows.chunks(format.row_bytes(inputs)) {
            let mut total = 0.0f32;
            for (x, block) in x.chunks(BLOCK).zip(row.chunks(format.block_bytes())) {
                let largest = x.iter().fold(0.0f32, |max, v| max.max(v.abs()));
                let (scale, inverse) = if largest < 1e-30 {
                    (0.0, 0.0)
                } else {
                    (largest / 127.0, 127.0 / largest)
                };
                let mut sum = 0i64;
                for (i, x) in x.iter().enumerate() {
                    let weight = match format {
                        BlockFormat::Q8 => i64::from(block[2 + i] as i8),
                        BlockFormat::Q4 => i64::from(block[2 + i % 16] >> (i / 16 * 4) & 15) - 8,
                    };
                    sum += weight * (x * inverse).round_ties_even() as i64;
                }
                let weight_scale = half(u16::from_le_bytes([block[0], block[1]]));
                total += sum as f32 * (weight_scale * scale);
            }
            out.push(total);
        }
    }
    out
}

/// An `f16`, by its definition.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-24),
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    };
    (if bits >> 15 == 1 {
        -magnitude
    } else {
        magnitude
    }) as f32
}

fn multiply(pool: &Pool, set: InstructionSet, x: Rows<'_>, w: &Matrix) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.count * w.outputs()];
    let parts = Parts::new(x.count, w.outputs());
    let then = |part: Finished<'_>| parts.take(part);
    let epilogue = Epilogue {
        then: Some(&then),
        ..Epilogue::STORE
    };
    let (machine, mut room) = (Machine { pool, set }, Activations::default());
    linear(
        machine,
        Operand::Values(x, &mut room),
        w,
        epilogue,
        &mut out,
    );
    parts.check(&out);
    let mut again = vec![f32::NAN; out.len()];
    let x = Operand::Values(x, &mut room);
    linear(machine, x, w, Epilogue::STORE, &mut again);
    same_bits(&again, &out, "nobody after it");
    out
}

/// Every path against the definition: rows, threads, instruction sets, formats, awkward widths.
#[test]
fn invariance_of_every_path() {
    let mut random = Random::new(17);
    for (outputs, inputs) in [(1, 1), (16, 64), (40, 72), (130, 200), (300, 1100)] {
        let x = random.awkward(29 * inputs);
        for format in FORMATS {
            let count = outputs * inputs.div_ceil(BLOCK);
            let rows = any_blocks(&mut random, count, format);
            let matrix = pack(&rows, outputs, inputs, format);
            let expected = reference(&x, &rows, inputs, format);
            for set in InstructionSet::available() {
                for (threads, count) in [
                    (1, 1),
                    (2, 2),
                    (3, 3),
                    (1, 5),
                    (2, 8),
                    (7, 1),
                    (2, 13),
                    (3, 29),
                    (7, 0),
                ] {
                    let x = Rows::new(&x[..count * inputs], inputs);
                    let out = multiply(&Pool::new(threads), set, x, &matrix);
                    let what = format!(
                        "{outputs}x{inputs} {format:?} {set:?} {threads} threads, {count} rows"
                    );
                    same_bits(&out, &expected[..count * outputs], &what);
                }
            }
        }
    }
}

/// More rows, panels and blocks than are handled together.
#[test]
fn invariance_of_blocked_products() {
    let mut random = Random::new(37);
    let (outputs, inputs, count) = (1040, 800, 140);
    let x = random.awkward(count * inputs);
    for format in FORMATS {
        let rows = any_blocks(&mut random, outputs * inputs.div_ceil(BLOCK), format);
        let matrix = pack(&rows, outputs, inputs, format);
        let expected = reference(&x, &rows, inputs, format);
        for set in InstructionSet::available() {
            for (threads, count) in [(1, count), (3, count), (3, 17), (2, 97)] {
                let x = Rows::new(&x[..count * inputs], inputs);
                let out = multiply(&Pool::new(threads), set, x, &matrix);
                let expected = &expected[..count * outputs];
                same_bits(
                    &out,
                    expected,
                    &format!("{format:?} {set:?} {threads} {count}"),
                );
            }
        }
    }
}

/// The numerics of every release: if this digest changes, answers change, and the kernel revision must change
/// with it.
#[test]
fn golden_digest() {
    let mut random = Random::new(19);
    let (outputs, inputs, rows) = (96, 896, 9);
    let x = random.awkward(rows * inputs);
    for (format, golden) in [(BlockFormat::Q8, GOLDEN_Q8), (BlockFormat::Q4, GOLDEN_Q4)] {
        let blocks = any_blocks(&mut random, outputs * inputs / BLOCK, format);
        let matrix = pack(&blocks, outputs, inputs, format);
        for set in InstructionSet::available() {
            let out = multiply(&Pool::new(2), set, Rows::new(&x, inputs), &matrix);
            assert_eq!(digest(&out), golden, "{format:?} on {set:?}");
        }
    }
}

const GOLDEN_Q8: &str = "572400a56cb7d823";
const GOLDEN_Q4: &str = "6e03056bc09abfdb";

#[test]
fn rows_come_back_out_of_the_packing() {
    let mut random = Random::new(23);
    for format in FORMATS {
        let (outputs, inputs) = (37, 72);
        let width = format.row_bytes(inputs);
        let rows = any_blocks(&mut random, outputs * inputs.div_ceil(BLOCK), format);
        let matrix = pack(&rows, outputs, inputs, format);
        for (output, row) in rows.chunks(width).enumerate() {
            let (mut found, mut expected) = (vec![0.0; inputs], vec![0.0; inputs]);
            matrix.unpack_row(output, &mut found);
            format.decode_row(row, &mut expected);
            same_bits(&found, &expected, &format!("{format:?} row {output}"));
        }
    }
}

#[test]
fn what_is_no_number_stays_none() {
    let mut random = Random::new(29);
    for format in FORMATS {
        let (outputs, inputs) = (16, 96);
        let rows = any_blocks(&mut random, outputs * inputs / BLOCK, format);
        let matrix = pack(&rows, outputs, inputs, format);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, 31, 50, 95] {
                let mut x = random.values(inputs, 1.0);
                x[place] = bad;
                for set in InstructionSet::available() {
                    let out = multiply(&Pool::new(1), set, Rows::new(&x, inputs), &matrix);
                    assert!(
                        out.iter().all(|v| v.is_nan()),
                        "{format:?} {set:?} {bad} at {place}"
                    );
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Random shapes, rows and threads: every instruction set says what the definition says.
    #[test]
    fn any_shape(seed: u64, outputs in 1usize..90, inputs in 1usize..200, count in 1usize..20, threads in 1usize..4) {
        let mut random = Random::new(seed);
        let x = random.awkward(count * inputs);
        for format in FORMATS {
            let rows = any_blocks(&mut random, outputs * inputs.div_ceil(BLOCK), format);
            let matrix = pack(&rows, outputs, inputs, format);
            let expected = reference(&x, &rows, inputs, format);
            for set in InstructionSet::available() {
                let out = multiply(&Pool::new(threads), set, Rows::new(&x, inputs), &matrix);
                same_bits(&out, &expected, &format!("{format:?} {set:?}"));
            }
        }
    }

    #[test]
    fn halves_widen_exactly(bits: u16) {
        prop_assume!(bits & 0x7c00 != 0x7c00);
        prop_assert_eq!(integers::widen_f16(bits).to_bits(), half(bits).to_bits());
    }
}

/// Rows of any tiles that follow each other lead back to these tiles.
#[test]
fn tiles_are_found_by_their_rows() {
    for set in InstructionSet::available() {
        for rows in 1..200 {
            let (mut activations, mut filled) = (Activations::default(), Activations::default());
            activations.begin(set, BlockFormat::Q4, [rows, BLOCK]);
            let filling = filled.begin(set, BlockFormat::Q4, [rows, BLOCK]);
            for first in 0..activations.tiles() {
                for last in first..=activations.tiles() {
                    let found = filling.tiles_of(activations.rows_of(first..last));
                    assert_eq!(found, first..last, "{set:?}, {rows} rows");
                }
            }
        }
    }
}

/// Filled part by part, activations are those that are quantised at once.
#[test]
fn filling_by_parts_is_quantising() {
    let mut random = Random::new(23);
    for set in InstructionSet::available() {
        for (rows, width) in [(1, 100), (5, 64), (40, 200)] {
            let x = random.values(rows * width, 3.0);
            let (mut whole, mut filled) = (Activations::default(), Activations::default());
            let rows_of_x = Rows::new(&x, width);
            whole.quantise(&Pool::new(1), set, BlockFormat::Q8, rows_of_x);
            let filling = filled.begin(set, BlockFormat::Q8, [rows, width]);
            for tile in (0..whole.tiles()).rev() {
                for block in 0..width.div_ceil(BLOCK) {
                    // SAFETY: `x` is what was announced, and one thread fills.
                    unsafe { filling.fill(x.as_ptr(), tile, block..block + 1) };
                }
            }
            assert_eq!(filled.held(), whole.held(), "{set:?}, {rows} rows");
        }
    }
}
