//! Digests of bytes, shown and parsed as lower-case hexadecimal.

use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hexadecimal digits, found {found:?}")]
pub struct ParseDigestError {
    /// The text, cut to 80 characters.
    pub found: String,
}

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseDigestError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_hex(text).map(Self)
            }
        }
    };
}
pub(crate) use digest_type;

digest_type! {
    /// A BLAKE3 hash: Skein's own digest, whose subtrees verify ranges.
    Blake3
}
digest_type! {
    /// A SHA-256 hash of a whole file, for people and for other tools.
    Sha256
}

impl Blake3 {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Hashes `bytes` under `key`: without the key, nobody can tell what was hashed.
    pub fn keyed(key: &[u8; 32], bytes: &[u8]) -> Self {
        Self(*blake3::keyed_hash(key, bytes).as_bytes())
    }
}

impl Sha256 {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

/// Reads exactly 64 hexadecimal digits of either case.
pub(crate) fn parse_hex(text: &str) -> Result<[u8; 32], ParseDigestError> {
    let refuse = || ParseDigestError {
        found: text.chars().take(80).collect(),
    };
    let bytes = text.as_bytes();
    if bytes.len() != 64 {
        return Err(refuse());
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16).ok_or_else(refuse)?;
        let low = char::from(pair[1]).to_digit(16).ok_or_else(refuse)?;
        *byte = (high * 16 + low) as u8;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors() {
        let blake3 = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(Blake3::of(b"").to_string(), blake3);
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sha256::of(b"abc").to_string(), sha256);
    }

    #[test]
    fn text_round_trip_and_refusals() {
        let digest = Sha256::of(b"skein");
        assert_eq!(digest.to_string().parse::<Sha256>(), Ok(digest));
        assert_eq!(
            digest.to_string().to_uppercase().parse::<Sha256>(),
            Ok(digest)
        );
        let long = "0".repeat(65);
        let no_digit = "g".repeat(64);
        let wide = "é".repeat(32);
        for bad in ["", "00", long.as_str(), no_digit.as_str(), wide.as_str()] {
            assert!(bad.parse::<Blake3>().is_err(), "{bad}");
        }
    }
}
