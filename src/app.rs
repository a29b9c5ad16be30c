//! The composition root: settings → bound sockets → addresses → running threads.
//!
//! Binding comes before running, and the real addresses come back, so that everything can be
//! started on port 0. This is the only place that sees the whole settings; each part gets its own
//! small struct.

pub(crate) mod advice;
mod ledger_use;
pub(crate) mod obstacles;
pub(crate) mod open_files;
mod port_owner;
pub(crate) mod preflight;
mod running;
mod shares;
mod snapshot;
mod upstreams;
mod worker;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;

use crate::admin::{self, Access, Admin, Bounds, Shown, WORKER};
use crate::config::{AccessLines, Jsonl as JsonlPath, Settings, Upstream};
use crate::drain::Stop;
use crate::flow::StreamMetricsRegistry;
use crate::ledger::{Ledger, LedgerSource};
use crate::listener::{Balance, Limits, Listener, Room, bind, watch_at_most};
use crate::metrics::Metrics;
use crate::otlp::{self, Otlp, Services};
use crate::price::Prices;
use crate::proxy::Shared;
use crate::record::{
    AccessLog, Boards, CAPACITY, Estimator, Journal, Jsonl, RefusalCounter, Reopener, Sink, Writer,
};
use crate::secret::Masks;
use crate::threads::Threads;
use crate::tls::{Live, Watch};
use crate::upstream::ConnectObserver;
use open_files::{make_room, raise_limit};
use shares::{Shares, open_now};
use snapshot::{budget, snapshot};
use upstreams::{collector, origins};
use worker::{Parts, on_this_thread, work};

use ledger_use::Mark;
pub use running::Running;

/// Threads beside the workers: one for each sink, those of records, estimates, certificates,
/// checkpoints and the admin pages, and a few for name lookups.
const OTHER_THREADS: usize = 16;

/// The shortest secret that is masked in the errors of records, in bytes.
const MIN_SECRET: usize = 6;

/// How long a client may be silent before its connection is given up for a newcomer: the round trip
/// of a client far away, with TLS.
const GRACE: Duration = Duration::from_millis(1500);

/// Where the proxy really listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For clients.
    pub proxy: SocketAddr,
    /// For operators.
    pub admin: Option<SocketAddr>,
}

/// Everything bound and opened; nothing runs yet.
pub struct App {
    addresses: Addresses,
    listeners: Vec<Listener>,
    balance: Balance,
    admin: Option<admin::Server>,
    parts: Parts,
    /// What serves clients under a certificate; `None`: plain HTTP.
    tls: Option<Arc<Live<ServerConfig>>>,
    access: Access,
    prices: Arc<Prices>,
    effective: serde_json::Value,
    watch: Watch,
    sinks: Vec<Box<dyn Sink>>,
    reopener: Option<Reopener>,
    ledger_mark: Option<Mark>,
}

impl App {
    /// Binds the sockets and opens the files. `sinks` get every usage record, besides those that
    /// the settings name.
    ///
    /// # Errors
    /// In words for the user: which address or file, and what the system said.
    pub fn bind(settings: &Settings, sinks: Vec<Box<dyn Sink>>) -> Result<Self, String> {
        Self::bind_on(settings, sinks, None, Threads::default())
    }

    /// The same with an observer of the connections; `settings` should have one upstream.
    ///
    /// # Errors
    /// As for [`App::bind`].
    pub fn bind_before(
        settings: &Settings,
        sinks: Vec<Box<dyn Sink>>,
        observer: Option<&Arc<ConnectObserver>>,
    ) -> Result<Self, String> {
        Self::bind_on(settings, sinks, observer, Threads::default())
    }

    /// The same whose threads are among `threads`.
    ///
    /// # Errors
    /// As for [`App::bind`].
    pub fn bind_on(
        settings: &Settings,
        mut sinks: Vec<Box<dyn Sink>>,
        observer: Option<&Arc<ConnectObserver>>,
        threads: Threads,
    ) -> Result<Self, String> {
        let (limit, open) = (raise_limit(), open_now());
        let shares = Shares::new(settings, limit, open);
        preflight::files(shares.least(open))?;
        preflight::threads(settings.server.workers + OTHER_THREADS)?;
        if let Some(warning) = shares.warning() {
            tracing::warn!("{warning}");
        }
        make_room(shares.files());
        watch_at_most(shares.watched);
        let (proxy, sockets) = bind(settings.server.listen, settings.server.workers)
            .map_err(|error| advice::address("server.listen (--listen)", settings.server.listen, &error))?;
        let balance = Balance::new(sockets.len());
        let flows = Arc::new(StreamMetricsRegistry::new(sockets.len()));
        let room = Room {
            places: shares.clients,
            grace: GRACE,
            counts: Arc::clone(flows.limits()),
            connections: Arc::clone(flows.clients()),
        };
        let listeners = Listener::for_workers(sockets, room, &balance);
        let listen =
            |address| bind(address, 1).map_err(|error| advice::address("admin.listen", address, &error));
        let admin = settings.admin.listen.map(listen).transpose()?;

        let journal = Journal::with_threads(CAPACITY, threads);
        // A shorter one is a word that errors may have, and no secret.
        let secrets = settings.upstreams.iter().flat_map(Upstream::secrets);
        journal.hide(Masks::new(secrets.filter(|secret| secret.len() >= MIN_SECRET)));
        let mut watch = Watch::default();
        let tls = settings.server.tls.as_ref().map(|tls| watch.server(tls)).transpose();
        let tls = tls.map_err(|fault| format!("server.tls.{fault}"))?;
        let admin_tls = settings.admin.tls.as_ref().map(|tls| watch.admin(tls)).transpose();
        let admin_tls = admin_tls.map_err(|fault| format!("admin.tls.{fault}"))?;
        let budget = budget(settings, flows.limits());
        let origins = origins(settings, &mut watch, observer)?;
        let snapshot = Arc::new(snapshot(settings, origins, &budget)?);
        snapshot.upstreams.iter().for_each(|spec| flows.register(&spec.id));
        let shared = Arc::new(Shared::new(Arc::clone(&flows), budget));
        let prices = Arc::new(settings.prices.clone());
        let metrics =
            Arc::new(Metrics::new(journal.clone(), watch.reloads(), Arc::clone(&flows), Arc::clone(&prices)));
        if settings.log.access != AccessLines::Off {
            sinks.push(Box::new(AccessLog::new(settings.log.access, Arc::clone(&prices))));
        }
        sinks.push(Box::new(Arc::clone(&metrics)));
        let mut ledger_mark = None;
        if let Some(path) = &settings.ledger.path {
            let ledger = match settings.ledger.postgres.clone() {
                Some(postgres) => Ledger::open_for_fleet(path, settings.ledger.retention, postgres, &journal),
                None => Ledger::open(path, settings.ledger.retention, &journal),
            };
            sinks.push(Box::new(ledger.map_err(|error| format!("ledger.path: {error}"))?));
            let (mark, warning) = ledger_use::mark(path);
            ledger_mark = mark;
            if let Some(warning) = warning {
                tracing::warn!("{warning}");
            }
        }
        if let Some(otlp) = &settings.otlp {
            let services = Services::default();
            services.update(settings.upstreams.iter().map(|upstream| {
                otlp::Service::new(
                    &upstream.name,
                    upstream.provider,
                    upstream.url.host(),
                    upstream.url.port(),
                )
            }));
            let collector = collector(otlp, &mut watch)?;
            let otlp = Otlp::spawn(otlp, collector, services, &journal);
            sinks.push(Box::new(otlp.map_err(|error| format!("otlp: {error}"))?));
        }
        let mut reopener = None;
        match &settings.ledger.jsonl {
            Some(JsonlPath::Stdout) => {
                // Without the buffer and the lock of `io::stdout`, which the end of the process
                // would wait for.
                let stdout = io::stdout().as_fd().try_clone_to_owned();
                let stdout = stdout.map_err(|error| format!("ledger.jsonl: stdout: {error}"))?;
                sinks.push(Box::new(Jsonl::new("stdout".to_owned(), File::from(stdout))));
            }
            Some(JsonlPath::File(path)) => {
                let jsonl = Jsonl::open(path).map_err(|error| advice::file("ledger.jsonl", path, &error))?;
                reopener = Some(jsonl.reopener());
                sinks.push(Box::new(jsonl));
            }
            None => {}
        }
        let parts = Parts {
            snapshot,
            shared,
            journal,
            limits: Limits {
                header_timeout: settings.server.header_timeout,
                keep_alive_timeout: settings.server.keep_alive_timeout,
                write_timeout: settings.server.write_timeout,
            },
            drain_timeout: settings.server.drain_timeout,
            metrics,
            boards: Boards::new(settings.server.workers),
            ledger: LedgerSource::shown(settings),
        };
        let addresses = Addresses { proxy, admin: admin.as_ref().map(|&(address, _)| address) };
        let asks_certificates = settings.admin.tls.as_ref().is_some_and(|tls| !tls.client_ca.is_empty());
        let access = Access::new(
            settings.admin.hosts.clone(),
            settings.admin.token.as_ref(),
            asks_certificates,
            admin_tls.is_some(),
        );
        let bounds = Bounds {
            connections: shares.admin,
            limits: parts.limits,
            acted: Arc::clone(flows.limits()),
            opened: Arc::clone(flows.admin()),
        };
        let socket = admin.and_then(|(_, mut sockets)| sockets.pop());
        let admin = socket.map(|socket| admin::Server::new(socket, admin_tls, bounds));
        Ok(Self {
            addresses,
            listeners,
            balance,
            admin,
            parts,
            tls,
            access,
            prices,
            effective: settings.effective.clone(),
            watch,
            sinks,
            reopener,
            ledger_mark,
        })
    }

    /// Where it will listen.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no thread or runtime; what had started is stopped again.
    pub fn spawn(self) -> io::Result<Running> {
        let Self {
            addresses,
            listeners,
            balance,
            admin,
            parts,
            tls,
            access,
            prices,
            effective,
            watch,
            sinks,
            reopener,
            ledger_mark,
        } = self;
        let workers_wanted = listeners.len();
        let threads = parts.journal.threads().clone();
        let mut running = Running {
            addresses,
            balance,
            stop: threads.stop().clone(),
            drain_timeout: parts.drain_timeout,
            workers: Vec::new(),
            admin: None,
            reopener,
            _ledger_mark: ledger_mark,
            _rotation: watch.spawn(&threads)?,
            refusals: Some(RefusalCounter::spawn(&parts.journal)?),
            estimator: Estimator::spawn(&parts.journal)?,
            writer: Writer::spawn(&parts.journal, sinks)?,
            threads: threads.clone(),
            is_over: false,
        };
        for (number, listener) in listeners.into_iter().enumerate() {
            let (parts, stop, tls) = (parts.clone(), running.stop.clone(), tls.clone());
            let name = worker_name(number);
            let work = move || on_this_thread(&worker_name(number), work(number, listener, tls, parts, stop));
            running.workers.push(threads.spawn_once(&name, work)?);
        }
        if let Some(server) = admin {
            let stop = Stop::default();
            let shown = Shown {
                stop: running.stop.clone(),
                threads: threads.clone(),
                workers_wanted,
                metrics: Arc::clone(&parts.metrics),
                boards: parts.boards.clone(),
                journal: parts.journal.clone(),
                ledger: parts.ledger.clone(),
                prices,
                effective,
            };
            let router = Admin::new(shown, access).router();
            let served = server.run(router, running.stop.clone(), stop.clone());
            let work = move || on_this_thread("admin", served);
            running.admin = Some((stop, threads.spawn_once("admin", work)?));
        }
        Ok(running)
    }

    /// The same with the last worker left to the caller: a future for a
    /// [`LocalRuntime`](tokio::runtime::LocalRuntime), on which other things may run. It ends when
    /// what runs is told to stop.
    ///
    /// # Errors
    /// As for [`App::spawn`].
    ///
    /// # Panics
    /// There is no worker; [`App::bind`] makes one at least.
    pub fn spawn_all_but_one(
        mut self,
    ) -> io::Result<(Running, impl Future<Output = io::Result<()>> + 'static)> {
        let listener = self.listeners.pop().expect("one worker at least");
        let (number, tls, parts) = (self.listeners.len(), self.tls.clone(), self.parts.clone());
        let running = self.spawn()?;
        let worker = work(number, listener, tls, parts, running.stop.clone());
        Ok((running, worker))
    }
}

/// `/readyz` counts the threads that are called so.
fn worker_name(number: usize) -> String {
    format!("{WORKER}{number}")
}
