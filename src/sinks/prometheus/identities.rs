//! The tokens of upstreams' identities, read on request.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::labels::{ResultLabels, UpstreamLabels};
use crate::upstream::IdentityStates;

#[derive(Debug)]
pub(super) struct IdentityMetrics(pub(super) Arc<IdentityStates>);

impl Collector for IdentityMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let rests = self.0.rests();
        if rests.is_empty() {
            return Ok(());
        }
        let help = "The rest of the life of the token of an upstream's identity; 0 if there is none";
        let mut family =
            encoder.encode_descriptor("identity_expires", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (upstream, rest) in rests {
            let labels = UpstreamLabels { upstream: upstream.to_string() };
            ConstGauge::new(rest.as_secs_f64()).encode(family.encode_family(&labels)?)?;
        }
        let help = "Requests for tokens of upstreams' identities";
        let mut family = encoder.encode_descriptor("identity_renewals", help, None, MetricType::Counter)?;
        for (result, count) in self.0.renewals() {
            ConstCounter::new(count).encode(family.encode_family(&ResultLabels { result })?)?;
        }
        Ok(())
    }
}
