//! Copies a ledger while it is being written.
//!
//! A copy of the file alone is incomplete: it lacks records that are only in the log (`-wal`).
//! SQLite copies both at one point in time (sqlite.org/backup.html).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::error::{LedgerError, Reason};
use super::file::PRIVATE;
use super::query;

/// The time to wait for a ledger that another program has locked, and the pause between attempts.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// Copies the ledger at `from` to a new file at `to`, and returns its number of records. The copy
/// is one file without a log.
///
/// # Errors
/// Fails if `from` is not a ledger or cannot be read, or if `to` exists or cannot be written.
pub fn backup(from: &Path, to: &Path) -> Result<u64, LedgerError> {
    let source = query::open(from).map_err(|reason| LedgerError::new(from, reason))?;
    let new = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(to);
    new.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Reason::Row("is there already, and is not overwritten".to_owned()),
        _ => Reason::Io(error),
    })
    .and_then(|_| copy(&source, to).inspect_err(|_| drop(fs::remove_file(to))))
    .map_err(|reason| LedgerError::new(to, reason))
}

fn copy(source: &Connection, to: &Path) -> Result<u64, Reason> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut target = Connection::open_with_flags(to, flags)?;
    let begun = Instant::now();
    let backup = Backup::new(source, &mut target)?;
    // One step copies one point in time: a writer's next commit does not restart it.
    while backup.step(-1)? != StepResult::Done {
        if begun.elapsed() > PATIENCE {
            return Err(Reason::TooLong);
        }
        thread::sleep(PAUSE);
    }
    drop(backup);
    target.pragma_update(None, "journal_mode", "delete")?;
    let records: i64 = target.query_row("SELECT count(*) FROM usage_records", [], |row| row.get(0))?;
    target.close().map_err(|(_, error)| error)?;
    File::open(to)?.sync_all()?;
    if let Some(folder) = to.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(records.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::repair::with;
    use super::super::store::Store;
    use super::super::support::records;
    use super::*;

    fn count(path: &Path) -> i64 {
        let connection = query::open(path).unwrap();
        connection.query_row("SELECT count(*) FROM usage_records", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn backup_of_ledger_in_use_has_rows_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let (path, to) = (folder.path().join("a.db"), folder.path().join("b.db"));
        let mut store = Store::open(&path).unwrap();
        store.write(&[records(100).into()]).unwrap();
        assert_eq!(backup(&path, &to).unwrap(), 100);
        assert_eq!(count(&to), 100);
        assert!(!with(&to, "-wal").exists() && !with(&to, "-shm").exists(), "it is one file");
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
        // The ledger remains in use, and the copy is a ledger.
        store.write(&[records(50).into()]).unwrap();
        Store::open(&to).unwrap().write(&[records(1).into()]).unwrap();
        assert_eq!((count(&path), count(&to)), (150, 101));
    }

    #[test]
    fn failed_backup_replaces_nothing_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, to) = (folder.path().join("a.db"), folder.path().join("b.db"));
        assert!(backup(&path, &to).is_err());
        assert!(!to.exists(), "without a ledger there is no copy");
        Store::open(&path).unwrap();
        fs::write(&to, "mine").unwrap();
        let error = backup(&path, &to).unwrap_err().to_string();
        assert!(error.contains("is there already"), "{error}");
        assert_eq!(fs::read_to_string(&to).unwrap(), "mine");
    }
}
