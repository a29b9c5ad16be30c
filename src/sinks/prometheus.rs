//! Counters and histograms, with the names that DESIGN.md section 3.5 fixes.
//!
//! Nearly all values are counted from closed usage records, on the records' own thread, so that
//! counting costs a request nothing. [`crate::support::flow`] measures streams, and is read on a
//! scrape. Label values are bounded: by the configuration, by the API, or by [`naming::Naming`].

mod config;
mod exposition;
mod fleet;
mod flows;
mod identities;
mod labels;
mod limits;
mod members;
mod memory;
mod naming;
mod process;
mod retries;
mod series;
mod sinks;
mod tags;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::balance::HealthRegistry;
use crate::config::reload::Reload;
use crate::gate::limit::{LimitRegistry, Now};
use crate::llm::price::Prices;
use crate::record::{Exporting, Journal, Outcome, Shipping, Sink, UsageRecord, cost};
use crate::support::Live;
use crate::support::flow::StreamMetricsRegistry;
use crate::tls::Reloads;
use crate::upstream::IdentityStates;
use config::ConfigMetrics;
pub use exposition::Exposition;
use flows::FlowMetrics;
use identities::IdentityMetrics;
use labels::{
    BuildLabels, CodeLabels, CostLabels, FailureLabels, RequestLabels, TimeLabels, TokenLabels, UsageLabels,
};
use limits::LimitMetrics;
use members::MemberMetrics;
use memory::MemoryMetrics;
use process::ProcessMetrics;
use retries::RetryCounters;
use series::{Known, Series};
use sinks::SinkMetrics;
use tags::{TagCounters, TagValues};

/// The proxy's metrics.
pub struct Metrics {
    registry: Registry,
    /// Metrics without the prefix of `registry`.
    process: Registry,
    requests: Family<RequestLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    usages: Family<UsageLabels, Counter>,
    costs: Family<CostLabels, Counter<f64, AtomicU64>>,
    rejections: Family<CodeLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
    retries: RetryCounters,
    tags: TagCounters,
    first_byte: Durations,
    first_token: Durations,
    duration: Durations,
    known: Mutex<Known>,
    prices: Arc<Live<Prices>>,
}

type Durations = Family<TimeLabels, Histogram, fn() -> Histogram>;

/// Buckets from 1 ms to about 9 minutes.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 20))
}

impl Metrics {
    /// Starts with all counters at zero. Read on a scrape: `journal` (the records), `reloads`
    /// (certificates), `flows` (streams and connections). `prices` gives the costs of requests.
    pub fn new(
        journal: Journal,
        reloads: Arc<Reloads>,
        flows: Arc<StreamMetricsRegistry>,
        prices: Arc<Live<Prices>>,
        reload: Reload,
    ) -> Self {
        let mut registry = Registry::with_prefix("streamgauge");
        let mut process = Registry::default();
        process.register_collector(Box::new(ProcessMetrics::new()));
        registry.register_collector(Box::new(Build));
        let seconds = |registry: &mut Registry, name, help| {
            let family: Durations = Family::new_with_constructor(durations);
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
            family
        };
        let registered = &mut registry;
        let metrics = Self {
            requests: family(registered, "requests", "Requests that have ended"),
            tokens: family(registered, "tokens", "Tokens as upstreams reported them, otherwise as estimated"),
            usages: family(
                registered,
                "usage_records",
                "Requests that have ended, by the source of their token counts",
            ),
            costs: family(registered, "cost", "Costs of requests at the configured prices, by currency"),
            rejections: family(
                registered,
                "rejections",
                "Requests that this proxy refused, by the error's code",
            ),
            failures: family(
                registered,
                "upstream_failures",
                "Requests with an upstream failure other than a status, by the error's code",
            ),
            retries: RetryCounters::register(registered),
            tags: TagCounters::register(registered),
            first_byte: seconds(
                registered,
                "time_to_first_byte",
                "From a request's head to its response's head",
            ),
            first_token: seconds(
                registered,
                "time_to_first_token",
                "From a request's head to the first event with output",
            ),
            duration: seconds(registered, "request_duration", "From a request's head to its end"),
            registry: Registry::default(),
            process,
            known: Mutex::default(),
            prices,
        };
        registry.register_collector(Box::new(MemoryMetrics(journal.memory().clone())));
        registry.register_collector(Box::new(SinkMetrics(journal.clone())));
        registry.register_collector(Box::new(OutcomeCounters(journal)));
        registry.register_collector(Box::new(Certificates(reloads)));
        registry.register_collector(Box::new(ConfigMetrics(reload)));
        registry.register_collector(Box::new(FlowMetrics(flows)));
        Self { registry, ..metrics }
    }

    /// Adds the state of the members of groups.
    #[must_use]
    pub fn with_members(mut self, health: Arc<HealthRegistry>) -> Self {
        self.registry.register_collector(Box::new(MemberMetrics(health)));
        self
    }

    /// Adds the tokens of identities.
    #[must_use]
    pub fn with_identities(mut self, states: Arc<IdentityStates>) -> Self {
        self.registry.register_collector(Box::new(IdentityMetrics(states)));
        self
    }

    /// Adds the state of the limits. `now` is the clock of their rates.
    #[must_use]
    pub fn with_limits(mut self, limits: Arc<LimitRegistry>, now: fn() -> Now) -> Self {
        self.registry.register_collector(Box::new(LimitMetrics { limits, now }));
        self
    }

    /// All metrics as text.
    pub fn encode(&self, exposition: Exposition) -> String {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &self.process))
            .and_then(|()| encode_eof(&mut text))
            .expect("writing to a string cannot fail");
        exposition.of(text)
    }

    fn count(&self, row: &UsageRecord, series: &Series, values: &mut TagValues) {
        series.count(self, row);
        if let Some(group_use) = row.group_use.as_deref() {
            self.retries.count(group_use);
        }
        self.retries.count_wait(row);
        let upstream = &series.named.upstream;
        match row.code {
            Some(code) if row.outcome == Outcome::Rejected => {
                self.rejections.get_or_create(&CodeLabels { code }).inc_by(row.requests());
            }
            Some(code) => {
                let labels = FailureLabels { upstream: Arc::clone(upstream), code };
                self.failures.get_or_create(&labels).inc_by(row.requests());
            }
            None => {}
        }
        let cost = cost(row, &self.prices.load());
        self.tags.count(values, row, cost.as_ref());
        if let Some((currency, amount)) = cost {
            let TimeLabels { upstream, model, client } = series.named.clone();
            let labels = CostLabels { upstream, model, client, currency: currency.to_string() };
            self.costs.get_or_create(&labels).inc_by(amount.to_f64());
        }
    }
}

/// A family that is registered in `registry`.
fn family<L, M>(registry: &mut Registry, name: &str, help: &str) -> Family<L, M>
where
    Family<L, M>: Metric + Clone + Default,
{
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

/// The build of this program.
#[derive(Debug)]
struct Build;

impl Collector for Build {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let labels = BuildLabels {
            version: env!("CARGO_PKG_VERSION"),
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
        };
        let gauge = ConstGauge::new(1_i64);
        let help = "Always 1; the labels describe the program";
        let mut family = encoder.encode_descriptor("build_info", help, None, gauge.metric_type())?;
        gauge.encode(family.encode_family(&labels)?)
    }
}

impl Sink for Arc<Metrics> {
    fn name(&self) -> String {
        "metrics".to_owned()
    }

    fn label(&self) -> &'static str {
        "metrics"
    }

    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last: Option<(&UsageRecord, Arc<Series>)> = None;
        for row in batch {
            let series = match last {
                Some((before, series)) if Series::is_shared(before, row) => series,
                _ => known.series(self, row),
            };
            self.count(row, &series, &mut known.tags);
            last = Some((row, series));
        }
        Ok(())
    }
}

/// The counters of records.
#[derive(Debug)]
struct OutcomeCounters(Journal);

impl Collector for OutcomeCounters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let health = self.0.health();
        for (name, help, count) in [
            ("usage_records_written", "Usage records handed to the queues of the sinks", &health.written),
            ("usage_records_dropped", "Usage records lost because the queue was full", &health.dropped),
            (
                "usage_records_failed",
                "Usage records that a sink could not write or had no room for, over all sinks",
                &health.failed,
            ),
            (
                "meter_unread",
                "Events and bodies that passed and that the meter could not read",
                &health.unread,
            ),
            (
                "usage_not_understood",
                "Responses whose usage has counts under names that the meter does not know",
                &health.not_understood,
            ),
            (
                "estimates_skipped",
                "Usage records that were to be estimated and were not, for lack of room or time",
                &health.not_estimated,
            ),
            ("alerts_sent", "Notices that a webhook of [[alerts]] accepted", &health.alerts.sent),
            (
                "alerts_lost",
                "Notices that no attempt delivered, or that had no room to wait",
                &health.alerts.lost,
            ),
            ("alert_failures", "Attempts to send a notice that failed", &health.alerts.failures),
            (
                "tags_dropped",
                "Tags of requests that were left out: not listed in tags.names, or malformed",
                &health.tags_dropped,
            ),
        ] {
            let counter = ConstCounter::new(count.load(Ordering::Relaxed));
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        if let Some(exporting) = health.exporting.get() {
            encode_exporting(exporting, &mut encoder)?;
        }
        if let Some(grants) = health.grants.get() {
            fleet::encode_grants(grants, &mut encoder)?;
        }
        if let Some(ids) = health.ids.get() {
            fleet::encode_ids(ids, &mut encoder)?;
        }
        health.shipping.get().map_or(Ok(()), |shipping| encode_shipping(shipping, &mut encoder))
    }
}

/// The counters of the OpenTelemetry exporter, if there is one.
fn encode_exporting(
    exporting: &Exporting,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), std::fmt::Error> {
    for (name, help, count) in [
        ("otlp_spans_exported", "Spans that the OpenTelemetry collector accepted", &exporting.spans_exported),
        (
            "otlp_spans_dropped",
            "Spans lost: too many waited for the collector, or it will never take them",
            &exporting.spans_dropped,
        ),
        ("otlp_failures", "Exports of spans and metrics that failed", &exporting.failures),
    ] {
        let counter = ConstCounter::new(count.load(Ordering::Relaxed));
        counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
    }
    Ok(())
}

/// The counters of records that are shipped to PostgreSQL, if it is configured.
fn encode_shipping(shipping: &Shipping, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
    for (name, help, count) in [
        ("ledger_shipped", "Usage records that PostgreSQL has", &shipping.shipped),
        (
            "ledger_shipping_failures",
            "Connections to PostgreSQL and batches for it that failed",
            &shipping.failures,
        ),
        ("ledger_refused", "Usage records that PostgreSQL will never take", &shipping.refused),
        (
            "ledger_deleted_unshipped",
            "Usage records deleted from the local ledger before they were shipped",
            &shipping.deleted,
        ),
    ] {
        let counter = ConstCounter::new(count.load(Ordering::Relaxed));
        counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
    }
    for (name, help, value) in [
        ("ledger_waiting", "Usage records not shipped yet", shipping.waiting.load(Ordering::Relaxed)),
        (
            "ledger_connected",
            "1 if PostgreSQL accepts usage records",
            u64::from(shipping.up.load(Ordering::Relaxed)),
        ),
    ] {
        let gauge = ConstGauge::new(value);
        gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
    }
    Ok(())
}

/// The counters of certificate reloads.
#[derive(Debug)]
struct Certificates(Arc<Reloads>);

impl Collector for Certificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, count) in [
            ("tls_reloads", "Changed certificates, keys and authorities that were put in use", &self.0.done),
            (
                "tls_reloads_failed",
                "Changed certificates, keys and authorities that were broken, so that the earlier ones stayed",
                &self.0.failed,
            ),
        ] {
            let counter = ConstCounter::new(count.load(Ordering::Relaxed));
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
