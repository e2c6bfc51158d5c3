use super::*;
use crate::testing::{Parts, Random, digest, same_bits};

/// The definition, in the plainest words.
fn reference(x: &[f32], w: &[f32], inputs: usize, bias: Option<&[f32]>) -> Vec<f32> {
    let mut out = Vec::new();
    for x in x.chunks(inputs) {
        for (o, w) in w.chunks(inputs).enumerate() {
            let mut total = 0.0f32;
            for (x, w) in x.chunks(RUN).zip(w.chunks(RUN)) {
                let sum = x
                    .iter()
                    .zip(w)
                    .fold(0.0f32, |sum, (x, w)| x.mul_add(*w, sum));
                total += sum;
            }
            out.push(bias.map_or(total, |b| total + b[o]));
        }
    }
    out
}

fn to_bf16(values: &[f32]) -> Vec<u16> {
    values.iter().map(|v| (v.to_bits() >> 16) as u16).collect()
}

/// How floats are held.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Held {
    F32,
    Bf16,
    Compact,
}

fn pack(w: &[f32], outputs: usize, inputs: usize, held: Held) -> Matrix {
    let mut matrix = match held {
        Held::F32 => Matrix::zeroed(outputs, inputs, Dtype::F32),
        Held::Bf16 => Matrix::zeroed(outputs, inputs, Dtype::Bf16),
        Held::Compact => Matrix::compact(outputs, inputs),
    };
    let packer = matrix.packer();
    let fits = match held {
        Held::F32 => {
            // SAFETY: this thread alone packs, in the matrix's own format.
            unsafe { packer.pack_f32(0, w) };
            true
        }
        // SAFETY: as above.
        Held::Bf16 | Held::Compact => unsafe { packer.pack_bf16(0, &to_bf16(w)) },
    };
    assert!(fits);
    matrix
}

fn multiply(
    pool: &Pool,
    set: InstructionSet,
    x: Rows<'_>,
    w: &Matrix,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
) {
    let machine = Machine { pool, set };
    let mut room = Activations::default();
    linear(machine, Operand::Values(x, &mut room), w, epilogue, out);
}

/// Every path against the definition: rows, threads, instruction sets, formats, awkward widths.
#[test]
fn invariance_of_every_path() {
    let mut random = Random::new(7);
    for (outputs, inputs) in [
        (1, 1),
        (33, 7),
        (16, 64),
        (32, 65),
        (40, 72),
        (48, 127),
        (130, 200),
        (64, 1100),
    ] {
        let x = random.awkward(37 * inputs);
        let w: Vec<f32> = random.awkward(outputs * inputs);
        let truncated: Vec<f32> = w
            .iter()
            .map(|v| f32::from_bits(v.to_bits() & 0xffff_0000))
            .collect();
        let bias = random.values(outputs, 1.0);
        for held in [Held::F32, Held::Bf16, Held::Compact] {
            let w = if held == Held::F32 { &w } else { &truncated };
            let matrix = pack(w, outputs, inputs, held);
            let expected = reference(&x, w, inputs, Some(&bias));
            for set in InstructionSet::available() {
                for threads in [1, 2, 3, 7] {
                    let pool = Pool::new(threads);
                    for rows in [0, 1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 37] {
                        let mut out = vec![f32::NAN; rows * outputs];
                        let parts = Parts::new(rows, outputs);
                        let then = |part: Finished<'_>| parts.take(part);
                        let epilogue = Epilogue {
                            bias: Some(&bias),
                            then: Some(&then),
                            ..Epilogue::STORE
                        };
                        let x = Rows::new(&x[..rows * inputs], inputs);
                        multiply(&pool, set, x, &matrix, epilogue, &mut out);
                        parts.check(&out);
                        let alone = Epilogue {
                            then: None,
                            ..epilogue
                        };
                        let mut again = vec![f32::NAN; rows * outputs];
                        multiply(&pool, set, x, &matrix, alone, &mut again);
                        same_bits(&again, &out, "nobody after it");
                        let what = format!(
                            "{outputs}x{inputs} {held:?} {set:?} {threads} threads, {rows} rows"
                        );
                        same_bits(&out, &expected[..rows * outputs], &what);
                    }
                }
            }
        }
    }
}

/// Weights apart from the table at all kinds of places: both halves of a unit, several in one, the last unit that is
/// not full, and where many rows begin their next block.
#[test]
fn exceptions_come_where_they_belong() {
    let mut random = Random::new(11);
    let outputs = 33;
    for (inputs, everywhere) in [(13, false), (64, false), (1100, true)] {
        let base =
            |n: usize| f32::from_bits((((n % 16 + 120) << 23) | ((n * 37 % 128) << 16)) as u32);
        let mut w: Vec<f32> = (0..outputs * inputs).map(base).collect();
        let few = [
            (0, 0),
            (3, 5),
            (4, 5),
            (0, 15),
            (1, 16),
            (inputs - 1, 7),
            (511, 2),
            (512, 3),
        ];
        let all = (0..16).map(|output| (700, output)).filter(|_| everywhere);
        let places = few
            .into_iter()
            .filter(|(input, _)| *input < inputs)
            .chain(all);
        for (n, (input, output)) in places.enumerate() {
            // Exponents that occur once.
            w[output * inputs + input] = -f32::from_bits((((n + 20) << 23) | 0x15_0000) as u32);
        }
        let matrix = pack(&w, outputs, inputs, Held::Compact);
        let x = random.values(17 * inputs, 1.0);
        let expected = reference(&x, &w, inputs, None);
        for set in InstructionSet::available() {
            for rows in [1, 2, 4, 5, 17] {
                let mut out = vec![f32::NAN; rows * outputs];
                let x = Rows::new(&x[..rows * inputs], inputs);
                multiply(&Pool::new(2), set, x, &matrix, Epilogue::STORE, &mut out);
                let what = format!("{inputs} inputs, {set:?}, {rows} rows");
                same_bits(&out, &expected[..rows * outputs], &what);
            }
        }
    }
}

/// The numerics of every release: if this digest changes, answers change, and the kernel revision
/// must change with it.
#[test]
fn golden_digest() {
    let mut random = Random::new(11);
    let (outputs, inputs, rows) = (96, 896, 9);
    let x = random.awkward(rows * inputs);
    let w = random.awkward(outputs * inputs);
    let golden = [
        (Held::F32, GOLDEN_F32),
        (Held::Bf16, GOLDEN_BF16),
        (Held::Compact, GOLDEN_BF16),
    ];
    for (held, golden) in golden {
        let matrix = pack(&w, outputs, inputs, held);
        for set in InstructionSet::available() {
            let mut out = vec![0.0; rows * outputs];
            multiply(
                &Pool::new(2),
                set,
                Rows::new(&x, inputs),
                &matrix,
                Epilogue::STORE,
                &mut out,
            );
            assert_eq!(digest(&out), golden, "{held:?} on {set:?}");
        }
    }
}

const GOLDEN_F32: &str = "cca4b949551a66b5";
const GOLDEN_BF16: &str = "2e29ddada7b37cc2";

#[test]
fn accumulate_adds_to_what_is_there() {
    let mut random = Random::new(5);
    let (x, w) = (random.values(2 * 20, 1.0), random.values(24 * 20, 1.0));
    let matrix = pack(&w, 24, 20, Held::F32);
    let before = random.values(2 * 24, 1.0);
    let product = reference(&x, &w, 20, None);
    let mut out = before.clone();
    let epilogue = Epilogue::ADD;
    let set = InstructionSet::detect();
    multiply(
        &Pool::new(1),
        set,
        Rows::new(&x, 20),
        &matrix,
        epilogue,
        &mut out,
    );
    let expected: Vec<f32> = before.iter().zip(&product).map(|(a, b)| a + b).collect();
    same_bits(&out, &expected, "accumulate");
}

#[test]
fn rows_come_back_out_of_the_packing() {
    let mut random = Random::new(6);
    let w = random.values(37 * 24, 1.0);
    let matrix = pack(&w, 37, 24, Held::F32);
    let mut row = vec![0.0; 24];
    for output in 0..37 {
        matrix.unpack_row(output, &mut row);
        same_bits(&row, &w[output * 24..][..24], "row");
    }
}
