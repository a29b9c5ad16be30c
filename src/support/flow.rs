//! Metrics of running streams: the gaps between events, the time that streamgauge adds to each, and
//! the number of streams; and counts of client connections and of limits that acted.
//!
//! Each worker has a [`StreamMetrics`] per upstream and is its only writer; a scrape adds them up.
//! An event takes no lock and no allocation: it costs two reads of the clock (when its bytes were
//! read, when they were written) and some additions.

mod connections;
mod histogram;
mod limits;
mod stream_timing;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use connections::ConnectionCounts;
pub use histogram::{BOUNDS, Counts, Histogram};
pub use limits::{Limit, LimitCounts};
pub use stream_timing::StreamTiming;

use crate::support::{SharedCount, SharedGuard, UpstreamId};

/// One per process. An upstream is added when it is first requested, and stays.
#[derive(Debug, Default)]
pub struct StreamMetricsRegistry {
    workers: usize,
    /// The upstreams in the order in which they were added.
    upstreams: Mutex<Vec<UpstreamMetrics>>,
    limits: Arc<LimitCounts>,
    clients: Arc<ConnectionCounts>,
    admin: Arc<ConnectionCounts>,
}

#[derive(Debug)]
struct UpstreamMetrics {
    id: UpstreamId,
    draining: SharedCount,
    /// The metrics of each worker.
    workers: Vec<Arc<StreamMetrics>>,
}

impl StreamMetricsRegistry {
    pub fn new(workers: usize) -> Self {
        Self { workers, ..Self::default() }
    }

    pub fn limits(&self) -> &Arc<LimitCounts> {
        &self.limits
    }

    pub fn clients(&self) -> &Arc<ConnectionCounts> {
        &self.clients
    }

    /// Connections to the admin server.
    pub fn admin(&self) -> &Arc<ConnectionCounts> {
        &self.admin
    }

    /// Adds an upstream, so that it is among the totals before its first request.
    pub fn register(&self, upstream: &UpstreamId) {
        self.with(upstream, |_| ());
    }

    /// The measurements of one worker.
    ///
    /// # Panics
    /// Panics if there is no worker with this number.
    pub fn of(&self, worker: usize, upstream: &UpstreamId) -> Arc<StreamMetrics> {
        self.with(upstream, |upstream| Arc::clone(&upstream.workers[worker]))
    }

    /// Counts the drains of an upstream's responses on all workers.
    pub fn draining(&self, upstream: &UpstreamId) -> SharedCount {
        self.with(upstream, |upstream| upstream.draining.clone())
    }

    fn with<T>(&self, id: &UpstreamId, of: impl FnOnce(&UpstreamMetrics) -> T) -> T {
        let mut upstreams = self.lock();
        let position = upstreams.iter().position(|upstream| upstream.id == *id).unwrap_or_else(|| {
            let workers = (0..self.workers).map(|_| Arc::default()).collect();
            upstreams.push(UpstreamMetrics { id: id.clone(), draining: SharedCount::default(), workers });
            upstreams.len() - 1
        });
        of(&upstreams[position])
    }

    fn lock(&self) -> MutexGuard<'_, Vec<UpstreamMetrics>> {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sums over all workers, upstream by upstream.
    pub fn totals(&self) -> Vec<StreamTotals> {
        self.lock().iter().map(UpstreamMetrics::total).collect()
    }
}

impl UpstreamMetrics {
    fn total(&self) -> StreamTotals {
        let mut total = StreamTotals {
            upstream: self.id.clone(),
            streams: 0,
            draining: self.draining.get(),
            upstream_gaps: Counts::default(),
            client_gaps: Counts::default(),
            added: Counts::default(),
        };
        for worker in &self.workers {
            total.streams += worker.streams.get();
            total.upstream_gaps.add(&worker.upstream_gaps);
            total.client_gaps.add(&worker.client_gaps);
            total.added.add(&worker.added);
        }
        total
    }
}

/// The measurements of one upstream by all workers.
#[derive(Debug)]
pub struct StreamTotals {
    pub upstream: UpstreamId,
    /// Event streams that are being sent to clients.
    pub streams: usize,
    /// Responses that are read without a client.
    pub draining: usize,
    /// The times from one event to the next, as they arrive from the upstream.
    pub upstream_gaps: Counts,
    /// The times from one event to the next, as they are written to the client.
    pub client_gaps: Counts,
    /// The times from the read of an event's last byte to its write.
    pub added: Counts,
}

/// One worker's measurements of one upstream.
#[derive(Debug, Default)]
pub struct StreamMetrics {
    streams: SharedCount,
    upstream_gaps: Histogram,
    client_gaps: Histogram,
    added: Histogram,
}

impl StreamMetrics {
    /// Counts an event stream that is being sent to a client, until the guard is dropped.
    pub fn begin_stream(&self) -> SharedGuard {
        self.streams.enter()
    }
}
