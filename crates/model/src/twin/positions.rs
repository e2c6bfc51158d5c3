//! Where tokens stand: rows, documents in them, and the rotary angles of positions.

use skein_weights::Profile;
use skein_weights::profile::Positions;

use crate::rope;

/// Why positions make no rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowsError {
    /// There are no positions, or the last row is not full.
    #[error("{positions} positions make no rows of {width}")]
    Ragged {
        /// How many positions there are.
        positions: usize,
        /// How many a row has.
        width: usize,
    },
    /// A position neither follows the one before it in its row nor begins a document.
    #[error("position {found} at place {place} of row {row}: {expected} or 0 can stand there")]
    Gap {
        /// The row.
        row: usize,
        /// The place in the row.
        place: usize,
        /// What stands there.
        found: u32,
        /// What would go on.
        expected: u32,
    },
}

/// Rows of equal width, each of one document or several, one after another: a token sees those
/// before it in its own document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    width: usize,
    /// Position of each token in its document, row after row.
    positions: Vec<u32>,
}

impl Rows {
    /// One row of one document.
    ///
    /// # Errors
    /// If it has no token.
    pub fn single(width: usize) -> Result<Self, RowsError> {
        Self::new(width, (0..width as u32).collect())
    }

    /// Rows of `width` tokens: `positions` counts from zero in each document, row after row.
    pub fn new(width: usize, positions: Vec<u32>) -> Result<Self, RowsError> {
        if positions.is_empty() || width == 0 || !positions.len().is_multiple_of(width) {
            return Err(RowsError::Ragged {
                positions: positions.len(),
                width,
            });
        }
        for (row, line) in positions.chunks_exact(width).enumerate() {
            let mut expected = 0;
            for (place, &found) in line.iter().enumerate() {
                if found != expected && found != 0 {
                    return Err(RowsError::Gap {
                        row,
                        place,
                        found,
                        expected,
                    });
                }
                expected = found + 1;
            }
        }
        Ok(Self { width, positions })
    }

    /// How many rows there are.
    pub fn count(&self) -> usize {
        self.positions.len() / self.width
    }

    /// How many tokens a row has.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Position of each token in its document, row after row.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// The length of the longest document.
    pub(crate) fn longest(&self) -> usize {
        let last = self.positions.iter().max();
        last.map_or(0, |&last| last as usize + 1)
    }

    /// Position of the token at place `at` of `row` in its document.
    pub(crate) fn position(&self, row: usize, at: usize) -> usize {
        self.positions[row * self.width + at] as usize
    }

    /// The place in `row` at which the document of place `at` begins.
    pub(crate) fn document_start(&self, row: usize, at: usize) -> usize {
        at - self.position(row, at)
    }
}

/// Cosines and sines of positions.
#[derive(Debug)]
pub(crate) struct Rotary {
    half: usize,
    /// `[positions][half]`.
    angles: Vec<(f32, f32)>,
}

impl Rotary {
    /// The angles of positions `0..n`; `None` if positions enter otherwise.
    pub(super) fn new(profile: &Profile, n: usize) -> Option<Self> {
        let Positions::Rope { theta, scaling } = &profile.positions else {
            return None;
        };
        let frequencies = rope::frequencies(profile.head_dim as usize, *theta, scaling);
        let half = frequencies.len();
        let mut angles = vec![(0.0, 0.0); n * half];
        for (position, angles) in angles.chunks_exact_mut(half).enumerate() {
            rope::angles(&frequencies, position, angles);
        }
        Some(Self { half, angles })
    }

    /// Cosine and sine of each pair of a head at `position`.
    pub(crate) fn at(&self, position: usize) -> &[(f32, f32)] {
        &self.angles[position * self.half..][..self.half]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_follow_one_another() {
        let rows = Rows::new(4, vec![0, 1, 2, 0, 0, 0, 1, 2]).unwrap();
        assert_eq!((rows.count(), rows.width(), rows.longest()), (2, 4, 3));
        let starts = |row| (0..4).map(|at| rows.document_start(row, at)).collect();
        let [first, second]: [Vec<usize>; 2] = [starts(0), starts(1)];
        assert_eq!((first, second), (vec![0, 0, 0, 3], vec![0, 1, 1, 1]));
    }

    #[test]
    fn other_positions_are_refused() {
        assert!(matches!(Rows::single(0), Err(RowsError::Ragged { .. })));
        for (width, positions) in [(0, vec![0]), (2, vec![]), (2, vec![0, 1, 0])] {
            let error = Rows::new(width, positions).unwrap_err();
            assert!(matches!(error, RowsError::Ragged { .. }));
        }
        for positions in [vec![1, 2], vec![0, 2], vec![0, 1, 2, 3]] {
            let error = Rows::new(2, positions).unwrap_err();
            assert!(matches!(error, RowsError::Gap { .. }), "{error}");
        }
    }
}
