//! ggml's tensor types.

use std::fmt;

use crate::stored::StoredDtype;

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

    /// The type, where it is served.
    pub(super) fn served(self) -> Option<StoredDtype> {
        Some(match self.name {
            "F32" => StoredDtype::F32,
            "F16" => StoredDtype::F16,
            "BF16" => StoredDtype::Bf16,
            "Q8_0" => StoredDtype::Q8_0,
            "Q4_0" => StoredDtype::Q4_0,
            "Q4_1" => StoredDtype::Q4_1,
            "Q5_0" => StoredDtype::Q5_0,
            "Q5_1" => StoredDtype::Q5_1,
            "Q2_K" => StoredDtype::Q2K,
            "Q3_K" => StoredDtype::Q3K,
            "Q4_K" => StoredDtype::Q4K,
            "Q5_K" => StoredDtype::Q5K,
            "Q6_K" => StoredDtype::Q6K,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_by_its_number_and_sizes_agree() {
        for known in TYPES {
            assert_eq!(GgmlType::of_id(known.id), Some(known));
            if let Some(stored) = known.served() {
                assert_eq!(stored.row_bytes(known.block), known.bytes);
                assert_eq!(stored.row_bytes(known.block + 1) / 2, known.bytes);
                assert_eq!(stored.to_string(), known.name.to_lowercase());
            }
        }
        assert_eq!(GgmlType::of_id(4), None);
    }
}
