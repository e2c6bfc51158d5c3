//! Elementary functions of our own, so that every machine computes the same bits.
//!
//! The platform's `exp`, `sin` or `pow` may differ in the last bit between C libraries; these use
//! nothing but IEEE 754 operations in a fixed order. [`exp`] is the scalar twin of the vector code
//! in `skein-model`: both perform the same operations lane by lane. Errors are stated in units in
//! the last place (ulp) and checked against the platform's double precision by the tests.

/// Adding and subtracting `1.5 * 2^23` rounds a small `f32` to an integer, ties to even.
pub const ROUND_MAGIC: f32 = 12_582_912.0;
/// Arguments of [`exp`] below this give zero.
pub const EXP_LOW: f32 = -104.0;
/// Arguments of [`exp`] above this give infinity.
pub const EXP_HIGH: f32 = 89.0;
/// High part of the natural logarithm of 2: few enough bits that a product with an exponent is
/// exact.
pub const LN2_HIGH: f32 = 0.693_359_4;
/// What [`LN2_HIGH`] lacks.
pub const LN2_LOW: f32 = -2.121_944_4e-4;
/// Minimax coefficients of `(exp(r) - 1 - r) / r^2` on `|r| <= ln(2) / 2`, highest power first
/// (Cephes, `expf`).
pub const EXP_POLYNOMIAL: [f32; 6] = [
    1.987_569_1e-4,
    1.398_199_9e-3,
    8.333_452e-3,
    4.166_579_6e-2,
    1.666_666_5e-1,
    5.0e-1,
];

/// `e^x` in single precision, within 1 ulp where the result is normal; gradual underflow, infinity
/// above 88.72, NaN for NaN.
///
/// The reference for every vector implementation: clamp, `n = round(x log2 e)`, two-step
/// reduction, polynomial in Horner's scheme, two exact-but-the-last multiplications by powers of 2.
#[inline]
pub fn exp(x: f32) -> f32 {
    let x = if EXP_LOW > x { EXP_LOW } else { x };
    let x = if EXP_HIGH < x { EXP_HIGH } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND_MAGIC);
    let n = shifted - ROUND_MAGIC;
    let r = n.mul_add(-LN2_HIGH, x);
    let r = n.mul_add(-LN2_LOW, r);
    let [first, rest @ ..] = EXP_POLYNOMIAL;
    let p = rest.iter().fold(first, |p, &c| p.mul_add(r, c));
    let y = p.mul_add(r * r, r) + 1.0;
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND_MAGIC.to_bits() as i32);
    let half = exponent >> 1;
    y * power_of_two(half) * power_of_two(exponent.wrapping_sub(half))
}

/// `2^n` for `n` in -126..=127; other `n` give bits without meaning, which [`exp`] only meets
/// for NaN.
#[inline]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `x / (1 + e^-x)`, the activation of gated feed-forward layers.
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `tanh`, as `1 - 2 / (e^2x + 1)`: absolute error under 2e-7.
pub fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(x + x) + 1.0)
}

/// `sqrt(2 / pi)`, of [`gelu_tanh`].
pub const GELU_SCALE: f32 = 0.797_884_6;
/// The cubic coefficient of [`gelu_tanh`].
pub const GELU_CUBIC: f32 = 0.044_715;

/// GELU in its tanh form, as GPT-2 uses it.
pub fn gelu_tanh(x: f32) -> f32 {
    let inner = GELU_SCALE * (GELU_CUBIC * x * x * x + x);
    0.5 * x * (1.0 + tanh(inner))
}

/// `e^x` in double precision, within 2 ulp where the result is normal.
pub fn exp64(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x > 709.79 {
        return f64::INFINITY;
    }
    if x < -745.2 {
        return 0.0;
    }
    const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let n = (x * std::f64::consts::LOG2_E).round_ties_even();
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    // Taylor: |r| <= 0.347, and 0.347^14 / 14! < 5e-18.
    let mut sum = 1.0;
    for k in (1..=13).rev() {
        sum = 1.0 + sum * r / f64::from(k);
    }
    let n = n as i32;
    let half = n / 2;
    let scale = |n: i32| f64::from_bits(((n + 1023) as u64) << 52);
    sum * scale(half) * scale(n - half)
}

/// The natural logarithm in double precision, within 2 ulp away from 1; minus infinity at zero,
/// NaN below.
pub fn ln64(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x.is_infinite() {
        return x;
    }
    const TWO_54: f64 = 18_014_398_509_481_984.0;
    let (x, bias) = if x < f64::MIN_POSITIVE {
        (x * TWO_54, 54)
    } else {
        (x, 0)
    };
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) as i64) - 1023 - bias;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 atanh s with s = (m - 1) / (m + 1), |s| <= 0.172: s^24 / 25 < 2e-20.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for k in (0..=11).rev() {
        sum = sum * square + 1.0 / f64::from(2 * k + 1);
    }
    const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let e = exponent as f64;
    e * LN2_HIGH + (2.0 * s * sum + e * LN2_LOW)
}

/// `base^exponent` for positive `base`, in double precision, relative error under
/// `1e-15 * (1 + |exponent * ln(base)|)`.
pub fn pow64(base: f64, exponent: f64) -> f64 {
    exp64(exponent * ln64(base))
}

/// Sine and cosine in double precision, absolute error under 1e-15 for `|x| < 2^20`.
pub fn sin_cos64(x: f64) -> (f64, f64) {
    // pi / 2 in three parts of 33 bits, so that products with n < 2^20 are exact (fdlibm).
    const PART_1: f64 = 1.570_796_326_734_125_6;
    const PART_2: f64 = 6.077_100_506_303_966e-11;
    const PART_3: f64 = 2.022_266_248_795_950_6e-21;
    let n = (x * std::f64::consts::FRAC_2_PI).round_ties_even();
    let r = ((x - n * PART_1) - n * PART_2) - n * PART_3;
    let square = r * r;
    // Taylor: |r| <= 0.786, and 0.786^17 / 17! < 5e-17.
    let (mut sine, mut cosine) = (1.0, 1.0);
    for k in (1..=8).rev() {
        let k = f64::from(k);
        sine = 1.0 - sine * square / ((2.0 * k) * (2.0 * k + 1.0));
        cosine = 1.0 - cosine * square / ((2.0 * k - 1.0) * (2.0 * k));
    }
    sine *= r;
    match (n as i64).rem_euclid(4) {
        0 => (sine, cosine),
        1 => (cosine, -sine),
        2 => (-sine, -cosine),
        _ => (-cosine, sine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance in units in the last place of `exact`.
    fn ulps(found: f32, exact: f64) -> f64 {
        let near = exact as f32;
        let next = f32::from_bits(near.to_bits() + 1);
        (f64::from(found) - exact).abs() / f64::from(next - near)
    }

    #[test]
    fn exp_is_within_one_ulp() {
        let mut worst: f64 = 0.0;
        let mut x = -87.3f32;
        while x < 88.7 {
            worst = worst.max(ulps(exp(x), f64::from(x).exp()));
            x += 1.7e-4;
        }
        assert!(worst < 1.0, "worst error {worst} ulp");
    }

    #[test]
    fn exp_at_its_edges() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e9), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert!((exp(-100.0) - 3.72e-44).abs() < 3e-45, "gradual underflow");
    }

    #[test]
    fn double_precision_functions_agree_with_the_platform() {
        let mut x = 1e-6f64;
        while x < 5e5 {
            let (sine, cosine) = sin_cos64(x);
            assert!(
                (sine - x.sin()).abs() < 1e-14 && (cosine - x.cos()).abs() < 1e-14,
                "{x}"
            );
            let (sine, _) = sin_cos64(-x);
            assert!((sine + x.sin()).abs() < 1e-14, "-{x}");
            assert!(
                (ln64(x) - x.ln()).abs() <= 4e-16 * x.ln().abs().max(1.0),
                "ln {x}"
            );
            let y = x % 700.0;
            assert!((exp64(y) / y.exp() - 1.0).abs() < 5e-16, "exp {y}");
            assert!((exp64(-y) / (-y).exp() - 1.0).abs() < 5e-16, "exp -{y}");
            x *= 1.0137;
        }
        assert!((pow64(10_000.0, -0.75) - 1e-3).abs() < 1e-17);
        assert_eq!(ln64(0.0), f64::NEG_INFINITY);
        assert!(ln64(-1.0).is_nan());
        assert!((ln64(5e-324) + 744.440_071_921_381_2).abs() < 1e-12);
        assert_eq!(exp64(-800.0), 0.0);
        assert_eq!(exp64(800.0), f64::INFINITY);
    }

    #[test]
    fn activations_agree_with_double_precision() {
        let mut x = -20.0f32;
        while x < 20.0 {
            let wide = f64::from(x);
            assert!((f64::from(tanh(x)) - wide.tanh()).abs() < 2e-7, "tanh {x}");
            let exact = wide / (1.0 + (-wide).exp());
            assert!(
                (f64::from(silu(x)) - exact).abs() < 1e-6 * exact.abs().max(1.0),
                "silu {x}"
            );
            x += 0.013;
        }
    }
}
