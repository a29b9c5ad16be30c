//! Counters of spans and metrics sent to an OpenTelemetry collector.

use std::sync::atomic::AtomicU64;

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Exporting {
    /// Spans that the collector accepted.
    pub spans_exported: AtomicU64,
    /// Lost spans: the queue was full, or the collector refused them.
    pub spans_dropped: AtomicU64,
    /// Failed attempts to send spans or metrics.
    pub failures: AtomicU64,
}
