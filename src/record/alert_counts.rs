//! Counters of alerts that webhooks were sent.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start.
#[derive(Debug, Default)]
pub struct AlertCounts {
    /// Notices that a webhook accepted.
    pub sent: AtomicU64,
    /// Notices that no attempt delivered, or for which the queue of their webhook was full.
    pub lost: AtomicU64,
    /// Failed attempts.
    pub failures: AtomicU64,
}

impl AlertCounts {
    /// Counts a delivered notice.
    pub fn count_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a lost notice.
    pub fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failed attempt.
    pub fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}
