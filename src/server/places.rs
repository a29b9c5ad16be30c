//! The places that all workers of one server share.
//!
//! A place stands for two open files: a client's connection, and the upstream's connection for its
//! request. Streams of one HTTP/2 connection each need an upstream's connection, so every running
//! stream except the first takes a place too. Streams leave the last tenth of the places to
//! connections, so that a client with many streams does not keep others from connecting.
//!
//! A connection also needs memory: half of the budget is for connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::addresses::{AddressGuard, AddressLimits};
use crate::support::SharedGuard;
use crate::support::flow::{ConnectionCounts, Limit, LimitCounts};
use crate::support::memory::Memory;

/// The fraction of the places that streams leave to connections: one in this many.
const FOR_CONNECTIONS: usize = 10;

/// The interval at which a connection that found a place looks for memory.
const LOOK: Duration = Duration::from_millis(20);

/// The number of clients of a server, and the treatment of further ones.
#[derive(Clone, Debug)]
pub struct Capacity {
    pub places: usize,
    /// The time for which a connection may wait for its first head before it can be evicted.
    pub grace: Duration,
    /// Counts limits that acted.
    pub counts: Arc<LimitCounts>,
    /// Counts connections.
    pub connections: Arc<ConnectionCounts>,
    pub memory: Memory,
    pub addresses: Arc<AddressLimits>,
}

/// Shared by the workers of one server.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    /// The number of places that streams leave free.
    for_connections: usize,
    grace: Duration,
    counts: Arc<LimitCounts>,
    connections: Arc<ConnectionCounts>,
    memory: Memory,
    addresses: Arc<AddressLimits>,
    /// The number of places that other workers must free.
    wanted: AtomicUsize,
    /// Wakes each worker to free one.
    calls: Box<[Notify]>,
}

/// A place, freed on drop.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    /// `None` for a stream.
    _open: Option<SharedGuard>,
}

impl Places {
    pub(super) fn new(capacity: Capacity, workers: usize) -> Self {
        let places = capacity.places.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(places)),
            for_connections: places / FOR_CONNECTIONS,
            grace: capacity.grace,
            counts: capacity.counts,
            connections: capacity.connections,
            memory: capacity.memory,
            addresses: capacity.addresses,
            wanted: AtomicUsize::new(0),
            calls: (0..workers).map(|_| Notify::new()).collect(),
        }
    }

    /// A place for a connection, if one is free, with memory.
    pub(super) fn try_for_connection(&self) -> Option<Place> {
        if !self.memory.has_room_for_connection() {
            return None;
        }
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Place { _permit: permit, _open: Some(self.connections.begin()) })
    }

    /// Waits for a place for a connection. Cancel-safe.
    pub(super) async fn for_connection(&self) -> Place {
        loop {
            let permit = Arc::clone(&self.free).acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            if self.memory.has_room_for_connection() {
                return Place { _permit: permit, _open: Some(self.connections.begin()) };
            }
            drop(permit);
            sleep(LOOK).await;
        }
    }

    /// A place for an HTTP/2 stream, if more are free than connections need.
    pub(super) fn try_for_stream(&self) -> Option<Place> {
        if self.free.available_permits() <= self.for_connections {
            return None;
        }
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Place { _permit: permit, _open: None })
    }

    /// The time for which a connection may wait for its first head before it can be evicted.
    pub(super) fn grace(&self) -> Duration {
        self.grace
    }

    /// Counts a connection of this address until the result is dropped.
    ///
    /// # Errors
    /// Fails if the address has too many.
    pub(super) fn enter_address(&self, address: SocketAddr) -> Result<Option<AddressGuard>, ()> {
        self.addresses.enter(address.ip(), Instant::now()).map_err(|limit| {
            tracing::debug!(address = %address.ip(), ?limit, "a connection exceeds a limit of its address");
            self.count(limit);
        })
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(super) fn count(&self, limit: Limit) {
        self.counts.add(limit);
    }

    /// Calls the workers other than `me` to free one place.
    pub(super) fn call_others(&self, me: usize) {
        let most = self.calls.len();
        let one_more = |wanted| (wanted < most).then_some(wanted + 1);
        // One per worker is enough.
        let _ = self.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        for (_, call) in self.calls.iter().enumerate().filter(|&(worker, _)| worker != me) {
            call.notify_one();
        }
    }

    /// Waits for such a call. Cancel-safe.
    pub(super) async fn called(&self, me: usize) {
        self.calls[me].notified().await;
    }

    /// Takes one call. Returns false if no more places are needed.
    pub(super) fn take_call(&self) -> bool {
        let one_less = |wanted: usize| wanted.checked_sub(1);
        (self.free.available_permits() == 0 || !self.memory.has_room_for_connection())
            && self.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(places: usize, workers: usize) -> Places {
        let (counts, connections) = (Arc::default(), Arc::default());
        let (memory, addresses) = (Memory::default(), Arc::default());
        let capacity = Capacity { places, grace: Duration::ZERO, counts, connections, memory, addresses };
        Places::new(capacity, workers)
    }

    #[test]
    fn streams_leave_the_last_tenth_to_connections() {
        let places = places(20, 1);
        let streams: Vec<_> = std::iter::from_fn(|| places.try_for_stream()).collect();
        assert_eq!(streams.len(), 18);
        let connections: Vec<_> = std::iter::from_fn(|| places.try_for_connection()).collect();
        assert_eq!(connections.len(), 2);
        drop(streams);
        assert!(places.try_for_stream().is_some());
    }

    #[test]
    fn call_for_a_place_is_taken_once() {
        let places = places(1, 3);
        let place = places.try_for_connection();
        places.call_others(0);
        assert!(places.take_call() && !places.take_call());
        places.call_others(0);
        drop(place);
        assert!(!places.take_call(), "one is free by now");
    }
}
