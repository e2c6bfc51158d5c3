//! SplitMix64 (Steele, Lea and Flood, 2014): numbers from a seed, the same on every machine. Nothing
//! secret may depend on it.

/// What the state grows by at each step.
pub const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The last step alone: a bijection that leaves no pattern of its input.
#[must_use]
pub fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The next 64 bits; any state is a good seed.
pub fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(GAMMA);
    mix(*state)
}

#[cfg(test)]
mod tests {
    /// The first numbers of seed 1234567, as Vigna's `splitmix64.c` gives them.
    #[test]
    fn published_numbers() {
        let mut state = 1_234_567;
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!([(); 5].map(|()| super::next(&mut state)), expected);
    }
}
