//! The state of limits, read on request.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::labels::ClientLimitLabels;
use crate::gate::limit::{AppliedLimit, LimitRegistry, Now};

/// The owner of the limits of all clients together.
const ALL: &str = "all";

/// The limits, and the clock of their rates.
#[derive(Debug)]
pub(super) struct LimitMetrics {
    pub(super) limits: Arc<LimitRegistry>,
    pub(super) now: fn() -> Now,
}

impl Collector for LimitMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (limits, now) = (self.limits.all(), (self.now)());
        let help = "The part of a limit that is used or held; above 1, running requests use more than was held, or at_limit is warn";
        let mut family = encoder.encode_descriptor("limit_used_ratio", help, None, MetricType::Gauge)?;
        for applied in &limits {
            let ratio = applied.status(now).used_ratio();
            ConstGauge::new(ratio).encode(family.encode_family(&labels(applied))?)?;
        }
        let help =
            "Requests that a limit refused or ended for lack of room, or let pass with at_limit = \"warn\"";
        let mut family = encoder.encode_descriptor("limit_exceeded", help, None, MetricType::Counter)?;
        for applied in &limits {
            let count = applied.limit.exceeded();
            ConstCounter::new(count).encode(family.encode_family(&labels(applied))?)?;
        }
        let help = "Requests that wait for a limit with at_limit = \"wait\"";
        let mut family = encoder.encode_descriptor("limit_waiting", help, None, MetricType::Gauge)?;
        for applied in limits.iter().filter(|applied| applied.limit.longest_wait().is_some()) {
            let waiting = applied.waiting() as f64;
            ConstGauge::new(waiting).encode(family.encode_family(&labels(applied))?)?;
        }
        let help = "Users that a limit with each = \"user\" counts";
        let mut family = encoder.encode_descriptor("limit_users", help, None, MetricType::Gauge)?;
        for (applied, users) in limits.iter().filter_map(|applied| Some((applied, applied.users.as_ref()?))) {
            ConstGauge::new(users.len() as f64).encode(family.encode_family(&labels(applied))?)?;
        }
        let help = "Requests or tokens that a limit has counted in its period and the ledger does not have; negative if it has more";
        let mut family = encoder.encode_descriptor("limit_drift", help, None, MetricType::Gauge)?;
        for applied in &limits {
            if let Some(drift) = applied.limit.drift() {
                ConstGauge::new(drift).encode(family.encode_family(&labels(applied))?)?;
            }
        }
        let help = "Requests that a limit of cost counted as 0, at least in part, since they have no price";
        let mut family = encoder.encode_descriptor("limit_unpriced", help, None, MetricType::Counter)?;
        for (applied, count) in limits.iter().filter_map(|applied| Some((applied, applied.limit.unpriced()?)))
        {
            ConstCounter::new(count).encode(family.encode_family(&labels(applied))?)?;
        }
        Ok(())
    }
}

fn labels(AppliedLimit { owner, index, .. }: &AppliedLimit) -> ClientLimitLabels {
    let whose = owner.table().unwrap_or_else(|| ALL.to_owned());
    ClientLimitLabels { whose, limit: format!("limits[{index}]") }
}
