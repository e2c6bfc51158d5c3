//! Batches of samples, in an order drawn from a seed.

use super::pack::{Piece, pack};
use super::{Batch, BatchError};
use crate::random::{Purpose, Random, derive};
use crate::twin::{Rows, RowsError};

/// What stands where a row has no more pieces: any id, since nothing is learned from it.
const PADDING: u32 = 0;

/// One text or conversation as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    ids: Vec<u32>,
    /// For each token, whether it is to be predicted.
    learn: Vec<bool>,
}

impl Sample {
    /// A sample of whose tokens all but the first are to be predicted.
    pub fn text(ids: Vec<u32>) -> Self {
        let learn = vec![true; ids.len()];
        Self { ids, learn }
    }

    /// A sample of tokens, each with whether it is to be predicted; nothing predicts the first.
    pub fn marked(tokens: impl IntoIterator<Item = (u32, bool)>) -> Self {
        let (ids, learn) = tokens.into_iter().unzip();
        Self { ids, learn }
    }

    /// The tokens.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// How many tokens are to be predicted.
    pub fn targets(&self) -> usize {
        self.learn.iter().skip(1).filter(|learn| **learn).count()
    }
}

/// Why samples make no batches.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// No token of any sample is to be predicted.
    #[error("no sample has a token to learn")]
    Empty,
    /// A batch without rows, or rows without tokens.
    #[error("a batch of {rows} rows of {width} tokens holds nothing")]
    Size {
        /// Rows of a batch.
        rows: usize,
        /// Tokens of a row.
        width: usize,
    },
    /// A position behind the end of its epoch.
    #[error("epoch {epoch} has {rows} rows, none is number {row}: is this the same data?")]
    Position {
        /// The epoch.
        epoch: u64,
        /// The row asked for.
        row: usize,
        /// How many there are.
        rows: usize,
    },
}

/// How far a [`Feed`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Passes over all samples begun before this one.
    pub epoch: u64,
    /// Rows of this pass already given.
    pub row: usize,
}

/// An endless supply of batches, each with a target: every epoch gives every sample once, packed
/// anew in an order that is a function of seed and epoch alone.
#[derive(Debug, Clone)]
pub struct Feed {
    samples: Vec<Sample>,
    lengths: Vec<usize>,
    width: usize,
    rows_per_batch: usize,
    seed: u64,
    position: Position,
    /// The rows of the present epoch.
    rows: Vec<Vec<Piece>>,
}

impl Feed {
    /// Batches of `rows_per_batch` rows of `width` tokens. A longer sample is cut; its pieces do not
    /// see one another, and one without any token to be predicted is left out.
    pub fn new(
        samples: Vec<Sample>,
        [rows_per_batch, width]: [usize; 2],
        seed: u64,
    ) -> Result<Self, FeedError> {
        if rows_per_batch == 0 || width == 0 {
            let rows = rows_per_batch;
            return Err(FeedError::Size { rows, width });
        }
        if samples.iter().all(|sample| sample.targets() == 0) {
            return Err(FeedError::Empty);
        }
        let lengths = samples.iter().map(|sample| sample.ids.len()).collect();
        let mut feed = Self {
            samples,
            lengths,
            width,
            rows_per_batch,
            seed,
            position: Position::default(),
            rows: Vec::new(),
        };
        feed.rows = feed.pack(0);
        Ok(feed)
    }

    /// How far it has come.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes on from a position of a feed over the same samples with the same seed.
    ///
    /// # Errors
    /// If the epoch has no such row.
    pub fn seek(&mut self, position: Position) -> Result<(), FeedError> {
        let Position { epoch, row } = position;
        let packed = self.pack(epoch);
        let rows = packed.len();
        if row > rows {
            return Err(FeedError::Position { epoch, row, rows });
        }
        (self.position, self.rows) = (position, packed);
        Ok(())
    }

    /// The next batch; it may reach into the next epoch.
    pub fn next_batch(&mut self) -> Batch {
        let mut rows = Vec::with_capacity(self.rows_per_batch);
        while rows.len() < self.rows_per_batch {
            if self.position.row == self.rows.len() {
                self.position = Position {
                    epoch: self.position.epoch + 1,
                    row: 0,
                };
                self.rows = self.pack(self.position.epoch);
            }
            rows.push(std::mem::take(&mut self.rows[self.position.row]));
            self.position.row += 1;
        }
        self.batch(&rows)
    }

    /// All samples once, in the order of the first epoch, for evaluation: the last batch may have
    /// fewer rows.
    pub fn once(&self) -> Vec<Batch> {
        let rows = self.pack(0);
        let batches = rows.chunks(self.rows_per_batch);
        batches.map(|rows| self.batch(rows)).collect()
    }

    fn pack(&self, epoch: u64) -> Vec<Vec<Piece>> {
        let mut random = Random::new(derive(self.seed, Purpose::Order, &[epoch]));
        // What teaches nothing would take room, and a batch of nothing else has no loss.
        let teaches = |piece: &Piece| {
            let learn = &self.samples[piece.sample].learn;
            learn[piece.start + 1..=piece.start + piece.len].contains(&true)
        };
        pack(&self.lengths, self.width, &teaches, &mut random)
    }

    fn batch(&self, rows: &[Vec<Piece>]) -> Batch {
        let count = rows.len() * self.width;
        let (mut ids, mut positions) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut targets = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            for piece in row {
                let sample = &self.samples[piece.sample];
                for at in piece.start..piece.start + piece.len {
                    if sample.learn[at + 1] {
                        targets.push((ids.len(), sample.ids[at + 1]));
                    }
                    ids.push(sample.ids[at]);
                    positions.push((at - piece.start) as u32);
                }
            }
            // Each on its own, so that attention has nothing to do there.
            ids.resize((index + 1) * self.width, PADDING);
            positions.resize((index + 1) * self.width, 0);
        }
        let rows: Result<Rows, RowsError> = Rows::new(self.width, positions);
        let rows = rows.expect("pieces count from zero and fill no more than a row");
        let batch: Result<Batch, BatchError> = Batch::new(rows, ids, targets);
        batch.expect("one id for each position, targets among them")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Sample> {
        let one = |index: u32| {
            let tokens = (0..5 + index * 7 % 23).map(|at| (index * 100 + at, at % 3 > 0));
            Sample::marked(tokens)
        };
        (0..40).map(one).collect()
    }

    fn feed() -> Feed {
        Feed::new(samples(), [3, 16], 9).unwrap()
    }

    /// Every target as (the token before it, the token).
    fn pairs(batches: &[Batch]) -> Vec<(u32, u32)> {
        let of = |batch: &Batch| {
            let pair = |&(place, id): &(usize, u32)| (batch.ids()[place], id);
            batch.targets().iter().map(pair).collect::<Vec<_>>()
        };
        let mut pairs: Vec<_> = batches.iter().flat_map(of).collect();
        pairs.sort_unstable();
        pairs
    }

    #[test]
    fn one_pass_teaches_every_marked_token_once() {
        let expected = samples().into_iter().flat_map(|sample| {
            let pairs = sample.ids.windows(2).map(|pair| (pair[0], pair[1]));
            let marked = pairs.zip(sample.learn[1..].to_vec());
            marked
                .filter_map(|(pair, learn)| learn.then_some(pair))
                .collect::<Vec<_>>()
        });
        let mut expected: Vec<_> = expected.collect();
        expected.sort_unstable();
        let feed = feed();
        assert_eq!(pairs(&feed.once()), expected);
        let total: usize = samples().iter().map(Sample::targets).sum();
        assert_eq!(expected.len(), total);
    }

    #[test]
    fn goes_on_where_another_stopped() {
        let (mut one, mut other) = (feed(), feed());
        for _ in 0..50 {
            other.seek(one.position()).unwrap();
            assert_eq!(one.next_batch(), other.next_batch());
        }
        assert!(one.position().epoch > 2);
        let far = Position { epoch: 1, row: 999 };
        assert!(matches!(
            one.seek(far),
            Err(FeedError::Position { row: 999, .. })
        ));
    }

    #[test]
    fn epochs_differ_and_seeds_differ() {
        let mut feed = feed();
        let first = feed.next_batch();
        feed.seek(Position { epoch: 1, row: 0 }).unwrap();
        assert_ne!(first, feed.next_batch());
        let mut other = Feed::new(samples(), [3, 16], 10).unwrap();
        assert_ne!(first, other.next_batch());
    }

    #[test]
    fn every_batch_has_a_target() {
        // One target in a thousand tokens: all pieces but one teach nothing.
        let late = |last| Sample::marked((0..1000).map(|at| (at, at == last)));
        let samples = vec![late(999), late(1), late(500), late(0)];
        let mut feed = Feed::new(samples, [1, 16], 3).unwrap();
        for _ in 0..20 {
            assert!(!feed.next_batch().targets().is_empty());
        }
        assert_eq!(pairs(&feed.once()), [(0, 1), (499, 500), (998, 999)]);
    }

    #[test]
    fn nothing_to_learn_is_refused() {
        let silent = vec![
            Sample::marked([(1, true), (2, false)]),
            Sample::text(vec![3]),
        ];
        assert_eq!(Feed::new(silent, [1, 8], 0).unwrap_err(), FeedError::Empty);
        let error = Feed::new(samples(), [1, 0], 0).unwrap_err();
        assert_eq!(error, FeedError::Size { rows: 1, width: 0 });
    }
}
