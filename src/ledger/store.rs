//! The file, and the one connection that writes to it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::checkpoint::{Checkpointer, copy};
use super::error::{LedgerError, Reason};
use super::retention::{Retention, Step};
use super::row::insert;
use super::sink::Batch;
use super::{repair, retention, schema};

/// How long to wait for a file that another process is writing: at the start, where a second try is the user's; and for
/// each batch, where the thread tries again itself.
const PATIENCE: Duration = Duration::from_secs(5);
const BATCH_PATIENCE: Duration = Duration::from_millis(500);

/// To this the log is cut back after somebody who read for long has let it grow.
const LOG_BYTES: i64 = 16 << 20;

/// A ledger's file. It heals itself: what is broken is moved aside, and what is gone is begun anew, each said once.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    /// `None` after a failure, until it is opened again.
    open: Option<Open>,
    /// Which file is open: device and inode.
    file: Option<(u64, u64)>,
}

/// Dropped in this order: the last connection that is closed copies what is left of the log, and removes it.
#[derive(Debug)]
struct Open {
    checkpointer: Checkpointer,
    connection: Connection,
}

impl Store {
    /// Opens the file, creates it where there is none, moves it aside where it is no database, and brings its schema up
    /// to date.
    ///
    /// # Errors
    /// It cannot be created or written; it is another program's, or a newer version's.
    pub(super) fn open(path: &Path) -> Result<Self, LedgerError> {
        let mut store = Self { path: path.to_owned(), open: None, file: None };
        store.connect().map_err(|reason| LedgerError::new(path, reason))?;
        Ok(store)
    }

    /// Writes batches in one transaction: all of them or none.
    ///
    /// # Errors
    /// None was written, and the same call may be made again.
    pub(super) fn write(&mut self, batches: &[Batch]) -> Result<(), Reason> {
        if identity(&self.path) != self.file {
            self.let_go();
        }
        match self.insert(batches) {
            // What this connection sees may be a file that another process has moved aside.
            Err(reason) if reason.is_corrupt() => self.open = None,
            result => return result,
        }
        match self.insert(batches) {
            Err(reason) if reason.is_corrupt() => self.replace(&reason)?,
            result => return result,
        }
        self.insert(batches)
    }

    /// Deletes one step of what `retention` lets go.
    pub(super) fn sweep(&mut self, retention: &Retention, now: Timestamp) -> Result<Step, Reason> {
        let Open { checkpointer, connection } = self.connect()?;
        checkpointer.wait();
        Ok(retention::step(connection, retention, now)?)
    }

    /// The file that is open is no longer the one at the path. What is in its log is still its own: closing a file that was
    /// moved would leave that behind under the old name.
    fn let_go(&mut self) {
        let Some(Open { checkpointer, connection }) = self.open.take() else { return };
        drop(checkpointer);
        let ledger = self.path.display();
        tracing::warn!(%ledger, "the file was moved or deleted while it was in use; a new one is begun");
        match copy(&connection, "TRUNCATE") {
            Ok(copied) if copied.all => {}
            Ok(_) => {
                tracing::warn!(%ledger, "somebody reads the file that was moved: its last records may be lost")
            }
            Err(error) => {
                tracing::warn!(%ledger, %error, "the last records could not be written into the file that was moved");
            }
        }
    }

    fn insert(&mut self, batches: &[Batch]) -> Result<(), Reason> {
        let Open { checkpointer, connection } = self.connect()?;
        checkpointer.wait();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        insert(&transaction, batches.iter().flat_map(|batch| batch.iter()))?;
        // Where it fails, dropping the transaction takes everything back.
        Ok(transaction.commit()?)
    }

    fn connect(&mut self) -> Result<&mut Open, Reason> {
        if self.open.is_none() {
            let open = match open(&self.path) {
                Err(reason) if reason.is_corrupt() => {
                    self.replace(&reason)?;
                    open(&self.path)
                }
                result => result,
            }?;
            self.file = identity(&self.path);
            self.open = Some(open);
        }
        Ok(self.open.as_mut().expect("it was opened just now"))
    }

    /// Moves the file aside.
    fn replace(&mut self, reason: &Reason) -> Result<(), Reason> {
        self.open = None;
        let aside = repair::move_aside(&self.path, Timestamp::now())?;
        tracing::error!(
            ledger = %self.path.display(), aside = %aside.display(), %reason,
            "the ledger is corrupt: it was moved aside, and a new one is begun"
        );
        Ok(())
    }
}

fn open(path: &Path) -> Result<Open, Reason> {
    // The path is a path, also where it begins with `file:`; and only one thread ever uses the connection.
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    // Before anything is changed in a file that is not ours.
    schema::check(&connection)?;
    // Readers and this writer do not wait for each other; and what was committed outlives the process, though not the
    // machine's power: the log reaches the disk when it is copied into the file.
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    schema::migrate(&mut connection, schema::MIGRATIONS)?;
    // The first write begins the log, for which SQLite waits until the disk has its header: better now than while the first
    // records wait. And a file that can be opened and not written is found out before the proxy runs.
    connection.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
    connection.busy_timeout(BATCH_PATIENCE)?;
    let checkpointer = Checkpointer::begin(path, &mut connection)?;
    Ok(Open { checkpointer, connection })
}

/// Which file is at the path: device and inode.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests;
