//! The state of the upstreams that are members of groups, read on request.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::labels::{GroupLabels, MemberLabels, ProbeLabels, UpstreamLabels};
use crate::balance::{HealthRegistry, ModelHealth, ProbeResult};

/// The largest number of models with a series of their own: clients choose names of models.
const MAX_MODELS: usize = 1_000;

#[derive(Debug)]
pub(super) struct MemberMetrics(pub(super) Arc<HealthRegistry>);

impl Collector for MemberMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (now, models, upstreams) = (Instant::now(), self.0.models(), self.0.upstreams());
        let upstream_of = |model: &ModelHealth| &upstreams[usize::from(model.upstream())];
        // An upstream is out as a whole, or with each of its models.
        let mut available: BTreeMap<String, bool> = BTreeMap::new();
        for model in &models {
            let upstream = upstream_of(model);
            let is_available = upstream.out().is_none() && model.out().is_none();
            *available.entry(upstream.id().to_string()).or_default() |= is_available;
        }
        let help = "1 if a member of a group is available, 0 if its breaker leaves it out";
        let mut family = encoder.encode_descriptor("upstream_available", help, None, MetricType::Gauge)?;
        for (upstream, is_available) in available {
            let gauge = ConstGauge::new(i64::from(is_available));
            gauge.encode(family.encode_family(&UpstreamLabels { upstream })?)?;
        }
        let help = "The rest of the time for which a member of a group is left out after a 429";
        let mut family =
            encoder.encode_descriptor("cooldown", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        let labels = |upstream: &dyn fmt::Display, model: &str| MemberLabels {
            upstream: upstream.to_string(),
            model: model.to_owned(),
        };
        let cooling = models.iter().filter_map(|model| Some((model, model.cooldown(&self.0, now)?)));
        for (model, rest) in cooling.take(MAX_MODELS) {
            let labels = labels(upstream_of(model).id(), model.name());
            ConstGauge::new(rest.as_secs_f64()).encode(family.encode_family(&labels)?)?;
        }
        let help = "The requests that wait for a member of a group";
        let mut family = encoder.encode_descriptor("requests_waiting", help, None, MetricType::Gauge)?;
        for (group, waiting) in self.0.waiting() {
            ConstGauge::new(waiting as i64).encode(family.encode_family(&GroupLabels { group })?)?;
        }
        let help = "The requests that run at a member of a group";
        let mut family = encoder.encode_descriptor("requests_running", help, None, MetricType::Gauge)?;
        for (upstream, model, running) in self.0.running() {
            let labels = labels(&upstream, model.as_deref().unwrap_or_default());
            ConstGauge::new(i64::from(running)).encode(family.encode_family(&labels)?)?;
        }
        let help = "How much of an Azure deployment's provisioned throughput is in use; 1 is all of it";
        let mut family = encoder.encode_descriptor("upstream_utilization", help, None, MetricType::Gauge)?;
        let used = models.iter().filter_map(|model| Some((model, model.utilization()?)));
        for (model, utilization) in used.take(MAX_MODELS) {
            let labels = labels(upstream_of(model).id(), model.name());
            ConstGauge::new(utilization).encode(family.encode_family(&labels)?)?;
        }
        let help = "Probes of members of groups that were left out";
        let mut family = encoder.encode_descriptor("probes", help, None, MetricType::Counter)?;
        for upstream in &upstreams {
            for result in ProbeResult::ALL {
                let count = upstream.probes().get(result);
                if count > 0 {
                    let labels = ProbeLabels { upstream: upstream.id().to_string(), result: result.name() };
                    ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}
