//! How fast memory can be read: the floor of decoding.

use std::thread;

use skein_runtime::Clock;

/// Eight words a step: enough independent sums that reading is the limit, not adding.
const LANES: usize = 8;

/// A buffer to be read over and over.
#[derive(Debug)]
pub struct Stream {
    words: Vec<[u64; LANES]>,
    threads: usize,
}

impl Stream {
    /// A buffer of `bytes` for `threads` readers; every page of it is touched.
    pub fn new(bytes: usize, threads: usize) -> Self {
        let lines = (bytes / size_of::<[u64; LANES]>()).max(1);
        let words = (0..lines as u64).map(|line| [line; LANES]).collect();
        Self {
            words,
            threads: threads.max(1),
        }
    }

    /// Reads the whole buffer once, each thread its own part; bytes per second.
    pub fn measure(&self, clock: &dyn Clock) -> f64 {
        let part = self.words.len().div_ceil(self.threads);
        let start = clock.now();
        let total = thread::scope(|scope| {
            let readers: Vec<_> = self
                .words
                .chunks(part)
                .map(|words| scope.spawn(move || sum(words)))
                .collect();
            readers.into_iter().fold(0u64, |total, reader| {
                total.wrapping_add(reader.join().expect("adding does not panic"))
            })
        });
        std::hint::black_box(total);
        size_of_val(self.words.as_slice()) as f64 / clock.now().since(start).as_secs_f64().max(1e-9)
    }
}

fn sum(words: &[[u64; LANES]]) -> u64 {
    let mut sums = [0u64; LANES];
    for line in words {
        for (sum, word) in sums.iter_mut().zip(line) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().fold(0, |total, sum| total.wrapping_add(*sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_everything() {
        let lines: Vec<[u64; LANES]> = (0..100).map(|line| [line; LANES]).collect();
        assert_eq!(sum(&lines), 4950 * LANES as u64);
        let clock = skein_runtime::SystemClock::new();
        assert!(Stream::new(1 << 20, 3).measure(&clock) > 0.0);
    }
}
