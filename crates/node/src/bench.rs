//! Measuring a model: its speed, next to that of the memory it is read from.
//!
//! # Floors
//! To decode one token every weight is read once: all layers, the final norm, the head. So no
//! implementation decodes faster than `stream bandwidth / bytes of weights read`; that is the floor
//! in time and the ceiling in tokens per second. The bandwidth of a machine drifts by itself, so it
//! is measured between every few tokens, with the same number of threads, and the floor of these
//! tokens is by what it gave just before and after. Ratios to peers are of one round, in turn who begins; the middle of all
//! rounds is told. A batch of B sessions reads the weights once for B tokens.
//!
//! Prefill is bound by arithmetic, for which no floor is computed.

pub mod checkpoint;
pub mod delay;
pub mod network;
pub mod peer;
pub mod pipeline;
pub mod quality;
pub mod stages;
pub mod world;

/// The middle value (the mean of the two middle ones); not a number if there is none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
