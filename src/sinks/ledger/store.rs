//! The file, and the single connection that writes to it.

mod open;

use std::fs;
use std::mem;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior};

use super::calendar::nanoseconds;
use super::checkpoint::copy;
use super::clock::Clock;
use super::error::{LedgerError, Reason};
use super::file::{Existing, identity};
use super::log::{State, Uncopied, copy_no_more};
use super::retention::{Retention, Step};
use super::row::insert;
use super::sink::Batch;
use super::spill::TakenIn;
use super::{repair, retention, rollup, spill};
use crate::record::count;
use crate::support::threads::{Stints, Threads};
use open::{Open, open};

/// The number of records from which on writing them takes longer than a stint.
const PAUSED_FROM: usize = 128;

/// The number of rows that retention adds up in one step, which takes a few milliseconds. Nearly all
/// are added up before.
const ADDED_UP: usize = 2_000;

/// A ledger's file. It repairs itself: a damaged file is moved aside, a deleted one is created
/// again, and commits that another program truncated from the log are written again. Each is logged
/// once.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    /// `None` after a failure, until it is opened again.
    open: Option<Open>,
    /// The file that was inspected last. `None` if there was none.
    existing: Option<Existing>,
    uncopied: Uncopied,
    /// Records that were written to the file in this run, and the `seq` of the last one.
    written: u64,
    last: i64,
    /// Records that must be written again.
    gap: Option<Gap>,
    /// Records that were written and disappeared.
    lost: u64,
    /// The threads on which the log is copied.
    threads: Threads,
}

/// The reason for which committed records disappeared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    /// The log was truncated: all records that are not in the file are missing.
    Cut,
    /// The file was deleted, with all records of this run.
    Deleted,
}

impl Store {
    /// Opens the file. Creates it if it does not exist, moves a damaged ledger aside, migrates the
    /// schema, and takes in the records that an earlier end has spilled.
    ///
    /// # Errors
    /// Fails if it cannot be created or written, is not a ledger, or has a newer version.
    pub(super) fn open_on(path: &Path, threads: &Threads) -> Result<Self, LedgerError> {
        let mut store = Self {
            path: path.to_owned(),
            open: None,
            existing: None,
            uncopied: Uncopied::default(),
            written: 0,
            last: 0,
            gap: None,
            lost: 0,
            threads: threads.clone(),
        };
        store.connect().map_err(|reason| LedgerError::new(path, reason))?;
        store.take_in_spilled();
        Ok(store)
    }

    /// Opens a ledger like [`Self::open_on`], with threads of its own.
    #[cfg(test)]
    pub(super) fn open(path: &Path) -> Result<Self, LedgerError> {
        Self::open_on(path, &Threads::default())
    }

    /// Writes batches in one transaction: all of them or none.
    ///
    /// # Errors
    /// On failure none was written, and the call may be repeated.
    pub(super) fn write(&mut self, batches: &[Batch]) -> Result<(), Reason> {
        self.mend()?;
        match self.insert(batches) {
            // This connection may see a file that another process has moved aside, or a log that
            // was just truncated.
            Err(reason) if reason.is_corrupt() => {
                self.mend()?;
                self.open = None;
            }
            result => return result,
        }
        match self.insert(batches) {
            Err(reason) if reason.is_corrupt() => self.replace(&reason)?,
            result => return result,
        }
        self.insert(batches)
    }

    /// Checks that the open file and its log are still those at the path. If another program has
    /// moved, deleted or truncated them, opens the present ones, and writes the missing records
    /// again.
    ///
    /// # Errors
    /// On failure the next call tries again.
    pub(super) fn mend(&mut self) -> Result<(), Reason> {
        if let Some(Open { connection, watch, .. }) = &self.open {
            if identity(&self.path) != self.existing.as_ref().map(Existing::identity) {
                self.let_go();
            } else {
                // If SQLite cannot tell, the next commit fails too.
                match watch.look(connection).unwrap_or(State::Whole) {
                    State::Whole => {}
                    State::Moved => self.let_go_of_log(),
                    State::Cut => {
                        tracing::error!(
                            ledger = %self.path.display(),
                            "another program has truncated the ledger's log (-wal): its records that are not in the file yet are written again"
                        );
                        self.gap = Some(Gap::Cut);
                        self.abandon();
                    }
                }
            }
        }
        self.write_again()
    }

    /// Closes the file, which the next write opens again.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Deletes one step of the rows that `retention` allows: records that started before `until`.
    pub(super) fn sweep(&mut self, retention: &Retention, until: Timestamp) -> Result<Step, Reason> {
        // Rows that are not in the sums of hours stay.
        if self.add_up(ADDED_UP)? {
            return Ok(Step { more: true, ..Step::default() });
        }
        let Open { connection, .. } = self.connect()?;
        Ok(retention::step(connection, retention, until)?)
    }

    /// Adds at most `most` rows to the sums of their hours. Returns true if there may be more.
    pub(super) fn add_up(&mut self, most: usize) -> Result<bool, Reason> {
        self.mend()?;
        let Open { checkpointer, connection, .. } = self.connect()?;
        checkpointer.wait();
        rollup::fold(connection, most)
    }

    /// Deletes the sums of hours that ended before `until`, if no rows of them are left. Returns the
    /// number of hours.
    pub(super) fn sweep_hours(&mut self, until: Timestamp) -> Result<usize, Reason> {
        self.mend()?;
        let Open { checkpointer, connection, .. } = self.connect()?;
        checkpointer.wait();
        Ok(rollup::sweep(connection, nanoseconds(until))?)
    }

    /// The connection, for queries.
    pub(super) fn connection(&mut self) -> Result<&Connection, Reason> {
        Ok(&self.connect()?.connection)
    }

    /// The clock of retention that the ledger has stored, or that its records give. `None` without
    /// records.
    pub(super) fn clock(&mut self) -> Result<Option<Clock>, Reason> {
        Ok(retention::clock(&self.connect()?.connection)?)
    }

    /// Stores the clock of retention.
    pub(super) fn keep_clock(&mut self, clock: Clock) -> Result<(), Reason> {
        let Open { checkpointer, connection, .. } = self.connect()?;
        checkpointer.wait();
        Ok(retention::keep_clock(connection, clock)?)
    }

    /// Takes the number of records that were written and disappeared since the last call.
    pub(super) fn take_lost(&mut self) -> u64 {
        mem::take(&mut self.lost)
    }

    /// Records that were committed, disappeared, and could not be written again.
    pub(super) fn unsaved(&self) -> Vec<Batch> {
        self.gap.map(|_| self.uncopied.batches()).unwrap_or_default()
    }

    /// Leaves the open file, which is no longer the one at the path. Its log still belongs to it:
    /// closing a moved file would leave the log behind under the old name.
    fn let_go(&mut self) {
        let ledger = self.path.display();
        tracing::warn!(%ledger, "the file was moved or deleted while it was in use; a new one is begun");
        let is_deleted = self.existing.as_ref().is_some_and(Existing::is_deleted);
        if is_deleted {
            self.gap = Some(Gap::Deleted);
            self.abandon();
            return;
        }
        self.uncopied.clear();
        (self.written, self.last) = (0, 0);
        let Some(Open { checkpointer, connection, watch }) = self.open.take() else { return };
        drop(checkpointer);
        if watch.is_cut(&connection).unwrap_or(false) {
            copy_no_more(&connection, true);
            tracing::error!(%ledger, "the log of the file that was moved was cut: its last records are lost");
            return;
        }
        match copy(&connection, "TRUNCATE") {
            Ok(copied) if copied.all => {}
            Ok(_) => {
                tracing::warn!(%ledger, "a program reads the file that was moved: its last records may be lost")
            }
            Err(error) => {
                tracing::warn!(%ledger, %error, "the last records could not be written into the file that was moved");
            }
        }
    }

    /// Leaves the open log, which is no longer the one at its path: copies all of it into the file,
    /// and begins a new one.
    fn let_go_of_log(&mut self) {
        let Some(Open { checkpointer, connection, .. }) = self.open.take() else { return };
        drop(checkpointer);
        let ledger = self.path.display();
        let copied = copy(&connection, "TRUNCATE");
        copy_no_more(&connection, true);
        if copied.is_ok_and(|copied| copied.all) {
            self.uncopied.clear();
            tracing::warn!(%ledger, "another program has moved or deleted the ledger's log (-wal); no record is lost, and a new one is begun");
        } else {
            self.gap = Some(Gap::Cut);
            tracing::error!(%ledger, "another program has moved or deleted the ledger's log (-wal): its records are written again");
        }
    }

    /// Closes the file without its log.
    fn abandon(&mut self) {
        if let Some(Open { connection, .. }) = &self.open {
            copy_no_more(connection, true);
        }
        self.open = None;
    }

    /// Writes the records of a gap again, as far as they are known.
    fn write_again(&mut self) -> Result<(), Reason> {
        let Some(gap) = self.gap else { return Ok(()) };
        let batches = self.uncopied.batches();
        let Open { checkpointer, connection, .. } = self.connect()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let there: i64 =
            transaction.query_row("SELECT coalesce(max(seq), 0) FROM usage_records", [], |row| row.get(0))?;
        let again = spill::insert_missing(&transaction, batches.iter().flat_map(|batch| batch.iter()))?;
        transaction.commit()?;
        let last = connection.last_insert_rowid();
        let (end, _) = checkpointer.places();
        let gone = match gap {
            Gap::Cut => u64::try_from(self.last - there).unwrap_or(0).min(self.written),
            Gap::Deleted => self.written,
        };
        let (again, lost) = (again as u64, gone.saturating_sub(again as u64));
        (self.gap, self.last) = (None, if again > 0 { last } else { there });
        self.written = if gap == Gap::Deleted { again } else { self.written - lost.min(self.written) };
        self.lost += lost;
        self.uncopied.clear();
        self.uncopied.keep(&batches, end);
        let ledger = self.path.display();
        if lost > 0 {
            tracing::error!(%ledger, again, lost, "usage records that were gone are written again, as far as they were still in memory");
        } else {
            tracing::warn!(%ledger, again, "usage records that were gone are written again; none is lost");
        }
        Ok(())
    }

    fn insert(&mut self, batches: &[Batch]) -> Result<(), Reason> {
        let Open { checkpointer, connection, .. } = self.connect()?;
        checkpointer.wait();
        let mut stints = if count(batches) < PAUSED_FROM { Stints::default() } else { Stints::begin() };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        insert(&transaction, batches.iter().flat_map(|batch| batch.iter()), &mut stints)?;
        stints.pause();
        // If it fails, dropping the transaction rolls everything back.
        transaction.commit()?;
        let last = connection.last_insert_rowid();
        let (end, copied) = checkpointer.places();
        self.last = last;
        self.written += batches.iter().map(|batch| batch.len() as u64).sum::<u64>();
        self.uncopied.keep(batches, end);
        self.uncopied.forget(copied);
        Ok(())
    }

    fn connect(&mut self) -> Result<&mut Open, Reason> {
        if self.open.is_none() {
            self.look()?;
            let open = match open(&self.path, &self.threads) {
                Err(reason) if reason.is_corrupt() => {
                    self.replace(&reason)?;
                    open(&self.path, &self.threads)
                }
                result => result,
            }?;
            // The file may be new.
            self.look()?;
            self.uncopied.begin_anew();
            self.open = Some(open);
        }
        Ok(self.open.as_mut().expect("it was opened just now"))
    }

    /// Inspects the file at the path, unless it is the one inspected before.
    fn look(&mut self) -> Result<(), Reason> {
        let known = self.existing.as_ref().map(Existing::identity);
        if known.is_none() || identity(&self.path) != known {
            self.existing = Existing::find(&self.path)?;
        }
        Ok(())
    }

    /// Moves the file aside, if it is a ledger.
    fn replace(&mut self, reason: &Reason) -> Result<(), Reason> {
        self.open = None;
        self.look()?;
        match &self.existing {
            None => return Ok(()),
            Some(existing) if !existing.is_ledger() => return Err(Reason::Unmarked),
            Some(_) => {}
        }
        // The target of a link.
        let path = fs::canonicalize(&self.path)?;
        let aside = repair::move_aside(&path, Timestamp::now())?;
        self.uncopied.clear();
        (self.written, self.last) = (0, 0);
        tracing::error!(
            ledger = %self.path.display(), aside = %aside.display(), %reason,
            "the ledger is corrupt: it was moved aside, and a new one is begun"
        );
        self.look()
    }

    /// Writes the records that an earlier end, or an earlier time, has spilled.
    pub(super) fn take_in_spilled(&mut self) {
        let path = self.path.clone();
        let taken = self.connect().and_then(|open| spill::take_in(&path, &mut open.connection));
        let (ledger, file) = (path.display(), spill::file_of(&path));
        match taken {
            Ok(None) => {}
            Ok(Some(TakenIn { records, known, unreadable })) => {
                tracing::info!(%ledger, records, known, "usage records that an earlier end could not write are in the ledger now");
                if let Some((lines, kept)) = unreadable {
                    tracing::error!(%ledger, lines, file = %kept.display(), "lines that are no usage records were left out; they are kept");
                }
            }
            Err(reason) => {
                tracing::error!(%ledger, file = %file.display(), %reason, "usage records of an earlier end cannot be read into the ledger now; they wait for the next start");
            }
        }
    }
}

impl Drop for Store {
    /// Closing copies the log, which must be complete.
    fn drop(&mut self) {
        if let Some(Open { connection, watch, .. }) = &self.open
            && watch.is_cut(connection).unwrap_or(false)
        {
            copy_no_more(connection, true);
        }
    }
}

#[cfg(test)]
mod tests;
