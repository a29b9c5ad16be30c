//! What became of spans and metrics on their way to an OpenTelemetry collector.

use std::sync::atomic::AtomicU64;

/// Counted since the start.
#[derive(Debug, Default)]
pub struct Exporting {
    /// Spans that the collector has.
    pub spans_exported: AtomicU64,
    /// Spans that are lost: too many waited, or the collector will never take them.
    pub spans_dropped: AtomicU64,
    /// Attempts to send spans or metrics that failed.
    pub failures: AtomicU64,
}
