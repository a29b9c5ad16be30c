//! Counters of grants of the limits that a fleet shares.

use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::support::flow::Histogram;

/// Counters since the start.
#[derive(Debug, Default)]
pub struct GrantCounts {
    /// True if the store responds.
    pub is_connected: AtomicBool,
    /// Replies to asks for grants.
    pub grants: AtomicU64,
    /// The times from an ask to its reply. Written by the thread that asks.
    pub times: Histogram,
}
