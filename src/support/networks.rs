//! Lists of networks.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// A list of networks of IPv4 and IPv6. An empty list contains no address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if some network contains all addresses of its kind.
    pub fn is_everyone(&self) -> bool {
        self.0.iter().any(|network| network.prefix_len() == 0)
    }

    /// An IPv4-mapped address equals the one of IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Parses a network such as `10.0.0.0/8`, or a single address.
    ///
    /// # Errors
    /// Fails with the mistake, and the right form.
    pub fn parse(text: &str) -> Result<IpNet, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.to_canonical().into());
        }
        let network = text.parse::<IpNet>().map_err(|_| {
            format!(
                "{text:?} is not a network: write one such as \"10.0.0.0/8\" or \"fd00::/8\", or an address"
            )
        })?;
        if network != network.trunc() {
            return Err(format!(
                "{text:?} has bits behind its prefix: write \"{}\", or \"{}\" for the address alone",
                network.trunc(),
                network.addr()
            ));
        }
        match network {
            IpNet::V6(v6) if v6.prefix_len() >= MAPPED => {
                let v4 = v6.addr().to_ipv4_mapped();
                Ok(v4.map_or(network, |v4| Ipv4Net::new_assert(v4, v6.prefix_len() - MAPPED).into()))
            }
            network => Ok(network),
        }
    }
}

/// The length of the prefix of IPv4-mapped addresses.
const MAPPED: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_contains_its_addresses() {
        let list = ["10.0.0.0/8", "192.0.2.1", "fd00::/8", "::ffff:198.51.100.1", "::ffff:203.0.113.0/120"];
        let networks = Networks::new(list.map(|text| Networks::parse(text).unwrap()).into());
        let contains = |address: &str| networks.contains(address.parse().unwrap());
        for address in ["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1", "fd00::1", "198.51.100.1", "203.0.113.9"]
        {
            assert!(contains(address), "{address}");
        }
        for address in ["11.0.0.1", "192.0.2.2", "fe80::1", "::1"] {
            assert!(!contains(address), "{address}");
        }
        assert!(Networks::default().is_empty() && !networks.is_empty());
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "*", "proxy", "10.0.0.0/33", "10.0.0.1/8", "fd00::1/8", "10.0.0.0/", "[::1]"] {
            assert!(Networks::parse(text).is_err(), "{text:?}");
        }
        let reason = Networks::parse("10.1.2.3/8").unwrap_err();
        assert!(reason.contains("\"10.0.0.0/8\", or \"10.1.2.3\""), "{reason}");
    }
}
