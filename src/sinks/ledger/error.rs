//! Errors of a ledger, with messages for the operator.

use std::fmt;
use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

use super::postgres::{Failure, address};
use crate::config::Postgres;

/// The reason for which a ledger cannot be used.
#[derive(Debug)]
pub struct LedgerError {
    /// The ledger's path, or its server.
    ledger: String,
    reason: Reason,
}

/// The cause.
#[derive(Debug)]
pub(super) enum Reason {
    /// There is no file.
    Missing,
    /// The file is a database, but not a ledger.
    Foreign,
    /// The file is not a database, but of this kind.
    NotALedger(&'static str),
    /// The file is damaged, and its first page does not identify it as a ledger.
    Unmarked,
    /// The file cannot be read.
    Unreadable(io::Error),
    /// The log was truncated while other programs or threads have the ledger open. They must end
    /// first.
    LogCut,
    /// A later version of this program wrote it: its version, and the latest known one.
    Newer(i64, i64),
    /// The file system refused an operation, or the system a thread.
    Io(io::Error),
    /// SQLite failed.
    Sqlite(rusqlite::Error),
    /// PostgreSQL failed, or could not be reached.
    Postgres(Failure),
    /// A row that no version of this program wrote, such as one with an unknown usage source.
    Row(String),
    /// Reading exceeded its deadline.
    TooLong,
    /// The report has more groups than this limit.
    TooMany(usize),
}

impl LedgerError {
    pub(super) fn new(path: &Path, reason: impl Into<Reason>) -> Self {
        Self { ledger: path.display().to_string(), reason: reason.into() }
    }

    /// The error of a fleet's ledger.
    pub(super) fn fleet(settings: &Postgres, reason: impl Into<Reason>) -> Self {
        Self { ledger: address(settings), reason: reason.into() }
    }

    /// The reason without the name of the ledger.
    pub fn reason(&self) -> impl fmt::Display + '_ {
        &self.reason
    }

    /// Returns true if a smaller query may succeed: a bound was reached, and the ledger is intact.
    pub fn is_bound(&self) -> bool {
        matches!(self.reason, Reason::TooLong | Reason::TooMany(_))
    }
}

impl Reason {
    /// Returns true if SQLite reports that the file is damaged, or not a database.
    pub(super) fn is_corrupt(&self) -> bool {
        matches!(self, Self::Sqlite(error) if matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        ))
    }
}

impl From<rusqlite::Error> for Reason {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => Self::TooLong,
            _ => Self::Sqlite(error),
        }
    }
}

impl From<Failure> for Reason {
    fn from(failure: Failure) -> Self {
        Self::Postgres(failure)
    }
}

impl From<tokio_postgres::Error> for Reason {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error.into())
    }
}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "there is no such file"),
            Self::Foreign => write!(f, "is a database of another program: choose another path"),
            Self::NotALedger("a folder") => write!(
                f,
                "cannot be opened: it is a folder, and stays unchanged. Name a file in ledger.path, such as \"streamgauge.db\""
            ),
            Self::NotALedger(kind) => write!(
                f,
                "is {kind}, not a ledger, and stays unchanged. ledger.path must name a ledger of streamgauge or a file that \
                 does not exist yet, such as \"streamgauge.db\""
            ),
            Self::Unmarked => write!(
                f,
                "is broken, and its first page does not say that it is a ledger: it stays unchanged. Move it away, or \
                 name another file in ledger.path"
            ),
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::LogCut => write!(
                f,
                "its log (-wal) was truncated by another program, and is started again when no program has the ledger open"
            ),
            Self::Newer(found, known) => write!(
                f,
                "was written by a newer streamgauge (its schema is {found}, this program knows {known})"
            ),
            Self::Io(error) => write!(f, "{error}"),
            Self::Postgres(failure) => write!(f, "{failure}"),
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    write!(f, "is locked by another program")
                }
                Some(ErrorCode::DiskFull) => write!(f, "the disk is full"),
                Some(ErrorCode::CannotOpen) => write!(
                    f,
                    "cannot be opened: is its folder there, and may this user write in it? ({error})"
                ),
                Some(ErrorCode::ReadOnly) => write!(f, "may not be written by this user ({error})"),
                _ => write!(f, "{error}"),
            },
            Self::Row(what) => write!(f, "{what}"),
            Self::TooLong => write!(f, "reading took too long: choose a shorter time"),
            Self::TooMany(most) => {
                write!(
                    f,
                    "there are more than {most} groups: choose a shorter time, or fewer fields to group by"
                )
            }
        }
    }
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.ledger, self.reason)
    }
}

impl std::error::Error for LedgerError {}
