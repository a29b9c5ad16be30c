//! What is measured while answers flow: the gaps between their events, how long each was in our
//! hands, and how many flow.
//!
//! Each worker has a [`StreamMetrics`] for each upstream, which it alone writes; who scrapes adds them up.
//! No lock and no allocation is on an event's way: it costs two looks at the clock (when its bytes
//! were read, when they were written) and some additions.

mod connections;
mod histogram;
mod limits;
mod stream_timing;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use connections::{ConnectionCounts, OpenConnection};
pub use histogram::{BOUNDS, Counts, Histogram};
pub use limits::{Limit, LimitCounts};
pub use stream_timing::StreamTiming;

/// All of a process.
#[derive(Debug, Default)]
pub struct StreamMetricsRegistry {
    upstreams: Vec<Shared>,
    /// By worker, and by upstream within.
    workers: Vec<Vec<Arc<StreamMetrics>>>,
    limits: Arc<LimitCounts>,
    clients: Arc<ConnectionCounts>,
    admin: Arc<ConnectionCounts>,
}

/// What the workers share of an upstream.
#[derive(Debug)]
struct Shared {
    name: Arc<str>,
    draining: Arc<AtomicUsize>,
}

impl StreamMetricsRegistry {
    /// For so many workers, and upstreams of these names in the order in which they are asked for.
    pub fn new(workers: usize, upstreams: impl IntoIterator<Item = Arc<str>>) -> Self {
        let upstreams: Vec<_> =
            upstreams.into_iter().map(|name| Shared { name, draining: Arc::default() }).collect();
        let flows = || upstreams.iter().map(|_| Arc::default()).collect();
        let workers = (0..workers).map(|_| flows()).collect();
        Self { upstreams, workers, ..Self::default() }
    }

    /// How often limits on clients acted.
    pub fn limits(&self) -> &Arc<LimitCounts> {
        &self.limits
    }

    /// The connections of the proxy's clients.
    pub fn clients(&self) -> &Arc<ConnectionCounts> {
        &self.clients
    }

    /// Those of the admin server's.
    pub fn admin(&self) -> &Arc<ConnectionCounts> {
        &self.admin
    }

    /// One worker's of one upstream.
    pub fn of(&self, worker: usize, upstream: usize) -> Arc<StreamMetrics> {
        Arc::clone(&self.workers[worker][upstream])
    }

    /// Counts the answers of an upstream that are being drained, on all workers.
    pub fn draining(&self, upstream: usize) -> &Arc<AtomicUsize> {
        &self.upstreams[upstream].draining
    }

    /// What was measured so far, upstream by upstream.
    pub fn totals(&self) -> impl Iterator<Item = StreamTotals> {
        self.upstreams.iter().enumerate().map(|(upstream, shared)| {
            let mut total = StreamTotals {
                upstream: Arc::clone(&shared.name),
                streams: 0,
                draining: shared.draining.load(Ordering::Relaxed),
                upstream_gaps: Counts::default(),
                client_gaps: Counts::default(),
                added: Counts::default(),
            };
            for flow in self.workers.iter().map(|worker| &worker[upstream]) {
                total.streams += flow.streams.load(Ordering::Relaxed);
                total.upstream_gaps.add(&flow.upstream_gaps);
                total.client_gaps.add(&flow.client_gaps);
                total.added.add(&flow.added);
            }
            total
        })
    }
}

/// What was measured of one upstream by all workers.
#[derive(Debug)]
pub struct StreamTotals {
    /// Its name.
    pub upstream: Arc<str>,
    /// Event streams that clients are being sent.
    pub streams: usize,
    /// Answers that are read without a client.
    pub draining: usize,
    /// From an event to the next, as the upstream sent them.
    pub upstream_gaps: Counts,
    /// The same, as they were written to the client.
    pub client_gaps: Counts,
    /// From the read that brought an event's last byte to the write that took it.
    pub added: Counts,
}

/// One worker's measurements of one upstream.
#[derive(Debug, Default)]
pub struct StreamMetrics {
    streams: AtomicUsize,
    upstream_gaps: Histogram,
    client_gaps: Histogram,
    added: Histogram,
}

/// An event stream that a client is being sent, for as long as this lives.
#[derive(Debug)]
pub struct ActiveStream(Arc<StreamMetrics>);

impl ActiveStream {
    /// It has begun.
    pub fn new(flow: &Arc<StreamMetrics>) -> Self {
        flow.streams.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(flow))
    }
}

impl Drop for ActiveStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
