//! Choose the next token from the best scores of the last stage.
//!
//! # Rules
//!
//! Every rule is defined on the **candidates**: the top scores (at most 256) united with the ids
//! that were [asked](Sampler::asked) for. All arithmetic is in double precision on
//! [`skein_base::math`], so every machine draws the same token. In this order:
//!
//! 1. **Logit bias**: added to the logit.
//! 2. **Repetition penalty** `r`, for ids in the prompt or the answer so far: a positive logit is
//!    divided by `r`, any other multiplied by it.
//! 3. **Presence and frequency penalties**, for ids in the answer so far (not in the prompt): the
//!    logit loses `presence + frequency * occurrences`.
//! 4. Candidates are ordered: higher logit first, lower id first among equal ones. If the
//!    **temperature** is zero, the first one is the answer. Otherwise its weight is
//!    `exp((logit - highest logit) / temperature)`.
//! 5. **Top-k**: the first `k` candidates stay (0: all).
//! 6. **Top-p**: the shortest run of first candidates whose share of the remaining weight is at
//!    least `p` stays; at least one does.
//! 7. **Min-p**: candidates whose weight is at least `min_p` times the first one's stay.
//! 8. **Draw**: step `i` of seed `s` draws `u` in `[0, 1)` (below); the answer is the first
//!    candidate, in the order of rule 4, at which the running sum of weights exceeds `u` times
//!    their total.
//!
//! **What the truncation means.** Tokens outside the candidates can not be drawn. At temperature 1
//! their probability is known exactly ([`mass_outside`]) and for trained models tiny; it grows with
//! the temperature, so above about 1.5 an answer is drawn from a visibly narrower distribution
//! than the model's own. Penalties can also sink candidates below tokens that were not sent; those
//! are not considered. Penalties that *raise* a logit (negative presence or frequency, repetition
//! below 1) ask for the ids that they raise, the most recent distinct ones first, as many as may be
//! asked.
//!
//! **Log-probabilities** are those of the unmodified distribution, `logit - log_sum_exp`, as
//! OpenAI reports them.
//!
//! **Random numbers**: `mix` is the finaliser of SplitMix64 (Steele, Lea, Flood 2014). The key is
//! `mix(seed + g)` and step `i` (from 0) gives `mix(key + (i + 1) * g)`, with
//! `g = 0x9e3779b97f4a7c15`, all modulo 2^64; its upper 53 bits divided by 2^53 are `u`. So a step
//! depends on the seed and its own number only: not on batching, nor on which steps were drawn
//! before.

use std::collections::{BTreeMap, BTreeSet};

use skein_base::Scores;
use skein_base::limits::{ASKED_SCORES_MAX, TOP_SCORES};
use skein_base::math::exp64;
use skein_base::splitmix::{GAMMA, mix};

pub use params::{BIASES_MAX, ParamsError, SamplingParams, TOP_LOGPROBS_MAX};

mod params;
#[cfg(test)]
mod tests;

/// Why no token could be chosen. All variants blame the sender of the scores.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// No candidate at all.
    #[error("the scores of step {step} hold no candidate")]
    Empty {
        /// Number of the step, from 0.
        step: u64,
    },
    /// More scores than the protocol has.
    #[error("the scores of step {step} hold {found} {list} scores, at most {max} are possible")]
    TooMany {
        /// Number of the step, from 0.
        step: u64,
        /// `top` or `asked`.
        list: &'static str,
        /// How many came.
        found: usize,
        /// How many there may be.
        max: usize,
    },
    /// A logit is NaN or plus infinity, or the log-sum-exp is not finite.
    #[error("the scores of step {step} are not numbers: {what} is {value}")]
    NotFinite {
        /// Number of the step, from 0.
        step: u64,
        /// Which value.
        what: String,
        /// The value.
        value: f32,
    },
    /// One id came twice with different logits, or twice among the best.
    #[error("the scores of step {step} hold token {id} twice")]
    Conflict {
        /// Number of the step, from 0.
        step: u64,
        /// The token.
        id: u32,
    },
    /// An id that was asked for did not come.
    #[error("the scores of step {step} lack token {id}, which was asked for")]
    Missing {
        /// Number of the step, from 0.
        step: u64,
        /// The token.
        id: u32,
    },
}

/// A chosen token.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The token.
    pub id: u32,
    /// Natural logarithm of its probability in the unmodified distribution.
    pub logprob: f32,
    /// The most probable tokens of the unmodified distribution with the logarithm of their
    /// probabilities, best first, as many as [`SamplingParams::top_logprobs`] says.
    pub top: Vec<(u32, f32)>,
}

/// One answer's sampling: settings, and what has been seen so far.
#[derive(Debug, Clone)]
pub struct Sampler {
    params: SamplingParams,
    key: u64,
    step: u64,
    seen: BTreeMap<u32, Seen>,
    /// Distinct ids by their latest appearance: the last is the most recent.
    recent: BTreeMap<u64, u32>,
    clock: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Occurrences in the answer so far.
    answered: u32,
    /// Key in `Sampler::recent`.
    at: u64,
}

impl Sampler {
    /// A sampler before its first step. `params` must be [valid](SamplingParams::validate);
    /// `prompt` counts for the repetition penalty.
    pub fn new(params: SamplingParams, prompt: &[u32]) -> Self {
        let key = mix(params.seed.wrapping_add(GAMMA));
        let (seen, recent) = (BTreeMap::new(), BTreeMap::new());
        let mut sampler = Self {
            params,
            key,
            step: 0,
            seen,
            recent,
            clock: 0,
        };
        if sampler.params.has_penalties() {
            prompt.iter().for_each(|&id| sampler.note(id, 0));
        }
        sampler
    }

    /// The settings.
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// How many tokens have been chosen.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The ids whose scores the next [`sample`](Self::sample) needs beside the best ones: at most
    /// [`ASKED_SCORES_MAX`], ascending.
    pub fn asked(&self) -> Vec<u32> {
        let mut ids: BTreeSet<u32> = self.params.logit_bias.keys().copied().collect();
        if self.params.raises() {
            for &id in self.recent.values().rev() {
                if ids.len() >= ASKED_SCORES_MAX {
                    break;
                }
                ids.insert(id);
            }
        }
        ids.into_iter().collect()
    }

    /// Chooses the next token and counts it as part of the answer.
    pub fn sample(&mut self, scores: &Scores) -> Result<Sampled, SampleError> {
        let raw = self.candidates(scores)?;
        let mut list: Vec<(u32, f64)> = raw
            .iter()
            .map(|(&id, &logit)| (id, self.adjusted(id, f64::from(logit))))
            .collect();
        list.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let id = self
            .choose(&list)
            .ok_or(SampleError::Empty { step: self.step })?;
        let logprob = |logit: f32| (f64::from(logit) - f64::from(scores.log_sum_exp)) as f32;
        let mut best = scores.top.clone();
        best.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        best.truncate(self.params.top_logprobs as usize);
        let top = best
            .into_iter()
            .map(|(id, logit)| (id, logprob(logit)))
            .collect();
        let chosen = raw.get(&id).copied().unwrap_or(f32::NEG_INFINITY);
        self.accept(id);
        Ok(Sampled {
            id,
            logprob: logprob(chosen),
            top,
        })
    }

    /// Counts `id` as the next token of the answer without drawing: for answers that are resumed
    /// from a record.
    pub fn accept(&mut self, id: u32) {
        self.step += 1;
        if self.params.has_penalties() {
            self.note(id, 1);
        }
    }

    fn note(&mut self, id: u32, answered: u32) {
        let clock = self.clock;
        self.clock += 1;
        let seen = self.seen.entry(id).or_insert(Seen {
            answered: 0,
            at: clock,
        });
        self.recent.remove(&seen.at);
        seen.answered = seen.answered.saturating_add(answered);
        seen.at = clock;
        self.recent.insert(clock, id);
    }

    /// Top united with asked, checked: scores come from nodes that are not trusted.
    fn candidates(&self, scores: &Scores) -> Result<BTreeMap<u32, f32>, SampleError> {
        let step = self.step;
        let lists = [
            ("top", &scores.top, TOP_SCORES),
            ("asked", &scores.asked, ASKED_SCORES_MAX),
        ];
        for (list, found, max) in lists {
            if found.len() > max {
                return Err(SampleError::TooMany {
                    step,
                    list,
                    found: found.len(),
                    max,
                });
            }
        }
        if !scores.log_sum_exp.is_finite() {
            let what = "log_sum_exp".to_owned();
            return Err(SampleError::NotFinite {
                step,
                what,
                value: scores.log_sum_exp,
            });
        }
        let mut map = BTreeMap::new();
        for (index, &(id, logit)) in scores.top.iter().chain(&scores.asked).enumerate() {
            if logit.is_nan() || logit == f32::INFINITY {
                let what = format!("the logit of token {id}");
                return Err(SampleError::NotFinite {
                    step,
                    what,
                    value: logit,
                });
            }
            match map.insert(id, logit) {
                None => {}
                Some(_) if index < scores.top.len() => {
                    return Err(SampleError::Conflict { step, id });
                }
                Some(earlier) if earlier != logit => {
                    return Err(SampleError::Conflict { step, id });
                }
                Some(_) => {}
            }
        }
        match self.asked().into_iter().find(|id| !map.contains_key(id)) {
            Some(id) => Err(SampleError::Missing { step, id }),
            None => Ok(map),
        }
    }

    /// Rules 1 to 3.
    fn adjusted(&self, id: u32, logit: f64) -> f64 {
        let params = &self.params;
        let mut logit = logit + f64::from(params.logit_bias.get(&id).copied().unwrap_or(0.0));
        let Some(seen) = self.seen.get(&id) else {
            return logit;
        };
        let repetition = f64::from(params.repetition_penalty);
        logit = if logit > 0.0 {
            logit / repetition
        } else {
            logit * repetition
        };
        if seen.answered > 0 {
            let frequency = f64::from(params.frequency_penalty) * f64::from(seen.answered);
            logit -= f64::from(params.presence_penalty) + frequency;
        }
        logit
    }

    /// Rules 4 to 8 on ordered candidates. `None` if there is none of any weight.
    fn choose(&self, list: &[(u32, f64)]) -> Option<u32> {
        let &(first, highest) = list.first()?;
        if highest == f64::NEG_INFINITY {
            return None;
        }
        if self.params.temperature == 0.0 {
            return Some(first);
        }
        let kept = self.kept(list, highest);
        let total: f64 = kept.iter().map(|&(_, weight)| weight).sum();
        let target = uniform(self.key, self.step) * total;
        let mut sum = 0.0;
        for &(id, weight) in &kept {
            sum += weight;
            if sum > target {
                return Some(id);
            }
        }
        // Only if rounding put the target on the total.
        kept.iter()
            .rev()
            .find(|&&(_, weight)| weight > 0.0)
            .map(|&(id, _)| id)
    }

    /// Rules 5 to 7: the candidates that may be drawn, with their weights.
    fn kept(&self, list: &[(u32, f64)], highest: f64) -> Vec<(u32, f64)> {
        let temperature = f64::from(self.params.temperature);
        let limit = if self.params.top_k == 0 {
            list.len()
        } else {
            self.params.top_k as usize
        };
        let mut kept: Vec<(u32, f64)> = list
            .iter()
            .take(limit)
            .map(|&(id, logit)| (id, exp64((logit - highest) / temperature)))
            .collect();
        if self.params.top_p < 1.0 {
            let total: f64 = kept.iter().map(|&(_, weight)| weight).sum();
            let wanted = f64::from(self.params.top_p) * total;
            let mut sum = 0.0;
            let enough = kept.iter().position(|&(_, weight)| {
                sum += weight;
                sum >= wanted
            });
            kept.truncate(enough.map_or(kept.len(), |index| index + 1));
        }
        // The first weight is exactly 1.
        let least = f64::from(self.params.min_p);
        kept.retain(|&(_, weight)| weight >= least);
        kept
    }
}

/// The probability, at temperature 1 and before any rule, of all tokens that are neither among the
/// best scores nor asked for.
pub fn mass_outside(scores: &Scores) -> f64 {
    let candidates: BTreeMap<u32, f32> = scores.top.iter().chain(&scores.asked).copied().collect();
    let sum = f64::from(scores.log_sum_exp);
    let inside: f64 = candidates
        .values()
        .map(|&logit| exp64(f64::from(logit) - sum))
        .sum();
    (1.0 - inside).max(0.0)
}

/// The seed of answer `index` where one request wants several: the first has the request's own.
pub fn seed_of_choice(seed: u64, index: u32) -> u64 {
    match index {
        0 => seed,
        _ => mix(mix(seed) ^ u64::from(index)),
    }
}

fn uniform(key: u64, step: u64) -> f64 {
    let bits = mix(key.wrapping_add(step.wrapping_add(1).wrapping_mul(GAMMA)));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}
