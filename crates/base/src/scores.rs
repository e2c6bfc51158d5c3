//! What the last stage says about the next token, and all that a sampler may use.

/// The best logits of one position, with what is needed to turn them into exact probabilities.
///
/// `probability(i) = exp(logit(i) - log_sum_exp)`; the sum runs over the whole vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Up to [`crate::limits::TOP_SCORES`] pairs of token id and logit: highest logit first,
    /// lower id first among equal logits.
    pub top: Vec<(u32, f32)>,
    /// Natural logarithm of the sum of `exp(logit)` over the whole vocabulary.
    pub log_sum_exp: f32,
    /// Logits of the ids that were asked for, in the order of asking.
    pub asked: Vec<(u32, f32)>,
}
