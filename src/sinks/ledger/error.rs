//! Errors of a ledger, in words for its owner.

use std::fmt;
use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

use super::postgres::{Failure, address};
use crate::config::Postgres;

/// Why the ledger at a path cannot be used.
#[derive(Debug)]
pub struct LedgerError {
    /// Which one: its path, or its server.
    ledger: String,
    reason: Reason,
}

/// The cause.
#[derive(Debug)]
pub(super) enum Reason {
    /// There is no file.
    Missing,
    /// It is a database, and not a ledger.
    Foreign,
    /// It is no database: what it is.
    NotALedger(&'static str),
    /// It is broken, and its first page does not say that it is a ledger.
    Unmarked,
    /// It cannot be read.
    Unreadable(io::Error),
    /// The log was cut while other programs or threads have the ledger open, which must end first.
    LogCut,
    /// A later version of this program wrote it: its version, and the latest that is known here.
    Newer(i64, i64),
    /// The file system or the system's threads refused something.
    Io(io::Error),
    /// SQLite did.
    Sqlite(rusqlite::Error),
    /// PostgreSQL did, or could not be asked.
    Postgres(Failure),
    /// A row that no version of this program wrote, such as one with an unknown usage source.
    Row(String),
    /// Reading took longer than it may.
    TooLong,
    /// More groups than are allowed: how many those are.
    TooMany(usize),
}

impl LedgerError {
    pub(super) fn new(path: &Path, reason: impl Into<Reason>) -> Self {
        Self { ledger: path.display().to_string(), reason: reason.into() }
    }

    /// Of a fleet's ledger.
    pub(super) fn fleet(settings: &Postgres, reason: impl Into<Reason>) -> Self {
        Self { ledger: address(settings), reason: reason.into() }
    }

    /// The reason without the name of the ledger.
    pub fn reason(&self) -> impl fmt::Display + '_ {
        &self.reason
    }

    /// Returns true if asking for less would help: a bound was reached, and nothing is wrong with
    /// the ledger.
    pub fn is_bound(&self) -> bool {
        matches!(self.reason, Reason::TooLong | Reason::TooMany(_))
    }
}

impl Reason {
    /// Returns true if SQLite says that the file is broken, or no database.
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
                "cannot be opened: it is a folder, and left as it is. Name a file in ledger.path, such as \"streamgauge.db\""
            ),
            Self::NotALedger(kind) => write!(
                f,
                "is {kind} and no ledger, and left as it is. ledger.path must name a ledger of streamgauge or a file that \
                 does not exist yet, such as \"streamgauge.db\""
            ),
            Self::Unmarked => write!(
                f,
                "is broken, and its first page does not say that it is a ledger: it is left as it is. Move it away, or \
                 name another file in ledger.path"
            ),
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::LogCut => write!(
                f,
                "its log (-wal) was cut by another program, and is begun again once no program has the ledger open"
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
