//! The future of a worker, and the runtime of its thread.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_local;

use crate::proxy::{Proxy, Shared, Snapshot};
use crate::record::{ActiveRequests, Journal};
use crate::server::{Acceptor, Ended, Limits, Listener};
use crate::sinks::ledger::LedgerSource;
use crate::sinks::prometheus::Metrics;
use crate::support::Live;
use crate::support::drain::{Phase, Stop};
use crate::support::pulse::Pulse;
use crate::support::threads::{block_on_this_thread, fault};
use crate::tls::ServerTls;

/// The parts that the workers share.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) updates: watch::Receiver<Update>,
    pub(super) shared: Arc<Shared>,
    pub(super) journal: Journal,
    pub(super) drain_timeout: Arc<Live<Duration>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) active: ActiveRequests,
    /// The source of the records that the pages show.
    pub(super) ledger: Option<LedgerSource>,
    /// Shows the watchdog that the workers respond. `None`: there is no watchdog.
    pub(super) pulse: Option<Arc<Pulse>>,
}

/// A snapshot for new requests.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub(super) snapshot: Arc<Snapshot>,
    /// Gets one message from each worker that has adopted the snapshot.
    pub(super) adopted: mpsc::Sender<()>,
}

impl Update {
    /// The snapshot of the start, for whose adoption no thread waits.
    pub(super) fn first(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, adopted: mpsc::channel().0 }
    }
}

/// Serves clients. Runs on a runtime of its own.
pub(super) async fn work(
    number: usize,
    listener: Listener,
    tls: Option<Arc<Live<ServerTls>>>,
    parts: Parts,
    stop: Stop,
) -> io::Result<()> {
    let mut updates = parts.updates.clone();
    let Update { snapshot, adopted } = updates.borrow_and_update().clone();
    let limits = Rc::new(Cell::new(snapshot.limits));
    let (shared, requests) = (Arc::clone(&parts.shared), parts.active.of_worker(number));
    let proxy = Rc::new(Proxy::new(number, snapshot, shared, parts.journal.clone(), requests));
    // Fails for the first snapshot, and after the reloading thread has given up waiting.
    let _ = adopted.send(());
    let adopting = spawn_local(adopt(number, Rc::clone(&proxy), Rc::clone(&limits), updates));
    let probing = (number == PROBER).then(|| spawn_local(probe(Rc::clone(&proxy), stop.clone())));
    if let Some(pulse) = &parts.pulse {
        spawn_local(pulse.follow(number));
    }
    let acceptor = Acceptor::new(listener, proxy, tls, limits);
    let ended = acceptor.run(stop, parts.drain_timeout).await;
    adopting.abort();
    if let Some(probing) = probing {
        probing.abort();
    }
    if ended? == Ended::Cut {
        // Requests that the runtime drops now did not end by themselves.
        parts.journal.cut();
    }
    Ok(())
}

/// The number of the worker that sends probes.
const PROBER: usize = 0;

/// Sends probes until the stop begins.
async fn probe(proxy: Rc<Proxy>, stop: Stop) {
    tokio::select! {
        () = proxy.probe_members() => {}
        () = stop.reached(Phase::Draining) => {}
    }
}

async fn adopt(
    number: usize,
    proxy: Rc<Proxy>,
    limits: Rc<Cell<Limits>>,
    mut updates: watch::Receiver<Update>,
) {
    while updates.changed().await.is_ok() {
        fault::be_late(number).await;
        let Update { snapshot, adopted } = updates.borrow_and_update().clone();
        limits.set(snapshot.limits);
        proxy.adopt(snapshot);
        let _ = adopted.send(());
    }
}

/// Runs a future of the thread `name` on a runtime of its own.
pub(super) fn on_this_thread(name: &str, future: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    #[cfg(feature = "faults")]
    let future = async {
        tokio::select! {
            result = future => result,
            () = fault::strike_later(name) => Ok(()),
        }
    };
    let _ = name;
    block_on_this_thread(future)?
}
