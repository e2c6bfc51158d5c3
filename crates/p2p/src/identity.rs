//! The key of a node.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use skein_base::NodeId;
use skein_runtime::EntropyError;

/// PKCS#8 of an ed25519 key (RFC 8410) is this before the seed.
const PKCS8_PREFIX: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
/// A public key as TLS carries it (RFC 7250, 8410) is this before its 32 bytes.
pub(crate) const SPKI_PREFIX: [u8; 12] = *b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// No randomness for a new key.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The library refuses the key.
    #[error("the node's key cannot be used: {0}")]
    Key(#[from] rustls::Error),
}

/// An ed25519 key pair, whose public half names the node.
#[derive(Clone)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    node: NodeId,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.node)
    }
}

impl Identity {
    /// The identity of a secret seed. Who has the seed is the node.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, IdentityError> {
        let mut der = PKCS8_PREFIX.to_vec();
        der.extend_from_slice(seed);
        let key = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(der))?;
        let public = key.public_key();
        let public = public.ok_or_else(|| rustls::Error::General("no public half".to_owned()))?;
        let node = node_of(public.as_ref());
        let node = node.ok_or_else(|| rustls::Error::General("not ed25519".to_owned()))?;
        let certificate = CertificateDer::from(public.as_ref().to_vec());
        let key = Arc::new(CertifiedKey::new(vec![certificate], key));
        Ok(Self { key, node })
    }

    /// A new one.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn random() -> Result<(Self, [u8; 32]), IdentityError> {
        let mut seed = [0; 32];
        skein_runtime::entropy(&mut seed)?;
        Ok((Self::from_seed(&seed)?, seed))
    }

    /// Its name.
    pub fn node(&self) -> NodeId {
        self.node
    }

    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }
}

/// The node that a public key of TLS names; `None` if it is no ed25519 key.
pub(crate) fn node_of(spki: &[u8]) -> Option<NodeId> {
    let key = spki.strip_prefix(&SPKI_PREFIX)?;
    Some(NodeId(key.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 1.
    #[test]
    fn the_name_is_the_public_key() {
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let seed: NodeId = seed.parse().expect("hexadecimal");
        let identity = Identity::from_seed(&seed.0).expect("a key");
        assert_eq!(identity.node().to_string(), public);
        assert_eq!(format!("{identity:?}"), format!("Identity({public})"));
        let (other, seed) = Identity::random().expect("a key");
        let again = Identity::from_seed(&seed).expect("a key");
        assert_eq!(other.node(), again.node());
        assert_ne!(other.node(), identity.node());
    }
}
