//! How fast memory can be read: the floor of decoding, which reads every weight once; and how fast threads reach each
//! other.
//!
//! Here, beside the kernels, because it must be compiled as they are and read the same kind of
//! memory: a loop without optimisation, or small pages, would measure themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::lanes::{InstructionSet, Lanes, dispatch, prefetch};
use crate::memory::{Buffer, CACHE_LINE};
use crate::pool::Pool;

/// Words added side by side: enough independent sums that reading is the limit, not adding.
const WIDTH: usize = 32;
/// How far ahead lines are asked for, in bytes.
const AHEAD: usize = 4096;
/// What a thread takes at least, in words: a megabyte, so that threads end together. A multiple of [`WIDTH`].
const PIECE: usize = (1 << 20) / size_of::<u64>();

/// What two threads pass to each other, in cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Ball(AtomicU32);

impl Ball {
    /// One of them has given up.
    const LOST: u32 = u32::MAX;
    /// How often one looks for it in a game: long enough for a core that sleeps to wake.
    const LOOKS: u32 = 1 << 22;

    /// Waits for one's turn and ends it, as often as `turns` says, unless that takes more than so many looks; `player`
    /// is 0 or 1.
    fn play(&self, player: u32, turns: u32, mut looks: u32) {
        for turn in (player..2 * turns).step_by(2) {
            if !self.arrives(turn, &mut looks) {
                self.0.store(Self::LOST, Ordering::Release);
                return;
            }
            self.0.store(turn + 1, Ordering::Release);
        }
    }

    fn arrives(&self, turn: u32, looks: &mut u32) -> bool {
        while *looks > 0 {
            *looks -= 1;
            match self.0.load(Ordering::Acquire) {
                Self::LOST => return false,
                now if now == turn => return true,
                _ => std::hint::spin_loop(),
            }
        }
        false
    }

    fn has_gone(&self, turns: u32) -> bool {
        self.0.load(Ordering::Acquire) == 2 * turns
    }
}

/// A buffer to be read over and over, by the threads that would run the kernels.
#[derive(Debug)]
pub struct Stream {
    words: Buffer<u64>,
    pool: Arc<Pool>,
    set: InstructionSet,
}

impl Stream {
    /// A buffer of `bytes`, rounded up to whole megabytes; every page of it is touched.
    ///
    /// # Panics
    /// If there is no address space for it.
    pub fn new(bytes: usize, pool: Arc<Pool>) -> Self {
        let pieces = (bytes / size_of::<u64>()).div_ceil(PIECE).max(1);
        let mut words = Buffer::zeroed(pieces * PIECE);
        let numbered = words.as_mut_slice().iter_mut().zip(0..);
        numbered.for_each(|(word, number)| *word = number);
        let set = InstructionSet::detect();
        Self { words, pool, set }
    }

    /// The size of the buffer in bytes.
    pub fn bytes(&self) -> usize {
        size_of_val(self.words.as_slice())
    }

    /// Reads the whole buffer once and returns a sum of it, so that no read can be left out.
    pub fn read(&self) -> u64 {
        let words = self.words.as_slice();
        let total = AtomicU64::new(0);
        self.pool.runs(words.len() / PIECE, &|pieces| {
            let mut sum = 0;
            let words = &words[pieces.start * PIECE..pieces.end * PIECE];
            // SAFETY: this instruction set was detected on this machine.
            unsafe { add_up(self.set, words, &mut sum) };
            total.fetch_add(sum, Ordering::Relaxed);
        });
        total.into_inner()
    }

    /// Passes a cache line from one thread to another and back, so many times. `false`: there is one thread alone, or one
    /// waited in vain.
    ///
    /// # Panics
    /// If there are 2^31 `turns` or more.
    pub fn pass_line(&self, turns: u32) -> bool {
        assert!(turns < 1 << 31, "turns are counted twice");
        if self.pool.threads() == 1 {
            return false;
        }
        let ball = Ball::default();
        self.pool.run(&|thread| match thread {
            0 => ball.play(0, turns, Ball::LOOKS),
            1 => ball.play(1, turns, Ball::LOOKS),
            _ => (),
        });
        ball.has_gone(turns)
    }
}

dispatch! {
    /// # Safety
    /// `set` is available.
    unsafe fn add_up = add_up_body(words: &[u64], sum: &mut u64)
}

/// `sum = words[0] + words[1] + ...`, wrapping around. The compiler makes vectors of it, as wide as the instruction
/// set of `L` has them. Lines are asked for as far ahead as the kernels do.
#[inline(always)]
unsafe fn add_up_body<L: Lanes>(words: &[u64], sum: &mut u64) {
    let mut sums = [0u64; WIDTH];
    for words in words.chunks_exact(WIDTH) {
        for line in words.chunks_exact(CACHE_LINE / size_of::<u64>()) {
            prefetch(line.as_ptr().wrapping_byte_add(AHEAD).cast());
        }
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum = sum.wrapping_add(*word);
        }
    }
    *sum = sums.iter().fold(0, |total, sum| total.wrapping_add(*sum));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_once() {
        for threads in [1, 3] {
            let stream = Stream::new((5 << 20) - 1, Arc::new(Pool::new(threads)));
            assert_eq!(stream.bytes(), 5 << 20);
            let count = (stream.bytes() / size_of::<u64>()) as u64;
            assert_eq!(stream.read(), count * (count - 1) / 2);
        }
    }

    #[test]
    fn a_line_is_passed_between_threads() {
        let ball = Ball::default();
        std::thread::scope(|scope| {
            scope.spawn(|| ball.play(1, 100, u32::MAX));
            ball.play(0, 100, u32::MAX);
        });
        assert!(ball.has_gone(100));
        for (threads, passed) in [(1, false), (2, true), (3, true)] {
            let stream = Stream::new(1, Arc::new(Pool::new(threads)));
            assert_eq!(stream.pass_line(0), passed);
        }
    }

    #[test]
    fn who_waits_in_vain_gives_up() {
        let ball = Ball::default();
        ball.play(0, 2, 10);
        ball.play(1, 2, 10);
        assert!(!ball.has_gone(2));
    }
}
