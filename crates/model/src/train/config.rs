//! How to train.

use std::collections::BTreeMap;

/// How to train, apart from what learns and from the data. The same configuration, weights and
/// batches give the same bits.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// How many steps the schedule spans; training may be told to stop before.
    pub steps: u64,
    /// Steps over which the learning rate rises from zero.
    pub warmup: u64,
    /// The learning rate after the rise, above zero.
    pub rate: f64,
    /// Steps over which the rate falls at the end; zero for all after the warm-up. In between it
    /// stays, so that how long training lasts can be decided late.
    pub decay: u64,
    /// The rate at the last step over the highest, 0 to 1; a cosine leads there.
    pub final_share: f64,
    /// Decay of the first moment, under 1.
    pub beta1: f64,
    /// Decay of the second moment, under 1.
    pub beta2: f64,
    /// What AdamW adds to the root of the second moment.
    pub epsilon: f64,
    /// Decay of matrices, apart from the gradient; vectors (norms, biases) have none.
    pub weight_decay: f64,
    /// Largest norm of all gradients together; longer ones are scaled down.
    pub clip_norm: Option<f64>,
    /// Largest norm of one tensor's gradient, applied first.
    pub clip_tensor: Option<f64>,
    /// Probability that a value joins the residual stream as zero, under 1.
    pub dropout: f64,
    /// Whether layers are computed again in the backward pass instead of being remembered: about a
    /// third more time, a fraction of the memory, the same bits.
    pub recompute: bool,
    /// Where dropout and first values of adapters come from.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: 1000,
            warmup: 50,
            rate: 1e-3,
            decay: 0,
            final_share: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip_norm: Some(1.0),
            clip_tensor: None,
            dropout: 0.0,
            recompute: false,
            seed: 0,
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value makes no sense.
    #[error("{name} is {found}: it must be {allowed}")]
    Value {
        /// The field.
        name: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// A field is not among the stored ones, or is no number.
    #[error("the stored configuration has no valid {name}")]
    Stored {
        /// The field.
        name: &'static str,
    },
}

impl TrainConfig {
    /// Whether every field makes sense.
    pub fn check(&self) -> Result<(), ConfigError> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let share = |x: f64| (0.0..1.0).contains(&x);
        let fields = [
            ("steps", self.steps > 0, self.steps as f64, "at least 1"),
            ("rate", positive(self.rate), self.rate, "above 0"),
            (
                "final_share",
                (0.0..=1.0).contains(&self.final_share),
                self.final_share,
                "0 to 1",
            ),
            ("beta1", share(self.beta1), self.beta1, "0 to less than 1"),
            ("beta2", share(self.beta2), self.beta2, "0 to less than 1"),
            ("epsilon", positive(self.epsilon), self.epsilon, "above 0"),
            (
                "weight_decay",
                self.weight_decay.is_finite() && self.weight_decay >= 0.0,
                self.weight_decay,
                "0 or more",
            ),
            (
                "clip_norm",
                self.clip_norm.is_none_or(positive),
                self.clip_norm.unwrap_or_default(),
                "above 0",
            ),
            (
                "clip_tensor",
                self.clip_tensor.is_none_or(positive),
                self.clip_tensor.unwrap_or_default(),
                "above 0",
            ),
            (
                "dropout",
                share(self.dropout),
                self.dropout,
                "0 to less than 1",
            ),
        ];
        match fields.into_iter().find(|(_, valid, ..)| !valid) {
            None => Ok(()),
            Some((name, _, found, allowed)) => Err(ConfigError::Value {
                name,
                found: found.to_string(),
                allowed,
            }),
        }
    }

    /// Every field as text that [`Self::from_fields`] reads back exactly.
    pub(super) fn fields(&self) -> BTreeMap<String, String> {
        let optional =
            |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let fields = [
            ("steps", self.steps.to_string()),
            ("warmup", self.warmup.to_string()),
            ("rate", self.rate.to_string()),
            ("decay", self.decay.to_string()),
            ("final_share", self.final_share.to_string()),
            ("beta1", self.beta1.to_string()),
            ("beta2", self.beta2.to_string()),
            ("epsilon", self.epsilon.to_string()),
            ("weight_decay", self.weight_decay.to_string()),
            ("clip_norm", optional(self.clip_norm)),
            ("clip_tensor", optional(self.clip_tensor)),
            ("dropout", self.dropout.to_string()),
            ("recompute", self.recompute.to_string()),
            ("seed", self.seed.to_string()),
        ];
        let named = |(name, value): (&str, String)| (name.to_owned(), value);
        fields.into_iter().map(named).collect()
    }

    /// Reads what [`Self::fields`] gave, and checks it.
    pub(super) fn from_fields(fields: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let text = |name: &'static str| fields.get(name).ok_or(ConfigError::Stored { name });
        fn parse<T: std::str::FromStr>(name: &'static str, text: &str) -> Result<T, ConfigError> {
            text.parse().map_err(|_| ConfigError::Stored { name })
        }
        let float = |name| parse::<f64>(name, text(name)?);
        let whole = |name| parse::<u64>(name, text(name)?);
        let optional = |name| match text(name)?.as_str() {
            "" => Ok(None),
            some => parse(name, some).map(Some),
        };
        let config = Self {
            steps: whole("steps")?,
            warmup: whole("warmup")?,
            rate: float("rate")?,
            decay: whole("decay")?,
            final_share: float("final_share")?,
            beta1: float("beta1")?,
            beta2: float("beta2")?,
            epsilon: float("epsilon")?,
            weight_decay: float("weight_decay")?,
            clip_norm: optional("clip_norm")?,
            clip_tensor: optional("clip_tensor")?,
            dropout: float("dropout")?,
            recompute: parse("recompute", text("recompute")?)?,
            seed: whole("seed")?,
        };
        config.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_as_they_were() {
        let config = TrainConfig {
            rate: 0.1 + 0.2,
            decay: 7,
            clip_tensor: Some(1e-300),
            recompute: true,
            seed: u64::MAX,
            ..TrainConfig::default()
        };
        let mut fields = config.fields();
        assert_eq!(TrainConfig::from_fields(&fields), Ok(config));
        fields.insert("beta1".to_owned(), "1".to_owned());
        let error = TrainConfig::from_fields(&fields).unwrap_err();
        assert!(matches!(error, ConfigError::Value { name: "beta1", .. }));
        fields.remove("seed");
        let error = TrainConfig::from_fields(&fields).unwrap_err();
        assert_eq!(error, ConfigError::Stored { name: "seed" });
    }

    #[test]
    fn values_without_sense_are_refused_by_name() {
        let with = |change: fn(&mut TrainConfig)| {
            let mut config = TrainConfig::default();
            change(&mut config);
            match config.check() {
                Err(ConfigError::Value { name, .. }) => name,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(with(|config| config.steps = 0), "steps");
        assert_eq!(with(|config| config.rate = f64::NAN), "rate");
        assert_eq!(with(|config| config.final_share = 1.5), "final_share");
        assert_eq!(with(|config| config.dropout = 1.0), "dropout");
        assert_eq!(with(|config| config.clip_norm = Some(0.0)), "clip_norm");
        assert_eq!(with(|config| config.weight_decay = -1.0), "weight_decay");
    }
}
