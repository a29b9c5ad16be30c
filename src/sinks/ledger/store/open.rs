//! A ledger's open file.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::super::backup::backup;
use super::super::checkpoint::{Checkpointer, copy};
use super::super::error::{LedgerError, Reason};
use super::super::file::PRIVATE;
use super::super::log::Watch;
use super::super::repair::with;
use super::super::schema;
use crate::support::threads::Threads;

/// The time to wait for a file that another process is writing: at the start, where the user can
/// try again; and for each batch, where the thread tries again.
const PATIENCE: Duration = Duration::from_secs(5);
const BATCH_PATIENCE: Duration = Duration::from_millis(500);

/// The size to which the log is cut after a long read made it grow.
const LOG_BYTES: i64 = 16 << 20;

/// The fields are dropped in this order: closing the last connection copies the rest of the log,
/// and removes it.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) checkpointer: Checkpointer,
    pub(super) connection: Connection,
    pub(super) watch: Watch,
}

/// Opens or creates the file at `path`, and migrates its schema.
pub(super) fn open(path: &Path, threads: &Threads) -> Result<Open, Reason> {
    // The path is always a path, even if it begins with `file:`; and only one thread ever uses the
    // connection.
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    make_private(path);
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    Watch::check(path, &connection)?;
    // Checked before anything is changed in a file that is not ours.
    let is_new = schema::is_new(&connection)?;
    // Readers and this writer do not wait for each other. A commit survives the end of the process,
    // but not a power failure: the log is synced when it is copied into the file.
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    if !is_new {
        keep_copy(path, &connection)?;
    }
    schema::migrate(&mut connection, schema::MIGRATIONS)?;
    if is_new {
        // From now on the first page identifies the file, whatever happens to the log.
        copy(&connection, "PASSIVE")?;
    }
    // The first write begins the log, for which SQLite waits until the disk has its header: better
    // now than while the first records wait. It also detects a file that can be opened but not
    // written before the proxy runs.
    connection.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
    connection.busy_timeout(BATCH_PATIENCE)?;
    let watch = Watch::begin(path);
    let checkpointer = Checkpointer::begin(path, &mut connection, &watch, threads)?;
    Ok(Open { checkpointer, connection, watch })
}

/// Keeps a copy of a ledger whose schema is about to change, as `<path>.before-N`, unless it exists.
/// `N` is the new version. Without a copy, the schema changes all the same: it only gets columns.
fn keep_copy(path: &Path, connection: &Connection) -> Result<(), Reason> {
    let Some(version) = schema::next_version(connection)? else { return Ok(()) };
    let copy = with(path, &format!(".before-{version}"));
    if copy.exists() {
        return Ok(());
    }
    // A copy that was interrupted does not have that name.
    let part = with(path, &format!(".before-{version}.part"));
    drop(fs::remove_file(&part));
    let kept = backup(path, &part).and_then(|records| {
        fs::rename(&part, &copy).map_err(|error| LedgerError::new(&copy, Reason::Io(error)))?;
        Ok(records)
    });
    match kept {
        Ok(_) => {
            tracing::info!(copy = %copy.display(), "the ledger gets the schema of this version; a copy is kept")
        }
        Err(error) => tracing::warn!(
            copy = %copy.display(), reason = %error.reason(),
            "the ledger gets the schema of this version, and no copy could be kept"
        ),
    }
    Ok(())
}

/// Creates an empty file if there is none, which SQLite takes for an empty database. SQLite itself
/// would create one that is readable for all users; the log and the index get the permissions of
/// the file. If it cannot be created, SQLite reports the reason.
fn make_private(path: &Path) {
    drop(OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path));
}
