//! What one forward and backward pass runs over.

use crate::twin::Rows;

/// Rows of tokens, and the tokens to be learned from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    rows: Rows,
    ids: Vec<u32>,
    targets: Vec<(usize, u32)>,
}

/// Why tokens make no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Not one id for each position.
    #[error("{found} token ids for {expected} positions")]
    Ids {
        /// Ids given.
        found: usize,
        /// Positions.
        expected: usize,
    },
    /// Two targets of one position, or out of order.
    #[error("the target of position {place} is out of order: each comes once, in order")]
    Order {
        /// The position.
        place: usize,
    },
    /// A target beyond the last position.
    #[error("a target follows position {place}, there are {positions}")]
    Target {
        /// The position.
        place: usize,
        /// How many there are.
        positions: usize,
    },
}

impl Batch {
    /// `ids` has one id for each position of `rows`. `targets` lists positions, counted over all
    /// rows, in their order, and the id to be predicted there; positions without one teach nothing.
    pub fn new(rows: Rows, ids: Vec<u32>, targets: Vec<(usize, u32)>) -> Result<Self, BatchError> {
        let positions = rows.positions().len();
        if ids.len() != positions {
            return Err(BatchError::Ids {
                found: ids.len(),
                expected: positions,
            });
        }
        if let Some(pair) = targets.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            return Err(BatchError::Order { place: pair[1].0 });
        }
        if let Some(&(place, _)) = targets.iter().find(|(place, _)| *place >= positions) {
            return Err(BatchError::Target { place, positions });
        }
        Ok(Self { rows, ids, targets })
    }

    /// Where tokens stand.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The ids, row after row.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Positions and the ids to be predicted there.
    pub fn targets(&self) -> &[(usize, u32)] {
        &self.targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_come_once_each_in_order() {
        let batch = |targets: &[(usize, u32)]| {
            let rows = Rows::new(3, vec![0, 1, 2]).unwrap();
            Batch::new(rows, vec![5, 6, 7], targets.to_vec()).map(|batch| batch.targets().len())
        };
        assert_eq!(batch(&[(0, 6), (2, 8)]), Ok(2));
        assert_eq!(batch(&[]), Ok(0));
        for (targets, place) in [([(1, 6), (1, 7)], 1), ([(2, 6), (0, 7)], 0)] {
            assert_eq!(batch(&targets), Err(BatchError::Order { place }));
        }
        let (place, positions) = (3, 3);
        let beyond = Err(BatchError::Target { place, positions });
        assert_eq!(batch(&[(0, 1), (3, 8)]), beyond);
    }
}
