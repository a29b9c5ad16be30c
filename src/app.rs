//! The composition root: settings → bound sockets → addresses → running threads.
//!
//! Binds before it runs, and returns the real addresses, so that tests can use port 0. No code
//! below takes the whole settings: each part gets a small struct of its own.

pub(crate) mod advice;
mod handover;
mod keyring;
mod ledger_use;
mod limits;
mod memory_limit;
pub(crate) mod obstacles;
pub(crate) mod open_files;
mod passed;
mod port_owner;
pub(crate) mod preflight;
mod reload;
mod resident;
mod restart;
mod running;
mod shared_limits;
mod shares;
mod sinks;
mod snapshot;
mod supervision;
mod upstreams;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;

use crate::admin::{self, Admin, Members, ServerBounds, Shown, ShownLimits, WORKER};
use crate::config::{Files, Settings, Sources};
use crate::proxy::limit_time;
use crate::record::{ActiveRequests, Estimator, Journal, RefusalCounter, Sink, Writer};
use crate::server::{Balance, Capacity, Listener, bind, bind_unix, set_socket_mode, watch_at_most};
use crate::sinks::ledger::LedgerSource;
use crate::sinks::prometheus::Metrics;
use crate::support::drain::Stop;
use crate::support::flow::StreamMetricsRegistry;
use crate::support::memory::Memory;
use crate::support::supervisor::Supervisor;
use crate::support::threads::Threads;
use crate::support::{ListenAddress, Live};
use crate::tls::ServerTls;
use crate::upstream::ConnectObserver;
use open_files::{make_room, raise_limit};
use passed::{Passed, PassedAddresses};
use reload::{Reloader, Source};
use shared_limits::Inheritance;
use shares::{Shares, open_now};
use sinks::Sinks;
use supervision::{Facts, Supervision};
use worker::{Parts, on_this_thread, work};

pub use handover::{Channel, GO, Predecessor, READY, SERVING, TAKES_OVER, TakeOver};
pub use passed::PassedSockets;
pub use running::Running;

/// The number of threads besides the workers: one per sink, those of records, estimates, reloads,
/// checkpoints, shared limits, identities, memory, the supervisor and the admin pages, and a few for name
/// lookups.
const OTHER_THREADS: usize = 20;

/// The silence after which a connection without a request is closed for a new one: the round trip
/// of a distant client, with TLS.
const GRACE: Duration = Duration::from_millis(1500);

/// The bound addresses.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The address for clients.
    pub proxy: ListenAddress,
    /// The address for operators.
    pub admin: Option<ListenAddress>,
}

impl Addresses {
    /// The address for operators, unless it is a Unix socket.
    pub fn admin_port(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(ListenAddress::inet)
    }
}

/// Everything is bound and opened; nothing runs yet.
pub struct App {
    addresses: Addresses,
    listeners: Vec<Listener>,
    balance: Balance,
    admin: Option<admin::AdminServer>,
    parts: Parts,
    /// The certificate for clients. `None`: plain HTTP.
    tls: Option<Arc<Live<ServerTls>>>,
    reloader: Reloader,
    sinks: Sinks,
    supervision: Supervision,
}

/// The parts that a process has before its configuration, such as those of its supervisor.
#[derive(Debug, Default)]
pub struct Inherited {
    /// The process's threads, to which further ones are added.
    pub threads: Threads,
    /// Sockets to use in place of own ones.
    pub sockets: PassedSockets,
    pub supervisor: Supervisor,
    /// The process whose place this one takes.
    pub takes_over: Option<TakeOver>,
}

impl App {
    /// Binds the sockets and opens the files. `sinks` get every usage record, besides those in the
    /// settings.
    ///
    /// # Errors
    /// Fails with the address or file, and the system's error.
    pub fn bind(settings: &Settings, sinks: Vec<Box<dyn Sink>>) -> Result<Self, String> {
        Self::bind_on(settings, sinks, None, Inherited::default())
    }

    /// Like [`App::bind`], with an observer of the connections; `settings` should have one
    /// upstream.
    ///
    /// # Errors
    /// Fails like [`App::bind`].
    pub fn bind_before(
        settings: &Settings,
        sinks: Vec<Box<dyn Sink>>,
        observer: Option<&Arc<ConnectObserver>>,
    ) -> Result<Self, String> {
        Self::bind_on(settings, sinks, observer, Inherited::default())
    }

    /// Like [`App::bind_before`], with sockets and threads that are there already.
    ///
    /// # Errors
    /// Fails like [`App::bind`].
    pub fn bind_on(
        settings: &Settings,
        sinks: Vec<Box<dyn Sink>>,
        observer: Option<&Arc<ConnectObserver>>,
        inherited: Inherited,
    ) -> Result<Self, String> {
        let Inherited { threads, mut sockets, supervisor, takes_over } = inherited;
        sockets.keep_configured(settings);
        let (mut settings, passed) = (settings.clone(), sockets.addresses());
        sockets.apply(&mut settings)?;
        let settings = &settings;
        let shares = share_files(settings)?;
        let (addresses, sockets, admin) = listen(settings, sockets)?;
        let workers = settings.server.workers;

        let memory = Memory::new(memory_limit::of(settings.server.max_memory));
        let journal = Journal::within(memory.clone(), threads);
        let stream_metrics = Arc::new(StreamMetricsRegistry::new(workers));
        let mut reloader = Reloader::new(settings, observer, &stream_metrics, &journal)?;
        (reloader.passed, reloader.supervisor) = (passed, supervisor.clone());
        let supervision = Supervision::new(supervisor, workers);
        let metrics = Metrics::new(
            journal.clone(),
            reloader.watch.reloads(),
            Arc::clone(&stream_metrics),
            Arc::clone(&reloader.prices),
            reloader.reload.clone(),
        );
        let metrics = metrics.with_members(Arc::clone(&reloader.shared.health));
        let metrics = metrics.with_identities(reloader.identity_states());
        let metrics = Arc::new(metrics.with_limits(Arc::clone(&reloader.shared.limits), limit_time));
        let mut sinks = Sinks::new(sinks, takes_over);
        sinks.open(settings, &metrics, &journal, &mut reloader)?;
        let is_seeded =
            limits::seed(&reloader.shared.limits.all(), settings, settings.ledger.path.as_deref());
        if let Some(sharing) = &mut reloader.sharing {
            sharing.is_seeded = is_seeded;
        }

        let balance = Balance::new(workers);
        let capacity = Capacity {
            places: shares.clients,
            grace: GRACE,
            counts: Arc::clone(stream_metrics.limits()),
            connections: Arc::clone(stream_metrics.clients()),
            memory,
            addresses: Arc::clone(&reloader.addresses),
        };
        let bounds = ServerBounds {
            connections: shares.admin,
            limits: reloader.snapshot.limits,
            acted: Arc::clone(stream_metrics.limits()),
            opened: Arc::clone(stream_metrics.admin()),
        };
        Ok(Self {
            addresses,
            listeners: Listener::for_workers(sockets, workers, capacity, &balance),
            balance,
            admin: settings
                .admin
                .listen
                .as_ref()
                .map(|_| admin::AdminServer::new(admin, reloader.admin_tls.clone(), bounds)),
            parts: Parts {
                updates: reloader.updates.subscribe(),
                shared: Arc::clone(&reloader.shared),
                journal,
                drain_timeout: Arc::clone(&reloader.drain_timeout),
                metrics,
                active: ActiveRequests::new(workers),
                ledger: LedgerSource::shown(settings),
                pulse: supervision.pulse(),
            },
            tls: reloader.server_tls.clone(),
            reloader,
            sinks,
            supervision,
        })
    }

    /// Reads the configuration again from `sources` when it changes, or on request. `files` are
    /// those that were read.
    pub fn reloading(mut self, sources: Sources, files: Files) -> Self {
        self.reloader.keyring.follow(files.clone());
        self.reloader.source = Some(Source { sources, files, sets_log_level: false });
        self
    }

    /// Applies `log.level` to the log after a reload too.
    pub fn setting_log_level(mut self) -> Self {
        if let Some(source) = &mut self.reloader.source {
            source.sets_log_level = true;
        }
        self
    }

    pub fn addresses(&self) -> Addresses {
        self.addresses.clone()
    }

    /// Copies the listening sockets, to pass them on. While a copy exists, the kernel queues
    /// connections.
    ///
    /// # Errors
    /// Fails if the process has no descriptor left.
    pub fn copy_sockets(&self) -> io::Result<PassedSockets> {
        let (passed, settings) = (&self.reloader.passed, &self.reloader.settings);
        let proxy: Vec<_> = self.listeners.iter().flat_map(Listener::sockets).collect();
        let admin = self.admin.iter().flat_map(admin::AdminServer::sockets).collect::<Vec<_>>();
        Ok(PassedSockets {
            proxy: Passed::copy(passed.proxy.is_none().then_some(settings.server.listen.clone()), proxy)?,
            admin: Passed::copy(settings.admin.listen.clone().filter(|_| passed.admin.is_none()), admin)?,
        })
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// Fails if the system provides no thread or runtime. Threads that had started are stopped.
    pub fn spawn(self) -> io::Result<Running> {
        let Self { addresses, listeners, balance, admin, parts, tls, mut reloader, sinks, supervision } =
            self;
        apply_socket_modes(&reloader.settings, &reloader.passed);
        let workers_wanted = listeners.len();
        let threads = parts.journal.threads().clone();
        let (reload, prices, access) =
            (reloader.reload.clone(), Arc::clone(&reloader.prices), Arc::clone(&reloader.access));
        let keys = Arc::clone(reloader.keyring.place());
        let keyring = reloader.keyring.clone();
        let groups = Arc::clone(&reloader.groups);
        let webhooks = reloader.webhooks(&reloader.settings.clone()).map_err(io::Error::other)?;
        reloader.tell(webhooks);
        reloader.identify(&reloader.snapshot);
        let identities = reloader.identity_states();
        let tokens = Arc::clone(&reloader.identities);
        let alerts = Arc::clone(&reloader.alerts);
        let Sinks { all, ledger_mark, shipping_end, .. } = sinks;
        reloader.inheritance = Inheritance::new(ledger_mark.clone());
        let exchange = reloader.sharing.take().map(|sharing| {
            let path = reloader.settings.ledger.path.as_deref();
            let (limits, health) = (&parts.shared.limits, &parts.shared.health);
            sharing.spawn(limits, health, (path, ledger_mark.as_deref()), &parts.journal)
        });
        let exchange = exchange.transpose()?;
        let writer = Writer::spawn(&parts.journal, all)?;
        reloader.controls.attach(writer.lanes());
        let mut running = Running {
            addresses,
            balance,
            stop: threads.stop().clone(),
            stop_delay: Arc::clone(&reloader.stop_delay),
            upgrade_drain: Arc::clone(&reloader.upgrade_drain),
            shipping_end,
            supervising: None,
            drain_timeout: Arc::clone(&parts.drain_timeout),
            workers: Vec::new(),
            admin: None,
            jsonl: reloader.controls.jsonl.clone(),
            _ledger_mark: ledger_mark,
            _alerts: alerts,
            _identities: tokens,
            reload: reload.clone(),
            reloading: reloader.spawn(&threads)?,
            taking_keys: keyring.spawn(&threads)?,
            exchange,
            refusals: Some(RefusalCounter::spawn(&parts.journal)?),
            estimator: Estimator::spawn(&parts.journal)?,
            writer,
            memory: parts.journal.memory().clone(),
            resident: None,
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
                active: parts.active.clone(),
                members: Members { groups, health: Arc::clone(&parts.shared.health) },
                limits: ShownLimits { registry: Arc::clone(&parts.shared.limits), now: limit_time },
                journal: parts.journal.clone(),
                ledger: parts.ledger.clone(),
                prices,
                keys,
                reload,
                identities,
            };
            let router = Admin::new(shown, access).router();
            let served = server.run(router, running.stop.clone(), stop.clone());
            let work = move || on_this_thread("admin", served);
            running.admin = Some((stop, threads.spawn_once("admin", work)?));
        }
        let facts = Facts {
            stop: running.stop.clone(),
            active: parts.active.clone(),
            reload: running.reload.clone(),
        };
        running.supervising = supervision.spawn(facts, &threads)?;
        Ok(running)
    }

    /// Like [`App::spawn`], but returns the last worker as a future for the caller's
    /// [`LocalRuntime`](tokio::runtime::LocalRuntime). It ends at the stop.
    ///
    /// # Errors
    /// Fails like [`App::spawn`].
    ///
    /// # Panics
    /// Panics if there is no worker, which [`App::bind`] rules out.
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

/// The sockets for clients and for operators, and their addresses.
///
/// # Errors
/// Fails with the key, and the system's error.
fn listen(
    settings: &Settings,
    passed: PassedSockets,
) -> Result<(Addresses, Vec<Socket>, Vec<Socket>), String> {
    const KEY: &str = "server.listen (--listen)";
    let (mut proxy, mut admin) = (passed.proxy.sockets, passed.admin.sockets);
    let server = &settings.server;
    let mut addresses = Addresses { proxy: server.listen.clone(), admin: settings.admin.listen.clone() };
    if let Some(socket) = proxy.first() {
        addresses.proxy = passed::address(socket).unwrap_or(addresses.proxy);
    } else {
        (addresses.proxy, proxy) = open(KEY, &server.listen, server.workers, server.socket_mode)?;
    }
    if let Some(socket) = admin.first() {
        addresses.admin = passed::address(socket).or(addresses.admin);
    } else if let Some(address) = &settings.admin.listen {
        let (bound, sockets) = open("admin.listen", address, 1, settings.admin.socket_mode)?;
        (addresses.admin, admin) = (Some(bound), sockets);
    }
    Ok((addresses, proxy, admin))
}

/// Listens on the address that `key` names, with `count` sockets, or with one Unix socket.
///
/// # Errors
/// Fails with the key, and the system's error.
fn open(
    key: &str,
    address: &ListenAddress,
    count: usize,
    mode: u32,
) -> Result<(ListenAddress, Vec<Socket>), String> {
    match address {
        ListenAddress::Inet(address) => {
            let (bound, sockets) =
                bind(*address, count).map_err(|error| advice::address(key, *address, &error))?;
            Ok((bound.into(), sockets))
        }
        ListenAddress::Unix(path) => {
            let socket = bind_unix(path, mode).map_err(|error| advice::socket(key, path, &error))?;
            Ok((address.clone(), vec![socket]))
        }
    }
}

/// Sets the permissions of Unix sockets as configured: an earlier process has bound them with those of
/// its time, and serves until this one runs.
fn apply_socket_modes(settings: &Settings, passed: &PassedAddresses) {
    let (server, admin) = (&settings.server, &settings.admin);
    let clients = Some(&server.listen).filter(|_| passed.proxy.is_none());
    let operators = admin.listen.as_ref().filter(|_| passed.admin.is_none());
    for (key, address, mode) in [
        ("server.socket_mode", clients, server.socket_mode),
        ("admin.socket_mode", operators, admin.socket_mode),
    ] {
        let Some(path) = address.and_then(ListenAddress::unix) else { continue };
        if let Err(error) = set_socket_mode(path, mode) {
            tracing::warn!(socket = %path.display(), %error, "{key} cannot be applied");
        }
    }
}

/// The thread's name. `/readyz` counts the threads with these names.
fn worker_name(number: usize) -> String {
    format!("{WORKER}{number}")
}

/// Divides the open files that the system allows.
///
/// # Errors
/// Fails if there are too few files or threads for a start.
fn share_files(settings: &Settings) -> Result<Shares, String> {
    let (limit, open) = (raise_limit(), open_now());
    let shares = Shares::new(settings, limit, open);
    preflight::files(shares.least(open))?;
    preflight::threads(settings.server.workers + OTHER_THREADS)?;
    if let Some(warning) = shares.warning() {
        tracing::warn!("{warning}");
    }
    make_room(shares.files());
    watch_at_most(shares.watched);
    Ok(shares)
}
