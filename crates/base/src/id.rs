//! Ids that are hashes of what they name.

use std::fmt;
use std::str::FromStr;

use crate::digest::{ParseDigestError, digest_type, parse_hex};

digest_type! {
    /// Names a model: a hash over profile, tokenizer and the weights of each layer, and nothing
    /// else. Cutting a model otherwise does not change it.
    ModelId
}
digest_type! {
    /// Names all that fixes the bits of an answer beside the model: weight format, rounding
    /// boundaries, KV format, kernel revision.
    NumericsId
}
digest_type! {
    /// Names a node: its ed25519 public key.
    NodeId
}

/// Names a request on all machines that work for it: the trace id of W3C's Trace Context.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TraceId(pub [u8; 16]);

impl TraceId {
    /// The trace id of a `traceparent` header (W3C Trace Context, version 00), if it is one.
    pub fn of_traceparent(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let (version, trace) = (parts.next()?, parts.next()?);
        let rest = parts.next()?.len() == 16 && parts.next()?.len() == 2;
        let lower = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if version != "00" || !rest || trace.len() != 32 || !trace.chars().all(lower) {
            return None;
        }
        let id = Self(u128::from_str_radix(trace, 16).ok()?.to_be_bytes());
        (id != Self::default()).then_some(id)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn traces_are_those_of_w3c() {
        // The example of the recommendation.
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = super::TraceId::of_traceparent(header).expect("valid");
        assert_eq!(trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let wrong = [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ];
        for header in wrong {
            assert_eq!(super::TraceId::of_traceparent(header), None, "{header}");
        }
    }
}
