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
