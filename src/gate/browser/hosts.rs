//! The hosts of this machine.

use crate::codec::authority::Authority;
use crate::support::Hosts;

/// The names under which clients reach a listener, besides addresses and `localhost`.
///
/// A page elsewhere cannot have an address as its name, and `localhost` and the names below it
/// cannot be registered (RFC 6761 section 6.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnHosts(Hosts);

impl OwnHosts {
    /// Takes these names, in addition to addresses and `localhost`.
    pub fn new(names: Hosts) -> Self {
        Self(names)
    }

    /// Returns true if no name is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if the host is one of this machine's. Notations of addresses that browsers
    /// never send, such as `127.1`, are names.
    pub fn take(&self, authority: &Authority<'_>) -> bool {
        let host = authority.host();
        is_localhost(host) || authority.address().is_some() || self.0.contains(host)
    }
}

fn is_localhost(host: &str) -> bool {
    const NAME: &str = "localhost";
    let Some(start) = host.len().checked_sub(NAME.len()) else { return false };
    let (above, name) = host.as_bytes().split_at(start);
    name.eq_ignore_ascii_case(NAME.as_bytes()) && matches!(above, [] | [_, .., b'.'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::Pattern;

    #[test]
    fn own_hosts_are_addresses_localhost_and_listed_names() {
        let listed = ["gauge.internal", "*.llm.example"].map(|text| Pattern::parse(text).unwrap());
        let hosts = OwnHosts::new(Hosts::new(listed.into()));
        let take = |host: &str| hosts.take(&Authority::parse(host.as_bytes()).unwrap());
        for host in [
            "127.0.0.1:9090",
            "[::1]:9090",
            "10.0.0.7",
            "127.0.0.1.",
            "localhost:9090",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "gauge.internal:9090",
            "Gauge.Internal.",
            "a.llm.example",
            "a.b.llm.example",
        ] {
            assert!(take(host), "{host}");
        }
        for host in [
            "evil.example:9090",
            "localhost.evil.example",
            ".localhost",
            "evillocalhost",
            "127.0.0.1.evil.example",
            "gauge.internal.evil.example",
            "x.gauge.internal",
            "llm.example",
            "evilllm.example",
            "%6cocalhost",
            "localhost..",
            "0x7f.1",
            "127.1",
            "2130706433",
            "0177.0.0.1",
            "127.0.0.01",
            "host.docker.internal",
        ] {
            assert!(!take(host), "{host}");
        }
        let all = OwnHosts::new(Hosts::new(vec![Pattern::All]));
        assert!(all.take(&Authority::parse(b"evil.example").unwrap()));
    }
}
