//! API keys: random words that are kept as hashes only.
//!
//! A key is `sk-skein-` and 64 hexadecimal digits of OS randomness. With 256 bits of entropy a plain
//! SHA-256 at rest is as good as a slow hash (there is nothing to guess), and it is checked on each
//! request. The comparison takes the same time for every key, known or not.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use thiserror::Error;

/// What every key begins with, so that secret scanners and people recognise one.
pub const KEY_PREFIX: &str = "sk-skein-";
/// Longest credential that is looked at, in bytes.
const KEY_BYTES_MAX: usize = 256;

/// SHA-256 of a key, as configuration keeps it: 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyHash([u8; 32]);

/// Why a configured key hash or key ring is refused.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// Not 64 hexadecimal digits.
    #[error(
        "a key hash is the SHA-256 of a key in 64 hexadecimal digits; this one has {0} characters or others than those"
    )]
    NotAHash(usize),
    /// Two entries share a name, which would mix their limits and their cached prompts.
    #[error("two API keys are named '{0}'; give each its own name")]
    DuplicateName(String),
    /// Two entries share a hash.
    #[error("the API keys '{0}' and '{1}' are one and the same key; remove one of them")]
    DuplicateKey(String, String),
    /// A name that cannot be printed or told apart.
    #[error("'{0}' cannot name an API key; use 1 to 64 of a-z, A-Z, 0-9, '-', '_' and '.'")]
    BadName(String),
    /// `anonymous` is the client without a key.
    #[error("'anonymous' is the name of clients without a key; choose another")]
    ReservedName,
    /// A limit of zero would refuse everything.
    #[error(
        "API key '{0}': a limit of 0 per minute would refuse every request; leave it out for no limit"
    )]
    ZeroLimit(String),
}

/// What a key may do, per minute. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyLimits {
    /// Requests per minute, also the largest burst.
    pub requests_per_minute: Option<u32>,
    /// Prompt and answer tokens per minute, also the largest burst.
    pub tokens_per_minute: Option<u32>,
}

/// One configured key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEntry {
    /// Who it belongs to: appears in logs and separates cached prompts from other clients'.
    pub name: String,
    /// Hash of the key.
    pub hash: KeyHash,
    /// What it may do.
    pub limits: KeyLimits,
}

/// All configured keys, checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyRing {
    entries: Vec<KeyEntry>,
}

/// A new key in the clear, to be shown once. `random` comes from the operating system.
#[must_use]
pub fn format_key(random: &[u8; 32]) -> String {
    let mut key = KEY_PREFIX.to_owned();
    push_hex(&mut key, random);
    key
}

impl KeyHash {
    /// Hash of a key in the clear.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }
}

impl FromStr for KeyHash {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bad = || KeyError::NotAHash(text.chars().count());
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(bad());
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16).ok_or_else(bad)?;
            let low = char::from(pair[1]).to_digit(16).ok_or_else(bad)?;
            *byte = u8::try_from(high << 4 | low).expect("two hexadecimal digits make a byte");
        }
        Ok(Self(hash))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        push_hex(&mut text, &self.0);
        f.write_str(&text)
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({self})")
    }
}

impl KeyRing {
    /// Checks `entries` against each other.
    ///
    /// # Errors
    /// [`KeyError`]: names or hashes that occur twice, names that cannot be used, limits of zero.
    pub(crate) fn new(entries: Vec<KeyEntry>) -> Result<Self, KeyError> {
        let mut names = BTreeSet::new();
        for (index, entry) in entries.iter().enumerate() {
            check_name(&entry.name)?;
            let limits = [
                entry.limits.requests_per_minute,
                entry.limits.tokens_per_minute,
            ];
            if limits.contains(&Some(0)) {
                return Err(KeyError::ZeroLimit(entry.name.clone()));
            }
            if !names.insert(entry.name.clone()) {
                return Err(KeyError::DuplicateName(entry.name.clone()));
            }
            if let Some(other) = entries[..index]
                .iter()
                .find(|other| other.hash == entry.hash)
            {
                return Err(KeyError::DuplicateKey(
                    other.name.clone(),
                    entry.name.clone(),
                ));
            }
        }
        Ok(Self { entries })
    }

    /// True if there is no key, so that every client is anonymous.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The configured keys.
    pub(crate) fn entries(&self) -> &[KeyEntry] {
        &self.entries
    }

    /// Index of the entry that `key` opens. Looks at every entry, whichever matches.
    pub(crate) fn find(&self, key: &str) -> Option<usize> {
        if key.len() > KEY_BYTES_MAX {
            return None;
        }
        let hash = KeyHash::of(key);
        let mut found = u64::MAX;
        for (index, entry) in self.entries.iter().enumerate() {
            let equal: Choice = entry.hash.0.ct_eq(&hash.0);
            found.conditional_assign(&(index as u64), equal);
        }
        usize::try_from(found)
            .ok()
            .filter(|index| *index < self.entries.len())
    }
}

fn check_name(name: &str) -> Result<(), KeyError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        return Err(KeyError::BadName(crate::error::quote(name)));
    }
    if name == crate::ANONYMOUS {
        return Err(KeyError::ReservedName);
    }
    Ok(())
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).expect("a nibble is a digit"));
        }
    }
}

#[cfg(test)]
mod tests;
