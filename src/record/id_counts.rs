//! Counters of the ids of stored state that a fleet shares.

use std::sync::atomic::AtomicU64;

/// Counters of ids since the start.
#[derive(Debug, Default)]
pub struct IdCounts {
    /// Lookups of ids that the store has.
    pub found: AtomicU64,
    /// Lookups of ids that it does not have.
    pub unknown: AtomicU64,
    /// Lookups without a reply: the store is away, or refused them.
    pub failed: AtomicU64,
    /// Ids that the store has taken.
    pub written: AtomicU64,
    /// Ids that it refused. They are written again.
    pub refused: AtomicU64,
    /// Ids that were dropped before they were written, since too many waited.
    pub dropped: AtomicU64,
    /// Ids that were written again, since the store had lost them.
    pub rewritten: AtomicU64,
}
