//! The threads of the process: named, supervised, and restarted if possible.
//!
//! `/readyz` and `/metrics` show an unexpected end of a thread, by a panic, an error or a return.
//! If the work can continue, it is called again on the same thread, at most [`RESTARTS`] times
//! within [`WINDOW`]. Otherwise the process drains and ends with status 1.
//!
//! # Threads and the calls that may block them
//!
//! | thread | may block on | bounded by | if it ends unexpectedly |
//! |---|---|---|---|
//! | `main`, `signals` | signals; the end of the others | the deadline of the stop | the process ends |
//! | `worker-N` | sockets (asynchronously) only; never a file, the log, a sink or another thread | the limits of `[server]` and of upstreams | drain, status 1 |
//! | `admin` | sockets (asynchronously) only; reads of the ledger run on threads of the runtime | the limits of `admin::reads` | drain, status 1 |
//! | `records` | the journal's queue only: it never waits for a sink | | started again |
//! | `access-log`, `metrics`, `otlp` | their queue only | | started again |
//! | `jsonl` | `write` on its file, pipe or terminal, for as long as that takes | its queue; the deadline of the stop | started again |
//! | `ledger` | its file: locks, the disk, the checkpoint at the log's bound | its queue; the deadline of the stop | started again, the file is reopened |
//! | `ledger-open` | the ledger's file, for as long as a copy and a change of its schema take | no thread waits for it | started again |
//! | `checkpoint` | the ledger's file; readers of it | `checkpoint::PATIENCE` | started again |
//! | `ledger-ship` | PostgreSQL (asynchronously), reads of the ledger's file | the deadline of the stop | started again |
//! | `otlp-export` | the collector (asynchronously) | its queue; the deadline of the stop | started again |
//! | `alerts` | webhooks (asynchronously) | its queues; the deadline of the stop | started again |
//! | `identities` | the authorities of tokens (asynchronously), reads of token files and certificates | 30 s; a second at the end | started again |
//! | `redis` | Redis (asynchronously) | timeouts of 50 ms; the deadline of the stop | started again |
//! | `refusals` | its own second to end | | started again |
//! | `estimates` | nothing: it computes | its queue; a second at the stop | started again |
//! | `lookup` | the system's `getaddrinfo`, for as long as that takes | no code waits for it without a deadline | the next request looks up again |
//! | `configuration` | reads of the configuration and of the files that it names; the workers' adoption of a snapshot | `app::reload::ADOPTION`; the deadline of the stop | started again |
//! | `keys` | reads of the stored keys: a file, or PostgreSQL | the deadline of the stop | started again |
//! | `supervisor` | the supervisor's socket | `supervisor::PATIENCE` | started again |
//! | `memory` | nothing: it reads a file of the kernel | | started again |
//! | `log-writer` | `write` on stderr, for as long as that takes | its buffer; a moment at the end | started again |
//!
//! `records` and the threads of sinks run at a lower priority than the workers
//! ([`enter_background`]), so that they displace no worker on a busy core. The ledger's works in
//! short [stints](Stints) when there is much to write, so that no worker waits long for it.
//!
//! No thread waits for a thread that may block, except at the end, with a deadline.

pub mod fault;
mod stint;

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use crate::support::drain::{DrainEnd, Phase, Stop};
pub use stint::Stints;

/// The largest number of restarts within [`WINDOW`].
pub const RESTARTS: usize = 3;

/// The time within which restarts are counted.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The longest time for the end after a [cut](Stop::cut).
const CUT_GRACE: Duration = Duration::from_secs(1);

/// The delay within which a waiting end notices a cut.
const POLL: Duration = Duration::from_millis(20);

/// The nice value of threads that only handle records: a tenth of a worker's share of a core that
/// both want, and no worker is displaced when such a thread wakes up.
const BACKGROUND: i32 = 10;

/// Lowers the priority of the calling thread below that of the workers. It stays as it is where the
/// system does not allow that.
pub fn enter_background() {
    // Linux has a nice value per thread.
    if let Err(error) = rustix::process::setpriority_process(None, BACKGROUND) {
        tracing::debug!(%error, "the priority of a thread could not be lowered");
    }
}

/// Runs a future on this thread, on a runtime of its own, to which [`tokio::task::spawn_local`]
/// adds tasks. What they still do at the end is dropped, and a running name lookup or read of a file
/// is not waited for: it must not delay the end of the process.
///
/// # Errors
/// Fails if the system does not provide what a runtime needs.
pub fn block_on_this_thread<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let runtime: LocalRuntime =
        Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(result)
}

/// All threads of one proxy. Clones are the same threads.
#[derive(Clone, Debug, Default)]
pub struct Threads(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    stop: Stop,
    rows: Mutex<Vec<Row>>,
    /// Notified when a thread has ended.
    ended: Condvar,
}

#[derive(Clone, Debug)]
struct Row {
    name: String,
    /// Counts the threads of this row: a thread takes the row of an ended one with its name.
    generation: u64,
    is_running: bool,
    /// Unexpected ends, including those with a restart.
    failures: u64,
    /// The reason of the last end, if there is no restart.
    fatal: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Unique.
    pub name: String,
    pub is_running: bool,
    /// Unexpected ends since the start, including those with a restart.
    pub failures: u64,
    /// The reason of an unexpected end without a restart.
    pub fatal: Option<String>,
}

impl Threads {
    /// The stop that begins to drain after an unexpected end without a restart.
    pub fn stop(&self) -> &Stop {
        &self.0.stop
    }

    /// Starts a thread whose work can be called again after it has ended unexpectedly. `Ok` from
    /// `work` is an expected end.
    ///
    /// # Errors
    /// Fails if the system provides no thread.
    pub fn spawn(
        &self,
        name: &str,
        work: impl FnMut() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Thread> {
        self.start(name, RESTARTS, work)
    }

    /// Starts a thread whose work cannot be repeated. It must not end before the [stop](Self::stop)
    /// begins.
    ///
    /// # Errors
    /// Fails if the system provides no thread.
    pub fn spawn_once(
        &self,
        name: &str,
        work: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Thread> {
        let mut work = Some(work);
        let stop = self.0.stop.clone();
        self.start(name, 0, move || {
            let work = work.take().expect("work without restarts is called once");
            work()?;
            match stop.phase() {
                Phase::Running | Phase::Leaving => {
                    Err(io::Error::other("it ended without having been told to"))
                }
                Phase::Draining | Phase::Cut => Ok(()),
            }
        })
    }

    /// All threads so far, in the order of their start.
    pub fn statuses(&self) -> Vec<Status> {
        let rows = self.rows();
        let status = |row: &Row| Status {
            name: row.name.clone(),
            is_running: row.is_running,
            failures: row.failures,
            fatal: row.fatal.clone(),
        };
        rows.iter().map(status).collect()
    }

    /// The first thread that ended unexpectedly without a restart, and the reason.
    pub fn fatal(&self) -> Option<(String, String)> {
        self.rows().iter().find_map(|row| Some((row.name.clone(), row.fatal.clone()?)))
    }

    fn start(
        &self,
        name: &str,
        restarts: usize,
        work: impl FnMut() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Thread> {
        let (index, generation, name) = self.enlist(name);
        let threads = self.clone();
        let started = thread::Builder::new()
            .name(name.clone())
            .spawn(move || threads.supervise(index, &name, restarts, work));
        if started.is_err() {
            self.rows()[index].is_running = false;
        }
        started?;
        Ok(Thread { threads: self.clone(), index, generation })
    }

    /// Adds a row with this name. If another thread has the name, a number is appended.
    fn enlist(&self, name: &str) -> (usize, u64, String) {
        let mut rows = self.rows();
        let numbered = (2_usize..).map(|number| format!("{name}-{number}"));
        for name in std::iter::once(name.to_owned()).chain(numbered) {
            match rows.iter().position(|row| row.name == name) {
                Some(index) if rows[index].is_running => {}
                Some(index) => {
                    rows[index].is_running = true;
                    rows[index].generation += 1;
                    return (index, rows[index].generation, name);
                }
                None => {
                    let fresh =
                        Row { name: name.clone(), generation: 0, is_running: true, failures: 0, fatal: None };
                    rows.push(fresh);
                    return (rows.len() - 1, 0, name);
                }
            }
        }
        unreachable!("there are fewer threads than numbers")
    }

    fn supervise(&self, index: usize, name: &str, restarts: usize, mut work: impl FnMut() -> io::Result<()>) {
        let mut recent = VecDeque::new();
        let fatal = loop {
            let reason = match catch_unwind(AssertUnwindSafe(&mut work)) {
                Ok(Ok(())) => break None,
                Ok(Err(error)) => error.to_string(),
                Err(panic) => format!("it panicked: {}", message(&*panic)),
            };
            let now = Instant::now();
            recent.retain(|&at| now.duration_since(at) < WINDOW);
            self.rows()[index].failures += 1;
            if recent.len() >= restarts {
                break Some(reason);
            }
            recent.push_back(now);
            tracing::error!(thread = name, reason, "a thread ended unexpectedly and is started again");
        };
        if let Some(reason) = &fatal {
            tracing::error!(
                thread = name,
                reason,
                "a thread ended unexpectedly and cannot be started again: the proxy drains and ends"
            );
        }
        self.rows()[index].fatal.clone_from(&fatal);
        if fatal.is_some() {
            self.0.stop.drain();
        }
        // Values that the work owns are dropped before the thread counts as ended.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(move || drop(work))) {
            self.rows()[index].fatal.get_or_insert_with(|| format!("its end panicked: {}", message(&*panic)));
        }
        self.rows()[index].is_running = false;
        self.0.ended.notify_all();
    }

    fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        // No code under the lock can panic with half-changed rows.
        self.0.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A started thread. Dropping this does not end the thread, and does not wait for it.
#[derive(Clone, Debug)]
pub struct Thread {
    threads: Threads,
    index: usize,
    generation: u64,
}

impl Thread {
    /// The thread's name.
    pub fn name(&self) -> String {
        self.threads.rows()[self.index].name.clone()
    }

    pub fn is_running(&self) -> bool {
        self.is_running_in(&self.threads.rows())
    }

    /// Waits for the thread's end until the deadline. Returns true if it has ended.
    pub fn wait(&self, deadline: &Deadline) -> bool {
        let mut rows = self.threads.rows();
        while self.is_running_in(&rows) {
            let left = deadline.left();
            if left.is_zero() {
                return false;
            }
            let waited = self.threads.0.ended.wait_timeout(rows, left.min(POLL));
            rows = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn is_running_in(&self, rows: &[Row]) -> bool {
        let row = &rows[self.index];
        row.is_running && row.generation == self.generation
    }
}

/// The latest moment of an end. After [`Deadline::until_cut`], a cut moves it to [`CUT_GRACE`]
/// after the cut.
#[derive(Clone, Debug)]
pub struct Deadline {
    /// The deadline is not before this moment, even after a cut.
    earliest: Instant,
    latest: Instant,
    cut: Option<Stop>,
    /// The time after the end of the drain, which can be moved. `latest` holds unless it was.
    after_drain: Option<Duration>,
}

/// The time within which a drain without an end is asked again for its end.
const ENDLESS: Duration = Duration::from_secs(3600);

impl Deadline {
    /// The deadline `time` from now.
    pub fn after(time: Duration) -> Self {
        let now = Instant::now();
        Self { earliest: now, latest: now + time, cut: None, after_drain: None }
    }

    /// Moves the deadline if `stop` is cut.
    pub fn until_cut(mut self, stop: &Stop) -> Self {
        self.cut = Some(stop.clone());
        self
    }

    /// Moves the deadline with the end of the drain of the stop of [`Self::until_cut`], to `grace`
    /// after it.
    pub fn after_drain(mut self, grace: Duration) -> Self {
        self.after_drain = Some(grace);
        self
    }

    /// Limits the deadline to `time` from now.
    pub fn within(mut self, time: Duration) -> Self {
        self.latest = self.latest().min(Instant::now() + time);
        self.after_drain = None;
        self
    }

    /// Moves the deadline to at least `time` from now, so that earlier waits cannot use up this
    /// time.
    pub fn at_least(mut self, time: Duration) -> Self {
        self.earliest = Instant::now() + time;
        self
    }

    /// The moment, as of now.
    pub fn at(&self) -> Instant {
        let cut = self.cut.as_ref().and_then(Stop::cut_since);
        let latest = self.latest();
        cut.map_or(latest, |since| latest.min(since + CUT_GRACE)).max(self.earliest)
    }

    fn latest(&self) -> Instant {
        let Some((grace, stop)) = self.after_drain.zip(self.cut.as_ref()) else { return self.latest };
        match stop.drain_ends() {
            DrainEnd::Timeout => self.latest,
            DrainEnd::At(end) => end + grace,
            DrainEnd::Never => Instant::now() + ENDLESS,
        }
    }

    pub fn left(&self) -> Duration {
        self.at().saturating_duration_since(Instant::now())
    }
}

/// The message of a panic.
pub fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests;
