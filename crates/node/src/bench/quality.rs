//! How far a model's answers in one format are from those in another: scores, choices, loss.
//!
//! Both read the same texts. Scores are compared as logarithms of probabilities, in which a constant that all of a row
//! are off by does not count.

use std::sync::Arc;

use skein_base::math::exp64;
use skein_base::{ByteSize, Scores};
use skein_model::{
    ForwardError, Input, KvFormat, KvFull, KvPages, LoadError, Output, Pool, ScoreRows, Segment,
    Sequence, SliceModel,
};
use skein_weights::{Dtype, Slice, WeightSource};

/// Rows at a time: each has scores of a whole vocabulary.
const ROWS: usize = 16;

/// Differences that are kept to tell quantiles from; of more than these, every n-th.
const KEPT: usize = 4 << 20;

/// Why answers could not be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QualityError {
    /// The model could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The model refused a text.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// No room for a text.
    #[error(transparent)]
    Kv(#[from] KvFull),
    /// Not enough memory for both models.
    #[error(
        "two models need {needed}, {available} are available: measure a smaller one, or free some memory"
    )]
    Memory {
        /// Bytes needed.
        needed: ByteSize,
        /// Bytes available.
        available: ByteSize,
    },
    /// A score is no number.
    #[error("a score of position {position} is not finite")]
    NotFinite {
        /// Of all positions read.
        position: usize,
    },
    /// A text is too long.
    #[error("a text of {found} tokens does not fit the model's context of {context}")]
    Context {
        /// Tokens of the text.
        found: usize,
        /// Tokens of the context.
        context: usize,
    },
}

/// A text to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// For each token, whether it counts in the loss.
    pub counted: Vec<bool>,
}

/// What weights, keys and values are held in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Weights.
    pub weights: Dtype,
    /// Keys and values.
    pub kv: KvFormat,
}

/// A model in one format.
#[derive(Debug)]
pub struct Reader {
    model: SliceModel,
    kv: KvPages,
    /// All token ids: every score is asked for.
    all: Vec<u32>,
}

impl Reader {
    /// Loads the whole model, with room for a text of `positions`.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(
        source: &dyn WeightSource,
        held: Held,
        (pool, positions): (&Arc<Pool>, usize),
    ) -> Result<Self, LoadError> {
        let whole = Slice::whole(source.profile().layers);
        let pages = positions.div_ceil(skein_model::kv::PAGE_POSITIONS) as u64;
        let budget = pages * KvPages::page_bytes_of(source.profile(), &whole, held.kv);
        let kv = KvPages::new(source.profile(), &whole, held.kv, budget);
        let model = SliceModel::load(source, whole, Some(held.weights), Arc::clone(pool))?;
        let all = (0..model.profile().vocabulary).collect();
        Ok(Self { model, kv, all })
    }

    /// Bytes of weights.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.model.weight_bytes()
    }

    fn read(&mut self, sequence: &mut Sequence, ids: &[u32]) -> Result<Vec<Scores>, QualityError> {
        self.kv.reserve(sequence, sequence.len() + ids.len())?;
        let segment = Segment {
            sequence,
            rows: ids.len(),
            scores: ScoreRows::All,
            asked: &self.all,
        };
        let output = self
            .model
            .forward(&mut self.kv, &mut [segment], Input::Ids(ids))?;
        match output {
            Output::Scores(scores) => Ok(scores),
            Output::Hidden(_) => unreachable!("a whole model has a head"),
        }
    }
}

/// How far one model is from another.
#[derive(Debug, Clone, PartialEq)]
pub struct Quality {
    /// Positions compared.
    pub positions: usize,
    /// Mean loss of the tokens that count, in nats; not a number if none does.
    pub loss: f64,
    /// Mean Kullback-Leibler divergence from the reference, in nats.
    pub divergence: f64,
    /// Share of positions at which both hold the same token for the most probable.
    pub same_choice: f64,
    /// Root of the mean squared difference of scores, over the standard deviation of the reference's scores.
    pub error: f64,
    /// The difference that one score in a hundred exceeds, over the same.
    pub error_p99: f64,
    /// The largest difference, over the same.
    pub error_max: f64,
}

/// Sums over positions.
#[derive(Debug, Default)]
struct Sums {
    positions: usize,
    counted: usize,
    loss: f64,
    divergence: f64,
    same: usize,
    squares: f64,
    deviation: f64,
    scores: usize,
    largest: f64,
    kept: Vec<f32>,
}

/// Lets both read all texts; `told` hears how many were read.
///
/// # Errors
/// See [`QualityError`].
pub fn compare(
    (reference, other): (&mut Reader, &mut Reader),
    texts: &[Text],
    told: &mut dyn FnMut(usize),
) -> Result<Quality, QualityError> {
    let positions: usize = texts.iter().map(|text| text.ids.len()).sum();
    let vocabulary = reference.all.len();
    let every = sampling(positions.saturating_mul(vocabulary), vocabulary);
    let mut sums = Sums::default();
    for (index, text) in texts.iter().enumerate() {
        let context = reference.model.profile().context as usize;
        let found = text.ids.len();
        if found > context {
            return Err(QualityError::Context { found, context });
        }
        let mut sequences = [reference.kv.sequence(), other.kv.sequence()];
        let read = read_both(
            (&mut *reference, &mut *other),
            &mut sequences,
            text,
            |row| sums.add(row, every),
        );
        let [first, second] = sequences;
        reference.kv.release(first);
        other.kv.release(second);
        read?;
        told(index + 1);
    }
    Ok(sums.quality())
}

/// One score of how many is kept of `scores`. It has no factor in common with the vocabulary, so that no token is left
/// out.
fn sampling(scores: usize, vocabulary: usize) -> usize {
    let mut every = scores.div_ceil(KEPT).max(1);
    while common_divisor(every, vocabulary) > 1 {
        every += 1;
    }
    every
}

fn common_divisor(a: usize, b: usize) -> usize {
    match b {
        0 => a,
        _ => common_divisor(b, a % b),
    }
}

/// Both models' scores of one position, and the token that follows if it counts.
struct Row<'a> {
    reference: &'a Scores,
    other: &'a Scores,
    next: Option<u32>,
}

fn read_both(
    (reference, other): (&mut Reader, &mut Reader),
    [first, second]: &mut [Sequence; 2],
    text: &Text,
    mut add: impl FnMut(&Row<'_>) -> Result<(), QualityError>,
) -> Result<(), QualityError> {
    for (chunk, ids) in text.ids.chunks(ROWS).enumerate() {
        let expected = reference.read(first, ids)?;
        let found = other.read(second, ids)?;
        for (row, (reference, other)) in expected.iter().zip(&found).enumerate() {
            let next = chunk * ROWS + row + 1;
            let counts = text.counted.get(next).is_some_and(|counts| *counts);
            add(&Row {
                reference,
                other,
                next: counts.then(|| text.ids[next]),
            })?;
        }
    }
    Ok(())
}

impl Sums {
    fn add(&mut self, row: &Row<'_>, every: usize) -> Result<(), QualityError> {
        let log = |scores: &Scores, index: usize| {
            f64::from(scores.asked[index].1) - f64::from(scores.log_sum_exp)
        };
        let count = row.reference.asked.len();
        let mean = (0..count).map(|at| log(row.reference, at)).sum::<f64>() / count as f64;
        for at in 0..count {
            let (expected, found) = (log(row.reference, at), log(row.other, at));
            let difference = found - expected;
            if !difference.is_finite() {
                let position = self.positions;
                return Err(QualityError::NotFinite { position });
            }
            self.divergence -= exp64(expected) * difference;
            self.squares += difference * difference;
            self.deviation += (expected - mean) * (expected - mean);
            self.largest = self.largest.max(difference.abs());
            if (self.scores + at).is_multiple_of(every) {
                self.kept.push(difference.abs() as f32);
            }
        }
        self.scores += count;
        self.positions += 1;
        let best = |scores: &Scores| scores.top.first().map(|(id, _)| *id);
        self.same += usize::from(best(row.reference) == best(row.other));
        if let Some(next) = row.next {
            self.counted += 1;
            self.loss -= log(row.other, next as usize);
        }
        Ok(())
    }

    fn quality(mut self) -> Quality {
        let scale = (self.deviation / self.scores as f64).sqrt();
        self.kept.sort_by(f32::total_cmp);
        let p99 = self.kept.get(self.kept.len() * 99 / 100);
        let positions = self.positions as f64;
        Quality {
            positions: self.positions,
            loss: self.loss / self.counted as f64,
            divergence: self.divergence / positions,
            same_choice: self.same as f64 / positions,
            error: (self.squares / self.scores as f64).sqrt() / scale,
            error_p99: p99.map_or(f64::NAN, |p99| f64::from(*p99)) / scale,
            error_max: self.largest / scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Console;
    use crate::open;

    fn texts(count: usize) -> Vec<Text> {
        let mut random = crate::bench::checkpoint::Random(5);
        let text = |_| Text {
            ids: random.ids(40, 2048),
            counted: vec![true; 40],
        };
        (0..count).map(text).collect()
    }

    fn quality(weights: Dtype, kv: KvFormat) -> Quality {
        let (never, console) = (crate::hub::Fetching::never(), Console::new(true, true));
        let opened = open::open(crate::embedded::NAME, never, console).expect("is built in");
        let pool = Arc::new(Pool::new(1));
        let load =
            |held| Reader::load(opened.checkpoint.as_ref(), held, (&pool, 64)).expect("loads");
        let exact = Held {
            weights: Dtype::F32,
            kv: KvFormat::F32,
        };
        let mut readers = (load(exact), load(Held { weights, kv }));
        compare((&mut readers.0, &mut readers.1), &texts(4), &mut |_| {}).expect("compares")
    }

    #[test]
    fn every_token_has_its_turn_in_the_sample() {
        for (scores, vocabulary) in [(100, 7), (65_536 * 2048, 2048), (1 << 34, 151_936)] {
            let every = sampling(scores, vocabulary);
            assert_eq!(common_divisor(every, vocabulary), 1);
            assert!(
                every >= scores / KEPT && every < scores / KEPT + 20,
                "{every}"
            );
        }
    }

    #[test]
    fn the_same_format_is_no_difference() {
        let found = quality(Dtype::F32, KvFormat::F32);
        assert_eq!(
            (found.error, found.error_max, found.divergence),
            (0.0, 0.0, 0.0)
        );
        assert_eq!((found.same_choice, found.positions), (1.0, 160));
        assert!(found.loss > 1.0, "random tokens are no surprise: {found:?}");
    }

    #[test]
    fn fewer_bits_are_further_away() {
        let q8 = quality(Dtype::Q8, KvFormat::F32);
        let q4 = quality(Dtype::Q4, KvFormat::F32);
        let int8 = quality(Dtype::F32, KvFormat::Int8);
        for found in [&q8, &q4, &int8] {
            assert!(found.error > 0.0 && found.divergence > 0.0, "{found:?}");
            assert!(found.error < found.error_p99 && found.error_p99 < found.error_max);
        }
        assert!(
            q8.error < q4.error && q8.divergence < q4.divergence,
            "{q8:?} {q4:?}"
        );
        assert!(q8.error < 0.05 && int8.error < 0.05, "{q8:?} {int8:?}");
    }
}
