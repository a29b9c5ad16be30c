//! Metrics of the configuration and its reloads.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::config::reload::Reload;

#[derive(Debug)]
pub(super) struct ConfigMetrics(pub(super) Reload);

impl Collector for ConfigMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (taken, refused) = self.0.counts();
        let help = "Changed configurations that were read, by outcome";
        let mut family = encoder.encode_descriptor("config_reloads", help, None, MetricType::Counter)?;
        for (result, count) in [("taken", taken), ("refused", refused)] {
            ConstCounter::new(count).encode(family.encode_family(&[("result", result)])?)?;
        }
        let status = self.0.status();
        let in_use = i64::try_from(self.0.in_use()).unwrap_or(i64::MAX);
        for (name, help, value) in [
            (
                "config_last_reload_successful",
                "1 if the configuration in use is the one that was read last",
                i64::from(status.refused.is_none()),
            ),
            (
                "config_generations",
                "Configurations in use: the present one, and those of requests that still run",
                in_use,
            ),
            (
                "config_restart_needed",
                "1 if a changed key takes effect only at the next start",
                i64::from(!status.needs_restart.is_empty()),
            ),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
