//! A ledger's file that is open.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::super::checkpoint::{Checkpointer, copy};
use super::super::error::Reason;
use super::super::file::PRIVATE;
use super::super::log::Watch;
use super::super::schema;
use crate::support::threads::Threads;

/// How long to wait for a file that another process is writing: at the start, where a second try is
/// the user's; and for each batch, where the thread tries again itself.
const PATIENCE: Duration = Duration::from_secs(5);
const BATCH_PATIENCE: Duration = Duration::from_millis(500);

/// The log is cut back to this after a long read made it grow.
const LOG_BYTES: i64 = 16 << 20;

/// Dropped in this order: the last connection that is closed copies what is left of the log, and
/// removes it.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) checkpointer: Checkpointer,
    pub(super) connection: Connection,
    pub(super) watch: Watch,
}

/// Opens the file at `path`, or creates it, and brings its schema up to date.
pub(super) fn open(path: &Path, threads: &Threads) -> Result<Open, Reason> {
    // The path is a path, also where it begins with `file:`; and only one thread ever uses the
    // connection.
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    make_private(path);
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    Watch::check(path, &connection)?;
    // Before anything is changed in a file that is not ours.
    let is_new = schema::is_new(&connection)?;
    // Readers and this writer do not wait for each other; and what was committed outlives the
    // process, though not the machine's power: the log reaches the disk when it is copied into the
    // file.
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    schema::migrate(&mut connection, schema::MIGRATIONS)?;
    if is_new {
        // From now on the first page identifies the file, whatever becomes of the log.
        copy(&connection, "PASSIVE")?;
    }
    // The first write begins the log, for which SQLite waits until the disk has its header: better
    // now than while the first records wait. And a file that can be opened and not written is found
    // out before the proxy runs.
    connection.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
    connection.busy_timeout(BATCH_PATIENCE)?;
    let watch = Watch::begin(path);
    let checkpointer = Checkpointer::begin(path, &mut connection, &watch, threads)?;
    Ok(Open { checkpointer, connection, watch })
}

/// Makes an empty file where there is none, which SQLite takes for an empty database. SQLite itself
/// would make one that everybody may read; the log and the index get the permissions of the file.
/// Where it cannot be made, SQLite says why.
fn make_private(path: &Path) {
    drop(OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path));
}
