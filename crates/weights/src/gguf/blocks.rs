//! ggml's tensor types and how their blocks are read.

use std::fmt;

use half::{bf16, f16};

/// A tensor type of ggml: how many elements make a block and how many bytes it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GgmlType {
    /// ggml's number of the type.
    pub id: u32,
    /// ggml's name of the type.
    pub name: &'static str,
    /// Elements of one block.
    pub block: u64,
    /// Bytes of one block.
    pub bytes: u64,
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

const fn ggml(id: u32, name: &'static str, block: u64, bytes: u64) -> GgmlType {
    GgmlType {
        id,
        name,
        block,
        bytes,
    }
}

/// The types that ggml has (its `gguf-py` package, `GGML_QUANT_SIZES`).
const TYPES: [GgmlType; 34] = [
    ggml(0, "F32", 1, 4),
    ggml(1, "F16", 1, 2),
    ggml(2, "Q4_0", 32, 18),
    ggml(3, "Q4_1", 32, 20),
    ggml(6, "Q5_0", 32, 22),
    ggml(7, "Q5_1", 32, 24),
    ggml(8, "Q8_0", 32, 34),
    ggml(9, "Q8_1", 32, 40),
    ggml(10, "Q2_K", 256, 84),
    ggml(11, "Q3_K", 256, 110),
    ggml(12, "Q4_K", 256, 144),
    ggml(13, "Q5_K", 256, 176),
    ggml(14, "Q6_K", 256, 210),
    ggml(15, "Q8_K", 256, 292),
    ggml(16, "IQ2_XXS", 256, 66),
    ggml(17, "IQ2_XS", 256, 74),
    ggml(18, "IQ3_XXS", 256, 98),
    ggml(19, "IQ1_S", 256, 50),
    ggml(20, "IQ4_NL", 32, 18),
    ggml(21, "IQ3_S", 256, 110),
    ggml(22, "IQ2_S", 256, 82),
    ggml(23, "IQ4_XS", 256, 136),
    ggml(24, "I8", 1, 1),
    ggml(25, "I16", 1, 2),
    ggml(26, "I32", 1, 4),
    ggml(27, "I64", 1, 8),
    ggml(28, "F64", 1, 8),
    ggml(29, "IQ1_M", 256, 56),
    ggml(30, "BF16", 1, 2),
    ggml(34, "TQ1_0", 256, 54),
    ggml(35, "TQ2_0", 256, 66),
    ggml(39, "MXFP4", 32, 17),
    ggml(40, "NVFP4", 64, 36),
    ggml(41, "Q1_0", 128, 18),
];

impl GgmlType {
    /// The type of ggml's number `id`, if it is known.
    pub fn of_id(id: u32) -> Option<Self> {
        TYPES.into_iter().find(|known| known.id == id)
    }

    /// The format, where it is served.
    pub(super) fn served(self) -> Option<Format> {
        match self.name {
            "F32" => Some(Format::F32),
            "F16" => Some(Format::F16),
            "BF16" => Some(Format::Bf16),
            "Q8_0" => Some(Format::Q8_0),
            "Q4_0" => Some(Format::Q4_0),
            _ => None,
        }
    }
}

/// A tensor type that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    F32,
    F16,
    Bf16,
    Q8_0,
    Q4_0,
}

/// Elements of a block of `Q8_0` and `Q4_0`.
const QUANTISED: usize = 32;

impl Format {
    /// Bytes of `elements` values, which are whole blocks.
    pub(super) fn bytes(self, elements: usize) -> usize {
        match self {
            Self::F32 => elements * 4,
            Self::F16 | Self::Bf16 => elements * 2,
            Self::Q8_0 => elements / QUANTISED * 34,
            Self::Q4_0 => elements / QUANTISED * 18,
        }
    }

    /// Decodes whole blocks, exactly: a product of an 11-bit and an 8-bit mantissa fits `f32`.
    pub(super) fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => each(bytes, out, f32::from_le_bytes),
            Self::F16 => each(bytes, out, |pair| f16::from_le_bytes(pair).to_f32()),
            Self::Bf16 => each(bytes, out, |pair| bf16::from_le_bytes(pair).to_f32()),
            Self::Q8_0 => blocks(bytes, out, 34, |scale, quants, out| {
                for (out, &quant) in out.iter_mut().zip(quants) {
                    *out = scale * f32::from(quant as i8);
                }
            }),
            Self::Q4_0 => blocks(bytes, out, 18, |scale, quants, out| {
                let (low, high) = out.split_at_mut(QUANTISED / 2);
                for ((low, high), &quant) in low.iter_mut().zip(high).zip(quants) {
                    *low = scale * (f32::from(quant & 15) - 8.0);
                    *high = scale * (f32::from(quant >> 4) - 8.0);
                }
            }),
        }
    }
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], decode: impl Fn([u8; N]) -> f32) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *out = decode(*bytes);
    }
}

fn blocks(bytes: &[u8], out: &mut [f32], size: usize, decode: impl Fn(f32, &[u8], &mut [f32])) {
    for (block, out) in bytes
        .chunks_exact(size)
        .zip(out.chunks_exact_mut(QUANTISED))
    {
        let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
        decode(scale, &block[2..], out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_decode_as_ggml_does() {
        // Worked out by hand: scale 0.5, quants -16..16 as bytes.
        let mut block = f16::from_f32(0.5).to_le_bytes().to_vec();
        block.extend((-16i8..16).map(|quant| quant as u8));
        let mut out = [0.0; 32];
        Format::Q8_0.decode(&block, &mut out);
        assert_eq!(
            out.to_vec(),
            (-16..16).map(|q| q as f32 * 0.5).collect::<Vec<_>>()
        );

        // Scale -2; low nibbles count up, high nibbles are 15.
        let mut block = f16::from_f32(-2.0).to_le_bytes().to_vec();
        block.extend((0u8..16).map(|quant| quant | 0xf0));
        Format::Q4_0.decode(&block, &mut out);
        assert_eq!(
            out[..16].to_vec(),
            (0..16).map(|q| (q - 8) as f32 * -2.0).collect::<Vec<_>>()
        );
        assert!(out[16..].iter().all(|&x| x == -14.0));
    }

    #[test]
    fn every_type_is_found_by_its_number_and_sizes_agree() {
        for known in TYPES {
            assert_eq!(GgmlType::of_id(known.id), Some(known));
            if let Some(format) = known.served() {
                assert_eq!(format.bytes(known.block as usize) as u64, known.bytes);
            }
        }
        assert_eq!(GgmlType::of_id(4), None);
    }
}
