//! The thread that ships rows to PostgreSQL.
//!
//! The thread sleeps until the ledger commits, reads the rows after the last shipped one, writes
//! them to the server, and stores its progress. After any failure it continues from the stored
//! progress, after a growing pause. It has its own runtime, connection and file handle. The rest of
//! the proxy only wakes it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::error::Reason;
use super::super::shipped::Unshipped;
use super::super::sweep::Believed;
use super::Failure;
use super::connect::runtime;
use super::rows::Rows;
use super::server::Server;
use super::ship_lock::ShipLock;
use crate::config::Postgres;
use crate::record::{Journal, Shipping};
use crate::support::threads::{Deadline, Thread, fault};
use crate::support::{Backoff, OutageNotice};

/// The time for which commits are gathered after the first one. Records reach the fleet's database
/// about half a second after their end, with at most a few round trips a second.
const GATHER: Duration = Duration::from_millis(250);

/// The first and the longest pause between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The time for which the last records are shipped when the process ends. The rest stays in the
/// file for the next start.
const GRACE: Duration = Duration::from_secs(5);

/// The time that the end waits for the thread, which gives up earlier by itself.
const PATIENCE: Duration = Duration::from_secs(6);

/// The interval at which partitions are created in advance and old ones deleted.
const HOUSEKEEPING: Duration = Duration::from_secs(3600);

/// The interval of checks without a wake-up: another process may write to the same file.
const LOOK: Duration = Duration::from_secs(60);

/// The interval at which a process looks whether another one still ships the same file.
const TURN: Duration = Duration::from_millis(500);

/// The thread. Dropping it ships the remaining rows for up to [`GRACE`], and ends it.
#[derive(Debug)]
pub(in super::super) struct Shipper {
    committed: Arc<Notify>,
    closing: watch::Sender<bool>,
    thread: Thread,
}

impl Shipper {
    /// Starts the thread for the ledger at `path`, which must be open already. The journal's health
    /// counts its results.
    ///
    /// # Errors
    /// Fails if the system provides no thread or runtime.
    pub(in super::super) fn spawn(
        path: &Path,
        settings: Postgres,
        journal: &Journal,
        believed: Option<Believed>,
    ) -> Result<Self, Failure> {
        let committed = Arc::new(Notify::new());
        let (closing, closed) = watch::channel(false);
        let name = address(&settings);
        let mut line = Line {
            path: path.to_owned(),
            name,
            settings,
            journal: journal.clone(),
            committed: Arc::clone(&committed),
            closed,
            lock: ShipLock::beside(path),
            believed,
            dropped: Instant::now(),
            outage: OutageNotice::default(),
            file_outage: OutageNotice::default(),
        };
        journal.health().shipping.get_or_init(Shipping::default);
        let run = move || {
            fault::strike("ledger-ship");
            let runtime = runtime().map_err(|failure| io::Error::other(failure.to_string()))?;
            runtime.block_on(line.run());
            runtime.shutdown_background();
            Ok(())
        };
        let thread = journal.threads().spawn("ledger-ship", run).map_err(Failure::System)?;
        Ok(Self { committed, closing, thread })
    }

    /// The handle that ends the thread: `true` ships the waiting rows, and ends.
    pub(in super::super) fn closing(&self) -> watch::Sender<bool> {
        self.closing.clone()
    }

    /// The handle that the ledger notifies after each commit, without waiting.
    pub(in super::super) fn waker(&self) -> Arc<Notify> {
        Arc::clone(&self.committed)
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        let _ = self.closing.send(true);
        self.thread.wait(&Deadline::after(PATIENCE));
    }
}

/// The server's name in messages, without the user and the password.
pub(in super::super) fn address(settings: &Postgres) -> String {
    use tokio_postgres::config::Host;

    let server = &settings.server;
    let hosts = server.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let hosts: Vec<_> = match server.get_hosts() {
        [] => server.get_hostaddrs().iter().map(ToString::to_string).collect(),
        _ => hosts.collect(),
    };
    let port = server.get_ports().first().copied().unwrap_or(5432);
    let database = server.get_dbname().or(server.get_user()).unwrap_or_default();
    format!("postgres://{}:{port}/{database}", hosts.join(","))
}

/// The reason for which rows cannot be shipped.
enum Trouble {
    Server(Failure),
    File(Reason),
    /// The file was replaced.
    Moved,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Server(failure)
    }
}

impl From<Reason> for Trouble {
    fn from(reason: Reason) -> Self {
        Self::File(reason)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(failure) => write!(f, "{failure}"),
            Self::File(reason) => write!(f, "the ledger's own file: {reason}"),
            Self::Moved => write!(f, "the ledger's own file was moved or deleted"),
        }
    }
}

impl Trouble {
    fn kind(&self) -> &str {
        match self {
            Self::Server(failure) => failure.kind(),
            Self::File(_) => "file",
            Self::Moved => "moved",
        }
    }
}

/// Lets commits gather, unless the process ends.
async fn gather(mut closed: watch::Receiver<bool>) {
    let _ = timeout(GATHER, closed.wait_for(|closed| *closed)).await;
}

/// The state of the thread.
struct Line {
    path: PathBuf,
    name: String,
    settings: Postgres,
    journal: Journal,
    committed: Arc<Notify>,
    closed: watch::Receiver<bool>,
    /// Held while this process ships.
    lock: ShipLock,
    /// The time of retention's clock.
    believed: Option<Believed>,
    /// The last check for an old month; initially the start of the process.
    dropped: Instant,
    outage: OutageNotice<String>,
    /// The outage of storing the progress.
    file_outage: OutageNotice,
}

impl Line {
    async fn run(&mut self) {
        let mut closed = self.closed.clone();
        let last_moment = async move {
            let _ = closed.wait_for(|closed| *closed).await;
            sleep(GRACE).await;
        };
        tokio::select! {
            () = self.ship_for_ever() => {}
            () = last_moment => {}
        }
        let waiting = self.shipping().waiting.load(Ordering::Relaxed);
        self.shipping().up.store(false, Ordering::Relaxed);
        if waiting > 0 {
            tracing::info!(
                ledger = self.name,
                waiting,
                "usage records wait in the local ledger for the next start"
            );
        }
    }

    /// Ends when the process does: after everything is shipped, or when an attempt fails.
    async fn ship_for_ever(&mut self) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        while !self.lock.take() {
            if timeout(TURN, self.closed.wait_for(|closed| *closed)).await.is_ok() {
                return;
            }
        }
        loop {
            let last = *self.closed.borrow();
            let Err(trouble) = self.session(&mut backoff).await else { return };
            self.shipping().up.store(false, Ordering::Relaxed);
            self.say(&trouble);
            if last {
                return;
            }
            let _ = timeout(backoff.take_jittered(), self.closed.wait_for(|closed| *closed)).await;
        }
    }

    /// Runs a connection to its end. Returns `Ok` if the process ends and everything is shipped.
    async fn session(&mut self, backoff: &mut Backoff) -> Result<(), Trouble> {
        self.count_waiting();
        let mut server = Server::connect(&self.settings).await?;
        let mut unshipped = Unshipped::open(&self.path, &server.ledger().to_string())?;
        let mut housekeeping = Instant::now();
        let mut rows = Rows::new();
        let mut closed = self.closed.clone();
        loop {
            let closing = *self.closed.borrow();
            if housekeeping <= Instant::now() && !closing {
                server.look_ahead(Timestamp::now()).await?;
                self.drop_old(&mut server).await?;
                housekeeping = Instant::now() + HOUSEKEEPING;
            }
            if !unshipped.is_current() {
                return Err(Trouble::Moved);
            }
            while self.batch(&mut server, &mut unshipped, &mut rows).await? {
                backoff.reset();
            }
            self.well();
            if closing {
                return Ok(());
            }
            tokio::select! {
                () = self.committed.notified() => gather(self.closed.clone()).await,
                _ = closed.wait_for(|closed| *closed) => {}
                () = sleep_until((Instant::now() + LOOK).min(housekeeping)) => {}
                () = server.gone() => return Err(Trouble::Server(Failure::Gone)),
            }
        }
    }

    /// Deletes the oldest month, if it is older than the retention. Never at the start, and at most
    /// one an hour.
    async fn drop_old(&mut self, server: &mut Server) -> Result<(), Failure> {
        let Some(retention) = self.settings.retention else { return Ok(()) };
        if self.dropped.elapsed() < HOUSEKEEPING {
            return Ok(());
        }
        self.dropped = Instant::now();
        let now = Timestamp::now();
        let now = self.believed.as_ref().map_or(now, |believed| believed.retention_time(now));
        server.drop_old(retention, now).await
    }

    /// Ships the next rows. Returns true if there were any.
    async fn batch(
        &mut self,
        server: &mut Server,
        unshipped: &mut Unshipped,
        rows: &mut Rows,
    ) -> Result<bool, Trouble> {
        rows.clear();
        let last = unshipped.next(self.settings.batch, |row| rows.push(row))?;
        self.shipping().waiting.store(unshipped.count()?, Ordering::Relaxed);
        let Some(last) = last else { return Ok(false) };
        let written = server.write(rows).await?;
        self.well();
        let shipping = self.shipping();
        shipping.shipped.fetch_add((rows.len() - written.refused.len()) as u64, Ordering::Relaxed);
        let refused = shipping.refused.fetch_add(written.refused.len() as u64, Ordering::Relaxed);
        if let (0, Some((row, reason))) = (refused, written.refused.first()) {
            let id = rows.id(*row).unwrap_or_default();
            tracing::error!(
                ledger = self.name, %id, reason,
                "PostgreSQL does not take a usage record, which stays in the local ledger only; others are counted"
            );
        }
        match unshipped.advance(last) {
            Ok(()) => _ = self.file_outage.record_success(),
            Err(reason) if self.file_outage.record_failure(()) => tracing::warn!(
                ledger = self.name, %reason,
                "how far usage records are shipped cannot be stored now: a restart would send some again, which does no harm"
            ),
            Err(_) => {}
        }
        self.shipping().waiting.store(unshipped.count()?, Ordering::Relaxed);
        Ok(true)
    }

    /// Without a server, the number of waiting rows is that of the last known one.
    fn count_waiting(&self) {
        if let Ok(waiting) = Unshipped::count_at(&self.path) {
            self.shipping().waiting.store(waiting, Ordering::Relaxed);
        }
    }

    /// Logs success, if it follows a failure or is the first one.
    fn well(&mut self) {
        let was_up = self.shipping().up.swap(true, Ordering::Relaxed);
        if self.outage.record_success() {
            tracing::info!(ledger = self.name, "usage records are shipped to PostgreSQL again");
        } else if !was_up {
            tracing::debug!(ledger = self.name, "usage records are shipped to PostgreSQL");
        }
    }

    /// Logs the failure, if it is new.
    fn say(&mut self, trouble: &Trouble) {
        if matches!(trouble, Trouble::Moved) {
            return;
        }
        self.shipping().failures.fetch_add(1, Ordering::Relaxed);
        if self.outage.record_failure(trouble.kind().to_owned()) {
            tracing::warn!(
                ledger = self.name, reason = %trouble,
                "usage records cannot be shipped to PostgreSQL; they wait in the local ledger"
            );
        }
    }

    fn shipping(&self) -> &Shipping {
        self.journal.health().shipping.get_or_init(Shipping::default)
    }
}
