//! The proxies in front of this server that are believed about their clients' addresses.
//!
//! A proxy is believed by its own address alone. Every proxy adds its client to `X-Forwarded-For` or
//! `Forwarded` behind what it received, so that the rightmost address that is no trusted proxy's is
//! the client, and everything left of it is that client's own claim.

use std::net::{IpAddr, SocketAddr};

use crate::codec::forwarded::{Hop, forwarded, x_forwarded_for};
use crate::codec::head::Headers;
use crate::support::Networks;

/// The trusted proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Networks,
    /// Their connections begin with a header of the PROXY protocol.
    proxy_protocol: bool,
}

impl TrustedProxies {
    /// `None` if no network is trusted, so that requests pay nothing.
    pub fn new(networks: Networks, proxy_protocol: bool) -> Option<Box<Self>> {
        (!networks.is_empty()).then(|| Box::new(Self { networks, proxy_protocol }))
    }

    /// Returns true for the address of a trusted proxy.
    pub fn contains(&self, peer: IpAddr) -> bool {
        self.networks.contains(peer)
    }

    /// Returns true if connections from this address begin with a header of the PROXY protocol.
    pub fn expects_proxy_header(&self, peer: IpAddr) -> bool {
        self.proxy_protocol && self.networks.contains(peer)
    }

    /// The address of the client of a request from `peer`, whose port is unknown if it is not the
    /// peer itself.
    ///
    /// The peer stays the client if it is not trusted, if it names none, and if both headers are
    /// there and differ: a proxy adds to one of them, and the other may be the client's own.
    pub fn client(&self, peer: SocketAddr, headers: &Headers) -> SocketAddr {
        if !self.networks.contains(peer.ip()) {
            return peer;
        }
        let (mut listed, mut elements) = (Nearest::default(), Nearest::default());
        for field in headers.iter() {
            if field.is_named("x-forwarded-for") {
                x_forwarded_for(field.value(), |hop| listed.add(hop, &self.networks));
            } else if field.is_named("forwarded") {
                forwarded(field.value(), |hop| elements.add(hop, &self.networks));
            }
        }
        let found = match (listed.has_hops, elements.has_hops) {
            (true, true) if listed.client != elements.client => None,
            (true, _) => listed.client,
            (false, _) => elements.client,
        };
        found.map_or(peer, |address| SocketAddr::new(address, 0))
    }
}

/// The rightmost hop that is not trusted, of hops that are added from left to right.
#[derive(Default)]
struct Nearest {
    /// The address of the hop, or the leftmost if all are trusted. If the hop is unknown, the trusted
    /// proxy to its right; `None` if there is none.
    client: Option<IpAddr>,
    has_hops: bool,
}

impl Nearest {
    fn add(&mut self, hop: Hop, trusted: &Networks) {
        self.has_hops = true;
        match hop {
            Hop::Address(address) if trusted.contains(address) => {
                self.client.get_or_insert(address);
            }
            Hop::Address(address) => self.client = Some(address),
            Hop::Unknown => self.client = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "10.0.0.1:4711";

    fn networks() -> Networks {
        Networks::new(vec![Networks::parse("10.0.0.0/8").unwrap(), Networks::parse("fd00::/8").unwrap()])
    }

    fn client(peer: &str, lines: &[(&str, &str)]) -> String {
        let mut headers = Headers::default();
        lines.iter().for_each(|(name, value)| headers.append(name.as_bytes(), value.as_bytes()));
        let trusted = TrustedProxies::new(networks(), false).unwrap();
        trusted.client(peer.parse().unwrap(), &headers).ip().to_string()
    }

    #[test]
    fn rightmost_address_that_is_not_trusted_is_the_client() {
        for (list, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("198.51.100.9, 192.0.2.1", "192.0.2.1"),
            ("198.51.100.9, 192.0.2.1, 10.0.0.2, fd00::1", "192.0.2.1"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
            ("192.0.2.1, unknown", "10.0.0.1"),
            ("", "10.0.0.1"),
        ] {
            assert_eq!(client(PEER, &[("X-Forwarded-For", list)]), expected, "{list}");
        }
        let lines = [("x-forwarded-for", "198.51.100.9"), ("X-FORWARDED-FOR", "192.0.2.1, 10.0.0.2")];
        assert_eq!(client(PEER, &lines), "192.0.2.1");
        assert_eq!(client(PEER, &[lines[1], lines[0]]), "198.51.100.9", "lines keep their order");
        let lines =
            [("forwarded", "for=198.51.100.9"), ("forwarded", "for=\"[2001:db8::1]:80\", for=10.0.0.2")];
        assert_eq!(client("[fd00::9]:1", &lines), "2001:db8::1");
    }

    #[test]
    fn address_that_is_not_trusted_is_not_believed() {
        for peer in ["192.0.2.7:1", "[fe80::1]:1"] {
            let own = peer.parse::<SocketAddr>().unwrap().ip().to_string();
            assert_eq!(client(peer, &[("x-forwarded-for", "198.51.100.9")]), own);
            assert_eq!(client(peer, &[("forwarded", "for=198.51.100.9")]), own);
        }
        assert_eq!(client("[::ffff:10.0.0.1]:1", &[("x-forwarded-for", "198.51.100.9")]), "198.51.100.9");
    }

    #[test]
    fn headers_that_differ_are_not_believed() {
        let list = ("x-forwarded-for", "198.51.100.9, 192.0.2.1");
        assert_eq!(client(PEER, &[list, ("forwarded", "for=192.0.2.1;proto=https")]), "192.0.2.1");
        assert_eq!(client(PEER, &[list, ("forwarded", "for=198.51.100.9")]), "10.0.0.1");
        assert_eq!(client(PEER, &[("forwarded", "for=198.51.100.9"), list]), "10.0.0.1");
        assert_eq!(client(PEER, &[list, ("forwarded", "for=\"")]), "10.0.0.1");
    }

    #[test]
    fn client_equals_that_of_a_walk_from_the_right() {
        let mut random = fastrand::Rng::with_seed(4);
        let hops = ["192.0.2.1", "198.51.100.9", "10.0.0.2", "fd00::2", "unknown", "10.0.0.3"];
        for _ in 0..2_000 {
            let list: Vec<_> = (0..random.usize(..7)).map(|_| hops[random.usize(..hops.len())]).collect();
            let mut expected = "10.0.0.1";
            for hop in list.iter().rev() {
                if *hop == "unknown" {
                    break;
                }
                expected = hop;
                if !networks().contains(hop.parse().unwrap()) {
                    break;
                }
            }
            assert_eq!(client(PEER, &[("x-forwarded-for", &list.join(", "))]), expected, "{list:?}");
        }
    }

    #[test]
    fn only_trusted_addresses_send_a_proxy_header() {
        let expects = |is_on, peer: &str| {
            TrustedProxies::new(networks(), is_on).unwrap().expects_proxy_header(peer.parse().unwrap())
        };
        assert!(expects(true, "10.9.9.9") && expects(true, "::ffff:10.9.9.9"));
        assert!(!expects(true, "192.0.2.1") && !expects(false, "10.9.9.9"));
        assert!(TrustedProxies::new(Networks::default(), true).is_none());
    }
}
