//! Counts unknown keys by the address that sends them, to slow down guessing: beyond
//! [`MOST_UNKNOWN`] in [`WINDOW`] seconds, refusals of that address wait. A valid key never does.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

/// The unknown keys of an address in a window, from which on its refusals wait.
const MOST_UNKNOWN: u32 = 50;

/// The seconds of a window, including the present one.
const WINDOW: usize = 10;

/// The largest number of addresses that are counted, with 56 bytes each. Beyond it, an attack comes
/// from many addresses, and refusals of all further ones wait.
const MAX_SOURCES: usize = 4096;

/// The address that a request came from: one of IPv4, or a network of 64 bits of IPv6, in which a
/// host can choose its addresses freely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeySource(u64);

/// The first bits of an address of IPv4: as IPv6 they would be multicast, which sends nothing.
const IPV4: u64 = 0xffff << 48;

impl From<IpAddr> for KeySource {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(IPV4 | u64::from(address.to_bits())),
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 & IPV4 == IPV4 {
            true => Ipv4Addr::from_bits(self.0 as u32).fmt(f),
            false => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(self.0) << 64)),
        }
    }
}

/// The unknown keys of the last seconds, by source.
#[derive(Debug, Default)]
pub struct UnknownKeys(Mutex<HashMap<KeySource, RecentKeys>>);

/// The result of counting an unknown key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyCount {
    /// The refusal waits.
    pub is_slowed: bool,
    /// No other refusal of its source waited within the last window.
    pub is_first: bool,
}

/// The counts of a window, one for each second.
#[derive(Debug, Default)]
struct RecentKeys {
    /// The second of the latest key.
    latest: u64,
    /// By second modulo [`WINDOW`].
    counts: [u16; WINDOW],
    /// The second of the latest refusal that waits.
    slowed: Option<u64>,
}

impl UnknownKeys {
    /// Counts an unknown key in this second, of any clock that does not step back.
    pub fn count(&self, source: KeySource, second: u64) -> KeyCount {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= MAX_SOURCES && !sources.contains_key(&source) {
            sources.retain(|_, recent| second.saturating_sub(recent.latest) < WINDOW as u64);
            if sources.len() >= MAX_SOURCES {
                return KeyCount { is_slowed: true, is_first: false };
            }
        }
        let recent = sources.entry(source).or_default();
        let is_slowed = recent.count(second) > MOST_UNKNOWN;
        let slowed = if is_slowed { recent.slowed.replace(recent.latest) } else { None };
        let is_first = is_slowed && slowed.is_none_or(|before| recent.latest - before >= WINDOW as u64);
        KeyCount { is_slowed, is_first }
    }
}

impl RecentKeys {
    /// Adds one. Returns the number in the window.
    fn count(&mut self, second: u64) -> u32 {
        let second = second.max(self.latest);
        let silent = (second - self.latest).min(WINDOW as u64);
        for ago in 0..silent {
            self.counts[place(second - ago)] = 0;
        }
        self.latest = second;
        let count = &mut self.counts[place(second)];
        *count = count.saturating_add(1);
        self.counts.iter().map(|count| u32::from(*count)).sum()
    }
}

fn place(second: u64) -> usize {
    (second % WINDOW as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> KeySource {
        address.parse::<IpAddr>().unwrap().into()
    }

    /// Counts keys, and returns whether the last refusal waits.
    fn send(keys: &UnknownKeys, address: &str, number: usize, second: u64) -> bool {
        (0..number).map(|_| keys.count(source(address), second).is_slowed).last().unwrap()
    }

    #[test]
    fn address_waits_beyond_fifty_unknown_keys_in_ten_seconds() {
        let keys = UnknownKeys::default();
        assert!(!send(&keys, "192.0.2.1", 30, 100));
        assert!(!send(&keys, "192.0.2.1", 20, 109));
        assert!(!send(&keys, "192.0.2.2", 50, 109), "another address");
        let first = keys.count(source("192.0.2.1"), 109);
        assert_eq!(first, KeyCount { is_slowed: true, is_first: true });
        let second = keys.count(source("::ffff:192.0.2.1"), 109);
        assert_eq!(second, KeyCount { is_slowed: true, is_first: false });
        // The first thirty are over.
        assert!(!send(&keys, "192.0.2.1", 28, 110));
        let again = keys.count(source("192.0.2.1"), 110);
        assert_eq!(again, KeyCount { is_slowed: true, is_first: false }, "told a second ago");
        assert!(!send(&keys, "192.0.2.1", 50, 500), "after a long silence");
    }

    #[test]
    fn window_equals_a_list_of_all_keys() {
        let (mut random, keys) = (fastrand::Rng::with_seed(8), UnknownKeys::default());
        let (mut sent, mut second) = (Vec::new(), 7);
        for _ in 0..5_000 {
            second += random.u64(..100) / 88;
            sent.push(second);
            let within = sent.iter().filter(|at| second - **at < WINDOW as u64).count();
            let is_slowed = within > MOST_UNKNOWN as usize;
            assert_eq!(keys.count(source("192.0.2.1"), second).is_slowed, is_slowed, "{within}");
        }
    }

    #[test]
    fn host_of_ipv6_is_its_network() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::2:0:0:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("2001:db8::1").to_string(), "2001:db8::/64");
        assert_eq!(source("192.0.2.1").to_string(), "192.0.2.1");
        assert_ne!(source("::1"), source("127.0.0.1"));
    }

    #[test]
    fn memory_is_bounded_and_further_addresses_wait() {
        let keys = UnknownKeys::default();
        let address = |number: usize| KeySource::from(IpAddr::from(Ipv4Addr::from_bits(number as u32)));
        for number in 0..MAX_SOURCES {
            assert!(!keys.count(address(number), 1).is_slowed);
        }
        assert_eq!(keys.count(address(9_999), 10), KeyCount { is_slowed: true, is_first: false });
        assert!(!keys.count(address(7), 10).is_slowed, "a counted address");
        assert!(!keys.count(address(9_999), 11).is_slowed, "there is room again");
        assert_eq!(keys.0.lock().unwrap().len(), 2);
    }
}
