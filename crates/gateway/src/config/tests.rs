use super::*;
use crate::keys::{KeyHash, KeyLimits};

/// Self-signed for `localhost`; it and its key are for tests alone.
pub(crate) const CERTIFICATE: &str = include_str!("test-certificate.pem");
const KEY: &str = include_str!("test-key.pem");

pub(crate) fn pem() -> TlsPem {
    TlsPem {
        certificates: CERTIFICATE.into(),
        key: KEY.into(),
    }
}

fn key() -> KeyEntry {
    KeyEntry {
        name: "alice".to_owned(),
        hash: KeyHash::of("x"),
        limits: KeyLimits::default(),
    }
}

fn check(config: &GatewayConfig, listen: &str) -> Result<(), String> {
    let checked = config.validate(listen.parse().unwrap());
    checked.map_err(|error| error.to_string())
}

#[test]
fn others_are_let_in_only_with_keys_and_tls() {
    let open = GatewayConfig::default();
    let keys = GatewayConfig {
        keys: vec![key()],
        ..GatewayConfig::default()
    };
    let tls = GatewayConfig {
        tls: Some(pem()),
        ..GatewayConfig::default()
    };
    let both = GatewayConfig {
        tls: Some(pem()),
        ..keys.clone()
    };
    let insecure = GatewayConfig {
        allow_insecure: true,
        ..GatewayConfig::default()
    };
    for listen in ["0.0.0.0:80", "192.0.2.1:80", "[::]:80", "[2001:db8::1]:80"] {
        for (config, missing) in [
            (&open, "API keys and TLS"),
            (&keys, "TLS"),
            (&tls, "API keys"),
        ] {
            let error = check(config, listen).unwrap_err();
            assert!(error.contains(&format!("needs {missing};")), "{error}");
        }
        assert_eq!(check(&both, listen), Ok(()));
        assert_eq!(check(&insecure, listen), Ok(()));
    }
    for listen in ["127.0.0.1:80", "[::1]:80", "127.8.8.8:80"] {
        assert_eq!(check(&open, listen), Ok(()));
    }
}

#[test]
fn nonsense_is_refused_with_a_word() {
    let config = GatewayConfig::default;
    let tls = |certificates: &str, key: &str| GatewayConfig {
        tls: Some(TlsPem {
            certificates: certificates.into(),
            key: key.into(),
        }),
        ..config()
    };
    let cases = [
        (
            GatewayConfig {
                requests_max: 0,
                ..config()
            },
            "requests_max",
        ),
        (
            GatewayConfig {
                body_timeout: Duration::ZERO,
                ..config()
            },
            "body_timeout",
        ),
        (
            GatewayConfig {
                hosts: vec!["https://x".into()],
                ..config()
            },
            "https://x",
        ),
        (
            GatewayConfig {
                hosts: vec![String::new()],
                ..config()
            },
            "host name",
        ),
        (
            GatewayConfig {
                cors_origins: vec!["x.org".into()],
                ..config()
            },
            "x.org",
        ),
        (
            GatewayConfig {
                cors_origins: vec!["https://x.org/".into()],
                ..config()
            },
            "origin",
        ),
        (
            GatewayConfig {
                keys: vec![key(), key()],
                ..config()
            },
            "alice",
        ),
        (tls("", KEY), "no certificate"),
        (tls(KEY, KEY), "no certificate"),
        (tls(CERTIFICATE, CERTIFICATE), "key file"),
        (tls("-----BEGIN CERTIFICATE-----\nAA", KEY), "certificate"),
    ];
    for (config, word) in cases {
        let error = check(&config, "127.0.0.1:80").unwrap_err();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn secrets_are_not_printed() {
    let config = GatewayConfig {
        tls: Some(pem()),
        ..GatewayConfig::default()
    };
    assert!(!format!("{config:?}").contains("PRIVATE"));
}
