//! Counts of a server's client connections.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{SharedCount, SharedGuard};

/// Shared by all workers of a server.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    accepted: AtomicU64,
    open: SharedCount,
}

impl ConnectionCounts {
    /// Counts a connection, which is open until the guard is dropped.
    pub fn begin(&self) -> SharedGuard {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.enter()
    }

    /// The number of connections so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The number of open connections.
    pub fn open(&self) -> usize {
        self.open.get()
    }
}
