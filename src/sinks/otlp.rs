//! Exports spans and metrics of closed usage records to an OpenTelemetry collector: OTLP over HTTP
//! in binary protobuf.
//!
//! The names and the bounds of buckets are those of the GenAI semantic conventions (still in
//! development, here the version with `gen_ai.provider.name`), and of the HTTP ones; other names
//! begin with `streamgauge.`. No content of a request or a response is exported.
//!
//! The sink counts metrics on the thread of its [lane](crate::record::Lane). Spans wait in a second
//! queue, of sampled records only, for the thread that sends, so that a slow or unreachable
//! collector costs only spans, which are counted. `span`, `instruments`, `histogram` and `names`
//! turn records into messages and are pure; `queue`, `exporter` and `collector` send them.

mod attempt_span;
mod collector;
mod exporter;
mod histogram;
mod instruments;
mod names;
mod queue;
mod services;
mod span;
mod values;

use std::io;
use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

pub use services::{Service, Services};

use crate::config;
use crate::record::{Batch, Exporting, Journal, Sink, Turn, UsageRecord};
use crate::support::threads::{Deadline, Thread, fault};
use crate::upstream::ConnectSpec;
use exporter::Exporter;
use histogram::MAX_SERIES;
use instruments::Instruments;
use queue::Queue;

/// The time that the end waits for the thread, which gives up earlier by itself.
const PATIENCE: Duration = Duration::from_secs(6);

/// The sink. Dropping it sends the waiting spans and metrics for up to a few seconds, and ends the
/// thread.
#[derive(Debug)]
pub struct Otlp {
    name: String,
    queue: Arc<Queue>,
    instruments: Option<Arc<Mutex<Instruments>>>,
    exporting: Arc<Exporting>,
    /// True after the log has reported lost spans, which it does once.
    has_said_full: bool,
    /// True after the log has reported that a metric has too many series, which it does once.
    has_said_overflowing: bool,
    closing: watch::Sender<bool>,
    thread: Thread,
}

impl Otlp {
    /// Starts the thread that sends. `origin` is the collector's address, `services` are the
    /// upstreams of the records. The journal's health counts the results of exports.
    ///
    /// # Errors
    /// Fails if the system provides no thread. An unreachable collector is not an error.
    pub fn spawn(
        settings: &config::OtlpSettings,
        origin: ConnectSpec,
        services: Services,
        journal: &Journal,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let instruments = settings.metrics.map(|_| Arc::new(Mutex::new(Instruments::new(services.clone()))));
        let exporting = Arc::clone(journal.health().exporting.get_or_init(Arc::default));
        let (closing, closed) = watch::channel(false);
        let exporter = Exporter {
            origin: Arc::new(origin),
            settings: settings.clone(),
            services,
            queue: Arc::clone(&queue),
            instruments: instruments.clone(),
            exporting: Arc::clone(&exporting),
            closed,
        };
        let thread = journal.threads().spawn("otlp-export", move || {
            fault::strike("otlp-export");
            exporter.run_here()
        })?;
        Ok(Self {
            name: settings.url.to_string(),
            queue,
            instruments,
            exporting,
            has_said_full: false,
            has_said_overflowing: false,
            closing,
            thread,
        })
    }
}

impl Sink for Otlp {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn label(&self) -> &'static str {
        "otlp"
    }

    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
        self.share(&Arc::new(batch.to_vec()));
        Ok(())
    }

    fn write_batches(&mut self, batches: &[Batch], turn: &mut Turn<'_>) {
        for batch in batches {
            self.share(batch);
            turn.record_written(batch.len());
        }
    }
}

impl Otlp {
    /// Counts the batch, and queues the records with spans; never waits for the collector. A lost
    /// span is not a lost record, so it is not an error.
    fn share(&mut self, batch: &Batch) {
        if let Some(instruments) = &self.instruments {
            // No code under the lock can panic with half-changed counts.
            let mut instruments = instruments.lock().unwrap_or_else(PoisonError::into_inner);
            batch.iter().for_each(|row| instruments.record(row));
            let overflowing = instruments.overflowing().filter(|_| !self.has_said_overflowing);
            if let Some(metric) = overflowing {
                self.has_said_overflowing = true;
                tracing::warn!(
                    metric,
                    "this OpenTelemetry metric has more than {MAX_SERIES} series; what would be another one is counted as otel.metric.overflow"
                );
            }
        }
        let lost = self.queue.push(batch);
        if lost > 0 && !mem::replace(&mut self.has_said_full, true) {
            tracing::warn!(
                collector = self.name,
                "too many spans wait for the OpenTelemetry collector, and further ones are lost; how many is counted"
            );
        }
        self.exporting.spans_dropped.fetch_add(lost as u64, Ordering::Relaxed);
    }
}

impl Drop for Otlp {
    fn drop(&mut self) {
        let _ = self.closing.send(true);
        self.thread.wait(&Deadline::after(PATIENCE));
    }
}
