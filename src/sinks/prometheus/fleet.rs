//! Counters of what the replicas of a fleet share through Redis.

use std::fmt::Error;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::flows;
use super::labels::ResultLabels;
use crate::record::{GrantCounts, IdCounts};

/// The counters of grants of shared limits, if limits are shared.
pub(super) fn encode_grants(counts: &GrantCounts, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
    let is_connected = u64::from(counts.is_connected.load(Ordering::Relaxed));
    let gauge = ConstGauge::new(is_connected);
    let help = "1 if Redis responds";
    gauge.encode(encoder.encode_descriptor("redis_connected", help, None, gauge.metric_type())?)?;
    let counter = ConstCounter::new(counts.grants.load(Ordering::Relaxed));
    let help = "Replies of Redis about shared limits, each with a grant or none";
    counter.encode(encoder.encode_descriptor("redis_grants", help, None, counter.metric_type())?)?;
    let help = "The time from a question about a shared limit to the reply of Redis";
    let times = counts.times.counts();
    let histogram =
        encoder.encode_descriptor("redis_grant", help, Some(&Unit::Seconds), MetricType::Histogram)?;
    flows::encode_counts(&times, histogram)
}

/// The counters of ids of stored state, if they are shared.
pub(super) fn encode_ids(counts: &IdCounts, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
    let help =
        "Ids of stored state that were looked up in Redis: found, unknown, or failed for lack of a reply";
    let lookups = [("found", &counts.found), ("unknown", &counts.unknown), ("failed", &counts.failed)];
    let mut family = encoder.encode_descriptor("redis_id_lookups", help, None, MetricType::Counter)?;
    for (result, count) in lookups {
        let counter = ConstCounter::new(count.load(Ordering::Relaxed));
        counter.encode(family.encode_family(&ResultLabels { result })?)?;
    }
    let help = "Ids of stored state for Redis: written, rewritten after it had lost them, refused by it, or dropped \
                because too many waited";
    let writes = [
        ("written", &counts.written),
        ("rewritten", &counts.rewritten),
        ("refused", &counts.refused),
        ("dropped", &counts.dropped),
    ];
    let mut family = encoder.encode_descriptor("redis_id_writes", help, None, MetricType::Counter)?;
    for (result, count) in writes {
        let counter = ConstCounter::new(count.load(Ordering::Relaxed));
        counter.encode(family.encode_family(&ResultLabels { result })?)?;
    }
    Ok(())
}
