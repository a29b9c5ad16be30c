//! The queue, and the thread that writes the ledger.
//!
//! The records' thread hands each batch to all sinks in turn; a disk that syncs for a second, or a file that is
//! locked, would make the JSON lines and the metrics wait, and in the end overflow the one queue that all of them share. So
//! the ledger takes batches over without copying them, and has its own bound.

use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::error::{LedgerError, Reason};
use super::postgres::Shipper;
use super::retention::Retention;
use super::spill;
use super::store::Store;
use super::sweep::Sweeper;
use crate::config::Postgres;
use crate::record::{Journal, Sink, UsageRecord};

/// Records that may wait for the file, besides those in the journal. A second's worth or more at any rate that was
/// measured; at some 600 bytes each about 40 MB.
const CAPACITY: usize = 65_536;

/// How long batches are gathered after the first one. With the journal's own 20 ms a record is committed 100 ms after its
/// end, and there are at most ten commits a second.
const GATHER: Duration = Duration::from_millis(80);

/// So many are written without waiting for more.
const ENOUGH: usize = CAPACITY / 4;

/// The pauses between attempts while the file cannot be written: the first, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long the last records are tried for when the process ends.
const GRACE: Duration = Duration::from_secs(5);

/// How often the file and its log are looked at while there is nothing to write.
const LOOK: Duration = Duration::from_secs(5);

/// Records that were closed within the same moments.
pub(super) type Batch = Arc<Vec<UsageRecord>>;

/// The sink. Dropping it writes what waits, and ends the thread.
#[derive(Debug)]
pub struct Ledger {
    name: String,
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
    /// Dropped after the thread has ended, when everything is in the file.
    _shipper: Option<Shipper>,
}

impl Ledger {
    /// Opens the file at `path` and starts the thread, which waits for records and deletes those that started longer than
    /// `retention` ago. What it must give up is counted in the journal's health.
    ///
    /// # Errors
    /// The file cannot be opened or created, is another program's or a newer version's; or the system gives no thread. A
    /// file that is broken is no error: it is moved aside, and a new one is begun.
    pub fn open(path: &Path, retention: Option<Duration>, journal: &Journal) -> Result<Self, LedgerError> {
        let mut store = Store::open(path)?;
        let sweeper = retention.map(|age| {
            let retention = Some(Retention { age, unshipped: None });
            Sweeper::begin(&path.display().to_string(), &mut store, retention, age, Timestamp::now())
        });
        let sweeper = sweeper.transpose().map_err(|reason| LedgerError::new(path, reason))?;
        Self::start(store, path, sweeper, None, journal)
    }

    /// The same for an instance of a fleet: rows are shipped to PostgreSQL by a thread of their own, which the end waits for
    /// a few seconds, and those that are not shipped yet are not deleted, as far as `postgres.max_waiting` goes.
    ///
    /// # Errors
    /// As [`Self::open`]. A server that is away is no error.
    pub fn open_for_fleet(
        path: &Path,
        retention: Option<Duration>,
        postgres: Postgres,
        journal: &Journal,
    ) -> Result<Self, LedgerError> {
        let mut store = Store::open(path)?;
        // The shorter of the two says how much a clock is trusted.
        let age = [retention, postgres.retention].into_iter().flatten().min();
        let retention = retention.map(|age| Retention { age, unshipped: Some(postgres.max_waiting) });
        let sweeper = age.map(|age| {
            Sweeper::begin(&path.display().to_string(), &mut store, retention, age, Timestamp::now())
        });
        let sweeper = sweeper.transpose().map_err(|reason| LedgerError::new(path, reason))?;
        let shipper = Shipper::spawn(path, postgres, journal, sweeper.as_ref().map(Sweeper::believed));
        let shipper = shipper.map_err(|failure| LedgerError::new(path, failure))?;
        Self::start(store, path, sweeper, Some(shipper), journal)
    }

    fn start(
        store: Store,
        path: &Path,
        sweeper: Option<Sweeper>,
        shipper: Option<Shipper>,
        journal: &Journal,
    ) -> Result<Self, LedgerError> {
        let queue = Arc::new(Queue::default());
        let writer = Writer {
            name: path.display().to_string(),
            path: path.to_owned(),
            store,
            queue: Arc::clone(&queue),
            journal: journal.clone(),
            committed: shipper.as_ref().map(Shipper::waker),
            sweeper,
            failing: false,
            give_up: None,
        };
        let thread = thread::Builder::new().name("ledger".to_owned()).spawn(move || writer.run());
        let thread = thread.map_err(|error| LedgerError::new(path, error))?;
        Ok(Self { name: path.display().to_string(), queue, thread: Some(thread), _shipper: shipper })
    }
}

impl Sink for Ledger {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
        self.share(&Arc::new(batch.to_vec()))
    }

    /// Queues the batch; never waits for the file.
    fn share(&mut self, batch: &Batch) -> io::Result<()> {
        if self.queue.push(batch) {
            Ok(())
        } else {
            Err(io::Error::other(
                "the file is too slow or cannot be written, and no more records can wait for it",
            ))
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(ledger = self.name, "the thread that writes the ledger panicked");
        }
    }
}

/// Batches on their way to the thread.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    /// Signalled when the first batch comes, when there are enough, and at the end.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    batches: Vec<Batch>,
    /// Records in `batches` and in those that the thread is writing.
    records: usize,
    closed: bool,
}

/// What the thread is to do.
enum Work {
    Write(Vec<Batch>),
    Look,
    End,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock can panic with the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was room.
    fn push(&self, batch: &Batch) -> bool {
        let mut state = self.lock();
        if state.records + batch.len() > CAPACITY {
            return false;
        }
        state.records += batch.len();
        state.batches.push(Arc::clone(batch));
        let wake = state.batches.len() == 1 || state.records >= ENOUGH;
        drop(state);
        if wake {
            self.changed.notify_one();
        }
        true
    }

    /// Waits for batches and lets them gather, or for the time to look for old rows.
    fn next(&self, sweep: Option<Instant>) -> Work {
        let until = sweep.map_or(LOOK, |at| at.saturating_duration_since(Instant::now()).min(LOOK));
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), until, |state| state.batches.is_empty() && !state.closed);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if state.batches.is_empty() {
            return if state.closed { Work::End } else { Work::Look };
        }
        let few = |state: &mut State| state.records < ENOUGH && !state.closed;
        let gathered = self.changed.wait_timeout_while(state, GATHER, few);
        let mut state = gathered.unwrap_or_else(PoisonError::into_inner).0;
        Work::Write(mem::take(&mut state.batches))
    }

    /// Waits while there is nothing new to know. Whether the process is ending.
    fn pause(&self, pause: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), pause, |state| !state.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    /// Makes room again.
    fn done(&self, records: usize) {
        self.lock().records -= records;
    }
}

/// The thread's own.
struct Writer {
    name: String,
    path: PathBuf,
    store: Store,
    queue: Arc<Queue>,
    journal: Journal,
    /// Who wants to know of each commit.
    committed: Option<Arc<Notify>>,
    /// The last attempt failed, and that was said.
    failing: bool,
    /// Deletes old rows, where there is a retention.
    sweeper: Option<Sweeper>,
    /// When the last records are given up; `None` while the process is not ending.
    give_up: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        loop {
            match self.queue.next(self.sweeper.as_ref().map(Sweeper::next)) {
                Work::Write(batches) => self.write(&batches),
                Work::Look => self.look(),
                Work::End => return self.end(),
            }
            if !self.failing
                && let Some(sweeper) = &mut self.sweeper
            {
                sweeper.sweep(&mut self.store, &self.journal, Timestamp::now(), Instant::now());
            }
        }
    }

    /// Looks whether another program has changed the file or its log.
    fn look(&mut self) {
        let result = self.store.mend();
        self.count_lost();
        match result {
            Ok(()) => self.well(),
            Err(reason) => self.say(&reason),
        }
    }

    fn end(mut self) {
        self.look();
        // What another program has cut from the log, and could not be written again.
        let unsaved = self.store.unsaved();
        if !unsaved.is_empty() {
            self.spill(&unsaved);
        }
        if let Some(sweeper) = &mut self.sweeper
            && !self.failing
        {
            sweeper.end(&mut self.store);
        }
    }

    /// Writes all of it, in one transaction as long as nothing is wrong; tries until it succeeds, or until the process ends
    /// and [`GRACE`] is over.
    fn write(&mut self, mut batches: &[Batch]) {
        let mut pause = FIRST_PAUSE;
        while !batches.is_empty() {
            // A failing file is tried with one batch: each attempt at a full disk costs the work of all that it is tried with.
            let attempt = if self.failing { &batches[..1] } else { batches };
            let result = self.store.write(attempt);
            self.count_lost();
            let Err(reason) = result else {
                let written = count(attempt);
                self.queue.done(written);
                self.journal.health().kept.fetch_add(written as u64, Ordering::Relaxed);
                if let Some(committed) = &self.committed {
                    committed.notify_one();
                }
                self.well();
                pause = FIRST_PAUSE;
                batches = &batches[attempt.len()..];
                continue;
            };
            self.say(&reason);
            if self.queue.pause(pause) {
                let give_up = *self.give_up.get_or_insert_with(|| Instant::now() + GRACE);
                if give_up <= Instant::now() {
                    return self.lose(batches);
                }
                thread::sleep(FIRST_PAUSE);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Says that records are written, if they were not.
    fn well(&mut self) {
        if mem::take(&mut self.failing) {
            tracing::info!(ledger = self.name, "usage records are written again");
        }
    }

    /// Says what keeps records from being written, if that is new.
    fn say(&mut self, reason: &Reason) {
        // Whoever ships has the file open too, which may be what a log that was cut waits for.
        if let Some(committed) = &self.committed {
            committed.notify_one();
        }
        if !mem::replace(&mut self.failing, true) {
            tracing::error!(ledger = self.name, %reason, "usage records cannot be written; {CAPACITY} of them can wait until this ends");
        }
    }

    /// Records that were written and are gone are not kept, but failed.
    fn count_lost(&mut self) {
        let lost = self.store.take_lost();
        if lost > 0 {
            let health = self.journal.health();
            health.kept.fetch_sub(lost, Ordering::Relaxed);
            health.failed.fetch_add(lost, Ordering::Relaxed);
        }
    }

    /// Gives up writing these before the end.
    fn lose(&self, batches: &[Batch]) {
        self.queue.done(count(batches));
        self.spill(batches);
    }

    /// Leaves records to the next start. What is lost is counted.
    fn spill(&self, batches: &[Batch]) {
        let spilled = spill::append(&self.path, batches.iter().flat_map(|batch| batch.iter()));
        let file = spill::file_of(&self.path);
        if spilled.records > 0 {
            tracing::warn!(
                ledger = self.name, records = spilled.records, file = %file.display(),
                "usage records could not be written before the end; they are in a file that the next start reads"
            );
        }
        let lost = count(batches) - spilled.records;
        if lost > 0 {
            self.journal.health().failed.fetch_add(lost as u64, Ordering::Relaxed);
            let reason = spilled.error.map_or_else(String::new, |error| error.to_string());
            tracing::error!(ledger = self.name, lost, file = %file.display(), reason, "usage records were not written before the end");
        }
    }
}

fn count(batches: &[Batch]) -> usize {
    batches.iter().map(|batch| batch.len()).sum()
}

#[cfg(test)]
mod tests;
