//! How often a limit on clients acted.

use std::sync::atomic::{AtomicU64, Ordering};

/// A limit on clients, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// A connection whose next head was not complete in time.
    HeaderTimeout,
    /// A connection that had no request for too long.
    KeepAliveTimeout,
    /// A connection whose socket took nothing of a response for too long.
    WriteTimeout,
    /// A connection that had sent no complete head, closed for a newcomer.
    EvictedSilent,
    /// A connection between two requests, closed for a newcomer.
    EvictedIdle,
    /// An HTTP/2 stream that got no place.
    StreamPlaces,
    /// An HTTP/2 stream whose client took nothing of a response for too long.
    StreamWriteTimeout,
    /// A request body that came too slowly.
    BodyRate,
    /// A slow request body, given up because others needed its memory.
    BodyEvicted,
    /// A request body that found no memory.
    BodyBudget,
    /// A request body of a client that holds its share of the memory.
    BodyShare,
}

impl Limit {
    /// Those that close a connection, with the `reason` that metrics tell.
    pub const CONNECTIONS: [(Self, &'static str); 5] = [
        (Self::HeaderTimeout, "header_timeout"),
        (Self::KeepAliveTimeout, "keep_alive_timeout"),
        (Self::WriteTimeout, "write_timeout"),
        (Self::EvictedSilent, "evicted_silent"),
        (Self::EvictedIdle, "evicted_idle"),
    ];

    /// Those that end a request, with the `limit` that metrics tell.
    pub const REQUESTS: [(Self, &'static str); 6] = [
        (Self::StreamPlaces, "places"),
        (Self::StreamWriteTimeout, "write_timeout"),
        (Self::BodyRate, "min_body_rate"),
        (Self::BodyEvicted, "body_evicted"),
        (Self::BodyBudget, "max_buffered_bytes"),
        (Self::BodyShare, "client_share"),
    ];
}

/// Counts by limit, shared by all threads.
#[derive(Debug, Default)]
pub struct LimitCounts([AtomicU64; Limit::CONNECTIONS.len() + Limit::REQUESTS.len()]);

impl LimitCounts {
    /// The limit acted once more.
    pub fn add(&self, limit: Limit) {
        self.0[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has acted.
    pub fn get(&self, limit: Limit) -> u64 {
        self.0[limit as usize].load(Ordering::Relaxed)
    }
}
