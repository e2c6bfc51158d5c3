//! What a client may ask of the sampler.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Most entries of a logit bias.
pub const BIASES_MAX: usize = 512;
/// Most alternatives reported for a token, as in OpenAI's API.
pub const TOP_LOGPROBS_MAX: u32 = 20;

/// Why settings were refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// A number is outside its range, or not a number.
    #[error("{field} must be between {min} and {max}, not {value}")]
    Range {
        /// The field's name in OpenAI's API.
        field: &'static str,
        /// What was given.
        value: f64,
        /// The least allowed.
        min: f64,
        /// The greatest allowed.
        max: f64,
    },
    /// Too many entries.
    #[error("logit_bias has {found} entries, at most {max} are allowed")]
    TooManyBiases {
        /// How many came.
        found: usize,
        /// How many there may be.
        max: usize,
    },
    /// The id is not in the vocabulary.
    #[error("logit_bias names token {id}, but the vocabulary ends at {vocabulary}")]
    BiasOutside {
        /// The id.
        id: u32,
        /// Rows of the model's output head.
        vocabulary: u32,
    },
}

/// Settings of one answer; the rules are in [the module](super).
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// 0 to 2; zero means greedy.
    pub temperature: f32,
    /// Keep the best k; zero keeps all.
    pub top_k: u32,
    /// 0 to 1: keep the best of this total probability; 1 keeps all.
    pub top_p: f32,
    /// 0 to 1: keep what has at least this share of the best one's probability.
    pub min_p: f32,
    /// 0.01 to 100; 1 changes nothing.
    pub repetition_penalty: f32,
    /// -2 to 2; 0 changes nothing.
    pub presence_penalty: f32,
    /// -2 to 2; 0 changes nothing.
    pub frequency_penalty: f32,
    /// Added to logits, -100 to 100.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Fixes every draw.
    pub seed: u64,
    /// How many alternatives to report, up to [`TOP_LOGPROBS_MAX`].
    pub top_logprobs: u32,
}

impl Default for SamplingParams {
    /// OpenAI's defaults: temperature 1 and nothing else; seed 0.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: 0,
            top_logprobs: 0,
        }
    }
}

impl SamplingParams {
    /// The best token at every step.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }

    /// Checks every range; `vocabulary` is the number of rows of the model's output head.
    pub fn validate(&self, vocabulary: u32) -> Result<(), ParamsError> {
        check("temperature", self.temperature, 0.0..=2.0)?;
        check("top_p", self.top_p, 0.0..=1.0)?;
        check("min_p", self.min_p, 0.0..=1.0)?;
        check("repetition_penalty", self.repetition_penalty, 0.01..=100.0)?;
        check("presence_penalty", self.presence_penalty, -2.0..=2.0)?;
        check("frequency_penalty", self.frequency_penalty, -2.0..=2.0)?;
        check(
            "top_logprobs",
            self.top_logprobs as f32,
            0.0..=TOP_LOGPROBS_MAX as f32,
        )?;
        let found = self.logit_bias.len();
        if found > BIASES_MAX {
            return Err(ParamsError::TooManyBiases {
                found,
                max: BIASES_MAX,
            });
        }
        for (&id, &bias) in &self.logit_bias {
            check("logit_bias", bias, -100.0..=100.0)?;
            if id >= vocabulary {
                return Err(ParamsError::BiasOutside { id, vocabulary });
            }
        }
        Ok(())
    }

    /// Whether what was seen matters.
    pub(super) fn has_penalties(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0
    }

    /// Whether a penalty can lift a token that is not among the best.
    pub(super) fn raises(&self) -> bool {
        self.repetition_penalty < 1.0 || self.presence_penalty < 0.0 || self.frequency_penalty < 0.0
    }
}

fn check(field: &'static str, value: f32, range: RangeInclusive<f32>) -> Result<(), ParamsError> {
    if range.contains(&value) {
        return Ok(());
    }
    let (min, max) = (f64::from(*range.start()), f64::from(*range.end()));
    Err(ParamsError::Range {
        field,
        value: f64::from(value),
        min,
        max,
    })
}
