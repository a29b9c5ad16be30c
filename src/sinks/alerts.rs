//! Tells webhooks of limits of calendar periods that are used up to a threshold, of upstreams that
//! are out, of trouble of the ledger, and of spikes of cost.
//!
//! A thread of its own looks at all of that every second, and at costs every few minutes, so that no
//! request waits for it or does anything for it. Each webhook has a bounded queue and a task: one
//! that hangs delays no other. `watched` decides about notices and is pure, `ledger_trouble` and
//! `spikes` find what they are about, and `webhook` sends them.
//!
//! A threshold is in one notice of a period, the highest one that was reached. A start, and a reload
//! that changes the URL, tell of what holds at that time.

mod ledger_trouble;
mod spikes;
mod watched;
mod webhook;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking, spawn_local};
use tokio::time::{MissedTickBehavior, interval};

use crate::balance::HealthRegistry;
use crate::config;
use crate::gate::limit::{AppliedLimit, LimitRegistry, Now};
use crate::llm::price::Prices;
use crate::record::{AlertCounts, Journal};
use crate::sinks::ledger::{LedgerError, LedgerSource};
use crate::support::threads::{Deadline, Thread, Threads, block_on_this_thread, enter_background, fault};
use crate::support::{Live, OutageNotice};
use crate::upstream::ConnectSpec;
use ledger_trouble::LedgerWatch;
use watched::{LimitSeen, Notice, Trouble, Watched};

/// The interval of looks.
const EVERY: Duration = Duration::from_secs(1);

/// The interval of readings of costs.
const COSTS: Duration = Duration::from_secs(300);

/// The largest number of notices that wait for one webhook. Further ones are lost and counted.
const MAX_WAITING: usize = 64;

/// The time that the end waits for the thread.
const PATIENCE: Duration = Duration::from_secs(2);

/// A webhook, and the way to reach it.
#[derive(Debug)]
pub struct Webhook {
    pub settings: config::Alert,
    pub origin: Arc<ConnectSpec>,
}

/// The state that alerts are about.
#[derive(Clone, Debug)]
pub struct AlertSources {
    pub limits: Arc<LimitRegistry>,
    pub health: Arc<HealthRegistry>,
    /// The clock of limits.
    pub now: fn() -> Now,
    pub counts: Arc<AlertCounts>,
    /// The health of the ledger.
    pub journal: Journal,
    /// The ledger of the costs. `None`: none is kept.
    pub ledger: Option<LedgerSource>,
    pub prices: Arc<Live<Prices>>,
}

/// The webhooks in use. Dropping it ends the thread, without the notices that still wait.
#[derive(Debug)]
pub struct Alerts {
    webhooks: Arc<Live<Vec<Arc<Webhook>>>>,
    sources: AlertSources,
    threads: Threads,
    thread: Option<(watch::Sender<bool>, Thread)>,
}

impl Alerts {
    /// Without webhooks, and without a thread.
    pub fn new(sources: AlertSources, threads: &Threads) -> Self {
        Self { webhooks: Live::new(Vec::new()), sources, threads: threads.clone(), thread: None }
    }

    /// The webhooks in use.
    pub fn webhooks(&self) -> Arc<Vec<Arc<Webhook>>> {
        self.webhooks.load()
    }

    /// Uses other webhooks. The first ones start the thread.
    ///
    /// # Errors
    /// Fails if the system provides no thread.
    pub fn replace(&mut self, webhooks: Vec<Arc<Webhook>>) -> io::Result<()> {
        let is_needed = !webhooks.is_empty();
        self.webhooks.replace(webhooks);
        if !is_needed || self.thread.is_some() {
            return Ok(());
        }
        let (closing, closed) = watch::channel(false);
        let looking = Looking { webhooks: Arc::clone(&self.webhooks), sources: self.sources.clone(), closed };
        let thread = self.threads.spawn("alerts", move || {
            fault::strike("alerts");
            enter_background();
            block_on_this_thread(looking.run())
        })?;
        self.thread = Some((closing, thread));
        Ok(())
    }
}

impl Drop for Alerts {
    fn drop(&mut self) {
        if let Some((closing, thread)) = &self.thread {
            let _ = closing.send(true);
            thread.wait(&Deadline::after(PATIENCE));
        }
    }
}

/// The work of the thread.
struct Looking {
    webhooks: Arc<Live<Vec<Arc<Webhook>>>>,
    sources: AlertSources,
    closed: watch::Receiver<bool>,
}

/// A webhook in use: what it was told, and its queue.
struct Told {
    webhook: Arc<Webhook>,
    watched: Watched,
    queue: mpsc::Sender<Notice>,
}

/// The spikes of the latest reading of costs.
#[derive(Default)]
struct CostWatch {
    spikes: Vec<Trouble>,
    /// `None`: the ledger was not read yet.
    read_at: Option<Instant>,
    reading: Option<JoinHandle<Result<Vec<Trouble>, LedgerError>>>,
    outage: OutageNotice,
}

impl CostWatch {
    /// Takes the result of a reading that is done, and begins one that is due. It waits for none.
    async fn look(&mut self, sources: &AlertSources, now: Timestamp) {
        let Some(ledger) = &sources.ledger else { return };
        if let Some(done) = self.reading.take_if(|reading| reading.is_finished()) {
            match done.await {
                Ok(Ok(spikes)) => {
                    self.spikes = spikes;
                    self.outage.record_success();
                }
                Ok(Err(error)) if self.outage.record_failure(()) => {
                    tracing::warn!(%error, "spikes of cost are unknown: the ledger cannot be read");
                }
                Ok(Err(_)) => {}
                Err(error) => tracing::error!(%error, "reading costs for alerts failed"),
            }
        }
        let is_due = self.read_at.is_none_or(|at| at.elapsed() >= COSTS);
        if is_due && self.reading.is_none() {
            self.read_at = Some(Instant::now());
            let (ledger, prices) = (ledger.clone(), sources.prices.load());
            self.reading = Some(spawn_blocking(move || spikes::spikes(&ledger, &prices, now)));
        }
    }
}

impl Looking {
    async fn run(&self) {
        let mut closed = self.closed.clone();
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told: Vec<Told> = Vec::new();
        let (mut of_ledger, mut of_costs) = (LedgerWatch::default(), CostWatch::default());
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = closed.wait_for(|closed| *closed) => return,
            }
            told = self.follow(told);
            if told.is_empty() {
                continue;
            }
            let (limits, now) = (self.limits(), Timestamp::now());
            let out = self.out();
            let mut troubles: Vec<_> =
                out.iter().map(|(name, reason)| Trouble::of_upstream(name, reason)).collect();
            troubles.extend(of_ledger.troubles(self.sources.journal.health(), Instant::now()));
            if told.iter().any(|told| told.webhook.settings.spikes.is_some()) {
                of_costs.look(&self.sources, now).await;
            }
            troubles.extend_from_slice(&of_costs.spikes);
            for Told { webhook, watched, queue } in &mut told {
                for notice in watched.notices(&webhook.settings, &limits, &troubles, now) {
                    if queue.try_send(notice).is_err() {
                        self.sources.counts.count_lost();
                    }
                }
            }
        }
    }

    /// The webhooks in use. One with the URL of an earlier one knows what that was told. The task of
    /// one that is gone ends after its queue.
    fn follow(&self, mut earlier: Vec<Told>) -> Vec<Told> {
        let webhooks = self.webhooks.load();
        webhooks
            .iter()
            .map(|webhook| {
                let same = earlier.iter().position(|told| Arc::ptr_eq(&told.webhook, webhook));
                let of_url = |told: &Told| told.webhook.settings.url == webhook.settings.url;
                let place = same.or_else(|| earlier.iter().position(of_url));
                let known = place.map(|place| earlier.swap_remove(place));
                match known {
                    Some(told) if Arc::ptr_eq(&told.webhook, webhook) => told,
                    known => {
                        let (queue, notices) = mpsc::channel(MAX_WAITING);
                        spawn_local(webhook::send_all(
                            Arc::clone(webhook),
                            notices,
                            Arc::clone(&self.sources.counts),
                        ));
                        let watched = known.map(|told| told.watched).unwrap_or_default();
                        Told { webhook: Arc::clone(webhook), watched, queue }
                    }
                }
            })
            .collect()
    }

    /// The limits of calendar periods.
    fn limits(&self) -> Vec<LimitSeen> {
        let now = (self.sources.now)();
        let seen = |applied: &AppliedLimit| {
            let status = applied.status(now);
            let (begin, end) = status.period?;
            Some(LimitSeen {
                id: Arc::as_ptr(&applied.limit).addr(),
                subject: applied.path(),
                whose: applied.whose(),
                ratio: status.used_ratio(),
                begin,
                end,
            })
        };
        self.sources.limits.all().iter().filter_map(seen).collect()
    }

    /// The upstreams that get no request: as a whole, or with each of their models.
    fn out(&self) -> BTreeMap<String, &'static str> {
        let (models, upstreams) = (self.sources.health.models(), self.sources.health.upstreams());
        let mut out: BTreeMap<String, Option<&'static str>> = BTreeMap::new();
        for model in &models {
            let upstream = &upstreams[usize::from(model.upstream())];
            let reason = upstream.out().or_else(|| model.out()).map(|reason| reason.name());
            let entry = out.entry(upstream.id().to_string()).or_insert(reason);
            *entry = entry.and(reason);
        }
        out.into_iter().filter_map(|(name, reason)| Some((name, reason?))).collect()
    }
}
