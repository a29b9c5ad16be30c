//! Copies the write-ahead log into the file on a thread of its own, so that no commit waits for the
//! disk to sync the file.
//!
//! SQLite would do it as part of the commit that makes the log long enough. Commits still sync the
//! log's header when the log restarts, so the log may grow before that.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::Reason;
use super::log::{Place, State, Watch, copy_no_more};
use crate::support::threads::{Deadline, Thread, Threads, enter_background, fault};

/// The length in pages of 4 KiB at which the log is copied: 1 MiB, since a copy is one step of this
/// thread, for which a worker may wait. Retried after as many more pages if a concurrent commit or
/// reader prevented the log from restarting.
const COPIED_FROM: u64 = 256;

/// The pages by which the log may grow beyond its bound between two waits for a reader.
const AGAIN_AFTER: u64 = 1024;

/// The bound of the log, 64 MiB: the next commit waits until the whole log is copied and restarts.
/// The log exceeds it by at most that commit, and by the commits during a read that lasts longer
/// than [`PATIENCE`].
pub(super) const BOUND: u32 = 16_384;

/// The time that a copy at the bound waits for readers of the log.
const PATIENCE: Duration = Duration::from_millis(500);

/// The time that dropping the thread waits for the end of a copy.
const END: Duration = Duration::from_secs(5);

/// The thread. Dropping it waits for the end of a running copy.
#[derive(Debug)]
pub(super) struct Checkpointer {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    log: Mutex<Log>,
    /// Signalled when the log is due to be copied, and at the end.
    due: Condvar,
    /// Signalled when commits may continue.
    released: Condvar,
}

#[derive(Debug)]
struct Log {
    /// The log's end after the last commit.
    end: Place,
    /// The end of the copied part.
    copied: Place,
    /// The length at which the next copy is due.
    due: u64,
    /// The length at which the next commit waits for a copy.
    bound: u64,
    /// A commit waits.
    held: bool,
    closed: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            end: Place::default(),
            copied: Place::default(),
            due: COPIED_FROM,
            bound: BOUND.into(),
            held: false,
            closed: false,
        }
    }
}

impl Checkpointer {
    /// Copies the commits of `writer` to the file at `path` from now on, as long as `watch` finds
    /// the log complete.
    ///
    /// # Errors
    /// Fails if the file cannot be opened a second time, or if the system provides no thread.
    pub(super) fn begin(
        path: &Path,
        writer: &mut Connection,
        watch: &Watch,
        threads: &Threads,
    ) -> Result<Self, Reason> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(PATIENCE)?;
        connection.pragma_update(None, "synchronous", "normal")?;
        // Closing the writer copies the rest, after it has checked the log.
        copy_no_more(&connection, true);
        let watch = watch.clone();
        let shared = Arc::new(Shared::default());
        let (copying, committed) = (Arc::clone(&shared), Arc::clone(&shared));
        let copying = Copying { shared: copying, connection };
        let thread = threads.spawn("checkpoint", move || {
            enter_background();
            copying.shared.run(&copying.connection, &watch);
            Ok(())
        })?;
        let checkpointer = Self { shared, thread };
        // Replaces SQLite's own hook, which would copy the log.
        writer.wal_hook(Some(move |_: &mut _, pages| {
            committed.committed(u64::try_from(pages).unwrap_or(0));
            Ok(())
        }))?;
        Ok(checkpointer)
    }

    /// Waits until the log may grow again, if it has reached its bound. Must be called before each
    /// commit.
    pub(super) fn wait(&self) {
        let shared = &self.shared;
        drop(shared.released.wait_while(shared.log(), |log| log.held));
    }

    /// The end of the log, and the end of its copied part.
    pub(super) fn places(&self) -> (Place, Place) {
        let log = self.shared.log();
        (log.end, log.copied)
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.shared.log().closed = true;
        self.shared.due.notify_one();
        self.thread.wait(&Deadline::after(END));
    }
}

/// The state of the thread.
struct Copying {
    shared: Arc<Shared>,
    connection: Connection,
}

impl Drop for Copying {
    fn drop(&mut self) {
        // If the thread ends by a failure, no commit may wait for it.
        let mut log = self.shared.log();
        log.bound = u64::MAX;
        log.held = false;
        drop(log);
        self.shared.released.notify_all();
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        // No code under the lock can panic with a half-changed state.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn committed(&self, pages: u64) {
        let mut log = self.log();
        if pages < log.end.pages {
            // The log restarts only after all of it was copied.
            let copied = log.end;
            let end = Place { round: copied.round + 1, pages };
            *log = Log { closed: log.closed, end, copied, ..Log::default() };
        }
        log.end.pages = pages;
        log.held = pages >= log.bound;
        if log.held || pages >= log.due {
            self.due.notify_one();
        }
    }

    /// Waits until the log is due to be copied. Returns whether commits wait for it, and the log's
    /// round. `None` at the end.
    fn next(&self) -> Option<(bool, u64)> {
        let is_short = |log: &mut Log| log.end.pages < log.due && !log.held && !log.closed;
        let waited = self.due.wait_while(self.log(), is_short);
        let mut log = waited.unwrap_or_else(PoisonError::into_inner);
        log.due = log.end.pages + COPIED_FROM;
        (!log.closed).then_some((log.held, log.end.round))
    }

    fn release(&self) {
        let mut log = self.log();
        log.bound = log.end.pages + AGAIN_AFTER;
        log.held = false;
        self.released.notify_one();
    }

    fn run(&self, connection: &Connection, watch: &Watch) {
        let (mut failing, mut read_for_long) = (false, false);
        while let Some((held, round)) = self.next() {
            fault::strike("checkpoint");
            let copied = match watch.look(connection) {
                Ok(State::Whole) => copy(connection, if held { "RESTART" } else { "PASSIVE" }),
                // The writer repairs the log.
                Ok(State::Moved | State::Cut) => Ok(Copied::default()),
                Err(error) => Err(error),
            };
            if held {
                self.release();
            }
            match copied {
                Ok(copied) => {
                    failing = false;
                    let place = Place { round, pages: copied.pages };
                    let mut log = self.log();
                    log.copied = log.copied.max(place);
                    drop(log);
                    if copied.blocked && !std::mem::replace(&mut read_for_long, true) {
                        tracing::warn!("a program reads the ledger for long; its log grows until that ends");
                    }
                    read_for_long &= copied.blocked || !copied.all;
                }
                // The writer finds out the fault of the file.
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    tracing::warn!(%error, "the ledger's log cannot be copied into its file, and grows until that ends");
                }
                Err(_) => {}
            }
        }
    }
}

/// The result of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Copied {
    /// A reader or another checkpoint prevented the log from restarting.
    pub(super) blocked: bool,
    /// The whole log is in the file.
    pub(super) all: bool,
    /// Pages of the log that are in the file.
    pub(super) pages: u64,
}

/// Copies the log in the given `mode` (sqlite.org/pragma.html#pragma_wal_checkpoint).
pub(super) fn copy(connection: &Connection, mode: &str) -> rusqlite::Result<Copied> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        let (blocked, pages, copied): (bool, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Copied { blocked, all: pages == copied, pages: u64::try_from(copied).unwrap_or(0) })
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::super::repair::with;
    use super::super::row::insert;
    use super::super::store::Store;
    use super::super::support::{batch, count_at};
    use super::*;
    use crate::support::threads::Stints;

    const PAGE: u64 = 4096;
    const BOUND: u64 = super::BOUND as u64;

    /// A frame of the log is a page with a header of 24 bytes (sqlite.org/fileformat2.html, section
    /// 4.1).
    fn log_pages(path: &Path) -> u64 {
        fs::metadata(with(path, "-wal")).unwrap().len() / (PAGE + 24)
    }

    #[test]
    fn commit_copies_nothing_into_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        drop(Store::open(&path).unwrap());
        let mut connection = Connection::open(&path).unwrap();
        let watch = Watch::begin(&path);
        drop(Checkpointer::begin(&path, &mut connection, &watch, &Threads::default()).unwrap());
        let before = fs::metadata(&path).unwrap();
        // Four times as long as SQLite's default limit of the log. The thread has ended.
        let batch = batch(1000);
        while log_pages(&path) < 4000 {
            let transaction = connection.transaction().unwrap();
            insert(&transaction, batch.iter(), &mut Stints::default()).unwrap();
            transaction.commit().unwrap();
        }
        let after = fs::metadata(&path).unwrap();
        assert_eq!((before.len(), before.modified().unwrap()), (after.len(), after.modified().unwrap()));
    }

    #[test]
    fn log_under_read_is_told_from_restarted_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let mut store = Store::open(&path).unwrap();
        let reader = Connection::open(&path).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM usage_records").unwrap();
        store.write(&[batch(5)]).unwrap();
        let copying = Connection::open(&path).unwrap();
        copying.busy_timeout(Duration::ZERO).unwrap();
        let copied = |mode| copy(&copying, mode).map(|copied| (copied.blocked, copied.all)).unwrap();
        assert_eq!(copied("PASSIVE"), (false, false));
        assert_eq!(copied("RESTART"), (true, false));
        reader.execute_batch("COMMIT").unwrap();
        assert_eq!(copied("RESTART"), (false, true));
    }

    #[test]
    #[cfg_attr(not(feature = "slow"), ignore = "slow")]
    fn log_stays_within_bound_and_restarts_after_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let mut store = Store::open(&path).unwrap();
        let batch = batch(5000);
        let mut rows = 0;
        let mut write = |store: &mut Store| {
            store.write(std::slice::from_ref(&batch)).unwrap();
            rows += batch.len();
        };
        for _ in 0..30 {
            write(&mut store);
            // A commit of these has some 1,000 pages.
            assert!(log_pages(&path) < BOUND + 4000, "{}", log_pages(&path));
        }
        let reader = Connection::open(&path).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM usage_records").unwrap();
        while log_pages(&path) < BOUND {
            write(&mut store);
        }
        reader.execute_batch("COMMIT").unwrap();
        let start = Instant::now();
        while log_pages(&path) >= BOUND {
            assert!(start.elapsed() < Duration::from_secs(60), "the log does not restart");
            write(&mut store);
        }
        assert_eq!(count_at(&path), rows);
        drop((reader, store));
        assert_eq!(count_at(&path), rows, "all of it is in the file");
        assert!(!with(&path, "-wal").exists());
    }
}
