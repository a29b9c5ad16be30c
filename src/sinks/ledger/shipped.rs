//! Stores in the ledger's file how much of it was shipped to PostgreSQL.
//!
//! `seq` is the order in which rows became visible: writers take turns, and no number is reused. So
//! one number is enough: rows up to it are shipped, later ones are not. It is stored after the
//! server has committed them. After a crash in between they are shipped again, and the server
//! recognises them by their ids.
//!
//! Each fleet ledger has an identity and a number of its own: another address of the same ledger
//! causes no second shipping, and a new ledger gets all rows that are still here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row};

use super::checkpoint::BOUND;
use super::error::Reason;
use super::file::{Identity, identity};
use super::log::{State, Watch, copy_no_more};
use super::{columns, schema};

/// The time to wait for the ledger's own writer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The rows of a file that a fleet ledger lacks, in their order.
#[derive(Debug)]
pub(super) struct Unshipped {
    path: PathBuf,
    connection: Connection,
    /// The identity of the open file, and its log.
    file: Option<Identity>,
    watch: Watch,
    ledger: String,
    /// The last shipped row.
    seq: i64,
    select: String,
}

impl Unshipped {
    /// Opens the file at `path`, whose writer has migrated its schema, at the progress of the fleet
    /// ledger `ledger`.
    pub(super) fn open(path: &Path, ledger: &str) -> Result<Self, Reason> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        let file = identity(path);
        connection.busy_timeout(PATIENCE)?;
        Watch::check(path, &connection)?;
        connection.pragma_update(None, "synchronous", "normal")?;
        // The writer's own thread copies the log, but it is woken by the writer's commits only. If
        // rows are shipped and none are written, SQLite copies at the bound, on this connection.
        connection.pragma_update(None, "wal_autocheckpoint", BOUND)?;
        schema::expect_writable(&connection)?;
        let seq = connection
            .query_row("SELECT seq FROM shipped WHERE ledger = ?1", [ledger], |row| row.get(0))
            .optional()?;
        let select = format!(
            "SELECT seq, {} FROM usage_records WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            columns::list(columns::COLUMNS)
        );
        Ok(Self {
            path: path.to_owned(),
            connection,
            file,
            watch: Watch::begin(path),
            ledger: ledger.to_owned(),
            seq: seq.unwrap_or(0),
            select,
        })
    }

    /// Returns true if the open file is still the one at the path, and its log is complete. A
    /// damaged file is moved aside, and a new one is begun; a truncated log restarts once no
    /// program has the file open.
    pub(super) fn is_current(&self) -> bool {
        match self.watch.look(&self.connection) {
            Ok(State::Whole) | Err(_) => identity(&self.path) == self.file,
            Ok(State::Moved | State::Cut) => {
                copy_no_more(&self.connection, true);
                false
            }
        }
    }

    /// Passes the next `limit` rows to `take`, with the columns `seq` and [`columns::COLUMNS`].
    /// Returns the last `seq`, for [`Self::advance`]. `None` if there are no rows.
    pub(super) fn next(
        &mut self,
        limit: usize,
        mut take: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
    ) -> Result<Option<i64>, Reason> {
        let mut statement = self.connection.prepare_cached(&self.select)?;
        let mut rows = statement.query((self.seq, i64::try_from(limit).unwrap_or(i64::MAX)))?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            last = Some(row.get(0)?);
            take(row)?;
        }
        Ok(last)
    }

    /// Marks rows up to `seq` as shipped. In this process the mark holds even if it cannot be
    /// stored, for example on a full disk.
    ///
    /// # Errors
    /// Fails if it could not be stored. A restart would ship the rows since the last stored mark
    /// again.
    pub(super) fn advance(&mut self, seq: i64) -> Result<(), Reason> {
        self.seq = seq;
        // Another process with the same file may be ahead.
        let mut store = self.connection.prepare_cached(
            "INSERT INTO shipped (ledger, seq) VALUES (?1, ?2)
             ON CONFLICT (ledger) DO UPDATE SET seq = max(seq, excluded.seq)",
        )?;
        store.execute((&self.ledger, seq))?;
        Ok(())
    }

    /// Like [`Self::count`], before the identity of the fleet ledger is known.
    pub(super) fn count_at(path: &Path) -> Result<u64, Reason> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(PATIENCE)?;
        let (_, shipped) = deletable(&connection, u64::MAX)?;
        Ok(u64::try_from(last(&connection)? - shipped).unwrap_or(0))
    }

    /// The approximate number of rows that are not shipped: rows deleted in between count too.
    pub(super) fn count(&self) -> Result<u64, Reason> {
        Ok(u64::try_from(last(&self.connection)? - self.seq).unwrap_or(0))
    }
}

/// The last row up to which old ones may be deleted: shipped rows, and in any case rows more than
/// `max_waiting` back. Also returns the last shipped row.
pub(super) fn deletable(connection: &Connection, max_waiting: u64) -> rusqlite::Result<(i64, i64)> {
    // Before the server was reached, the identity of its ledger is unknown; nearly always there is
    // only one.
    let shipped: Option<i64> = connection.query_row("SELECT max(seq) FROM shipped", [], |row| row.get(0))?;
    let shipped = shipped.unwrap_or(0);
    let kept = last(connection)?.saturating_sub(i64::try_from(max_waiting).unwrap_or(i64::MAX));
    Ok((shipped.max(kept), shipped))
}

/// The last row; 0 without rows.
fn last(connection: &Connection) -> rusqlite::Result<i64> {
    let last: Option<i64> =
        connection.query_row("SELECT max(seq) FROM usage_records", [], |row| row.get(0))?;
    Ok(last.unwrap_or(0))
}

#[cfg(test)]
mod tests;
