//! What instruction sets do in their own way, against portable code.

use super::*;

const COUNT: usize = 2 * LANES;

#[derive(Debug, Default, PartialEq)]
struct Reduced {
    sum: u32,
    largest: u32,
    magnitude: u32,
    one: [i8; LANES],
    bytes: [i8; COUNT],
    total: i32,
}

dispatch! {
    /// # Safety
    /// `set` is available.
    unsafe fn reduce = reduce_body(values: &[f32; COUNT], out: &mut Reduced)
}

#[inline(always)]
unsafe fn reduce_body<L: Lanes>(values: &[f32; COUNT], out: &mut Reduced) {
    // SAFETY: the caller's; arrays of whole lanes.
    unsafe {
        let low = L::load(values.as_ptr());
        let high = L::load(values.as_ptr().add(LANES));
        out.sum = low.tree_sum().to_bits();
        out.largest = low.largest().to_bits();
        out.magnitude = low.largest_magnitude(high).to_bits();
        low.store_rounded(out.one.as_mut_ptr());
        out.total = low.store_rounded_pair(high, out.bytes.as_mut_ptr());
    }
}

fn same_everywhere(values: &[f32; COUNT], rounds: bool) {
    let reduced = |set| {
        let mut out = Reduced::default();
        // SAFETY: the set is available.
        unsafe { reduce(set, values, &mut out) };
        if !rounds {
            // Any bytes are right.
            out = Reduced {
                one: [0; LANES],
                bytes: [0; COUNT],
                total: 0,
                ..out
            };
        }
        out
    };
    let expected = reduced(InstructionSet::Scalar);
    for set in InstructionSet::available() {
        assert_eq!(reduced(set), expected, "{set:?}: {values:?}");
    }
}

#[test]
fn halves_are_joined_in_one_order() {
    // Any other order gives another sum.
    let mut values = [0.0; COUNT];
    for (lane, value) in values.iter_mut().enumerate() {
        *value = [1e8, 1.0, -1e8, 3.7, 1e-3, -2.5e7, 0.1, 9.0][lane * 5 % 8] * (lane as f32 - 7.3);
    }
    same_everywhere(&values, false);
    // Zeros of both signs: the lower lane wins.
    for (low, high) in [(-0.0, 0.0), (0.0, -0.0)] {
        let mut values = [-1.0; COUNT];
        (values[0], values[8]) = (low, high);
        same_everywhere(&values, true);
    }
    same_everywhere(&[f32::NEG_INFINITY; COUNT], false);
}

#[test]
fn the_largest_is_found_in_every_lane() {
    for lane in 0..COUNT {
        for most in [5.0, -5.0, f32::INFINITY, f32::NEG_INFINITY, 1e-45] {
            let mut values = [0.0; COUNT];
            values[lane] = most;
            same_everywhere(&values, most.is_finite());
            let mut out = Reduced::default();
            // SAFETY: portable code.
            unsafe { reduce(InstructionSet::Scalar, &values, &mut out) };
            assert_eq!(f32::from_bits(out.magnitude), most.abs(), "lane {lane}");
        }
        let mut values = [1.0; COUNT];
        values[lane] = f32::NAN;
        for set in InstructionSet::available() {
            let mut out = Reduced::default();
            // SAFETY: the set is available.
            unsafe { reduce(set, &values, &mut out) };
            assert!(
                f32::from_bits(out.magnitude).is_nan(),
                "{set:?} lane {lane}"
            );
        }
    }
}

#[test]
fn bytes_are_rounded_to_the_nearest_and_ties_to_even() {
    let cases = [
        0.5,
        -0.5,
        1.5,
        -1.5,
        2.5,
        -2.5,
        126.5,
        -126.5,
        127.0,
        -127.0,
        127.49,
        -127.49,
        -0.0,
        1e-40,
        0.499_999_97,
        3.2,
    ];
    let expected = [
        0, 0, 2, -2, 2, -2, 126, -126, 127, -127, 127, -127, 0, 0, 0, 3,
    ];
    let mut values = [7.0; COUNT];
    values[..LANES].copy_from_slice(&cases);
    same_everywhere(&values, true);
    let mut out = Reduced::default();
    // SAFETY: portable code.
    unsafe { reduce(InstructionSet::Scalar, &values, &mut out) };
    assert_eq!(out.one, expected);
    assert_eq!(out.bytes[..LANES], expected);
    let sum: i32 = expected.into_iter().map(i32::from).sum();
    assert_eq!(out.total, sum + 7 * LANES as i32);
}
