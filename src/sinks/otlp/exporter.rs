//! The thread that sends.
//!
//! Spans and metrics are sent concurrently, each with its own pauses. Spans that a collector may
//! accept later are sent again after a growing pause, while further ones wait in the queue. Metrics
//! continue to be counted, and the next export has all of them.

use std::io;
use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};

use super::attempt_span::attempt_spans;
use super::collector::{Collector, Failure};
use super::instruments::Instruments;
use super::queue::Queue;
use super::services::Services;
use super::span::span;
use super::values::{Attributes, printable};
use crate::config;
use crate::record::{Exporting, UsageRecord};
use crate::support::threads::block_on_this_thread;
use crate::support::{Backoff, OutageNotice};
use crate::upstream::ConnectSpec;

/// The largest number of spans of one request: some 500 kB.
const MAX_SPANS: usize = 512;

/// The first and the longest pause between attempts.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The time for the last spans and metrics when the process ends.
const GRACE: Duration = Duration::from_secs(5);

/// Pending spans and metrics, and the collector that gets them.
pub(super) struct Exporter {
    pub(super) origin: Arc<ConnectSpec>,
    pub(super) settings: config::OtlpSettings,
    pub(super) services: Services,
    pub(super) queue: Arc<Queue>,
    pub(super) instruments: Option<Arc<Mutex<Instruments>>>,
    pub(super) exporting: Arc<Exporting>,
    pub(super) closed: watch::Receiver<bool>,
}

impl Exporter {
    /// Runs on this thread.
    pub(super) fn run_here(&self) -> io::Result<()> {
        block_on_this_thread(self.run())
    }

    /// Ends when the process does: after everything is sent, when an attempt fails, or when its
    /// time is over.
    async fn run(&self) {
        let collector = Collector::new(Arc::clone(&self.origin), &self.settings);
        let resource = resource(&self.settings);
        let mut closed = self.closed.clone();
        let last_moment = async move {
            let _ = closed.wait_for(|closed| *closed).await;
            sleep(GRACE).await;
        };
        tokio::select! {
            ((), ()) = async { tokio::join!(self.send_spans(&collector, &resource), self.send_metrics(&collector, &resource)) } => {}
            () = last_moment => {}
        }
        self.drop_spans(self.queue.left());
    }

    async fn send_spans(&self, collector: &Collector, resource: &Resource) {
        let mut closed = self.closed.clone();
        let mut teller = self.teller("spans");
        while let Some(batches) = self.queue.next(&mut closed).await {
            let rows: Vec<_> = batches.iter().flat_map(|batch| batch.iter()).collect();
            let mut unsent = Unsent { spans: rows.len(), exporting: &self.exporting };
            for rows in rows.chunks(MAX_SPANS) {
                let message = self.spans(rows, resource).encode_to_vec();
                let may_go_on = self.send_spans_of(rows.len(), message, collector, &mut teller).await;
                unsent.spans -= rows.len();
                if !may_go_on {
                    return;
                }
            }
            self.queue.done();
        }
    }

    /// Sends spans until they are accepted or refused, or until the process ends. Returns true if
    /// further ones are worth an attempt: false after a failure while the process ends.
    async fn send_spans_of(
        &self,
        count: usize,
        message: Vec<u8>,
        collector: &Collector,
        teller: &mut Teller,
    ) -> bool {
        let mut closed = self.closed.clone();
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let last = *closed.borrow();
            match collector.post::<ExportTraceServiceResponse>("/v1/traces", message.clone()).await {
                Ok(response) => {
                    let partial = response.partial_success.unwrap_or_default();
                    let rejected = usize::try_from(partial.rejected_spans).unwrap_or_default().min(count);
                    self.exporting.spans_exported.fetch_add((count - rejected) as u64, Ordering::Relaxed);
                    self.drop_spans(rejected);
                    teller.well(rejected, &partial.error_message);
                    return true;
                }
                Err(failure) => {
                    teller.failed(&failure);
                    if last || !failure.may_pass() {
                        self.drop_spans(count);
                        return !last;
                    }
                    let pause = backoff.take_jittered();
                    let pause = failure.after().map_or(pause, |after| after.max(pause).min(LONGEST_PAUSE));
                    let _ = timeout(pause, closed.wait_for(|closed| *closed)).await;
                }
            }
        }
    }

    async fn send_metrics(&self, collector: &Collector, resource: &Resource) {
        let (Some(every), Some(instruments)) = (self.settings.metrics, &self.instruments) else { return };
        let mut closed = self.closed.clone();
        let mut teller = self.teller("metrics");
        let mut ticks = interval_at(tokio::time::Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = closed.wait_for(|closed| *closed) => {}
            }
            let last = *closed.borrow();
            let metrics =
                instruments.lock().unwrap_or_else(PoisonError::into_inner).metrics(Timestamp::now());
            if !metrics.is_empty() {
                let scope_metrics = ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() };
                let resource_metrics = ResourceMetrics {
                    resource: Some(resource.clone()),
                    scope_metrics: vec![scope_metrics],
                    ..ResourceMetrics::default()
                };
                let message = ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] };
                let message = message.encode_to_vec();
                match collector.post::<ExportMetricsServiceResponse>("/v1/metrics", message).await {
                    Ok(response) => {
                        let partial = response.partial_success.unwrap_or_default();
                        let rejected = usize::try_from(partial.rejected_data_points).unwrap_or_default();
                        teller.well(rejected, &partial.error_message);
                    }
                    Err(failure) => teller.failed(&failure),
                }
            }
            if last {
                return;
            }
        }
    }

    fn spans(&self, rows: &[&UsageRecord], resource: &Resource) -> ExportTraceServiceRequest {
        let services = &self.services;
        let contexts = rows.iter().filter_map(|row| Some((row, row.span.as_deref()?)));
        let spans: Vec<Span> = contexts
            .flat_map(|(row, context)| {
                let attempts = attempt_spans(row, context, services);
                std::iter::once(span(row, context, services)).chain(attempts)
            })
            .collect();
        let scope_spans = ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() };
        let resource_spans = ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: vec![scope_spans],
            ..ResourceSpans::default()
        };
        ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
    }

    fn drop_spans(&self, count: usize) {
        self.exporting.spans_dropped.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn teller(&self, signal: &'static str) -> Teller {
        let url = self.settings.url.to_string();
        Teller {
            url,
            signal,
            outage: OutageNotice::default(),
            rejects: false,
            warns: false,
            exporting: Arc::clone(&self.exporting),
        }
    }
}

/// Spans that were taken off the queue. Dropping them counts them as lost.
struct Unsent<'a> {
    spans: usize,
    exporting: &'a Exporting,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        self.exporting.spans_dropped.fetch_add(self.spans as u64, Ordering::Relaxed);
    }
}

/// Logs a failure once, and its end.
struct Teller {
    url: String,
    signal: &'static str,
    outage: OutageNotice<String>,
    /// The collector accepts some items and refuses others, and that was logged.
    rejects: bool,
    /// The collector accepts all items with a warning, and that was logged.
    warns: bool,
    exporting: Arc<Exporting>,
}

impl Teller {
    /// The collector accepted the message except for this many items, and gave this reason.
    fn well(&mut self, rejected: usize, words: &str) {
        if self.outage.record_success() {
            tracing::info!(
                collector = self.url,
                "{} are sent to the OpenTelemetry collector again",
                self.signal
            );
        }
        let reason = printable(words);
        if rejected > 0 && !mem::replace(&mut self.rejects, true) {
            tracing::warn!(
                collector = self.url,
                rejected,
                reason,
                "the OpenTelemetry collector refuses some of the {}; further refusals are not logged",
                self.signal
            );
        } else if rejected == 0 && !reason.is_empty() && !mem::replace(&mut self.warns, true) {
            tracing::warn!(
                collector = self.url,
                reason,
                "the OpenTelemetry collector accepts the {} with a warning; further warnings are not logged",
                self.signal
            );
        }
    }

    fn failed(&mut self, failure: &Failure) {
        self.exporting.failures.fetch_add(1, Ordering::Relaxed);
        if self.outage.record_failure(failure.kind()) {
            tracing::warn!(
                collector = self.url, reason = %failure,
                "{} cannot be sent to the OpenTelemetry collector; requests are still served", self.signal
            );
        }
    }
}

/// The resource of all exports. An instance has an id for as long as it runs, since its counts
/// begin with it.
fn resource(settings: &config::OtlpSettings) -> Resource {
    let instance = uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid().to_string();
    let mut attributes = Attributes::default();
    attributes.text("service.name", &settings.service_name);
    for (name, value) in
        [("service.version", env!("CARGO_PKG_VERSION")), ("service.instance.id", instance.as_str())]
    {
        if settings.resource.iter().all(|(said, _)| said != name) {
            attributes.text(name, value);
        }
    }
    settings.resource.iter().for_each(|(name, value)| attributes.text(name, value));
    Resource { attributes: attributes.into_vec(), ..Resource::default() }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}
