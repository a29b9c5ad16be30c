//! Lists of hosts: those that bypass a forward proxy or use it, and those to which redirects may
//! lead.

use std::net::IpAddr;

use ipnet::IpNet;

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Every host.
    All,
    /// This name, in lower case and without the final dot.
    Name(String),
    /// Subdomains of this name, without the name itself.
    Below(String),
    /// This name and its subdomains.
    Domain(String),
    /// Addresses of this network, which may be a single address.
    Net(IpNet),
}

impl Pattern {
    /// Parses an entry of the configuration: `llm.internal` is that host, `.internal` and
    /// `*.internal` are the names below it, `10.0.0.0/8` and `fd00::/8` are networks, `*` is
    /// everything.
    ///
    /// # Errors
    /// Fails with the mistake, and the right form.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::All);
        }
        if let Some(net) = net(text) {
            return Ok(Self::Net(net));
        }
        if text.contains('/') {
            return Err(format!(
                "{text:?} is not a network: write one such as \"10.0.0.0/8\" or \"fd00::/8\""
            ));
        }
        let below = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'));
        let name = plain(below.unwrap_or(text));
        if !is_name(&name) {
            return Err(format!(
                "{text:?} is not a host: write a name, \".suffix\" for the names below it, an address, a network such as \
                 \"10.0.0.0/8\", or \"*\"; without a scheme and a port"
            ));
        }
        Ok(if below.is_some() { Self::Below(name) } else { Self::Name(name) })
    }

    /// `host` is a name in any case, or an address without brackets.
    fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::All, _) => true,
            (Self::Net(net), Host::Address(address)) => net.contains(address),
            (Self::Name(name), Host::Name(host)) => host == name,
            (Self::Below(name), Host::Name(host)) => is_below(host, name),
            (Self::Domain(name), Host::Name(host)) => host == name || is_below(host, name),
            _ => false,
        }
    }
}

/// A list of hosts. An empty list contains none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<Pattern>);

impl Hosts {
    pub fn new(patterns: Vec<Pattern>) -> Self {
        Self(patterns)
    }

    /// Parses `NO_PROXY` by curl's rules: commas or spaces separate entries; a name, with or
    /// without a leading dot, contains itself and its subdomains; an address contains itself, a
    /// network its addresses; `*` alone contains everything. An entry of any other form contains
    /// nothing. Ports are ignored, and loopback addresses are excluded only if they are listed.
    pub fn no_proxy(text: &str) -> Self {
        if text.trim() == "*" {
            return Self(vec![Pattern::All]);
        }
        let entries = text.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
        Self(
            entries
                .filter_map(|entry| {
                    let address = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                    if let Some(net) = net(address.unwrap_or(entry)) {
                        return Some(Pattern::Net(net));
                    }
                    let name = plain(entry.strip_prefix('.').unwrap_or(entry));
                    is_name(&name).then_some(Pattern::Domain(name))
                })
                .collect(),
        )
    }

    /// Returns true if the list contains every host.
    pub fn is_everything(&self) -> bool {
        self.0.contains(&Pattern::All)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `host` is a name in any case, or an address without brackets.
    pub fn contains(&self, host: &str) -> bool {
        let host = Host::of(host);
        self.0.iter().any(|pattern| pattern.matches(&host))
    }
}

/// Returns true if the address is this machine's own. IPv4-mapped IPv6 addresses equal the IPv4
/// address.
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// A host in a form for comparison. IPv4-mapped IPv6 addresses equal the IPv4 address.
enum Host {
    Address(IpAddr),
    Name(String),
}

impl Host {
    fn of(host: &str) -> Self {
        host.parse::<IpAddr>()
            .map_or_else(|_| Self::Name(plain(host)), |address| Self::Address(address.to_canonical()))
    }
}

fn net(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(|address| address.to_canonical().into()))
}

/// Lower case, without the final dot of an absolute name.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    name.split('.').all(is_label)
}

fn is_below(host: &str, name: &str) -> bool {
    host.strip_suffix(name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line: an entry, hosts that it contains, hosts that it does not.
    fn table(parse: impl Fn(&str) -> Hosts, lines: &[(&str, &[&str], &[&str])]) {
        for (entry, taken, left) in lines {
            let hosts = parse(entry);
            for host in *taken {
                assert!(hosts.contains(host), "{entry:?} contains {host}");
            }
            for host in *left {
                assert!(!hosts.contains(host), "{entry:?} does not contain {host}");
            }
        }
    }

    #[test]
    fn entry_is_host_suffix_network_or_everything() {
        table(
            |entry| Hosts::new(vec![Pattern::parse(entry).unwrap()]),
            &[
                (
                    "LLM.internal",
                    &["llm.internal", "LLM.INTERNAL", "llm.internal."],
                    &["a.llm.internal", "xllm.internal"],
                ),
                (".internal", &["a.internal", "a.b.internal"], &["internal", ".internal", "ainternal"]),
                ("*.internal", &["a.internal", "a.b.internal"], &["internal", "a.internal.example"]),
                ("10.0.0.0/8", &["10.1.2.3", "::ffff:10.1.2.3"], &["11.0.0.1", "10.example", "fd00::1"]),
                ("10.1.2.3", &["10.1.2.3"], &["10.1.2.4"]),
                ("fd00::/8", &["fd00::1", "fdff:1::"], &["fe80::1", "10.0.0.1"]),
                ("::1", &["::1", "0:0:0:0:0:0:0:1"], &["::2", "127.0.0.1"]),
                ("0.0.0.0/0", &["192.0.2.1"], &["::1", "localhost"]),
                ("*", &["a", "10.0.0.1", "::1"], &[]),
            ],
        );
    }

    #[test]
    fn invalid_entries_are_refused() {
        for text in ["", ".", "*.", "a..b", "http://a", "a:80", "[::1]", "10.0.0.0/33", "a b", "*a", "a.*"] {
            assert!(Pattern::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn no_proxy_is_read_by_curls_rules() {
        table(
            Hosts::no_proxy,
            &[
                (
                    "example.com",
                    &["example.com", "EXAMPLE.com.", "www.example.com"],
                    &["nonexample.com", "com"],
                ),
                (".example.com", &["example.com", "www.example.com"], &["nonexample.com"]),
                ("a, b\tc,,d", &["a", "b", "c", "d"], &["e"]),
                ("localhost,127.0.0.1", &["localhost", "127.0.0.1"], &["127.0.0.2", "::1"]),
                (
                    "192.168.0.0/16,[::1],fd00::/8",
                    &["192.168.3.4", "::1", "fd12::1"],
                    &["192.169.0.1", "::2"],
                ),
                ("*", &["a", "10.0.0.1"], &[]),
                ("*.example.com,a:80,http://b", &[], &["www.example.com", "a", "b", "example.com"]),
                ("", &[], &["localhost", "127.0.0.1"]),
            ],
        );
    }
}
