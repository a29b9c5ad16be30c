//! The places that all workers of one server share.
//!
//! A place stands for two open files: a client's connection, and the one to an upstream that its
//! request needs. An HTTP/2 connection whose streams run side by side needs an upstream's for each
//! of them, so every stream beyond its connection's first running one takes a place too. Streams
//! leave the last tenth of the places to connections, so that a client with many streams does not
//! keep others from connecting.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::flow::{ConnectionCounts, Limit, LimitCounts};
use crate::support::SharedGuard;

/// The part of the places that streams leave to connections.
const FOR_CONNECTIONS: usize = 10;

/// How many clients a server takes, and what it does when they are more.
#[derive(Clone, Debug)]
pub struct Room {
    /// How many places there are.
    pub places: usize,
    /// How long a connection may wait for its first head before it is given up for a newcomer.
    pub grace: Duration,
    /// Where it is counted.
    pub counts: Arc<LimitCounts>,
    /// Where its connections are counted.
    pub connections: Arc<ConnectionCounts>,
}

/// Shared by the workers of one server.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    /// How many of them streams leave free.
    for_connections: usize,
    grace: Duration,
    counts: Arc<LimitCounts>,
    connections: Arc<ConnectionCounts>,
    /// How many places other workers are to make.
    wanted: AtomicUsize,
    /// Wakes each worker to make one.
    calls: Box<[Notify]>,
}

/// A place, for as long as it lives.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    /// `None`: it is a stream's.
    _open: Option<SharedGuard>,
}

impl Places {
    pub(super) fn new(room: Room, workers: usize) -> Self {
        let places = room.places.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(places)),
            for_connections: places / FOR_CONNECTIONS,
            grace: room.grace,
            counts: room.counts,
            connections: room.connections,
            wanted: AtomicUsize::new(0),
            calls: (0..workers).map(|_| Notify::new()).collect(),
        }
    }

    /// A place for a connection, if one is free.
    pub(super) fn try_for_connection(&self) -> Option<Place> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Place { _permit: permit, _open: Some(self.connections.begin()) })
    }

    /// Waits for a place for a connection. Cancel-safe.
    pub(super) async fn for_connection(&self) -> Place {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        Place { _permit: permit, _open: Some(self.connections.begin()) }
    }

    /// A place for an HTTP/2 stream, if there is one that connections do not need.
    pub(super) fn try_for_stream(&self) -> Option<Place> {
        if self.free.available_permits() <= self.for_connections {
            return None;
        }
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Place { _permit: permit, _open: None })
    }

    /// How long a connection may wait for its first head before it is given up for a newcomer.
    pub(super) fn grace(&self) -> Duration {
        self.grace
    }

    /// Counts that a limit acted.
    pub(super) fn count(&self, limit: Limit) {
        self.counts.add(limit);
    }

    /// Asks the workers beside `me` to make one place.
    pub(super) fn call_others(&self, me: usize) {
        let most = self.calls.len();
        let one_more = |wanted| (wanted < most).then_some(wanted + 1);
        // Beyond one per worker, further calls say nothing new.
        let _ = self.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        for (_, call) in self.calls.iter().enumerate().filter(|&(worker, _)| worker != me) {
            call.notify_one();
        }
    }

    /// Waits for a call to make a place. Cancel-safe.
    pub(super) async fn called(&self, me: usize) {
        self.calls[me].notified().await;
    }

    /// Takes on to make one of the places that others want. False: none is wanted any more.
    pub(super) fn take_call(&self) -> bool {
        let one_less = |wanted: usize| wanted.checked_sub(1);
        self.free.available_permits() == 0
            && self.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(places: usize, workers: usize) -> Places {
        let (counts, connections) = (Arc::default(), Arc::default());
        Places::new(Room { places, grace: Duration::ZERO, counts, connections }, workers)
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
    fn places_that_others_want_are_made_once() {
        let places = places(1, 3);
        let place = places.try_for_connection();
        places.call_others(0);
        assert!(places.take_call() && !places.take_call());
        places.call_others(0);
        drop(place);
        assert!(!places.take_call(), "one is free by now");
    }
}
