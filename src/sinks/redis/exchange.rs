//! The thread that asks the server for grants.
//!
//! Each round is about all limits that want more, and some of those whose renewal is due, asked at
//! the same time. Three silent rounds in a row, or one in which the server refuses, end the
//! connection: the server is away. The thread tries again after a short pause, and asks about all
//! limits as soon as the server is back, so that it has their sums within two seconds. No request
//! waits meanwhile, and an attempt costs no more than a connection.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use redis::{ErrorKind, FromRedisValue as _, Value};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::asked::{AskedLimits, MAX_ASKS, Sent};
use super::connection::COMMAND;
use super::ids::SharedIds;
use super::script::{Writer, call, reply};
use super::servers::Servers;
use super::trouble::Trouble;
use crate::balance::HealthRegistry;
use crate::config::Redis;
use crate::gate::limit::{Fleet, LimitRegistry, Now};
use crate::record::{GrantCounts, Journal};
use crate::support::threads::{Deadline, Thread, block_on_this_thread, fault};
use crate::support::{Backoff, OutageNotice};

/// The interval at which limits are looked at without being woken.
const TICK: Duration = Duration::from_millis(200);

/// The number of silent rounds in a row after which the server is away.
const SILENT_ROUNDS: u32 = 3;

/// The first and the longest pause before the next attempt. The longest one is that of a server which
/// does not respond; an attempt at it takes a second too.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The time after which the server is asked whether it is there, if nothing else is asked.
const HEARD: Duration = Duration::from_secs(1);

/// The time in which a loss of the server's state is the same one.
const LOST: Duration = Duration::from_secs(1);

/// The time that the end waits for the thread.
const PATIENCE: Duration = Duration::from_secs(1);

/// The process as the other instances see it.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The identity of its ledger. `None`: it has none, and its use ends with it.
    pub ledger: Option<String>,
}

/// The thread. Dropping it gives back what is granted and not used, and ends it.
#[derive(Debug)]
pub struct GrantExchange {
    closing: watch::Sender<bool>,
    thread: Thread,
}

/// The state that the replicas of a fleet share.
#[derive(Clone, Debug)]
pub struct SharedState {
    pub limits: Arc<LimitRegistry>,
    /// Has the ids of stored state.
    pub health: Arc<HealthRegistry>,
}

/// The notice for the thread that something is to be asked or written, and its waker.
pub fn notice() -> (Arc<Notify>, Waker) {
    struct Notice(Arc<Notify>);
    impl Wake for Notice {
        fn wake(self: Arc<Self>) {
            self.0.notify_one();
        }
    }
    let notify = Arc::new(Notify::new());
    (Arc::clone(&notify), Waker::from(Arc::new(Notice(notify))))
}

impl GrantExchange {
    /// Starts the thread for limits and ids of a fleet. Its results are counted in the health of
    /// `journal`.
    ///
    /// # Errors
    /// Fails if the system provides no thread.
    pub fn spawn(
        settings: Redis,
        SharedState { limits, health }: SharedState,
        wanted: Arc<Notify>,
        instance: Instance,
        now: fn() -> Now,
        journal: &Journal,
    ) -> io::Result<Self> {
        let Some(fleet) = limits.fleet().cloned() else {
            return Err(io::Error::other("the limits are not shared"));
        };
        let (closing, closed) = watch::channel(false);
        let writer = uuid::Uuid::now_v7().simple().to_string();
        let writer = Writer { ledger: instance.ledger.unwrap_or_else(|| writer.clone()), writer };
        journal.health().grants.get_or_init(GrantCounts::default);
        let mut asking = Asking {
            ids: SharedIds::new(&settings.prefix, &writer.writer, health, journal.clone()),
            limits: AskedLimits::new(&settings.prefix, limits, Arc::clone(&fleet)),
            settings,
            fleet,
            wanted,
            writer,
            now,
            journal: journal.clone(),
            closed,
            lost_at: None,
            heard: None,
            outage: OutageNotice::default(),
            is_policy_known: false,
        };
        let thread = journal.threads().spawn("redis", move || {
            fault::strike("redis");
            block_on_this_thread(asking.run())
        })?;
        Ok(Self { closing, thread })
    }
}

impl Drop for GrantExchange {
    fn drop(&mut self) {
        let _ = self.closing.send(true);
        self.thread.wait(&Deadline::after(PATIENCE));
    }
}

/// Waits for work that may open connections. Requests do not wait for a server that takes long.
async fn waited_for<T>(fleet: &Fleet, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    match timeout(COMMAND * SILENT_ROUNDS, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            fleet.set_away(true);
            work.await
        }
    }
}

/// The work of the thread.
struct Asking {
    settings: Redis,
    ids: SharedIds,
    limits: AskedLimits,
    fleet: Arc<Fleet>,
    wanted: Arc<Notify>,
    writer: Writer,
    now: fn() -> Now,
    journal: Journal,
    closed: watch::Receiver<bool>,
    /// The latest time at which the server had lost its state.
    lost_at: Option<Instant>,
    /// The time at which the server was last asked.
    heard: Option<Instant>,
    outage: OutageNotice<String>,
    is_policy_known: bool,
}

impl Asking {
    async fn run(&mut self) {
        let mut pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut closed = self.closed.clone();
        loop {
            let Err(trouble) = self.session(&mut pauses).await else { return };
            self.record_outage(&trouble);
            let pause = if trouble.is_silence() { pauses.take_next() } else { FIRST_PAUSE };
            if let Ok(Ok(_)) = timeout(pause, closed.wait_for(|closed| *closed)).await {
                return;
            }
        }
    }

    /// Runs connections to their end. Returns `Ok` if the process ends.
    async fn session(&mut self, pauses: &mut Backoff) -> Result<(), Trouble> {
        let mut closed = self.closed.clone();
        let mut servers = self.connect().await?;
        let (mut silent, mut looked) = (0, None::<Instant>);
        // The latest round had replies.
        let mut is_sure = false;
        loop {
            if looked.is_none_or(|looked| looked.elapsed() >= TICK) {
                looked = Some(Instant::now());
                self.limits.look((self.now)());
            }
            self.fleet.begin_round();
            let done = match self.round(&mut servers, is_sure).await {
                Ok(has_more) => {
                    // Requests that wait for grants do not wait for ids.
                    self.record_success();
                    self.fleet.end_round();
                    let next = self.ids.round(&mut servers).await;
                    next.map(|next| if has_more { Duration::ZERO } else { next.unwrap_or(TICK) })
                }
                Err(trouble) => Err(trouble),
            };
            let pause = match done {
                Ok(pause) => {
                    (silent, is_sure) = (0, true);
                    pauses.reset();
                    pause
                }
                Err(trouble) => {
                    (silent, is_sure) = (silent + 1, false);
                    if !trouble.is_silence() || silent == SILENT_ROUNDS {
                        return Err(trouble);
                    }
                    self.fleet.end_round();
                    continue;
                }
            };
            if self.fleet.is_leaving() {
                while self.ids.round(&mut servers).await? == Some(Duration::ZERO) {}
                return Ok(());
            }
            tokio::select! {
                () = self.wanted.notified() => {}
                () = sleep(pause) => {}
                _ = closed.wait_for(|closed| *closed) => self.fleet.leave(),
            }
        }
    }

    /// Connects. Requests do not wait for a server that takes long.
    async fn connect(&mut self) -> Result<Servers, Trouble> {
        let settings = self.settings.clone();
        let mut servers = waited_for(&self.fleet, Servers::connect(&settings)).await?;
        if !self.is_policy_known {
            self.check_policy(&mut servers).await?;
        }
        Ok(servers)
    }

    /// Warns of a server that may delete counts when it is full.
    async fn check_policy(&mut self, servers: &mut Servers) -> Result<(), Trouble> {
        let mut info = redis::cmd("INFO");
        info.arg("memory");
        let text = match servers.ask(info).await {
            Ok(info) => String::from_redis_value(&info).unwrap_or_default(),
            // A user without the right to ask.
            Err(Trouble::Server(_)) => String::new(),
            Err(trouble) => return Err(trouble),
        };
        self.is_policy_known = true;
        let policy = text.lines().find_map(|line| line.strip_prefix("maxmemory_policy:")).map(str::trim);
        if let Some(policy) = policy.filter(|policy| *policy != "noeviction") {
            tracing::warn!(
                policy,
                "redis.url: the server deletes keys when its memory is full (maxmemory-policy), and limits then count too \
                 little for two seconds: set it to noeviction"
            );
        }
        Ok(())
    }

    /// Asks about limits for which it is time, and returns true if there are more of them. Unless it
    /// `is_sure` that the server responds, it asks in any case.
    async fn round(&mut self, servers: &mut Servers, is_sure: bool) -> Result<bool, Trouble> {
        let now = (self.now)();
        let mut asked = self.limits.questions(now);
        let has_more = asked.len() >= MAX_ASKS;
        // Ids alone would not show that it is gone.
        let is_heard = is_sure && self.heard.is_some_and(|heard| heard.elapsed() < HEARD);
        if asked.is_empty() && !is_heard {
            servers.ask(redis::cmd("PING")).await?;
        }
        if !is_heard || !asked.is_empty() {
            self.heard = Some(Instant::now());
        }
        while !asked.is_empty() {
            let rest = asked.split_off(asked.len().min(MAX_ASKS));
            self.exchange(servers, std::mem::replace(&mut asked, rest)).await?;
        }
        self.limits.forget_idle(now);
        Ok(has_more)
    }

    /// Sends all asks at the same time, and passes the replies to their limits.
    async fn exchange(&mut self, servers: &mut Servers, asked: Vec<Sent>) -> Result<(), Trouble> {
        let mut running = JoinSet::new();
        let begun = Instant::now();
        for (index, Sent { key, ask, is_heir, .. }) in asked.iter().enumerate() {
            let call = call(key, ask, &self.writer, true, *is_heir);
            let response = waited_for(&self.fleet, servers.send(key, call)).await?;
            running.spawn_local(async move { (index, response.await, begun.elapsed()) });
        }
        let mut failed = None;
        while let Some(ended) = running.join_next().await {
            let Ok((index, response, time)) = ended else { continue };
            let sent = &asked[index];
            let response = match response {
                // One that fails takes its time, and the others would too.
                Err(trouble @ Trouble::Server(_)) if failed.is_none() => {
                    waited_for(&self.fleet, self.again(servers, sent, trouble)).await
                }
                response => response,
            };
            match response {
                Ok(value) => self.take(sent, &value, time),
                Err(trouble) => {
                    failed.get_or_insert(trouble);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Sends the whole script to a server that does not know it, or to the node that has the key.
    async fn again(&self, servers: &mut Servers, sent: &Sent, trouble: Trouble) -> Result<Value, Trouble> {
        let Sent { key, ask, is_heir, .. } = sent;
        let whole = call(key, ask, &self.writer, false, *is_heir);
        let trouble = match &trouble {
            Trouble::Server(error) if error.kind() == ErrorKind::NoScriptError => {
                match servers.send(key, whole.clone()).await?.await {
                    Err(trouble @ Trouble::Server(_)) => trouble,
                    response => return response,
                }
            }
            _ => trouble,
        };
        servers.follow(key, &whole, trouble).await
    }

    fn take(&mut self, sent: &Sent, value: &Value, time: Duration) {
        let Some((reply, is_lost)) = reply(value) else { return };
        let counts = self.counts();
        counts.grants.fetch_add(1, Ordering::Relaxed);
        counts.times.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), 1);
        sent.limit.reply(&sent.ask, reply, (self.now)());
        // Further limits whose state is lost say that they know.
        if is_lost && !sent.ask.was_away && self.lost_at.is_none_or(|at| at.elapsed() >= LOST) {
            self.lost_at = Some(Instant::now());
            self.fleet.record_loss();
        }
        self.limits.record_reply(sent);
    }

    fn record_outage(&mut self, trouble: &Trouble) {
        self.counts().is_connected.store(false, Ordering::Relaxed);
        self.fleet.record_outage();
        self.ids.set_away(true);
        if self.outage.record_failure(trouble.kind()) {
            let when_away = self.settings.when_away;
            tracing::warn!(reason = %trouble, ?when_away, "Redis is away, and limits are not shared until it is back");
        }
    }

    fn record_success(&mut self) {
        self.counts().is_connected.store(true, Ordering::Relaxed);
        if self.fleet.is_away() {
            self.fleet.set_away(false);
        }
        self.ids.set_away(false);
        if self.outage.record_success() {
            tracing::info!("Redis is back, and limits are shared again");
        }
    }

    fn counts(&self) -> &GrantCounts {
        self.journal.health().grants.get_or_init(GrantCounts::default)
    }
}
