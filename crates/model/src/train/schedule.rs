//! The learning rate over time.

use std::f64::consts::PI;

use skein_base::math;

use super::TrainConfig;

/// The learning rate of step `step`, counted from zero: a straight line up to the highest rate over
/// the warm-up, that rate until the decay begins, then half a cosine down to the final share of it
/// (Loshchilov and Hutter, 2016; with a plateau: Hu et al., MiniCPM, 2024).
pub(super) fn rate(config: &TrainConfig, step: u64) -> f64 {
    if step < config.warmup {
        return config.rate * (step + 1) as f64 / config.warmup as f64;
    }
    let start = open_ended(config);
    let span = config.steps.saturating_sub(start).max(1);
    let done = step.saturating_sub(start).min(span) as f64 / span as f64;
    let (_, cosine) = math::sin_cos64(PI * done);
    let share = config.final_share + (1.0 - config.final_share) * 0.5 * (1.0 + cosine);
    config.rate * share
}

/// How many steps are the same however many there will be: a training that has taken no more can be
/// made longer or shorter.
pub(super) fn open_ended(config: &TrainConfig) -> u64 {
    match config.decay {
        0 => config.warmup,
        decay => config.steps.saturating_sub(decay).max(config.warmup),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls_along_a_cosine() {
        let config = TrainConfig {
            steps: 110,
            warmup: 10,
            rate: 2.0,
            final_share: 0.1,
            ..TrainConfig::default()
        };
        let near = |step, expected: f64| {
            let found = rate(&config, step);
            assert!((found - expected).abs() < 1e-12, "step {step}: {found}");
        };
        near(0, 0.2);
        near(4, 1.0);
        near(9, 2.0);
        near(10, 2.0);
        near(60, 1.1);
        near(110, 0.2);
        near(1_000_000, 0.2);
    }

    #[test]
    fn stays_until_the_decay_begins() {
        let config = |steps| TrainConfig {
            steps,
            warmup: 10,
            rate: 2.0,
            decay: 20,
            final_share: 0.0,
            ..TrainConfig::default()
        };
        let (short, long) = (config(100), config(200));
        assert_eq!((open_ended(&short), open_ended(&long)), (80, 180));
        for step in 0..=80 {
            assert_eq!(rate(&short, step), rate(&long, step));
        }
        assert!((rate(&short, 90) - 1.0).abs() < 1e-12 && rate(&short, 100) < 1e-12);
        assert!(rate(&short, 81) < rate(&long, 81));
    }

    #[test]
    fn a_warm_up_longer_than_all_steps_just_rises() {
        let config = TrainConfig {
            steps: 5,
            warmup: 10,
            ..TrainConfig::default()
        };
        let rates: Vec<f64> = (0..12).map(|step| rate(&config, step)).collect();
        assert!(rates[..10].is_sorted() && rates.iter().all(|rate| *rate > 0.0));
    }
}
