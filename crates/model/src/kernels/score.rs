//! From logits to [`Scores`]: the best ones, and the log-sum-exp over all.
//!
//! The sum is taken over chunks of [`CHUNK`] logits, fixed by the vocabulary alone: in a chunk,
//! value `i` goes to lane `i mod 16` as `exp(x - chunk maximum)`, lanes are added in a fixed tree,
//! chunks are added in order, rescaled to the largest maximum.

use skein_base::limits::TOP_SCORES;
use skein_base::{Scores, math};

use super::linear::Machine;
use crate::lanes::{self, LANES, Lanes, dispatch};
use crate::memory::SharedMut;

/// Logits per partial sum.
pub(crate) const CHUNK: usize = 4096;
/// How many candidates a thread collects before it throws the worse ones away.
const CANDIDATES: usize = 4 * TOP_SCORES;

/// Vectors whose candidates are looked for together.
const ABREAST: usize = 4;

/// Maximum of a chunk and the sum of exponentials relative to it.
#[derive(Debug, Clone, Copy, Default)]
struct Partial {
    max: f32,
    sum: f32,
}

/// An id and its logit as one number, which sorts fast: the higher logit (by [`f32::total_cmp`]) is lower, and among
/// equals the lower id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate(u64);

impl Candidate {
    fn new(id: u32, logit: f32) -> Self {
        Self(u64::from(descending(logit.to_bits())) << 32 | u64::from(id))
    }

    fn id(self) -> u32 {
        self.0 as u32
    }

    fn logit(self) -> f32 {
        f32::from_bits(descending((self.0 >> 32) as u32))
    }
}

/// The bits of a float to a number that is the lower the higher the float is, and back: a negative float's magnitude
/// grows with its bits, any other's is turned over below the sign.
fn descending(bits: u32) -> u32 {
    match bits >> 31 {
        0 => bits ^ 0x7fff_ffff,
        _ => bits,
    }
}

/// Memory that is kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    partials: Vec<Partial>,
    /// The candidates of each thread.
    lists: Vec<Candidates>,
}

/// Scores of one row of logits; `asked` ids must be inside the vocabulary.
pub(crate) fn scores(
    Machine { pool, set }: Machine<'_>,
    scratch: &mut Scratch,
    logits: &[f32],
    asked: &[u32],
) -> Scores {
    let chunks = logits.len().div_ceil(CHUNK);
    scratch.partials.resize(chunks, Partial::default());
    scratch.lists.resize(pool.threads(), Candidates::default());
    let shared = SharedMut::new(&mut scratch.partials);
    let lists = SharedMut::new(&mut scratch.lists);
    pool.run(&|thread| {
        // SAFETY: each thread has its own list, and chunks go to one thread each.
        let list = &mut unsafe { lists.range(thread, 1) }[0];
        list.clear();
        for chunk in chunks * thread / pool.threads()..chunks * (thread + 1) / pool.threads() {
            let start = chunk * CHUNK;
            let values = &logits[start..logits.len().min(start + CHUNK)];
            // SAFETY: as above; `set` was detected.
            unsafe {
                partial(set, values, &mut shared.range(chunk, 1)[0]);
                collect(set, list, start as u32, values);
            }
        }
    });
    let (best, others) = scratch
        .lists
        .split_first_mut()
        .expect("a pool has a thread at least");
    for other in others {
        best.list.extend_from_slice(&other.list);
    }
    best.keep_best();
    best.list.sort_unstable();
    let top = best.list.iter().map(|best| (best.id(), best.logit()));
    let asked = asked.iter().map(|id| (*id, logits[*id as usize])).collect();
    Scores {
        top: top.collect(),
        log_sum_exp: log_sum_exp(&scratch.partials),
        asked,
    }
}

fn log_sum_exp(partials: &[Partial]) -> f32 {
    let max = partials
        .iter()
        .map(|p| p.max)
        .fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
    let sum = partials
        .iter()
        .fold(0.0f32, |sum, p| sum + p.sum * math::exp(p.max - max));
    (f64::from(max) + math::ln64(f64::from(sum))) as f32
}

/// The best logits so far, and some that are not.
#[derive(Debug, Clone)]
struct Candidates {
    list: Vec<Candidate>,
    /// What is lower cannot be among the best.
    floor: f32,
}

impl Default for Candidates {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            floor: f32::NEG_INFINITY,
        }
    }
}

impl Candidates {
    fn clear(&mut self) {
        self.list.clear();
        self.floor = f32::NEG_INFINITY;
    }

    /// Throws away what is not among the best.
    fn keep_best(&mut self) {
        if self.list.len() > TOP_SCORES {
            self.list.select_nth_unstable(TOP_SCORES - 1);
            self.list.truncate(TOP_SCORES);
        }
        if self.list.len() == TOP_SCORES
            && let Some(worst) = self.list.iter().max()
        {
            self.floor = worst.logit();
        }
    }

    /// Takes those of some values that may count.
    fn take(&mut self, start: u32, values: &[f32]) {
        for (value, id) in values.iter().zip(start..) {
            if *value >= self.floor {
                self.list.push(Candidate::new(id, *value));
            }
        }
        if self.list.len() >= CANDIDATES {
            self.keep_best();
        }
    }
}

dispatch! {
    /// Adds the candidates of a chunk that begins at id `start`. The order is total, so who is kept in the end does
    /// not depend on how chunks were grouped.
    ///
    /// # Safety
    /// `set` is available.
    unsafe fn collect = collect_body(to: &mut Candidates, start: u32, values: &[f32])
}

#[inline(always)]
unsafe fn collect_body<L: Lanes>(to: &mut Candidates, start: u32, values: &[f32]) {
    let mut blocks = values.chunks_exact(ABREAST * LANES);
    let mut place = start;
    for block in blocks.by_ref() {
        // Most blocks hold nothing that counts: one comparison of maxima.
        // SAFETY: whole lanes in the block.
        let largest = unsafe {
            let mut max = L::load(block.as_ptr());
            for values in block.chunks_exact(LANES).skip(1) {
                max = max.max(L::load(values.as_ptr()));
            }
            max.largest()
        };
        if largest >= to.floor {
            for (values, place) in block.chunks_exact(LANES).zip((place..).step_by(LANES)) {
                // SAFETY: whole lanes.
                if unsafe { L::load(values.as_ptr()).largest() } >= to.floor {
                    to.take(place, values);
                }
            }
        }
        place += block.len() as u32;
    }
    to.take(place, blocks.remainder());
}

dispatch! {
    /// # Safety
    /// `set` is available; `values` is not empty.
    unsafe fn partial = partial_body(values: &[f32], out: &mut Partial)
}

#[inline(always)]
unsafe fn partial_body<L: Lanes>(values: &[f32], out: &mut Partial) {
    // SAFETY: chunks of sixteen are whole; the tail goes through a padded copy, whose minus
    // infinities add exact zeros.
    unsafe {
        let (whole, tail) = values.split_at(values.len() / LANES * LANES);
        let mut padded = [f32::NEG_INFINITY; LANES];
        padded[..tail.len()].copy_from_slice(tail);
        let mut max = L::load(padded.as_ptr());
        for chunk in whole.chunks_exact(LANES) {
            max = L::load(chunk.as_ptr()).max(max);
        }
        out.max = max.largest();
        let max = L::splat(out.max);
        let mut sum = L::splat(0.0);
        for chunk in whole.chunks_exact(LANES) {
            sum = sum.add(lanes::exp(L::load(chunk.as_ptr()).sub(max)));
        }
        if !tail.is_empty() {
            sum = sum.add(lanes::exp(L::load(padded.as_ptr()).sub(max)));
        }
        out.sum = sum.tree_sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::InstructionSet;
    use crate::pool::Pool;
    use crate::testing::Random;

    fn scores(pool: &Pool, set: InstructionSet, logits: &[f32], asked: &[u32]) -> Scores {
        // What is left over from another vocabulary must not matter.
        let mut scratch = Scratch::default();
        super::scores(Machine { pool, set }, &mut scratch, &[1e9; 5000], &[]);
        super::scores(Machine { pool, set }, &mut scratch, logits, asked)
    }

    #[test]
    fn agrees_with_sorting_and_double_precision() {
        let mut random = Random::new(3);
        for vocabulary in [1, 15, 331, 4096, 4097, 30_011] {
            let mut logits = random.values(vocabulary, 9.0);
            // Ties, also across chunks and threads.
            for i in (0..vocabulary).step_by(7) {
                logits[i] = logits[i].round();
            }
            let asked: Vec<u32> = [0, vocabulary as u32 - 1].to_vec();
            let reference = scores(&Pool::new(1), InstructionSet::Scalar, &logits, &asked);
            let mut all: Vec<_> = (0..vocabulary as u32).zip(logits.iter().copied()).collect();
            all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            all.truncate(TOP_SCORES);
            assert_eq!(reference.top, all);
            let exact = logits.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln();
            assert!((f64::from(reference.log_sum_exp) - exact).abs() < 1e-5);
            assert_eq!(reference.asked[1], (asked[1], logits[vocabulary - 1]));
            for set in InstructionSet::available() {
                for threads in [1, 2, 3] {
                    let found = scores(&Pool::new(threads), set, &logits, &asked);
                    assert_eq!(found.log_sum_exp.to_bits(), reference.log_sum_exp.to_bits());
                    assert_eq!(found, reference);
                }
            }
        }
    }

    #[test]
    fn candidates_sort_as_logits_do() {
        let logits = [f32::INFINITY, 2.5, 2.0, 1e-40, 0.0, -0.0, -1.0, -3.5];
        let sorted = logits.iter().map(|logit| Candidate::new(7, *logit));
        assert!(sorted.clone().is_sorted_by(|a, b| a < b));
        assert!(
            sorted
                .zip(logits)
                .all(|(c, logit)| c.logit().total_cmp(&logit).is_eq())
        );
        assert!(Candidate::new(3, 1.0) < Candidate::new(4, 1.0));
        assert_eq!(Candidate::new(u32::MAX, -1.0).id(), u32::MAX);
    }
}
