//! Counters of usage records that are shipped to PostgreSQL.

use std::sync::atomic::{AtomicBool, AtomicU64};

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Shipping {
    /// True if the database is connected and accepts records.
    pub up: AtomicBool,
    /// Records in the database, including those that it had already.
    pub shipped: AtomicU64,
    /// Failed attempts: connections and batches.
    pub failures: AtomicU64,
    /// Records that the database refuses; they stay in the local ledger only.
    pub refused: AtomicU64,
    /// Records that are not shipped yet.
    pub waiting: AtomicU64,
    /// Records that the local ledger had to delete before they were shipped.
    pub deleted: AtomicU64,
}
