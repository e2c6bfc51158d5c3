//! ggml's blocks that are read, not computed in: values exactly as its reference gives them
//! (`dequantize_row_*` in `ggml-quants.c`, without fused multiply-add; the same as `gguf-py`).
//!
//! Below, `d` is a block's scale and `m` its minimum, half precision both; "low" and "high" are the
//! halves of a byte.

use half::f16;

use super::StoredDtype;

/// Decodes blocks; the last may be needed in part only.
pub(super) fn decode(dtype: StoredDtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        StoredDtype::Q4_1 => blocks(bytes, out, q4_1),
        StoredDtype::Q5_0 => blocks(bytes, out, q5_0),
        StoredDtype::Q5_1 => blocks(bytes, out, q5_1),
        StoredDtype::Q2K => blocks(bytes, out, q2_k),
        StoredDtype::Q3K => blocks(bytes, out, q3_k),
        StoredDtype::Q4K => blocks(bytes, out, q4_k),
        StoredDtype::Q5K => blocks(bytes, out, q5_k),
        StoredDtype::Q6K => blocks(bytes, out, q6_k),
        StoredDtype::F32
        | StoredDtype::F16
        | StoredDtype::Bf16
        | StoredDtype::Q8_0
        | StoredDtype::Q4_0 => unreachable!("StoredDtype::decode_f32 reads these itself"),
    }
}

fn blocks<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    let mut values = [0.0; VALUES];
    for (block, out) in bytes.as_chunks().0.iter().zip(out.chunks_mut(VALUES)) {
        decode(block, &mut values);
        out.copy_from_slice(&values[..out.len()]);
    }
}

fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Value `index` of 32 in half-bytes: the low halves first.
fn nibble(quants: &[u8], index: usize) -> u8 {
    (quants[index % 16] >> (4 * (index / 16))) & 15
}

/// Bit `index` of 32.
fn bit(bits: &[u8], index: usize) -> u8 {
    (bits[index / 8] >> (index % 8)) & 1
}

/// `d`, `m`, 32 half-bytes.
fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (index, out) in out.iter_mut().enumerate() {
        *out = d * f32::from(nibble(&block[4..], index)) + m;
    }
}

/// `d`, 32 fifth bits, 32 half-bytes.
fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for (index, out) in out.iter_mut().enumerate() {
        let quant = nibble(&block[6..], index) | bit(&block[2..], index) << 4;
        *out = d * (f32::from(quant) - 16.0);
    }
}

/// `d`, `m`, 32 fifth bits, 32 half-bytes.
fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (index, out) in out.iter_mut().enumerate() {
        let quant = nibble(&block[8..], index) | bit(&block[4..], index) << 4;
        *out = d * f32::from(quant) + m;
    }
}

/// Where value `index` of 256 has its two bits: which byte of 64, and how far up in it.
fn pair_of_bits(index: usize) -> (usize, usize) {
    (index / 128 * 32 + index % 32, index % 128 / 32 * 2)
}

/// 16 bytes (scale low, minimum high), 256 pairs of bits, `d`, `m`.
fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (d, m) = (half(block, 80), half(block, 82));
    for (index, out) in out.iter_mut().enumerate() {
        let (byte, shift) = pair_of_bits(index);
        let quant = (block[16 + byte] >> shift) & 3;
        let both = block[index / 16];
        *out = d * f32::from(both & 15) * f32::from(quant) - m * f32::from(both >> 4);
    }
}

/// 256 third bits, 256 pairs of bits, 16 scales of six bits in 12 bytes, `d`. A third bit that is *not*
/// set takes 4 away.
fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = half(block, 108);
    let scales = &block[96..108];
    for (index, out) in out.iter_mut().enumerate() {
        let (byte, shift) = pair_of_bits(index);
        let quant = (block[32 + byte] >> shift) & 3;
        let third = (block[index % 32] >> (index / 32)) & 1;
        let group = index / 16;
        let low = (scales[group % 8] >> (4 * (group / 8))) & 15;
        let high = (scales[8 + group % 4] >> (2 * (group / 4))) & 3;
        let scale = f32::from(low | high << 4) - 32.0;
        *out = d * scale * (f32::from(quant) - 4.0 * f32::from(1 - third));
    }
}

/// Scale and minimum number `group` of 8, six bits each, in 12 bytes.
fn scale_and_minimum(scales: &[u8], group: usize) -> (f32, f32) {
    let (scale, minimum) = if group < 4 {
        (scales[group] & 63, scales[group + 4] & 63)
    } else {
        let (low, pair) = (scales[group + 4], [scales[group - 4], scales[group]]);
        ((low & 15) | pair[0] >> 6 << 4, low >> 4 | pair[1] >> 6 << 4)
    };
    (f32::from(scale), f32::from(minimum))
}

/// Value `index` of 256 in half-bytes: 32 low ones, then the 32 high ones of the same bytes.
fn nibble_of_256(quants: &[u8], index: usize) -> u8 {
    (quants[index / 64 * 32 + index % 32] >> (index % 64 / 32 * 4)) & 15
}

/// `d`, `m`, scales and minima, 256 half-bytes.
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(&block[4..16], group);
        for (index, out) in (32 * group..).zip(out) {
            let quant = nibble_of_256(&block[16..], index);
            *out = d * scale * f32::from(quant) - m * minimum;
        }
    }
}

/// `d`, `m`, scales and minima, 256 fifth bits, 256 half-bytes.
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(&block[4..16], group);
        for (index, out) in (32 * group..).zip(out) {
            let fifth = (block[16 + index % 32] >> group) & 1;
            let quant = nibble_of_256(&block[48..], index) | fifth << 4;
            *out = d * scale * f32::from(quant) - m * minimum;
        }
    }
}

/// 256 half-bytes, 256 pairs of upper bits, 16 signed scales, `d`.
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half(block, 208);
    for (index, out) in out.iter_mut().enumerate() {
        let (byte, shift) = pair_of_bits(index);
        let upper = (block[128 + byte] >> shift) & 3;
        // In each half of 128 values: 64 low ones, then the 64 high ones of the same bytes.
        let low = block[index / 128 * 64 + index % 64] >> (index % 128 / 64 * 4) & 15;
        let scale = f32::from(block[192 + index / 16] as i8);
        *out = d * scale * (f32::from(low | upper << 4) - 32.0);
    }
}
