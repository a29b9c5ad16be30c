//! Counters and histograms, in the names that DESIGN.md section 3.5 fixes.
//!
//! Nearly everything here is counted from closed usage records, by the records' own thread: counting takes nothing on the way
//! of a request. What happens inside streams is measured by [`crate::flow`] and read when somebody asks. Label values are bounded: by the configuration, by the API, or by [`Names`].

mod exposition;
mod flows;
mod labels;
mod sinks;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::flow::Flows;
use crate::record::{Exporting, Journal, Names, Shipping, Sink, UsageRecord};
use crate::tls::Reloads;
pub use exposition::Exposition;
use flows::FlowMetrics;
use labels::{RequestLabels, TokenLabels, UpstreamLabels, UsageLabels};
use sinks::SinkMetrics;

/// The proxy's metrics.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    usages: Family<UsageLabels, Counter>,
    first_byte: Durations,
    first_token: Durations,
    duration: Durations,
    models: Mutex<Names>,
}

type Durations = Family<UpstreamLabels, Histogram, fn() -> Histogram>;

/// From 1 ms to about 9 minutes.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 20))
}

impl Metrics {
    /// All at zero. `journal` tells what became of records, `reloads` what became of changed certificates, `flows` what goes on
    /// inside streams.
    pub fn new(journal: Journal, reloads: Arc<Reloads>, flows: Arc<Flows>) -> Self {
        let mut registry = Registry::with_prefix("streamgauge");
        let requests = Family::default();
        registry.register("requests", "Requests that have ended", requests.clone());
        let tokens = Family::default();
        registry.register(
            "tokens",
            "Tokens as upstreams reported them, or as estimated where they did not",
            tokens.clone(),
        );
        let usages = Family::default();
        registry.register(
            "usage_records",
            "Requests that have ended, by how their token counts are known",
            usages.clone(),
        );
        let mut seconds = |name, help| {
            let family: Durations = Family::new_with_constructor(durations);
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
            family
        };
        let first_byte = seconds("time_to_first_byte", "From a request's head to its answer's head");
        let first_token =
            seconds("time_to_first_token", "From a request's head to the first event with output");
        let duration = seconds("request_duration", "From a request's head to its end");
        registry.register_collector(Box::new(SinkMetrics(journal.clone())));
        registry.register_collector(Box::new(Fates(journal)));
        registry.register_collector(Box::new(Certificates(reloads)));
        registry.register_collector(Box::new(FlowMetrics(flows)));
        Self {
            registry,
            requests,
            tokens,
            usages,
            first_byte,
            first_token,
            duration,
            models: Mutex::default(),
        }
    }

    /// All of them as text.
    pub fn encode(&self, exposition: Exposition) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("writing to a string cannot fail");
        exposition.of(text)
    }

    fn count(&self, row: &UsageRecord) {
        let upstream = UpstreamLabels { upstream: row.upstream.as_deref().unwrap_or_default().to_owned() };
        self.requests
            .get_or_create(&RequestLabels {
                upstream: upstream.upstream.clone(),
                endpoint: row.endpoint.as_deref().unwrap_or_default().to_owned(),
                status: row.status.unwrap_or_default(),
                outcome: row.outcome.as_str(),
            })
            .inc_by(row.requests());
        let usage_source = row.usage_source.as_str();
        let labels = UsageLabels { upstream: upstream.upstream.clone(), usage_source };
        self.usages.get_or_create(&labels).inc_by(row.requests());
        for (histogram, millis) in [
            (&self.first_byte, row.time_to_first_byte_ms),
            (&self.first_token, row.time_to_first_token_ms),
            (&self.duration, Some(row.duration_ms)),
        ] {
            if let Some(millis) = millis {
                histogram.get_or_create(&upstream).observe(millis / 1e3);
            }
        }
        let usage = &row.usage;
        for (kind, count) in [
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cached_input", usage.cached_input_tokens),
            ("cache_write_input", usage.cache_write_input_tokens),
            ("cache_write_1h_input", usage.cache_write_1h_input_tokens),
            ("reasoning", usage.reasoning_tokens),
            ("input_audio", usage.input_audio_tokens),
            ("output_audio", usage.output_audio_tokens),
        ] {
            if let Some(count) = count.filter(|&count| count > 0) {
                let labels = TokenLabels {
                    upstream: upstream.upstream.clone(),
                    model: self.model(row.model.as_deref()),
                    client: row.client.to_string(),
                    r#type: kind,
                };
                self.tokens.get_or_create(&labels).inc_by(count);
            }
        }
    }

    fn model(&self, confirmed: Option<&str>) -> String {
        self.models.lock().unwrap_or_else(PoisonError::into_inner).of(confirmed).to_string()
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
        batch.iter().for_each(|row| self.count(row));
        Ok(())
    }
}

/// What became of records.
#[derive(Debug)]
struct Fates(Journal);

impl Collector for Fates {
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
                "estimates_skipped",
                "Usage records that were to be estimated and were not, for want of room or time",
                &health.not_estimated,
            ),
        ] {
            let counter = ConstCounter::new(count.load(Ordering::Relaxed));
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        if let Some(exporting) = health.exporting.get() {
            encode_exporting(exporting, &mut encoder)?;
        }
        health.shipping.get().map_or(Ok(()), |shipping| encode_shipping(shipping, &mut encoder))
    }
}

/// What became of spans and metrics on their way to an OpenTelemetry collector, where there is one.
fn encode_exporting(
    exporting: &Exporting,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), std::fmt::Error> {
    for (name, help, count) in [
        ("otlp_spans_exported", "Spans that the OpenTelemetry collector has", &exporting.spans_exported),
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

/// What became of records on their way to PostgreSQL, where there is one.
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
            "Whether PostgreSQL takes usage records now",
            u64::from(shipping.up.load(Ordering::Relaxed)),
        ),
    ] {
        let gauge = ConstGauge::new(value);
        gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
    }
    Ok(())
}

/// What became of changed certificates.
#[derive(Debug)]
struct Certificates(Arc<Reloads>);

impl Collector for Certificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, count) in [
            ("tls_reloads", "Changed certificates, keys and authorities that were taken over", &self.0.done),
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
mod tests {
    use super::*;
    use crate::record::{Entry, MAX_NAMES, Outcome};

    fn metrics(rows: usize, model: impl Fn(usize) -> Option<String>) -> String {
        let journal = Journal::new(10_000);
        for row in 0..rows {
            let mut entry = Entry::open(&journal, &"anonymous".into());
            entry.answered(200);
            entry.row().upstream = Some("openai".into());
            entry.row().endpoint = Some("responses".into());
            entry.row().model = model(row).map(Into::into);
            entry.row().usage.output_tokens = Some(2);
            entry.close(Outcome::Complete);
        }
        let flows = Arc::new(Flows::new(1, ["openai".into()]));
        let mut metrics = Arc::new(Metrics::new(journal.clone(), Arc::default(), flows));
        metrics.write(&journal.take()).unwrap();
        metrics.encode(Exposition::OpenMetrics)
    }

    #[test]
    fn a_closed_record_is_counted_with_its_labels() {
        let text = metrics(3, |_| Some("gpt-x".to_owned()));
        for line in [
            r#"streamgauge_requests_total{upstream="openai",endpoint="responses",status="200",outcome="complete"} 3"#,
            r#"streamgauge_tokens_total{upstream="openai",model="gpt-x",client="anonymous",type="output"} 6"#,
            r#"streamgauge_usage_records_total{upstream="openai",usage_source="none"} 3"#,
            r#"streamgauge_request_duration_seconds_count{upstream="openai"} 3"#,
            "streamgauge_usage_records_dropped_total 0",
            r#"streamgauge_streams_active{upstream="openai"} 0"#,
            r#"streamgauge_drains_active{upstream="openai"} 0"#,
            r#"streamgauge_inter_event_seconds_count{upstream="openai",side="client"} 0"#,
            r#"streamgauge_added_latency_seconds_bucket{le="+Inf",upstream="openai"} 0"#,
            "streamgauge_tls_reloads_total 0",
            "streamgauge_tls_reloads_failed_total 0",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn what_is_shipped_is_counted_where_there_is_a_fleet() {
        let journal = Journal::new(1);
        let metrics = Metrics::new(journal.clone(), Arc::default(), Arc::default());
        assert!(!metrics.encode(Exposition::OpenMetrics).contains("streamgauge_ledger_"));
        let shipping = journal.health().shipping.get_or_init(Shipping::default);
        shipping.up.store(true, Ordering::Relaxed);
        shipping.shipped.store(7, Ordering::Relaxed);
        shipping.waiting.store(5, Ordering::Relaxed);
        let text = metrics.encode(Exposition::OpenMetrics);
        for line in [
            "streamgauge_ledger_shipped_total 7",
            "streamgauge_ledger_shipping_failures_total 0",
            "streamgauge_ledger_refused_total 0",
            "streamgauge_ledger_deleted_unshipped_total 0",
            "streamgauge_ledger_waiting 5",
            "streamgauge_ledger_connected 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_model_that_no_upstream_confirmed_has_no_label_of_its_own() {
        assert!(metrics(1, |_| None).contains(r#"model="other""#));
    }

    #[test]
    fn model_labels_are_bounded() {
        let text = metrics(MAX_NAMES + 10, |row| Some(format!("model-{row}")));
        let labels = text.lines().filter(|line| line.starts_with("streamgauge_tokens_total")).count();
        assert_eq!(labels, MAX_NAMES + 1);
    }
}
