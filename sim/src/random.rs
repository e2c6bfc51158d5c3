//! Chances from a seed.

/// Numbers from a seed.
#[derive(Debug, Clone)]
pub struct Random(
    /// The state; any value is a good seed.
    pub u64,
);

impl Random {
    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        skein_base::splitmix::next(&mut self.0)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.draw() % bound as u64) as usize
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        times > 0 && self.below(times) == 0
    }
}
