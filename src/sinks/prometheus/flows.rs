//! The measurements of streams as metrics.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::labels::{LimitLabels, ReasonLabels, ServerLabels, SideLabels, UpstreamLabels};
use crate::support::flow::{Counts, Limit, StreamMetricsRegistry, StreamTotals};

/// All measurements, read on request.
#[derive(Debug)]
pub(super) struct FlowMetrics(pub(super) Arc<StreamMetricsRegistry>);

/// A gauge's name, its help, and its value.
type Gauge = (&'static str, &'static str, fn(&StreamTotals) -> usize);

const GAUGES: [Gauge; 2] = [
    ("streams_active", "Event streams that clients are being sent", |total| total.streams),
    ("drains_active", "Responses that are read after their clients have left", |total| total.draining),
];

impl Collector for FlowMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let totals = self.0.totals();
        let labels = |total: &StreamTotals| UpstreamLabels { upstream: total.upstream.to_string() };
        for (name, help, value) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for total in &totals {
                let gauge = ConstGauge::new(i64::try_from(value(total)).unwrap_or(i64::MAX));
                gauge.encode(family.encode_family(&labels(total))?)?;
            }
        }
        let help = "From one event of a stream to the next, on the side of the upstream and of the client";
        let mut family =
            encoder.encode_descriptor("inter_event", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for total in &totals {
            for (side, counts) in [("upstream", &total.upstream_gaps), ("client", &total.client_gaps)] {
                let labels = SideLabels { upstream: total.upstream.to_string(), side };
                encode_counts(counts, family.encode_family(&labels)?)?;
            }
        }
        let help = "From the read of an event to its write: the delay that streamgauge adds";
        let mut family =
            encoder.encode_descriptor("added_latency", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for total in &totals {
            encode_counts(&total.added, family.encode_family(&labels(total))?)?;
        }
        self.encode_connections(&mut encoder)?;
        self.encode_limits(encoder)
    }
}

impl FlowMetrics {
    fn encode_connections(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let servers = [("proxy", self.0.clients()), ("admin", self.0.admin())];
        let mut family = encoder.encode_descriptor(
            "connections",
            "Client connections that are open",
            None,
            MetricType::Gauge,
        )?;
        for (server, counts) in servers {
            let gauge = ConstGauge::new(i64::try_from(counts.open()).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&ServerLabels { server })?)?;
        }
        let help = "Client connections that were accepted";
        let mut family =
            encoder.encode_descriptor("connections_accepted", help, None, MetricType::Counter)?;
        for (server, counts) in servers {
            ConstCounter::new(counts.accepted()).encode(family.encode_family(&ServerLabels { server })?)?;
        }
        Ok(())
    }

    fn encode_limits(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = self.0.limits();
        let help = "Client connections that a limit closed";
        let mut family = encoder.encode_descriptor("connections_closed", help, None, MetricType::Counter)?;
        for (limit, reason) in Limit::CONNECTIONS {
            let counter = ConstCounter::new(counts.get(limit));
            counter.encode(family.encode_family(&ReasonLabels { reason })?)?;
        }
        let help = "Requests that a limit of [server] ended";
        let mut family = encoder.encode_descriptor("requests_limited", help, None, MetricType::Counter)?;
        for (limit, name) in Limit::REQUESTS {
            let counter = ConstCounter::new(counts.get(limit));
            counter.encode(family.encode_family(&LimitLabels { limit: name })?)?;
        }
        Ok(())
    }
}

pub(super) fn encode_counts(counts: &Counts, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
    let none: Option<&HashMap<usize, Exemplar<NoLabels, f64>>> = None;
    encoder.encode_histogram(counts.sum().as_secs_f64(), counts.count(), &counts.by_bound(), none)
}

/// The labels of exemplars, of which there are none.
type NoLabels = Vec<(String, String)>;
