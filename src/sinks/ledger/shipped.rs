//! How far the file has been shipped to PostgreSQL, kept in the file itself.
//!
//! `seq` is the order in which rows became visible: writers take turns, and none of its numbers is
//! used again. So one number says it all: rows up to it are shipped, those beyond it are not. It is
//! stored after the server has committed them. A crash in between ships them once more, and the
//! server knows them by their id.
//!
//! There is a number per fleet ledger, which has an identity of its own: another address of the
//! same ledger causes no second shipping, and a new ledger gets all rows that are still here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row};

use super::checkpoint::BOUND;
use super::error::Reason;
use super::file::{Identity, identity};
use super::log::{State, Watch, copy_no_more};
use super::{columns, schema};

/// How long to wait for the ledger's own writer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The rows of a file that a fleet ledger has not got yet, in their order.
#[derive(Debug)]
pub(super) struct Unshipped {
    path: PathBuf,
    connection: Connection,
    /// Which file is open, and its log.
    file: Option<Identity>,
    watch: Watch,
    ledger: String,
    /// The last row that is shipped.
    seq: i64,
    select: String,
}

impl Unshipped {
    /// Opens the file at `path`, whose writer has brought its schema up to date, where the fleet
    /// ledger `ledger` left off.
    pub(super) fn open(path: &Path, ledger: &str) -> Result<Self, Reason> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        let file = identity(path);
        connection.busy_timeout(PATIENCE)?;
        Watch::check(path, &connection)?;
        connection.pragma_update(None, "synchronous", "normal")?;
        // The log is copied by the writer's own thread. That knows of no commits but the writer's:
        // where rows are shipped and none written, SQLite copies at the bound, here.
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

    /// Returns true if the file that is open is still the one at the path, and its log whole: a
    /// corrupt file is moved aside, and another is begun; a log that was cut is restarted once no
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

    /// Shows the next `limit` rows to `take`, whose columns are `seq` and then those of
    /// [`columns::COLUMNS`]. The `seq` of the last one, for [`Self::advance`]; `None`: there is
    /// none.
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

    /// Rows up to `seq` are with the server. In this process that holds also where it cannot be
    /// stored, as on a full disk.
    ///
    /// # Errors
    /// It could not be stored, and a restart would ship what came since the last time again.
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

    /// As [`Self::count`], before it is known which fleet ledger it is.
    pub(super) fn count_at(path: &Path) -> Result<u64, Reason> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(PATIENCE)?;
        let (_, shipped) = deletable(&connection, u64::MAX)?;
        Ok(u64::try_from(last(&connection)? - shipped).unwrap_or(0))
    }

    /// About how many rows are not shipped: those that were deleted in between count too.
    pub(super) fn count(&self) -> Result<u64, Reason> {
        Ok(u64::try_from(last(&self.connection)? - self.seq).unwrap_or(0))
    }
}

/// Up to which row old ones may be deleted: what is shipped, and what lies more than `max_waiting`
/// rows back in any case. Also, up to which row they are shipped.
pub(super) fn deletable(connection: &Connection, max_waiting: u64) -> rusqlite::Result<(i64, i64)> {
    // Before the server was reached, the identity of its ledger is not known; nearly always there
    // is only one.
    let shipped: Option<i64> = connection.query_row("SELECT max(seq) FROM shipped", [], |row| row.get(0))?;
    let shipped = shipped.unwrap_or(0);
    let kept = last(connection)?.saturating_sub(i64::try_from(max_waiting).unwrap_or(i64::MAX));
    Ok((shipped.max(kept), shipped))
}

/// The last row; 0: there is none.
fn last(connection: &Connection) -> rusqlite::Result<i64> {
    let last: Option<i64> =
        connection.query_row("SELECT max(seq) FROM usage_records", [], |row| row.get(0))?;
    Ok(last.unwrap_or(0))
}

#[cfg(test)]
mod tests;
