//! Counts of the limits on clients that acted.

use std::sync::atomic::{AtomicU64, Ordering};

/// A limit on clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// A connection whose next request head was not complete in time.
    HeaderTimeout,
    /// A connection that had no request for too long.
    KeepAliveTimeout,
    /// A connection whose socket accepted nothing of a response for too long.
    WriteTimeout,
    /// A connection of a trusted proxy that began without a valid header of the PROXY protocol.
    ProxyHeader,
    /// A connection without a complete request head, closed for a new one.
    EvictedSilent,
    /// A connection between two requests, closed for a new one.
    EvictedIdle,
    /// A connection beyond `server.max_connections_per_address`.
    AddressConnections,
    /// A connection beyond `server.max_new_connections_per_address`.
    AddressRate,
    /// An HTTP/2 stream beyond `server.max_connections`.
    StreamPlaces,
    /// An HTTP/2 stream whose client accepted nothing of a response for too long.
    StreamWriteTimeout,
    /// A request body slower than `server.min_body_rate`.
    BodyRate,
    /// A slow request body, dropped because others needed its memory.
    BodyEvicted,
    /// A request body beyond `server.max_buffered_bytes`.
    BodyBudget,
    /// A request body beyond its client's share of that memory.
    BodyShare,
    /// A request beyond `server.max_memory`.
    Memory,
}

impl Limit {
    /// Limits that close a connection, with their metric label `reason`.
    pub const CONNECTIONS: [(Self, &'static str); 8] = [
        (Self::HeaderTimeout, "header_timeout"),
        (Self::KeepAliveTimeout, "keep_alive_timeout"),
        (Self::WriteTimeout, "write_timeout"),
        (Self::ProxyHeader, "proxy_header"),
        (Self::EvictedSilent, "evicted_silent"),
        (Self::EvictedIdle, "evicted_idle"),
        (Self::AddressConnections, "address_connections"),
        (Self::AddressRate, "address_rate"),
    ];

    /// Limits that end a request, with their metric label `limit`.
    pub const REQUESTS: [(Self, &'static str); 7] = [
        (Self::StreamPlaces, "places"),
        (Self::StreamWriteTimeout, "write_timeout"),
        (Self::BodyRate, "min_body_rate"),
        (Self::BodyEvicted, "body_evicted"),
        (Self::BodyBudget, "max_buffered_bytes"),
        (Self::BodyShare, "client_share"),
        (Self::Memory, "max_memory"),
    ];
}

/// Counts by limit, shared by all threads.
#[derive(Debug, Default)]
pub struct LimitCounts([AtomicU64; Limit::CONNECTIONS.len() + Limit::REQUESTS.len()]);

impl LimitCounts {
    pub fn add(&self, limit: Limit) {
        self.0[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self, limit: Limit) -> u64 {
        self.0[limit as usize].load(Ordering::Relaxed)
    }
}
