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
/// Logits of which the largest is known, to be looked through where it may count.
const BLOCK: usize = 4 * LANES;

/// Stands behind the last logit: it is no maximum, and its exponential is zero.
const PADDING: f32 = f32::NEG_INFINITY;

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
        let own = chunks * thread / pool.threads()..chunks * (thread + 1) / pool.threads();
        let first = own.start * CHUNK;
        let values = &logits[first..logits.len().min(own.end * CHUNK)];
        list.largest.resize(values.len().div_ceil(BLOCK), 0.0);
        let largest = list.largest.chunks_mut(CHUNK / BLOCK);
        for (chunk, (values, largest)) in own.zip(values.chunks(CHUNK).zip(largest)) {
            // SAFETY: as above; `set` was detected.
            unsafe { partial(set, values, &mut shared.range(chunk, 1)[0], largest) };
        }
        list.collect(first as u32, values);
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

/// A thread's candidates for the best, and what they are found by; in cache lines of its own.
#[repr(align(128))]
#[derive(Debug, Clone, Default)]
struct Candidates {
    list: Vec<Candidate>,
    /// The largest logit of each block.
    largest: Vec<f32>,
    /// The same as [`descending`] has them.
    keys: Vec<u32>,
}

impl Candidates {
    /// Lists the best of some values, the first of which has id `first`; the largest of each block are known. As many
    /// blocks as there are best scores have a value that is not below the last of the best blocks' largest, so that
    /// nothing lower is among the best.
    fn collect(&mut self, first: u32, values: &[f32]) {
        self.keys.clear();
        let keys = self
            .largest
            .iter()
            .map(|largest| descending(largest.to_bits()));
        self.keys.extend(keys);
        let floor = if self.keys.len() > TOP_SCORES {
            let key = *self.keys.select_nth_unstable(TOP_SCORES - 1).1;
            f32::from_bits(descending(key))
        } else {
            f32::NEG_INFINITY
        };
        self.list.clear();
        // Compared as floats: of two zeros, the largest of a block may be either.
        let blocks = values.chunks(BLOCK).zip(&self.largest);
        for ((block, largest), start) in blocks.zip((first..).step_by(BLOCK)) {
            if *largest >= floor {
                let found = (start..).zip(block).filter(|(_, logit)| **logit >= floor);
                self.list
                    .extend(found.map(|(id, logit)| Candidate::new(id, *logit)));
            }
        }
        self.keep_best();
    }

    /// Throws away what is not among the best.
    fn keep_best(&mut self) {
        if self.list.len() > TOP_SCORES {
            self.list.select_nth_unstable(TOP_SCORES - 1);
            self.list.truncate(TOP_SCORES);
        }
    }
}

dispatch! {
    /// Sums up a chunk, and finds the largest of each block, of which `largest` has as many.
    ///
    /// # Safety
    /// `set` is available; `values` is not empty.
    unsafe fn partial = partial_body(values: &[f32], out: &mut Partial, largest: &mut [f32])
}

#[inline(always)]
unsafe fn partial_body<L: Lanes>(values: &[f32], out: &mut Partial, largest: &mut [f32]) {
    debug_assert_eq!(largest.len(), values.len().div_ceil(BLOCK), "all blocks");
    // SAFETY: the caller's; as many values are loaded as there are.
    unsafe {
        let mut max = L::splat(f32::NEG_INFINITY);
        for (block, largest) in values.chunks(BLOCK).zip(largest) {
            let mut found = L::splat(f32::NEG_INFINITY);
            for values in block.chunks(LANES) {
                found = lanes::load_up_to::<L>(PADDING, values).max(found);
            }
            *largest = found.largest();
            max = found.max(max);
        }
        out.max = max.largest();
        let max = L::splat(out.max);
        let mut sum = L::splat(0.0);
        for values in values.chunks(LANES) {
            sum = sum.add(lanes::exp(lanes::load_up_to::<L>(PADDING, values).sub(max)));
        }
        out.sum = sum.tree_sum();
    }
}

const _: () = assert!(CHUNK.is_multiple_of(BLOCK));

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

    fn sorted(logits: &[f32]) -> Vec<(u32, f32)> {
        let mut all: Vec<_> = (0..).zip(logits.iter().copied()).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(TOP_SCORES);
        all
    }

    #[test]
    fn agrees_with_sorting_and_double_precision() {
        let mut random = Random::new(3);
        for vocabulary in [1, 15, 331, 4096, 4097, 30_011, 80_011] {
            let mut logits = random.values(vocabulary, 9.0);
            // Ties, also across chunks and threads.
            for i in (0..vocabulary).step_by(7) {
                logits[i] = logits[i].round();
            }
            let asked: Vec<u32> = [0, vocabulary as u32 - 1].to_vec();
            let reference = scores(&Pool::new(1), InstructionSet::Scalar, &logits, &asked);
            assert_eq!(reference.top, sorted(&logits));
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

    /// Where the best lie close together, or are as good as all others.
    #[test]
    fn rows_that_are_not_random() {
        let count = 80_011;
        let rising: Vec<f32> = (0..count).map(|i| i as f32 * 1e-3).collect();
        let falling: Vec<f32> = rising.iter().rev().copied().collect();
        let equal = vec![-2.5; count];
        // Zeros of either sign in each block, the lower one first in its lane.
        let zeros: Vec<f32> = (0..count)
            .map(|i| match i / LANES % 4 {
                0 | 2 => -0.0,
                1 => 0.0,
                _ => -1.0,
            })
            .collect();
        for logits in [rising, falling, equal, zeros] {
            for set in InstructionSet::available() {
                for threads in [1, 2, 7, 25] {
                    let found = scores(&Pool::new(threads), set, &logits, &[]);
                    let bits = |top: &[(u32, f32)]| -> Vec<_> {
                        top.iter()
                            .map(|(id, logit)| (*id, logit.to_bits()))
                            .collect()
                    };
                    assert_eq!(bits(&found.top), bits(&sorted(&logits)));
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
