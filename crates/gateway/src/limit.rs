//! How much a client may ask for: token buckets over time that is passed in.

use std::time::Duration;

use crate::keys::KeyLimits;

/// A bucket that refills by its capacity each minute and may be overdrawn.
///
/// Debt is what lets a request be admitted before the length of its answer is known: the answer's
/// tokens are taken as they come, and the next request waits until the debt is paid.
#[derive(Debug, Clone)]
struct Bucket {
    per_minute: u32,
    /// Units in stock at `at`; negative is debt.
    level: f64,
    at: Duration,
}

/// What is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too many requests.
    Requests {
        /// The limit per minute.
        limit: u32,
        /// When the same request would be let in.
        retry_after: Duration,
    },
    /// Too many tokens.
    Tokens {
        /// The limit per minute.
        limit: u32,
        /// When the same request would be let in.
        retry_after: Duration,
    },
}

/// The limits of one client, in use.
#[derive(Debug, Clone)]
pub(crate) struct Allowance {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

impl Allowance {
    /// Full buckets at `now` (time since any fixed point).
    #[must_use]
    pub(crate) fn new(limits: KeyLimits, now: Duration) -> Self {
        let bucket = |per_minute| Bucket {
            per_minute,
            level: f64::from(per_minute),
            at: now,
        };
        Self {
            requests: limits.requests_per_minute.map(bucket),
            tokens: limits.tokens_per_minute.map(bucket),
        }
    }

    /// Counts one request at `now`.
    ///
    /// # Errors
    /// [`Refusal::Requests`]; nothing was taken then.
    pub(crate) fn take_request(&mut self, now: Duration) -> Result<(), Refusal> {
        let Some(bucket) = &mut self.requests else {
            return Ok(());
        };
        bucket
            .take(1, now)
            .map_err(|retry_after| Refusal::Requests {
                limit: bucket.per_minute,
                retry_after,
            })
    }

    /// Takes the tokens of a prompt at `now`. One larger than the limit is let in when the bucket is
    /// full, and then leaves debt.
    ///
    /// # Errors
    /// [`Refusal::Tokens`]; nothing was taken then.
    pub(crate) fn take_tokens(&mut self, tokens: usize, now: Duration) -> Result<(), Refusal> {
        let Some(bucket) = &mut self.tokens else {
            return Ok(());
        };
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        bucket
            .take(tokens, now)
            .map_err(|retry_after| Refusal::Tokens {
                limit: bucket.per_minute,
                retry_after,
            })
    }

    /// Takes tokens that were generated already: never refused, may leave debt.
    pub(crate) fn charge_tokens(&mut self, tokens: usize, now: Duration) {
        if let Some(bucket) = &mut self.tokens {
            bucket.refill(now);
            bucket.level -= f64::from(u32::try_from(tokens).unwrap_or(u32::MAX));
        }
    }
}

impl Bucket {
    fn refill(&mut self, now: Duration) {
        let minutes = now.saturating_sub(self.at).as_secs_f64() / 60.0;
        let capacity = f64::from(self.per_minute);
        self.level = (self.level + minutes * capacity).min(capacity);
        self.at = self.at.max(now);
    }

    /// Takes `cost`, or says how long until it could be taken.
    fn take(&mut self, cost: u32, now: Duration) -> Result<(), Duration> {
        self.refill(now);
        let needed = f64::from(cost.min(self.per_minute));
        // A hair of slack: a caller who waits exactly as long as told must be let in.
        if self.level + 1e-6 >= needed {
            self.level -= f64::from(cost);
            return Ok(());
        }
        let minutes = (needed - self.level) / f64::from(self.per_minute);
        Err(Duration::from_secs_f64(minutes * 60.0))
    }
}

#[cfg(test)]
mod tests;
