//! All settings of a gateway, and whether they are safe together.

use std::net::SocketAddr;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use crate::keys::{KeyEntry, KeyError, KeyRing};

/// All settings of a gateway. [`GatewayConfig::default`] suits a loopback address.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// API keys. Without any, every client is the one anonymous client.
    pub keys: Vec<KeyEntry>,
    /// Certificate and key; without them, plain HTTP.
    pub tls: Option<TlsPem>,
    /// Listen on an address that others reach even without keys and TLS. For a server behind a
    /// proxy that does both.
    pub allow_insecure: bool,
    /// Host names beside `localhost` and the listening address that clients may use, without port.
    pub hosts: Vec<String>,
    /// Origins (such as `https://chat.example.org`) whose pages may call from a browser. None by
    /// default.
    pub cors_origins: Vec<String>,
    /// Largest request body in bytes.
    pub body_bytes_max: usize,
    /// Most requests being read or answered at once; more are told to come back. Together with
    /// `body_bytes_max` it bounds the memory that requests hold.
    pub requests_max: usize,
    /// Most open connections; more are closed at once.
    pub connections_max: usize,
    /// Longest time for TLS set-up and, each, for the headers of a request. Also how long a
    /// connection may idle between requests.
    pub header_timeout: Duration,
    /// Longest time for the body of a request.
    pub body_timeout: Duration,
    /// Longest time for a whole answer.
    pub answer_timeout: Duration,
    /// How long running answers may go on after the order to stop.
    pub shutdown_timeout: Duration,
    /// Whether `/metrics` may be read without a key where keys are configured.
    pub metrics_public: bool,
}

/// A certificate chain and its private key, as PEM text.
#[derive(Clone)]
pub struct TlsPem {
    /// The chain, leaf first.
    pub certificates: Vec<u8>,
    /// The key of the leaf.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for TlsPem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsPem(..)")
    }
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            tls: None,
            allow_insecure: false,
            hosts: Vec::new(),
            cors_origins: Vec::new(),
            // Far more than the text of a 128k-token context.
            body_bytes_max: 4 << 20,
            requests_max: 256,
            connections_max: 1024,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(60 * 60),
            shutdown_timeout: Duration::from_secs(20),
            metrics_public: false,
        }
    }
}

/// Why settings are refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Reachable by others without keys or TLS.
    #[error(
        "listening on {listen}, which other machines can reach, needs {missing}; configure it, listen on 127.0.0.1, \
         or set allow_insecure if something in front of this server does it"
    )]
    Insecure {
        /// Where it would listen.
        listen: SocketAddr,
        /// What is missing.
        missing: &'static str,
    },
    /// API keys are at odds.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The certificate or its key cannot be used.
    #[error("the TLS certificate and key cannot be used: {0}")]
    Tls(String),
    /// A bound of zero would refuse everything.
    #[error("{0} must not be zero: every request would be refused")]
    Zero(&'static str),
    /// A host name with more than a name in it.
    #[error("'{0}' is not a host name; give the name alone, without scheme, port or path")]
    BadHost(String),
    /// An origin that browsers never send.
    #[error(
        "'{0}' is not an origin; give scheme, host and, if need be, port, such as https://chat.example.org"
    )]
    BadOrigin(String),
}

impl GatewayConfig {
    /// Checks the settings together with the address they are for.
    ///
    /// # Errors
    /// [`ConfigError`]: the first of them that is unsafe or makes no sense.
    pub fn validate(&self, listen: SocketAddr) -> Result<(), ConfigError> {
        self.parts(listen).map(drop)
    }

    /// As [`Self::validate`], and what came out of it.
    pub(crate) fn parts(
        &self,
        listen: SocketAddr,
    ) -> Result<(KeyRing, Option<rustls::ServerConfig>), ConfigError> {
        let keys = KeyRing::new(self.keys.clone())?;
        if !listen.ip().is_loopback() && !self.allow_insecure {
            let missing = match (keys.is_empty(), self.tls.is_none()) {
                (true, true) => Some("API keys and TLS"),
                (true, false) => Some("API keys"),
                (false, true) => Some("TLS"),
                (false, false) => None,
            };
            if let Some(missing) = missing {
                return Err(ConfigError::Insecure { listen, missing });
            }
        }
        self.check_bounds()?;
        for host in &self.hosts {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if host.is_empty() || !host.chars().all(plain) {
                return Err(ConfigError::BadHost(crate::error::quote(host)));
            }
        }
        for origin in &self.cors_origins {
            check_origin(origin)?;
        }
        let tls = self.tls.as_ref().map(TlsPem::server_config).transpose()?;
        Ok((keys, tls))
    }

    fn check_bounds(&self) -> Result<(), ConfigError> {
        let bounds = [
            ("body_bytes_max", self.body_bytes_max == 0),
            ("requests_max", self.requests_max == 0),
            ("connections_max", self.connections_max == 0),
            ("header_timeout", self.header_timeout.is_zero()),
            ("body_timeout", self.body_timeout.is_zero()),
            ("answer_timeout", self.answer_timeout.is_zero()),
        ];
        match bounds.into_iter().find(|(_, zero)| *zero) {
            Some((name, _)) => Err(ConfigError::Zero(name)),
            None => Ok(()),
        }
    }
}

fn check_origin(origin: &str) -> Result<(), ConfigError> {
    let host = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
    match host {
        Some(host) if !host.is_empty() && host.chars().all(plain) => Ok(()),
        _ => Err(ConfigError::BadOrigin(crate::error::quote(origin))),
    }
}

impl TlsPem {
    /// Server side of TLS 1.2 and 1.3 with the `ring` provider, HTTP/1.1 alone.
    fn server_config(&self) -> Result<rustls::ServerConfig, ConfigError> {
        let bad = |what: &str| ConfigError::Tls(what.to_owned());
        let certificates = CertificateDer::pem_slice_iter(&self.certificates)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| ConfigError::Tls(format!("the certificate file: {error}")))?;
        if certificates.is_empty() {
            return Err(bad("the certificate file holds no certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| ConfigError::Tls(format!("the key file: {error}")))?;
        // Named here and not taken from the process: nothing is installed globally.
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(certificates, key)
            })
            .map_err(|error| ConfigError::Tls(error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

#[cfg(test)]
pub(crate) mod tests;
