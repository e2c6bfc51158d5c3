//! The parts of a model, the unit of storage and hashing, and slices of them.

use std::fmt;
use std::ops::Range;

/// A part of a model: stored in one file, hashed as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Token (and learned position) embeddings.
    Embedding,
    /// One transformer layer, counted from zero.
    Layer(u32),
    /// The final norm, and the output head where it is not tied to the embedding.
    Head,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => f.write_str("embedding"),
            Self::Layer(index) => write!(f, "layer {index}"),
            Self::Head => f.write_str("head"),
        }
    }
}

/// A range of consecutive layers that one stage runs: with the embedding if it begins at layer 0,
/// with norm and head if it ends at the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The layers, never empty.
    pub layers: Range<u32>,
    /// How many layers the whole model has.
    pub of: u32,
}

impl Slice {
    /// The whole model as one slice.
    pub fn whole(layers: u32) -> Self {
        Self {
            layers: 0..layers,
            of: layers,
        }
    }

    /// A checked slice: not empty, inside the model.
    pub fn new(layers: Range<u32>, of: u32) -> Option<Self> {
        (layers.start < layers.end && layers.end <= of).then_some(Self { layers, of })
    }

    /// `count` slices of a model of `of` layers, as even as can be, the earlier ones longer.
    /// `None` if `count` is zero or more than `of`.
    pub fn even(of: u32, count: u32) -> Option<Vec<Self>> {
        if count == 0 || count > of {
            return None;
        }
        let (each, longer) = (of / count, of % count);
        let mut start = 0;
        let cut = |index| {
            let end = start + each + u32::from(index < longer);
            let slice = Self {
                layers: start..end,
                of,
            };
            start = end;
            slice
        };
        Some((0..count).map(cut).collect())
    }

    /// Whether the slice takes token ids.
    pub fn has_embedding(&self) -> bool {
        self.layers.start == 0
    }

    /// Whether the slice gives logits.
    pub fn has_head(&self) -> bool {
        self.layers.end == self.of
    }

    /// The parts that the slice is made of, in order. A slice with a tied head also needs the
    /// embedding's file, which is named once.
    pub fn parts(&self, tied: bool) -> Vec<Part> {
        let mut parts = Vec::new();
        if self.has_embedding() || (self.has_head() && tied) {
            parts.push(Part::Embedding);
        }
        parts.extend(self.layers.clone().map(Part::Layer));
        if self.has_head() {
            parts.push(Part::Head);
        }
        parts
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "layers {}..{} of {}",
            self.layers.start, self.layers.end, self.of
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_slices_cover_without_overlap() {
        for of in 1..40 {
            assert_eq!(Slice::even(of, 0), None);
            assert_eq!(Slice::even(of, of + 1), None);
            for count in 1..=of {
                let slices = Slice::even(of, count).expect("count is in range");
                let covered: Vec<u32> = slices.iter().flat_map(|s| s.layers.clone()).collect();
                assert_eq!(covered, (0..of).collect::<Vec<_>>());
                assert!(
                    slices
                        .iter()
                        .all(|s| Slice::new(s.layers.clone(), of).is_some())
                );
            }
        }
    }

    #[test]
    fn a_tied_head_brings_the_embedding() {
        let last = Slice {
            layers: 2..4,
            of: 4,
        };
        use Part::{Embedding, Head, Layer};
        assert_eq!(last.parts(true), [Embedding, Layer(2), Layer(3), Head]);
        assert_eq!(last.parts(false), [Layer(2), Layer(3), Head]);
        let whole = Slice::whole(1);
        assert_eq!(whole.parts(true), [Embedding, Layer(0), Head]);
    }
}
