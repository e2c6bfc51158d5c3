//! Where to cut a model: evenly, where somebody says, or by the memory of the machines.

use std::str::FromStr;

use skein_base::{ByteSize, limits};

use crate::part::{Part, Slice};

/// Why a model cannot be cut as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SliceError {
    /// The text says nothing that is understood.
    #[error(
        "{text:?} is no way to cut a model: write a count (4), first layers (6,12), \
         ranges (0-5,6-11) or the memory of each node (8GiB,4GiB)"
    )]
    Parse {
        /// The text, cut.
        text: String,
    },
    /// There are more slices than layers, or none.
    #[error("cannot make {count} slices of {layers} layers")]
    Count {
        /// How many were asked for.
        count: u32,
        /// How many layers there are.
        layers: u32,
    },
    /// The slices leave out layers, overlap, or are not in order.
    #[error("the slices must cover layers 0-{last} one after the other; {problem}")]
    Coverage {
        /// The last layer.
        last: u32,
        /// What is wrong.
        problem: String,
    },
    /// A machine cannot hold its first layer with what belongs to it.
    #[error(
        "node {node} has {budget}, but layer {layer} with all that goes with it needs {needed}"
    )]
    NodeTooSmall {
        /// Which machine, counted from 1.
        node: usize,
        /// Its memory.
        budget: ByteSize,
        /// The layer.
        layer: u32,
        /// What would be needed.
        needed: ByteSize,
    },
    /// All machines together are too small.
    #[error("the nodes together hold layers 0-{last} only, of {layers}")]
    TooLittle {
        /// The last layer that fits.
        last: u32,
        /// How many layers there are.
        layers: u32,
    },
}

/// A way to cut a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlicePlan {
    /// So many slices, as even in layers as can be.
    Even(u32),
    /// The first layer of each slice but the first, rising.
    Boundaries(Vec<u32>),
    /// First and last layer of each slice.
    Ranges(Vec<(u32, u32)>),
    /// Bytes of weights that each machine can hold, in the order of the pipeline. Memory for
    /// sessions is not counted: leave room for it.
    Budgets(Vec<ByteSize>),
}

impl FromStr for SlicePlan {
    type Err = SliceError;

    fn from_str(text: &str) -> Result<Self, SliceError> {
        let refuse = || SliceError::Parse {
            text: text.chars().take(80).collect(),
        };
        let items: Vec<&str> = text.split(',').map(str::trim).collect();
        if items.len() > limits::LAYERS_MAX as usize {
            return Err(refuse());
        }
        let numbers: Option<Vec<u32>> = items.iter().map(|item| item.parse().ok()).collect();
        if let Some(numbers) = numbers {
            return Ok(match numbers.as_slice() {
                [count] => Self::Even(*count),
                _ => Self::Boundaries(numbers),
            });
        }
        if text.contains('-') {
            let range = |item: &&str| {
                let (first, last) = item.split_once('-')?;
                Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
            };
            let ranges: Option<Vec<(u32, u32)>> = items.iter().map(range).collect();
            return ranges.map(Self::Ranges).ok_or_else(refuse);
        }
        let budgets: Option<Vec<ByteSize>> = items.iter().map(|item| item.parse().ok()).collect();
        budgets.map(Self::Budgets).ok_or_else(refuse)
    }
}

/// How much each part takes, in the format in which it will be held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartSizes {
    /// Token and position tables.
    pub embedding: u64,
    /// Each layer.
    pub layers: Vec<u64>,
    /// The last norm, and the head unless it is tied.
    pub head: u64,
    /// Whether the slice with the head needs the embedding too.
    pub tied: bool,
}

impl PartSizes {
    /// What a slice takes, a tied embedding included where it is needed.
    pub fn slice(&self, slice: &Slice) -> u64 {
        let part = |part: Part| match part {
            Part::Embedding => self.embedding,
            Part::Layer(index) => self.layers.get(index as usize).copied().unwrap_or(0),
            Part::Head => self.head,
        };
        slice
            .parts(self.tied)
            .into_iter()
            .map(part)
            .fold(0, u64::saturating_add)
    }
}

impl SlicePlan {
    /// The slices for a model of these sizes.
    pub fn resolve(&self, sizes: &PartSizes) -> Result<Vec<Slice>, SliceError> {
        let layers = sizes.layers.len() as u32;
        match self {
            Self::Even(count) => Slice::even(layers, *count).ok_or(SliceError::Count {
                count: *count,
                layers,
            }),
            Self::Boundaries(starts) => {
                let starts = starts.iter().copied().filter(|&start| start != 0);
                let mut edges: Vec<u32> = std::iter::once(0).chain(starts).collect();
                // The end of the model may be written too.
                if edges.last() != Some(&layers) {
                    edges.push(layers);
                }
                covering(edges.windows(2).map(|edge| (edge[0], edge[1])), layers)
            }
            Self::Ranges(ranges) => covering(
                ranges
                    .iter()
                    .map(|&(first, last)| (first, last.saturating_add(1))),
                layers,
            ),
            Self::Budgets(budgets) => by_budget(budgets, sizes, layers),
        }
    }
}

fn covering(
    ranges: impl Iterator<Item = (u32, u32)>,
    layers: u32,
) -> Result<Vec<Slice>, SliceError> {
    let last = layers.saturating_sub(1);
    let refuse = |problem: String| SliceError::Coverage { last, problem };
    let mut next = 0;
    let mut slices = Vec::new();
    for (start, end) in ranges {
        if start != next {
            return Err(refuse(format!(
                "a slice begins at layer {start}, not at {next}"
            )));
        }
        let slice = Slice::new(start..end, layers)
            .ok_or_else(|| refuse(format!("the slice from layer {start} ends at {end}")))?;
        slices.push(slice);
        next = end;
    }
    if next != layers {
        return Err(refuse(format!("layers from {next} on are in no slice")));
    }
    Ok(slices)
}

/// Fills one machine after the other. The last layer goes where the head fits beside it.
fn by_budget(
    budgets: &[ByteSize],
    sizes: &PartSizes,
    layers: u32,
) -> Result<Vec<Slice>, SliceError> {
    let mut slices: Vec<Slice> = Vec::new();
    let mut start = 0;
    for (index, &budget) in budgets.iter().enumerate() {
        if start == layers {
            break;
        }
        let needed = |end: u32| {
            sizes.slice(&Slice {
                layers: start..end,
                of: layers,
            })
        };
        let end = (start + 1..=layers)
            .take_while(|&end| needed(end) <= budget.0)
            .last();
        let Some(end) = end else {
            let (node, needed) = (index + 1, ByteSize(needed(start + 1)));
            return Err(SliceError::NodeTooSmall {
                node,
                budget,
                layer: start,
                needed,
            });
        };
        slices.push(Slice {
            layers: start..end,
            of: layers,
        });
        start = end;
    }
    if start == layers {
        return Ok(slices);
    }
    match start {
        0 => Err(SliceError::Count { count: 0, layers }),
        _ => Err(SliceError::TooLittle {
            last: start - 1,
            layers,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(tied: bool) -> PartSizes {
        PartSizes {
            embedding: 50,
            layers: vec![10; 6],
            head: 5,
            tied,
        }
    }

    fn cut(text: &str, tied: bool) -> Result<Vec<(u32, u32)>, SliceError> {
        let slices = text.parse::<SlicePlan>()?.resolve(&sizes(tied))?;
        Ok(slices
            .into_iter()
            .map(|slice| (slice.layers.start, slice.layers.end))
            .collect())
    }

    #[test]
    fn every_way_to_cut() {
        for (text, expected) in [
            ("1", vec![(0, 6)]),
            ("4", vec![(0, 2), (2, 4), (4, 5), (5, 6)]),
            ("2,4", vec![(0, 2), (2, 4), (4, 6)]),
            ("0,3,6", vec![(0, 3), (3, 6)]),
            ("0-0, 1-5", vec![(0, 1), (1, 6)]),
            ("70b,35b", vec![(0, 2), (2, 6)].split_off(0)),
        ] {
            match cut(text, false) {
                Ok(found) if text != "70b,35b" => assert_eq!(found, expected, "{text}"),
                // 35 bytes hold three layers, but not four with the head.
                other => assert!(
                    matches!(other, Err(SliceError::TooLittle { last: 4, .. })),
                    "{text}: {other:?}"
                ),
            }
        }
        assert_eq!(cut("70B,45B", false), Ok(vec![(0, 2), (2, 6)]));
        assert_eq!(cut("115b", true), Ok(vec![(0, 6)]));
        // A tied head brings the embedding to the last machine too.
        assert_eq!(
            cut("60b,20b,75b", true),
            Ok(vec![(0, 1), (1, 3), (3, 5)]).and(Err(SliceError::TooLittle { last: 4, layers: 6 }))
        );
        assert_eq!(cut("60b,20b,85b", true), Ok(vec![(0, 1), (1, 3), (3, 6)]));
    }

    #[test]
    fn refusals() {
        for bad in [
            "", "x", "1,x", "-1", "3-", "0", "7", "9,3", "3,3", "0-2,2-5", "0-2", "0-9",
        ] {
            assert!(cut(bad, false).is_err(), "{bad}");
        }
        let small = cut("10b", false);
        assert!(
            matches!(
                small,
                Err(SliceError::NodeTooSmall {
                    node: 1,
                    layer: 0,
                    ..
                })
            ),
            "{small:?}"
        );
    }
}
