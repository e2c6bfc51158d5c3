//! Where a server is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ureq::http::Uri;

/// Where a server is: scheme, host and port, and what its paths begin with if it stands behind a
/// proxy. Shown and parsed as a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Without a slash at the end and without `/v1`.
    base: String,
    encrypted: bool,
    loopback: bool,
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It is something else.
    #[error("expected http://HOST:PORT or https://HOST:PORT")]
    NoAddress,
    /// It names a user or a password.
    #[error(
        "a key does not belong into the address: set the environment variable {}",
        super::KEY_VARIABLE
    )]
    Credentials,
}

impl Address {
    /// Where a gateway that listens on `listen` is reached from its own machine.
    pub fn of_listener(listen: SocketAddr, encrypted: bool) -> Self {
        let ip = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let scheme = if encrypted { "https" } else { "http" };
        Self {
            base: format!("{scheme}://{}", SocketAddr::new(ip, listen.port())),
            encrypted,
            loopback: ip.is_loopback(),
        }
    }

    /// The URL of `path`, which begins with a slash.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Whether TLS hides what is said.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Whether others could read what is said on its way: no TLS, and not this machine.
    pub fn is_exposed(&self) -> bool {
        !self.encrypted && !self.loopback
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Takes the address with and without the `/v1` that OpenAI's clients want.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let uri: Uri = text.parse().map_err(|_| AddressError::NoAddress)?;
        let encrypted = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(AddressError::NoAddress),
        };
        let authority = uri.authority().ok_or(AddressError::NoAddress)?;
        if authority.as_str().contains('@') {
            return Err(AddressError::Credentials);
        }
        // The library drops what follows a '#'.
        if uri.query().is_some() || text.contains('#') || authority.host().is_empty() {
            return Err(AddressError::NoAddress);
        }
        let path = uri.path().trim_end_matches('/');
        let path = path.strip_suffix("/v1").unwrap_or(path);
        let scheme = if encrypted { "https" } else { "http" };
        Ok(Self {
            base: format!("{scheme}://{authority}{}", path.trim_end_matches('/')),
            encrypted,
            loopback: is_loopback(authority.host()),
        })
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let cases = [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", false),
            ("http://localhost:8080/", "http://localhost:8080", false),
            ("HTTP://localhost/v1", "http://localhost", false),
            ("http://[::1]:80/v1/", "http://[::1]:80", false),
            ("http://10.0.0.1:80", "http://10.0.0.1:80", true),
            (
                "http://localhost.example.org",
                "http://localhost.example.org",
                true,
            ),
            (
                "https://example.org/skein/v1",
                "https://example.org/skein",
                false,
            ),
            (
                "https://example.org/v1/models",
                "https://example.org/v1/models",
                false,
            ),
        ];
        for (text, base, exposed) in cases {
            let address: Address = text
                .parse()
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(address.to_string(), base, "{text}");
            assert_eq!(address.is_exposed(), exposed, "{text}");
            assert_eq!(address.url("/v1/models"), format!("{base}/v1/models"));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "8080",
            "127.0.0.1:8080",
            "localhost:8080",
            "localhost",
            "/v1",
            "ftp://host",
            "http://",
            "http:///v1",
            "http://host?x=1",
            "http://host#x",
            "http://ho st",
            "unix:/run/x",
        ] {
            assert_eq!(
                text.parse::<Address>(),
                Err(AddressError::NoAddress),
                "{text:?}"
            );
        }
        let key: Result<Address, _> = "http://sk-skein-x@host".parse();
        assert_eq!(key, Err(AddressError::Credentials));
    }

    #[test]
    fn listeners_are_reached_from_their_own_machine() {
        let cases = [
            ("127.0.0.1:8080", false, "http://127.0.0.1:8080"),
            ("0.0.0.0:80", false, "http://127.0.0.1:80"),
            ("[::]:443", true, "https://[::1]:443"),
            ("10.1.2.3:9", false, "http://10.1.2.3:9"),
        ];
        for (listen, encrypted, url) in cases {
            let listen = listen.parse().expect("an address");
            let address = Address::of_listener(listen, encrypted);
            assert_eq!(address.to_string(), url);
            assert_eq!(url.parse(), Ok(address));
        }
    }
}
