//! Limits on the connections of each client address: open ones, and new ones per second.
//!
//! An address of IPv6 counts as its /64, which one client usually has for itself. The state is
//! bounded: an address without an open connection is forgotten when its second is over.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::gate::KeySource;
use crate::support::flow::Limit;

/// The number of known addresses at which those without an open connection are forgotten.
const FEW: usize = 4 * 1024;

/// The largest number of known addresses. Beyond it, further ones are not limited.
const MOST: usize = 256 * 1024;

/// The limits, shared by all workers. 0: no limit.
#[derive(Debug)]
pub struct AddressLimits {
    open: AtomicU32,
    per_second: AtomicU32,
    start: Instant,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    addresses: HashMap<KeySource, Use>,
    /// The number of addresses at which the next sweep happens.
    sweep_at: usize,
}

/// The connections of an address.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    open: u32,
    /// The second of the latest connection, and the number of new ones in it.
    second: u64,
    begun: u32,
}

impl Default for AddressLimits {
    fn default() -> Self {
        let (open, per_second, known) = (AtomicU32::new(0), AtomicU32::new(0), Mutex::default());
        Self { open, per_second, start: Instant::now(), known }
    }
}

impl AddressLimits {
    /// Sets the limits for further connections. Open ones stay.
    pub fn set(&self, open: u32, per_second: u32) {
        self.open.store(open, Ordering::Relaxed);
        self.per_second.store(per_second, Ordering::Relaxed);
    }

    /// Counts a connection until the result is dropped. `None` in the result: there is no limit.
    ///
    /// # Errors
    /// Fails with the limit that the connection exceeds.
    pub(super) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        now: Instant,
    ) -> Result<Option<AddressGuard>, Limit> {
        let (open, per_second) = (self.open.load(Ordering::Relaxed), self.per_second.load(Ordering::Relaxed));
        if open == 0 && per_second == 0 {
            return Ok(None);
        }
        let second = now.saturating_duration_since(self.start).as_secs();
        let source = KeySource::from(address);
        let mut known = self.lock();
        known.sweep(second);
        if known.addresses.len() >= MOST && !known.addresses.contains_key(&source) {
            return Ok(None);
        }
        let of = known.addresses.entry(source).or_default();
        if of.second != second {
            (of.second, of.begun) = (second, 0);
        }
        if per_second > 0 && of.begun >= per_second {
            return Err(Limit::AddressRate);
        }
        of.begun += 1;
        if open > 0 && of.open >= open {
            return Err(Limit::AddressConnections);
        }
        of.open += 1;
        Ok(Some(AddressGuard { limits: Arc::clone(self), source }))
    }

    /// Code that holds the lock cannot panic in the middle of a change.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Forgets addresses without an open connection, if there are many, and their second is over.
    fn sweep(&mut self, second: u64) {
        if self.addresses.len() < self.sweep_at.max(FEW) {
            return;
        }
        self.addresses.retain(|_, of| of.open > 0 || of.second == second);
        // A sweep that finds little to forget is not repeated for each connection.
        self.sweep_at = self.addresses.len().saturating_mul(2).min(MOST);
    }
}

/// A counted connection of an address.
#[derive(Debug)]
pub(super) struct AddressGuard {
    limits: Arc<AddressLimits>,
    source: KeySource,
}

impl Drop for AddressGuard {
    fn drop(&mut self) {
        if let Some(of) = self.limits.lock().addresses.get_mut(&self.source) {
            of.open = of.open.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use super::*;

    fn limits(open: u32, per_second: u32) -> Arc<AddressLimits> {
        let limits = Arc::<AddressLimits>::default();
        limits.set(open, per_second);
        limits
    }

    fn v6(host: u16) -> IpAddr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, host).into()
    }

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn address_has_so_many_open_connections() {
        let limits = limits(2, 0);
        let now = limits.start;
        let enter = |address| limits.enter(address, now);
        let (first, _second) = (enter(V4).unwrap(), enter(V4).unwrap());
        assert_eq!(enter(V4).unwrap_err(), Limit::AddressConnections);
        assert_eq!(enter(V4.to_canonical()).unwrap_err(), Limit::AddressConnections);
        let _other = enter(v6(1)).unwrap();
        drop(first);
        let _third = enter(V4).unwrap();
        assert!(enter(V4).is_err());
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let limits = limits(2, 0);
        let _held = [limits.enter(v6(1), limits.start).unwrap(), limits.enter(v6(2), limits.start).unwrap()];
        assert_eq!(limits.enter(v6(3), limits.start).unwrap_err(), Limit::AddressConnections);
    }

    #[test]
    fn new_connections_of_a_second_are_limited_though_they_end() {
        let limits = limits(0, 3);
        for second in 0..3 {
            let now = limits.start + Duration::from_secs(second);
            for _ in 0..3 {
                drop(limits.enter(V4, now).unwrap().unwrap());
            }
            assert_eq!(limits.enter(V4, now).unwrap_err(), Limit::AddressRate);
        }
    }

    #[test]
    fn no_limit_keeps_no_state_and_a_reload_sets_one() {
        let limits = limits(0, 0);
        assert!(limits.enter(V4, limits.start).unwrap().is_none());
        assert!(limits.lock().addresses.is_empty());
        limits.set(1, 0);
        let _held = limits.enter(V4, limits.start).unwrap().unwrap();
        assert!(limits.enter(V4, limits.start).is_err());
    }

    #[test]
    fn addresses_without_connections_are_forgotten() {
        let limits = limits(0, 5);
        let address = |number: u32| IpAddr::V4(Ipv4Addr::from_bits(number));
        let _held = limits.enter(address(0), limits.start).unwrap();
        for number in 1..100_000_u32 {
            let now = limits.start + Duration::from_secs(u64::from(number) / 1000);
            limits.enter(address(number), now).unwrap();
        }
        let known = limits.lock();
        assert!(known.addresses.len() <= 2 * FEW, "{}", known.addresses.len());
        assert!(known.addresses.contains_key(&address(0).into()));
    }
}
