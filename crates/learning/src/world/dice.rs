//! The one source of chance: a SplitMix64 generator that counts what its choices are worth.

use std::f64::consts::LN_2;

use skein_base::math::ln64;
use skein_base::splitmix;

/// What the choices of a sample were worth, in bits: `-log2` of their probability.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bits {
    /// Of choices that made the prompts.
    pub prompt: f64,
    /// Of choices that made the answers.
    pub answer: f64,
}

impl Bits {
    /// Of the whole sample.
    #[must_use]
    pub fn total(self) -> f64 {
        self.prompt + self.answer
    }
}

/// How often something is drawn anew until it lies on the right side of the split. The rarest,
/// held-out tales, are about one draw in forty: all attempts miss once in 10^21.
const ATTEMPTS: usize = 2000;

/// Deterministic chance from a seed, the same on every platform: Steele, Lea and Flood, "Fast
/// splittable pseudorandom number generators", 2014 (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice {
    state: u64,
    bits: Bits,
    answering: bool,
}

impl Dice {
    /// The dice of one seed and a path of numbers below it: independent for any other path.
    pub(crate) fn new(seed: u64, path: &[u64]) -> Self {
        let state = path
            .iter()
            .fold(mix(seed), |state, &step| mix(state ^ mix(step)));
        Self {
            state,
            bits: Bits::default(),
            answering: false,
        }
    }

    /// A number below `n`, which is not zero. The bias of the multiplication is below `n / 2^64`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.spend(1, n as u64);
        self.draw(n as u64) as usize
    }

    /// One of them; there is at least one.
    pub(crate) fn pick<'a, T>(&mut self, options: &'a [T]) -> &'a T {
        &options[self.below(options.len())]
    }

    /// True in `percent` of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.weighted(&[100 - percent, percent]) == 1
    }

    /// An index, by weights whose sum is not zero.
    pub(crate) fn weighted(&mut self, weights: &[u32]) -> usize {
        let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let mut left = self.draw(total);
        for (index, &weight) in weights.iter().enumerate() {
            let weight = u64::from(weight);
            if left < weight {
                self.spend(weight, total);
                return index;
            }
            left -= weight;
        }
        weights.len() - 1
    }

    /// `count` different numbers below `n`, in random order; all of them if there are fewer.
    pub(crate) fn several(&mut self, count: usize, n: usize) -> Vec<usize> {
        let mut rest: Vec<usize> = (0..n).collect();
        let count = count.min(n);
        (0..count)
            .map(|_| {
                let at = self.below(rest.len());
                rest.remove(at)
            })
            .collect()
    }

    /// The first of many draws that gives something; what the others spent is forgotten.
    pub(crate) fn until<T>(&mut self, mut draw: impl FnMut(&mut Self) -> Option<T>) -> Option<T> {
        (0..ATTEMPTS).find_map(|_| self.once(&mut draw))
    }

    /// What a draw gives; if that is nothing, what it spent is forgotten.
    pub(crate) fn once<T>(&mut self, draw: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let spent = self.bits;
        self.answering = false;
        let drawn = draw(self);
        if drawn.is_none() {
            self.bits = spent;
            self.answering = false;
        }
        drawn
    }

    /// From now on, choices make an answer (or a prompt).
    pub(crate) fn answering(&mut self, answering: bool) {
        self.answering = answering;
    }

    /// What was spent so far.
    pub(crate) fn bits(&self) -> Bits {
        self.bits
    }

    fn spend(&mut self, weight: u64, total: u64) {
        let spent = match weight == total {
            true => 0.0,
            false => ln64(total as f64 / weight as f64) / LN_2,
        };
        match self.answering {
            true => self.bits.answer += spent,
            false => self.bits.prompt += spent,
        }
    }

    fn draw(&mut self, n: u64) -> u64 {
        ((u128::from(splitmix::next(&mut self.state)) * u128::from(n)) >> 64) as u64
    }
}

/// One step of SplitMix64 as a hash.
pub(crate) fn mix(mut value: u64) -> u64 {
    splitmix::next(&mut value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_published_sequence() {
        // The first outputs of SplitMix64 from state 1234567, as its reference code gives them.
        let expected: [u64; 3] = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        let mut state = 1_234_567_u64;
        for value in expected {
            assert_eq!(mix(state), value);
            state = state.wrapping_add(splitmix::GAMMA);
        }
    }

    #[test]
    fn counts_what_choices_are_worth() {
        let mut dice = Dice::new(1, &[]);
        dice.below(8);
        dice.below(1);
        dice.answering(true);
        dice.several(2, 3);
        let bits = dice.bits();
        assert_eq!(bits.prompt, 3.0);
        assert!((bits.answer - 6_f64.log2()).abs() < 1e-12);
        let before = dice.bits();
        dice.weighted(&[1, 3]);
        let spent = dice.bits().total() - before.total();
        assert!((spent - 2.0).abs() < 1e-12 || (spent - (4.0_f64 / 3.0).log2()).abs() < 1e-12);
        let mut draws = 0;
        let third = dice.until(|dice| {
            dice.below(8);
            draws += 1;
            (draws == 3).then_some(draws)
        });
        assert_eq!(third, Some(3));
        assert!((dice.bits().total() - before.total() - spent - 3.0).abs() < 1e-12);
        assert_eq!(
            dice.until(|dice| Some(dice.below(2)).filter(|_| false)),
            None
        );
    }

    #[test]
    fn is_even_enough() {
        let mut dice = Dice::new(7, &[1]);
        let mut counts = [0_u32; 7];
        (0..70_000).for_each(|_| counts[dice.below(7)] += 1);
        assert!(
            counts.iter().all(|&count| count.abs_diff(10_000) < 500),
            "{counts:?}"
        );
        let yes = (0..10_000).filter(|_| dice.chance(30)).count();
        assert!(yes.abs_diff(3_000) < 250, "{yes}");
    }

    #[test]
    fn paths_are_independent() {
        let first = |path: &[u64]| Dice::new(5, path).draw(u64::MAX);
        let all = [first(&[]), first(&[0]), first(&[1]), first(&[0, 1])];
        for (at, value) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(value));
        }
        assert_eq!(first(&[3, 4]), first(&[3, 4]));
    }
}
