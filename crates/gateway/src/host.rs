//! Which `Host` names this server answers to.
//!
//! A page in a browser may point a name of its own at a loopback address and then talk to whatever
//! listens there (DNS rebinding). Such a request carries the page's name as its host, so a server
//! that answers to its own names alone is out of reach.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// The names and addresses that are ours.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    listen: SocketAddr,
    names: BTreeSet<String>,
}

impl Hosts {
    /// Loopback names, the listening address, and `names`.
    pub(crate) fn new(listen: SocketAddr, names: &[String]) -> Self {
        let mut names: BTreeSet<String> = names.iter().map(|name| normal(name)).collect();
        names.insert("localhost".to_owned());
        Self { listen, names }
    }

    /// Whether `host`, as a `Host` header gives it (with or without a port), is one of ours.
    pub(crate) fn allows(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else {
            return false;
        };
        let bare = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'));
        match bare.unwrap_or(name).parse::<IpAddr>() {
            // An address cannot be rebound: it is reached directly or not at all.
            Ok(ip) => {
                let here = self.listen.ip();
                ip.is_loopback() || ip == here || here.is_unspecified()
            }
            Err(_) => self.names.contains(&normal(name)),
        }
    }
}

/// Lower case, without the dot that ends an absolute name.
fn normal(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.to_ascii_lowercase()
}

/// The host of `host[:port]`; `None` if it is not of that form.
fn without_port(host: &str) -> Option<&str> {
    let end = match host.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(end);
    let port_is_fine = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| digits.parse::<u16>().is_ok());
    (!name.is_empty() && port_is_fine).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_pass_and_others_do_not() {
        let loopback: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        let everywhere: SocketAddr = "0.0.0.0:8080".parse().unwrap();
        let one: SocketAddr = "192.0.2.7:8080".parse().unwrap();
        let cases = [
            (loopback, "localhost", true),
            (loopback, "localhost:1234", true),
            (loopback, "LOCALHOST.:80", true),
            (loopback, "127.0.0.1:8080", true),
            (loopback, "[::1]:8080", true),
            (loopback, "api.example.org", true),
            (loopback, "evil.example", false),
            (loopback, "localhost.evil.example", false),
            (loopback, "127.0.0.1.evil.example", false),
            (loopback, "192.0.2.7", false),
            (loopback, "", false),
            (loopback, ":80", false),
            (loopback, "localhost:", false),
            (loopback, "localhost:99999", false),
            (loopback, "localhost:80:80", false),
            (loopback, "[::1", false),
            (loopback, "[::1]x", false),
            (everywhere, "192.0.2.9:8080", true),
            (everywhere, "evil.example", false),
            (one, "192.0.2.7:8080", true),
            (one, "192.0.2.8:8080", false),
        ];
        for (listen, host, expected) in cases {
            let hosts = Hosts::new(listen, &["API.example.org".to_owned()]);
            assert_eq!(hosts.allows(host), expected, "{listen} {host}");
        }
    }
}
