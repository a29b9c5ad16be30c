//! How many client connections a server has.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{SharedCount, SharedGuard};

/// Counted by all of a server's workers.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    accepted: AtomicU64,
    open: SharedCount,
}

impl ConnectionCounts {
    /// A connection begins; it is open for as long as what is returned lives.
    pub fn begin(&self) -> SharedGuard {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.enter()
    }

    /// How many have begun.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.get()
    }
}
