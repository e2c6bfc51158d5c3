//! Who holds which layers.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use skein_base::NodeId;

/// A stage that somebody runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageRecord {
    /// Who.
    pub node: NodeId,
    /// The layers that it holds.
    pub layers: Range<u32>,
}

/// Knows stages. What it says is a hint: whoever does not answer is left.
pub trait Directory: fmt::Debug + Send {
    /// The stages of the model, as far as known now.
    fn stages(&self) -> Vec<StageRecord>;
}

/// A list from the configuration.
#[derive(Debug, Clone, Default)]
pub struct StaticDirectory(
    /// The stages.
    pub Vec<StageRecord>,
);

impl Directory for StaticDirectory {
    fn stages(&self) -> Vec<StageRecord> {
        self.0.clone()
    }
}

/// The way through the layers `0..layers` with the least sum of `cost`; `None` leaves a stage out.
/// Among equals the one whose nodes come first.
///
/// Slices must meet exactly: a stage runs all its layers or none.
pub fn cheapest(
    stages: &[StageRecord],
    layers: u32,
    cost: impl Fn(&NodeId) -> Option<u64>,
) -> Option<Vec<StageRecord>> {
    // From the end: the best way from a layer on is one stage and the best way from its end on.
    let mut best: BTreeMap<u32, (u64, Vec<&StageRecord>)> = BTreeMap::new();
    best.insert(layers, (0, Vec::new()));
    let mut order: Vec<_> = stages
        .iter()
        .filter(|stage| !stage.layers.is_empty())
        .collect();
    order.sort_by_key(|stage| (std::cmp::Reverse(stage.layers.start), stage.node));
    for stage in order {
        let Some(own) = cost(&stage.node) else {
            continue;
        };
        let Some((rest, way)) = best.get(&stage.layers.end) else {
            continue;
        };
        let total = own.saturating_add(*rest);
        let way: Vec<_> = std::iter::once(stage).chain(way.iter().copied()).collect();
        let known = best.get(&stage.layers.start);
        if known.is_none_or(|(known, _)| total < *known) {
            best.insert(stage.layers.start, (total, way));
        }
    }
    let (_, way) = best.remove(&0)?;
    Some(way.into_iter().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(node: u8, layers: Range<u32>) -> StageRecord {
        StageRecord {
            node: NodeId([node; 32]),
            layers,
        }
    }

    fn nodes(way: Option<Vec<StageRecord>>) -> Option<Vec<u8>> {
        way.map(|way| way.iter().map(|stage| stage.node.0[0]).collect())
    }

    #[test]
    fn the_cheapest_whole_way_is_taken() {
        let stages = [
            stage(1, 0..4),
            stage(2, 4..8),
            stage(3, 0..4),
            stage(4, 4..8),
            stage(5, 0..8),
            stage(6, 2..8),
        ];
        let cost = |free: &'static [u8]| {
            move |node: &NodeId| Some(if free.contains(&node.0[0]) { 0 } else { 3 })
        };
        assert_eq!(nodes(cheapest(&stages, 8, cost(&[3, 4]))), Some(vec![3, 4]));
        assert_eq!(nodes(cheapest(&stages, 8, cost(&[]))), Some(vec![5]));
        let without = |node: &NodeId| (node.0[0] != 5 && node.0[0] != 1).then_some(1);
        assert_eq!(nodes(cheapest(&stages, 8, without)), Some(vec![3, 2]));
        let hole = |node: &NodeId| (node.0[0] != 5 && node.0[0] % 2 == 1).then_some(1);
        assert_eq!(nodes(cheapest(&stages, 8, hole)), None);
        assert_eq!(nodes(cheapest(&stages, 9, cost(&[]))), None);
    }
}
