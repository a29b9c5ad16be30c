//! A worker, and the runtime of its thread.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use crate::drain::Stop;
use crate::ledger::LedgerSource;
use crate::listener::{Acceptor, Ended, Limits, Listener};
use crate::metrics::Metrics;
use crate::proxy::{Proxy, Shared, Snapshot};
use crate::record::{Boards, Journal};
use crate::tls::Live;

/// What each worker needs.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) shared: Arc<Shared>,
    pub(super) journal: Journal,
    pub(super) limits: Limits,
    pub(super) drain_timeout: Duration,
    pub(super) metrics: Arc<Metrics>,
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
    let (snapshot, shared) = (Arc::clone(&parts.snapshot), Arc::clone(&parts.shared));
    let board = parts.boards.of_worker(number);
    let proxy = Proxy::new(number, snapshot, shared, parts.journal.clone(), board);
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
