//! Numbers from a seed, the same on every machine.

#[cfg(feature = "train")]
use std::f64::consts::TAU;

#[cfg(feature = "train")]
use skein_base::math;
use skein_base::splitmix;

/// What numbers are drawn for. Two uses of one seed share no numbers, whatever is drawn in them.
#[cfg(feature = "train")]
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(crate) enum Purpose {
    /// First values of weights.
    Weights = 0x7765_6967_6874_7331,
    /// First values of adapters.
    Adapters = 0x6164_6170_7465_7231,
    /// The order of samples.
    Order = 0x6f72_6465_7273_3131,
    /// Values left out.
    Dropout = 0x6472_6f70_6f75_7431,
}

/// The seed of the place `path` in a use of `seed`.
#[cfg(feature = "train")]
pub(crate) fn derive(seed: u64, purpose: Purpose, path: &[u64]) -> u64 {
    let start = splitmix::mix(seed ^ purpose as u64);
    path.iter()
        .fold(start, |key, place| splitmix::mix(key ^ place))
}

/// SplitMix64 with what is drawn from it.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        splitmix::next(&mut self.0)
    }
}

#[cfg(feature = "train")]
impl Random {
    /// A number under `bound`, which is above zero; all are as likely (Lemire, 2019).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        loop {
            let product = u128::from(self.next()) * u128::from(bound);
            // What remains after whole shares of 2^64 would favour the low numbers.
            if product as u64 >= bound.wrapping_neg() % bound {
                return (product >> 64) as u64;
            }
        }
    }

    /// In `[0, 1)`, of 53 bits.
    pub(crate) fn uniform(&mut self) -> f64 {
        unit(self.next())
    }

    /// Of the standard normal distribution (Box and Muller, 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        // One minus it is never zero, whose logarithm is none.
        let radius = (-2.0 * math::ln64(1.0 - self.uniform())).sqrt();
        let (_, cosine) = math::sin_cos64(TAU * self.uniform());
        radius * cosine
    }

    /// Puts a list in an order of which all are as likely (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// The high 53 bits as a number in `[0, 1)`, without rounding.
#[cfg(feature = "train")]
pub(crate) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(all(test, feature = "train"))]
mod tests {
    use super::*;

    #[test]
    fn published_values() {
        // The first outputs for seed 1234567, as the authors' C code prints them.
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
        assert_eq!(random.next(), 9_817_491_932_198_370_423);
    }

    #[test]
    fn uses_and_places_have_streams_of_their_own() {
        let uses = [
            Purpose::Weights,
            Purpose::Adapters,
            Purpose::Order,
            Purpose::Dropout,
        ];
        let seeds = (0..20).flat_map(|seed| {
            uses.into_iter().flat_map(move |one| {
                let paths = (0..20).flat_map(|a| [vec![a], vec![20, a], vec![a, 21]]);
                paths.map(move |path| derive(seed, one, &path))
            })
        });
        let all: Vec<u64> = seeds.collect();
        let different: std::collections::BTreeSet<u64> = all.iter().copied().collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn distributions_have_their_moments() {
        let mut random = Random::new(5);
        let draws: Vec<f64> = (0..100_000).map(|_| random.normal()).collect();
        let mean = |power| draws.iter().map(|x| x.powi(power)).sum::<f64>() / 1e5;
        assert!(mean(1).abs() < 0.02 && (mean(2) - 1.0).abs() < 0.03);
        assert!((mean(4) - 3.0).abs() < 0.15);
        let mut counts = [0; 6];
        (0..60_000).for_each(|_| counts[random.below(6) as usize] += 1);
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)));
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut list: Vec<u32> = (0..500).collect();
        Random::new(1).shuffle(&mut list);
        assert_ne!(list, (0..500).collect::<Vec<_>>());
        list.sort_unstable();
        assert_eq!(list, (0..500).collect::<Vec<_>>());
    }
}
