//! Randomness of the operating system.

use std::fmt;

/// The operating system gave no randomness.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no randomness: {reason}")]
pub struct EntropyError {
    /// What it said.
    pub reason: String,
}

/// Fills `out` with randomness fit for keys.
pub fn entropy(out: &mut [u8]) -> Result<(), EntropyError> {
    getrandom::fill(out).map_err(|error| EntropyError {
        reason: error.to_string(),
    })
}

/// 32 secret bytes: never shown, and compared by nobody.
#[derive(Clone)]
pub struct Secret32([u8; 32]);

impl Secret32 {
    /// A fresh secret of the operating system.
    pub fn random() -> Result<Self, EntropyError> {
        let mut bytes = [0; 32];
        entropy(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// A secret that the caller already has, or a fixed one for tests.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be used as a key and not kept.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret32(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_stay_secret() {
        let (a, b) = (Secret32::random().unwrap(), Secret32::random().unwrap());
        assert_ne!(a.expose(), b.expose());
        assert_eq!(format!("{a:?}"), "Secret32(..)");
    }
}
