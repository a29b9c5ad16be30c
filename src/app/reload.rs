//! Reads the configuration again and puts it in use.
//!
//! A new configuration is read, checked and built as a whole before any part of it is used. Then
//! each worker gets the snapshot and uses it for new requests; running requests keep the one with
//! which they began.

mod identities;
mod secrets;
mod thread;
mod webhooks;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::keyring::{Keyring, Reading};
use super::limits::{self, Comparisons, Repriced};
use super::passed::PassedAddresses;
use super::restart;
use super::shared_limits::{Inheritance, SharedLimits};
use super::sinks::{Controls, Lines};
use super::snapshot::{self, address_limits, has_several_clients, put_limits_in_use, snapshot};
use super::worker::Update;
use crate::admin::{Access, AccessRules, Right, TrustedUsers};
use crate::balance::{FleetPins, HealthRegistry, UpstreamGroup};
use crate::config::reload::{Reload, ReloadOutcome};
use crate::config::{self, Files, Loaded, Settings, Sources};
use crate::gate::limit::{LimitRegistry, NextLimits};
use crate::llm::price::Prices;
use crate::proxy::{Shared, Snapshot, UpstreamSpec, limit_time};
use crate::record::Journal;
use crate::server::AddressLimits;
use crate::sinks::alerts::{AlertSources, Alerts, Webhook};
use crate::sinks::ledger::LedgerSource;
use crate::sinks::otlp::{Service, Services};
use crate::support::Live;
use crate::support::flow::StreamMetricsRegistry;
use crate::support::supervisor::Supervisor;
use crate::support::telemetry;
use crate::support::threads::{fault, message};
use crate::tls::{Replacement, ServerTls, Watch};
use crate::upstream::{ConnectObserver, Identities};
use secrets::Secrets;
pub(super) use thread::Reloading;

/// The time for workers to adopt a snapshot. They do it between two events; a busy worker does it
/// later.
const ADOPTION: Duration = Duration::from_secs(2);

/// The sources of the configuration.
pub(super) struct Source {
    pub(super) sources: Sources,
    pub(super) files: Files,
    /// `log.level` alone decides the log's filter: nothing overrides it.
    pub(super) sets_log_level: bool,
}

/// The configuration in use, and everything that changes with it.
pub(super) struct Reloader {
    /// `None` if it cannot change.
    pub(super) source: Option<Source>,
    /// The settings in use, including the values that a reload could not change.
    pub(super) settings: Settings,
    pub(super) snapshot: Arc<Snapshot>,
    /// The files of certificates, keys and authorities.
    pub(super) watch: Watch,
    pub(super) server_tls: Option<Arc<Live<ServerTls>>>,
    pub(super) admin_tls: Option<Arc<Live<ServerTls>>>,
    pub(super) access: Arc<Live<Access>>,
    /// The limits of each client address.
    pub(super) addresses: Arc<AddressLimits>,
    pub(super) drain_timeout: Arc<Live<Duration>>,
    pub(super) stop_delay: Arc<Live<Duration>>,
    pub(super) upgrade_drain: Arc<Live<Option<Duration>>>,
    /// The addresses of sockets that were passed, in place of the configured ones.
    pub(super) passed: PassedAddresses,
    /// Gets a message before and after a reload.
    pub(super) supervisor: Supervisor,
    pub(super) controls: Controls,
    pub(super) prices: Arc<Live<Prices>>,
    pub(super) services: Services,
    pub(super) keyring: Keyring,
    pub(super) shared: Arc<Shared>,
    /// The webhooks; they are not told before the start.
    pub(super) alerts: Arc<Mutex<Alerts>>,
    /// The groups that the pages show.
    pub(super) groups: Arc<Live<Vec<Arc<UpstreamGroup>>>>,
    /// Outlive the reloads, which end at once if nothing can change.
    pub(super) identities: Arc<Mutex<Identities>>,
    pub(super) journal: Journal,
    pub(super) updates: watch::Sender<Update>,
    pub(super) workers: usize,
    pub(super) reload: Reload,
    secrets: Secrets,
    /// The contents of the files at the latest comparison, if they differ from those in use.
    suspect: Option<Files>,
    /// The thread that shares limits with other replicas, before its start.
    pub(super) sharing: Option<SharedLimits>,
    pub(super) inheritance: Inheritance,
    /// The comparisons of limits with the ledger.
    comparisons: Comparisons,
    /// The mistakes of the latest configuration, if it was refused.
    refused: Option<String>,
}

/// A new configuration that is built but not in use yet.
struct Built {
    settings: Settings,
    files: Files,
    reading: Reading,
    needs_restart: Vec<&'static str>,
    snapshot: Arc<Snapshot>,
    limits: NextLimits,
    /// The counts that change with the prices.
    repriced: Vec<Repriced>,
    tls: Vec<Replacement>,
    webhooks: Vec<Arc<Webhook>>,
    lines: Lines,
}

impl Reloader {
    /// Builds the first configuration.
    ///
    /// # Errors
    /// Fails with the key, and the mistake in its value.
    pub(super) fn new(
        settings: &Settings,
        observer: Option<&Arc<ConnectObserver>>,
        stream_metrics: &Arc<StreamMetricsRegistry>,
        journal: &Journal,
    ) -> Result<Self, String> {
        let (mut watch, reload) = (Watch::default(), Reload::default());
        let server_tls = settings.server.tls.as_ref().map(|tls| watch.server(tls)).transpose();
        let server_tls = server_tls.map_err(|fault| format!("server.tls.{fault}"))?;
        let admin_tls = settings.admin.tls.as_ref().map(|tls| watch.admin(tls)).transpose();
        let admin_tls = admin_tls.map_err(|fault| format!("admin.tls.{fault}"))?;
        let budget = snapshot::budget(settings, stream_metrics.limits(), journal.memory());
        let sharing = settings.redis.as_ref().map(SharedLimits::new);
        let fleet = sharing.as_ref().map(|sharing| Arc::clone(&sharing.fleet));
        let (health, limits) = (HealthRegistry::new(Instant::now()), Arc::new(LimitRegistry::shared(fleet)));
        if let Some(sharing) = &sharing {
            health.pins().share(FleetPins::new(sharing.waker.clone()));
        }
        let keyring = Keyring::new(settings, &reload, journal);
        let prices = Live::new(settings.prices.clone());
        let mut identities = Identities::new(journal);
        let parts = snapshot::Parts {
            identities: &mut identities,
            watch: &mut watch,
            observer,
            budget: &budget,
            health: &health,
            limits: &limits,
            keys: keyring.live(),
            prices: &prices,
            generation: reload.begin_generation(),
            previous: None,
        };
        let (snapshot, next) = snapshot(settings, parts)?;
        limits.take_over(next, limit_time());
        let snapshot = Arc::new(snapshot);
        put_limits_in_use(settings, &snapshot, &health);
        for spec in &snapshot.upstreams {
            stream_metrics.register(&spec.id);
        }
        let mut secrets = Secrets::default();
        journal.hide(secrets.with(&snapshot, settings));
        let sources = AlertSources {
            limits: Arc::clone(&limits),
            health: Arc::clone(&health),
            now: limit_time,
            counts: Arc::clone(&journal.health().alerts),
            journal: journal.clone(),
            ledger: settings.ledger.path.clone().map(LedgerSource::File),
            prices: Arc::clone(&prices),
        };
        let alerts = Arc::new(Mutex::new(Alerts::new(sources, journal.threads())));
        let services = Services::default();
        services.update(self::services(settings));
        reload.record_taken(settings.effective.clone(), Vec::new());
        Ok(Self {
            source: None,
            settings: settings.clone(),
            watch,
            server_tls,
            admin_tls,
            access: Live::new(access(settings, None)),
            addresses: address_limits(settings),
            drain_timeout: Live::new(settings.server.drain_timeout),
            stop_delay: Live::new(settings.server.stop_delay),
            upgrade_drain: Live::new(settings.server.upgrade_drain),
            passed: PassedAddresses::default(),
            supervisor: Supervisor::default(),
            controls: Controls::new(settings),
            prices,
            services,
            keyring,
            shared: Arc::new(Shared::new(Arc::clone(stream_metrics), budget, health, limits)),
            alerts,
            groups: Live::new(snapshot.groups()),
            identities: Arc::new(Mutex::new(identities)),
            journal: journal.clone(),
            updates: watch::Sender::new(Update::first(Arc::clone(&snapshot))),
            workers: settings.server.workers,
            snapshot,
            reload,
            secrets,
            sharing,
            inheritance: Inheritance::new(None),
            comparisons: Comparisons::new(Instant::now()),
            suspect: None,
            refused: None,
        })
    }

    /// Reads the configuration and puts it in use. A refusal is logged and counted once, unless the
    /// reload `is_requested`.
    fn reload(&mut self, is_requested: bool) -> ReloadOutcome {
        match self.read() {
            Ok(Some(built)) => self.put_in_use(built),
            Ok(None) => {
                tracing::info!("the configuration has not changed");
                self.reload.record_unchanged();
                (self.suspect, self.refused) = (None, None);
                ReloadOutcome::Unchanged
            }
            Err(mistakes) => {
                if is_requested || self.refused.as_ref() != Some(&mistakes) {
                    tracing::error!(
                        "the configuration is refused, and the earlier one stays in use:\n{mistakes}"
                    );
                    self.reload.record_refused(mistakes.clone());
                }
                self.refused = Some(mistakes.clone());
                ReloadOutcome::Refused(mistakes)
            }
        }
    }

    /// Reads and builds the configuration. `None` if it is the one in use.
    fn read(&mut self) -> Result<Option<Built>, String> {
        let read = || {
            fault::strike("reload");
            let source = self.source.as_mut().ok_or("there is no configuration to read again")?;
            let reading = self.keyring.begin_reading(&mut source.files);
            let loaded = config::load_again(&source.sources, &source.files)
                .map_err(|mistakes| mistakes.to_string())?;
            if loaded.files.has_contents_of(&source.files) {
                return Ok(None);
            }
            self.build(loaded, reading).map(Some)
        };
        or_refusal(read)
    }

    fn build(&mut self, loaded: Loaded, reading: Reading) -> Result<Built, String> {
        let Loaded { settings: new, warnings, files, .. } = loaded;
        let mut settings = new.clone();
        self.passed.apply(&mut settings);
        let needs_restart = restart::pin(&mut settings, &self.settings);
        restart::pin_shown(&mut settings.effective, &self.settings.effective, &needs_restart);
        if let Some(reason) = restart::exposes(&new, &settings, &self.settings) {
            return Err(reason);
        }
        let mut tls = Vec::new();
        for (name, new, in_use, live) in [
            ("server.tls", &settings.server.tls, &self.settings.server.tls, &self.server_tls),
            ("admin.tls", &settings.admin.tls, &self.settings.admin.tls, &self.admin_tls),
        ] {
            if let (Some(new), Some(live)) = (new.as_ref().filter(|new| Some(*new) != in_use.as_ref()), live)
            {
                tls.push(Watch::prepare(name, new, live).map_err(|fault| format!("{name}.{fault}"))?);
            }
        }
        let identities = Arc::clone(&self.identities);
        let parts = snapshot::Parts {
            identities: &mut identities.lock().unwrap_or_else(PoisonError::into_inner),
            watch: &mut self.watch,
            observer: None,
            budget: &self.shared.budget,
            health: &self.shared.health,
            limits: &self.shared.limits,
            keys: self.keyring.live(),
            prices: &self.prices,
            generation: self.reload.begin_generation(),
            previous: Some((&self.settings, &self.snapshot)),
        };
        let (snapshot, next) = snapshot(&settings, parts)?;
        let snapshot = Arc::new(snapshot);
        limits::seed(next.begun(), &settings, self.settings.ledger.path.as_deref());
        let repriced = match settings.prices == self.settings.prices {
            true => Vec::new(),
            false => limits::reprice(&next.kept(), &settings, &self.settings),
        };
        let webhooks = self.webhooks(&settings)?;
        // Last, since it may create a file.
        let lines = Controls::prepare(&settings, &self.settings)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let limits = next;
        Ok(Built {
            settings,
            files,
            reading,
            needs_restart,
            snapshot,
            limits,
            repriced,
            tls,
            webhooks,
            lines,
        })
    }

    /// Infallible, so that a configuration is never put in use only in part.
    fn put_in_use(&mut self, built: Built) -> ReloadOutcome {
        let Built { mut settings, mut files, reading, needs_restart, snapshot, .. } = built;
        let Built { limits, repriced, tls, webhooks, lines, .. } = built;
        self.shared.limits.take_over(limits, limit_time());
        let sets_log_level = self.source.as_ref().is_some_and(|source| source.sets_log_level);
        if sets_log_level && settings.log.level != self.settings.log.level {
            telemetry::refilter(&settings.log.level);
        }
        self.shared.budget.resize(settings.server.max_buffered_bytes, has_several_clients(&settings));
        for spec in &snapshot.upstreams {
            self.shared.stream_metrics.register(&spec.id);
        }
        self.services.update(services(&settings));
        self.journal.hide(self.secrets.with(&snapshot, &settings));
        for replacement in tls {
            self.watch.replace(replacement);
        }
        self.access.replace(access(&settings, Some(&self.access.load())));
        self.prices.replace(settings.prices.clone());
        repriced.iter().for_each(Repriced::put_in_use);
        self.keyring.adopt(&mut settings, &mut files, reading);
        let server = &settings.server;
        self.addresses.set(server.max_connections_per_address, server.max_new_connections_per_address);
        self.drain_timeout.replace(settings.server.drain_timeout);
        self.stop_delay.replace(settings.server.stop_delay);
        self.upgrade_drain.replace(settings.server.upgrade_drain);
        self.controls.apply(&settings, lines);
        self.tell(webhooks);
        self.identify(&snapshot);
        put_limits_in_use(&settings, &snapshot, &self.shared.health);
        let late_workers = self.hand_to_workers(&snapshot);
        self.groups.replace(snapshot.groups());
        self.shared.retain(&snapshot.upstreams);
        self.readmit(&snapshot);
        self.reload.record_taken(settings.effective.clone(), needs_restart.clone());
        let generation = self.reload.status().generation;
        tracing::info!(generation, "the new configuration is in use");
        if !needs_restart.is_empty() {
            tracing::warn!("needs a restart: {}", needs_restart.join(", "));
        }
        if let Some(source) = &mut self.source {
            source.files = files;
        }
        (self.settings, self.snapshot) = (settings, snapshot);
        (self.suspect, self.refused) = (None, None);
        ReloadOutcome::Taken { needs_restart, late_workers }
    }

    /// Lets requests in at upstreams that have changed: their credentials may be new.
    fn readmit(&self, snapshot: &Snapshot) {
        let health = &self.shared.health;
        let is_kept =
            |spec: &&Arc<UpstreamSpec>| self.snapshot.upstreams.iter().any(|old| Arc::ptr_eq(old, spec));
        for spec in snapshot.upstreams.iter().filter(|spec| !is_kept(spec)) {
            health.upstream(&spec.id).readmit();
        }
        health.notify();
    }

    /// Waits until all workers use the snapshot. Returns the number of those that do not yet.
    fn hand_to_workers(&self, snapshot: &Arc<Snapshot>) -> usize {
        let (adopted, adoptions) = mpsc::channel();
        self.updates.send_replace(Update { snapshot: Arc::clone(snapshot), adopted });
        let deadline = Instant::now() + ADOPTION;
        for adopted in 0..self.workers {
            let left = deadline.saturating_duration_since(Instant::now());
            if adoptions.recv_timeout(left).is_err() {
                let late = self.workers - adopted;
                tracing::warn!(workers = late, "workers have not adopted the configuration yet");
                return late;
            }
        }
        tracing::debug!(workers = self.workers, "all workers use the new configuration");
        0
    }
}

/// Reads a file. A panic counts as a refusal, so that no file can end the process.
pub(super) fn or_refusal<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        Err(format!("streamgauge failed to read it, which is a bug: {}", message(&*panic)))
    })
}

/// The upstreams with their names in spans and exported metrics.
pub(super) fn services(settings: &Settings) -> impl Iterator<Item = Service> {
    settings.upstreams.iter().map(|upstream| {
        Service::new(&upstream.name, upstream.provider, upstream.url.host(), upstream.url.port())
    })
}

/// The access rules of the pages. Sessions continue if the token is the same.
pub(super) fn access(settings: &Settings, previous: Option<&Access>) -> Access {
    let admin = &settings.admin;
    let asks_certificates = admin.tls.as_ref().is_some_and(|tls| !tls.client_ca.is_empty());
    let access = Access::new(AccessRules {
        hosts: admin.hosts.clone(),
        token: admin.token.clone(),
        read_token: admin.read_token.clone(),
        certificates: asks_certificates,
        tls: admin.tls.is_some(),
        users: admin.users.as_ref().map(|users| TrustedUsers {
            header: users.header.clone(),
            proxies: users.proxies.clone(),
            right: if users.may_change { Right::Change } else { Right::Read },
        }),
    });
    match previous {
        Some(previous) => access.with_sessions_of(previous),
        None => access,
    }
}
