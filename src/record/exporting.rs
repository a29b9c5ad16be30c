//! Counters of spans and metrics that were sent to an OpenTelemetry collector.

use std::sync::atomic::AtomicU64;

/// Counted since the start.
#[derive(Debug, Default)]
pub struct Exporting {
    /// Spans that the collector has.
    pub spans_exported: AtomicU64,
    /// Lost spans: the queue was full, or the collector refused them.
    pub spans_dropped: AtomicU64,
    /// Attempts to send spans or metrics that failed.
    pub failures: AtomicU64,
}
