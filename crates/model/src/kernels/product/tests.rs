use super::*;
use crate::testing::{Random, same_bits};

/// `[rows, inner] x [inner, columns]` in double precision.
fn exact(a: View<'_, f32>, b: View<'_, f32>) -> Vec<f64> {
    let cell = |at: usize| {
        let (row, column) = (at / b.columns, at % b.columns);
        let term = |k| f64::from(a.at(row, k)) * f64::from(b.at(k, column));
        (0..b.rows).map(term).sum()
    };
    (0..a.rows * b.columns).map(cell).collect()
}

/// Shapes at the edges of tiles, panels, blocks and shares.
const SHAPES: [[usize; 3]; 7] = [
    [1, 1, 1],
    [2, 7, 17],
    [6, 256, 16],
    [25, 257, 33],
    [97, 64, 48],
    [131, 513, 5],
    [200, 31, 70],
];

/// One matrix in row order and, the same values, in column order.
fn both_orders(random: &mut Random, rows: usize, columns: usize) -> [Vec<f32>; 2] {
    let plain = random.values(rows * columns, 1.0);
    let mut turned = vec![0.0; plain.len()];
    for (at, value) in plain.iter().enumerate() {
        turned[at % columns * rows + at / columns] = *value;
    }
    [plain, turned]
}

#[test]
fn agrees_with_double_precision_in_every_layout() {
    let pool = Pool::new(2);
    let mut random = Random::new(1);
    for [rows, inner, columns] in SHAPES {
        let [a, a_turned] = both_orders(&mut random, rows, inner);
        let [b, b_turned] = both_orders(&mut random, inner, columns);
        let a = [
            View::new(&a, inner),
            View::new(&a_turned, rows).transposed(),
        ];
        let b = [
            View::new(&b, columns),
            View::new(&b_turned, inner).transposed(),
        ];
        let expected = exact(a[0], b[0]);
        let bound = inner as f64 * f64::from(f32::EPSILON);
        let mut first: Option<Vec<f32>> = None;
        for a in a {
            for b in b {
                let packed = Packed::new(&pool, b);
                let mut out = vec![f32::NAN; rows * columns];
                let set = InstructionSet::detect();
                product(&pool, set, a, &packed, Start::Zero, &mut out);
                for (found, expected) in out.iter().zip(&expected) {
                    assert!((f64::from(*found) - expected).abs() <= bound);
                }
                let first = first.get_or_insert_with(|| out.clone());
                same_bits(&out, first, "another layout");
            }
        }
    }
}

#[test]
fn neither_threads_nor_instructions_change_a_bit() {
    let mut random = Random::new(2);
    for [rows, inner, columns] in SHAPES {
        let a = random.awkward(rows * inner);
        let b = random.awkward(inner * columns);
        let (a, b) = (View::new(&a, inner), View::new(&b, columns));
        let packed = Packed::here(b);
        let mut expected = vec![0.0; rows * columns];
        product_here(
            InstructionSet::Scalar,
            a,
            &packed,
            Start::Zero,
            &mut expected,
        );
        for threads in [1, 3] {
            let pool = Pool::new(threads);
            let packed = Packed::new(&pool, b);
            for set in InstructionSet::available() {
                let mut out = vec![0.0; rows * columns];
                product(&pool, set, a, &packed, Start::Zero, &mut out);
                same_bits(&out, &expected, &format!("{set:?}, {threads} threads"));
            }
        }
        let some = rows.div_ceil(2);
        let mut fewer = vec![0.0; some * columns];
        let set = InstructionSet::detect();
        let top = View::new(&a.data[..some * inner], inner);
        product_here(set, top, &packed, Start::Zero, &mut fewer);
        same_bits(&fewer, &expected[..some * columns], "fewer rows");
    }
}

#[test]
fn a_product_starts_where_it_is_told() {
    let set = InstructionSet::detect();
    for [rows, inner, columns] in SHAPES {
        let mut random = Random::new(3);
        let a = random.values(rows * inner, 1.0);
        let b = random.values(inner * columns, 1.0);
        let bias = random.values(columns, 1.0);
        let packed = Packed::here(View::new(&b, columns));
        let a = View::new(&a, inner);
        let run = |start: Start<'_, f32>, mut out: Vec<f32>| {
            product_here(set, a, &packed, start, &mut out);
            out
        };
        let repeated: Vec<f32> = bias.iter().copied().cycle().take(rows * columns).collect();
        let from_bias = run(Start::Bias(&bias), vec![f32::NAN; rows * columns]);
        same_bits(&from_bias, &run(Start::Held, repeated), "bias");
        let held = run(Start::Held, vec![0.0; rows * columns]);
        same_bits(&held, &run(Start::Zero, vec![7.0; rows * columns]), "zero");
    }
}
