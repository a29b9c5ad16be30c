//! A worker, and the runtime of its thread.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use crate::drain::Stop;
use crate::flow::StreamMetricsRegistry;
use crate::ledger::LedgerSource;
use crate::listener::{Acceptor, Ended, Limits, Listener};
use crate::metrics::Metrics;
use crate::proxy::{Proxy, Snapshot};
use crate::record::{Boards, Journal};
use crate::tls::Live;
use crate::upstream::{Origin, PoolLimits, Scratch, Upstream};

/// What each worker needs.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) origins: Arc<[(Arc<Origin>, PoolLimits)]>,
    pub(super) journal: Journal,
    pub(super) limits: Limits,
    pub(super) drain_timeout: Duration,
    pub(super) metrics: Arc<Metrics>,
    pub(super) flows: Arc<StreamMetricsRegistry>,
    pub(super) boards: Boards,
    /// Whose records the pages show.
    pub(super) ledger: Option<LedgerSource>,
}

/// A worker, for a runtime of its own.
pub(super) async fn work(
    number: usize,
    listener: Listener,
    tls: Option<Arc<Live<ServerConfig>>>,
    parts: Parts,
    stop: Stop,
) -> io::Result<()> {
    let scratch = Scratch::default();
    let upstreams = parts.origins.iter();
    let upstreams = upstreams
        .map(|(origin, limits)| Upstream::new(Arc::clone(origin), *limits, scratch.clone()))
        .collect();
    let board = parts.boards.of_worker(number);
    let (snapshot, journal) = (Arc::clone(&parts.snapshot), parts.journal.clone());
    let proxy = Proxy::new(number, snapshot, upstreams, &parts.flows, journal, board);
    let acceptor = Acceptor::new(listener, Rc::new(proxy), tls, parts.limits);
    if acceptor.run(stop, parts.drain_timeout).await? == Ended::Cut {
        // What the runtime drops now did not end by itself.
        parts.journal.cut();
    }
    Ok(())
}

/// What a worker's or the admin pages' thread does, which is called `name`.
pub(super) fn on_this_thread(name: &str, future: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let runtime: LocalRuntime =
        Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    #[cfg(feature = "faults")]
    let future = async {
        tokio::select! {
            result = future => result,
            () = crate::threads::fault::strike_later(name) => Ok(()),
        }
    };
    let _ = name;
    let result = runtime.block_on(future);
    // A name that is still looked up, or a ledger that is still read, must not hold the end of the
    // process.
    runtime.shutdown_background();
    result
}
