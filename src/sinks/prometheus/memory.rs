//! The memory budget as metrics.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::labels::PartLabels;
use crate::support::memory::{Memory, MemoryPart};

/// The budget, read on request.
#[derive(Debug)]
pub(super) struct MemoryMetrics(pub(super) Memory);

impl Collector for MemoryMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Memory that clients cause the process to hold, by part";
        let mut family = encoder.encode_descriptor("memory", help, Some(&Unit::Bytes), MetricType::Gauge)?;
        for (part, name) in MemoryPart::ALL {
            gauge(self.0.of(part)).encode(family.encode_family(&PartLabels { part: name })?)?;
        }
        let Some(limit) = self.0.limit() else { return Ok(()) };
        let help = "The limit of this memory, at seven eighths of which new requests are refused";
        let family =
            encoder.encode_descriptor("memory_limit", help, Some(&Unit::Bytes), MetricType::Gauge)?;
        gauge(limit).encode(family)
    }
}

fn gauge(bytes: usize) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX))
}
