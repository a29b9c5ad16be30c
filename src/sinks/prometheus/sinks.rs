//! Counters of sinks, threads and the log.

use std::fmt;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::labels::{SinkLabels, SinkResultLabels, ThreadLabels};
use crate::record::{Journal, Shipping};
use crate::support::telemetry;

/// All counters, read on request.
#[derive(Debug)]
pub(super) struct SinkMetrics(pub(super) Journal);

/// PostgreSQL gets its records from the ledger, and has no queue of its own.
const POSTGRES: &str = "postgres";

impl Collector for SinkMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let health = self.0.health();
        let sinks = health.sinks();
        let help = "Usage records by sink: written, dropped because too many waited for the sink, or failed";
        let mut family = encoder.encode_descriptor("sink_records", help, None, MetricType::Counter)?;
        let mut count = |sink: &str, result, count| {
            let labels = SinkResultLabels { sink: sink.to_owned(), result };
            ConstCounter::new(count).encode(family.encode_family(&labels)?)
        };
        for sink in &sinks {
            count(&sink.label, "written", sink.written.load(Ordering::Relaxed))?;
            count(&sink.label, "dropped", sink.dropped.load(Ordering::Relaxed))?;
            count(&sink.label, "failed", sink.failed.load(Ordering::Relaxed))?;
        }
        if let Some(Shipping { shipped, refused, deleted, .. }) = health.shipping.get() {
            count(POSTGRES, "written", shipped.load(Ordering::Relaxed))?;
            count(POSTGRES, "dropped", deleted.load(Ordering::Relaxed))?;
            count(POSTGRES, "failed", refused.load(Ordering::Relaxed))?;
        }
        let help = "Usage records that wait for the sink or that it is writing";
        let mut family = encoder.encode_descriptor("sink_waiting", help, None, MetricType::Gauge)?;
        for sink in &sinks {
            let labels = SinkLabels { sink: sink.label.clone() };
            let waiting = i64::try_from(sink.waiting()).unwrap_or(i64::MAX);
            ConstGauge::new(waiting).encode(family.encode_family(&labels)?)?;
        }
        let threads = self.0.threads().statuses();
        let help = "Unexpected ends of the thread, including those with a restart";
        let mut family = encoder.encode_descriptor("thread_failures", help, None, MetricType::Counter)?;
        for thread in &threads {
            let labels = ThreadLabels { thread: thread.name.clone() };
            ConstCounter::new(thread.failures).encode(family.encode_family(&labels)?)?;
        }
        let help = "1 while the thread runs";
        let mut family = encoder.encode_descriptor("thread_up", help, None, MetricType::Gauge)?;
        for thread in &threads {
            let labels = ThreadLabels { thread: thread.name.clone() };
            ConstGauge::new(i64::from(thread.is_running)).encode(family.encode_family(&labels)?)?;
        }
        if let Some(up) = health.key_store_up.get() {
            let gauge = ConstGauge::new(i64::from(up.load(Ordering::Relaxed)));
            let help = "1 while the stored keys can be read from PostgreSQL";
            gauge.encode(encoder.encode_descriptor("key_store_up", help, None, MetricType::Gauge)?)?;
        }
        let counter = ConstCounter::new(telemetry::panics());
        let help = "Panics, of whole threads or of a single request";
        let kind = counter.metric_type();
        counter.encode(encoder.encode_descriptor("panics", help, None, kind)?)?;
        let counter = ConstCounter::new(telemetry::dropped());
        let help = "Lines of the log lost because stderr could not be written, or was not read";
        let kind = counter.metric_type();
        counter.encode(encoder.encode_descriptor("log_lines_dropped", help, None, kind)?)
    }
}
