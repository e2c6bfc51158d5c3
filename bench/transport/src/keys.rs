//! The identities of the nodes: fixed ed25519 seeds, so that everybody knows everybody's key without asking.
//! TLS uses them as raw public keys (RFC 7250), libp2p as peer ids: one identity for both.

use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::{
        AlwaysResolvesClientRawPublicKeys, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key,
    },
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
        UnixTime,
    },
    server::{
        AlwaysResolvesServerRawPublicKeys,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::TLS13,
};

pub const NODES: usize = 4;

pub fn seed(index: usize) -> [u8; 32] {
    [u8::try_from(index + 1).expect("there are four nodes"); 32]
}

/// PKCS#8 (RFC 8410) is a fixed prefix before the seed.
fn private_key(index: usize) -> PrivateKeyDer<'static> {
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend_from_slice(&seed(index));
    PrivatePkcs8KeyDer::from(der).into()
}

/// The key pair and, in the place of a certificate chain, the bare public key.
fn certified_key(index: usize) -> Result<Arc<CertifiedKey>> {
    let key = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(
        private_key(index).secret_der().to_vec(),
    ))?;
    let spki = key
        .public_key()
        .context("a key pair knows its public half")?
        .as_ref()
        .to_vec();
    Ok(Arc::new(CertifiedKey::new(
        vec![CertificateDer::from(spki)],
        key,
    )))
}

fn public_key(index: usize) -> Result<Vec<u8>> {
    Ok(certified_key(index)?.cert[0].as_ref().to_vec())
}

fn provider() -> CryptoProvider {
    use ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256};
    CryptoProvider {
        cipher_suites: vec![TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256],
        ..ring::default_provider()
    }
}

/// Accepts the given keys and no others; there is no authority and no name to check.
#[derive(Debug)]
struct Pinned {
    keys: Vec<Vec<u8>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn new(indices: impl IntoIterator<Item = usize>) -> Result<Arc<Self>> {
        let keys = indices.into_iter().map(public_key).collect::<Result<_>>()?;
        let algorithms = provider().signature_verification_algorithms;
        Ok(Arc::new(Self { keys, algorithms }))
    }

    fn check(&self, key: &CertificateDer<'_>) -> Result<(), Error> {
        match self.keys.iter().any(|known| known == key.as_ref()) {
            true => Ok(()),
            false => Err(Error::General(
                "the peer's key is not the expected one".to_owned(),
            )),
        }
    }

    fn verify(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }
}

fn no_tls12() -> Error {
    Error::General("TLS 1.2 is not offered".to_owned())
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(key).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(key).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// For a node that dials: it shows its own key and accepts that of `peer` alone.
pub fn client_config(own: usize, peer: usize) -> Result<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Pinned::new([peer])?)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
            certified_key(own)?,
        )));
    config.alpn_protocols = vec![b"skein-link".to_vec()];
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// For a node that listens: it demands a key and accepts those of the other nodes.
pub fn server_config(own: usize) -> Result<ServerConfig> {
    let others = (0..NODES).filter(|index| *index != own);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Pinned::new(others)?)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(
            certified_key(own)?,
        )));
    config.alpn_protocols = vec![b"skein-link".to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConnection, ServerConnection};

    use super::*;

    /// Shakes hands in memory until both ends are done or one refuses.
    fn handshake(dialler: usize, expected: usize, listener: usize) -> Result<()> {
        let config = Arc::new(client_config(dialler, expected)?);
        let mut client = ClientConnection::new(config, ServerName::try_from("skein")?)?;
        let mut server = ServerConnection::new(Arc::new(server_config(listener)?))?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire)?;
            server.read_tls(&mut wire.as_slice())?;
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire)?;
            client.read_tls(&mut wire.as_slice())?;
            client.process_new_packets()?;
        }
        let seen = server
            .peer_certificates()
            .context("the dialler shows its key")?;
        assert_eq!(seen[0].as_ref(), public_key(dialler)?);
        Ok(())
    }

    #[test]
    fn only_pinned_keys_pass() {
        assert!(handshake(0, 1, 1).is_ok());
        assert!(
            handshake(0, 2, 1).is_err(),
            "the listener is not who was dialled"
        );
        assert!(
            handshake(1, 1, 1).is_err(),
            "the dialler is not among the known"
        );
    }

    /// The last 32 bytes of the public key are what libp2p derives the peer id from.
    #[test]
    fn keys_are_those_of_libp2p() -> Result<()> {
        let peer = libp2p::identity::Keypair::ed25519_from_bytes(seed(2))?;
        let key = peer.public().try_into_ed25519()?;
        assert!(public_key(2)?.ends_with(&key.to_bytes()));
        Ok(())
    }
}
