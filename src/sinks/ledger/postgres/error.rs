//! Failures of PostgreSQL, with messages for the operator.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::tls::Fault;

/// The reason for a failure. No message contains a password.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server refused the operation, or cannot be reached.
    Server(tokio_postgres::Error),
    /// The name of the host cannot be resolved.
    Lookup(io::Error),
    /// The connection ended.
    Gone,
    /// The server did not respond within this time.
    Silence(Duration),
    /// The configured certificates cannot be used.
    Tls(Fault),
    /// The database has no ledger.
    NoSchema,
    /// The database has a ledger of an earlier version: the found one, and the required one.
    OldSchema(i32, i32),
    /// The database has a ledger of a version that this program must not write: the found one, and
    /// the latest known one.
    NewSchema(i32, i32),
    /// The database has other tables of these names.
    Foreign(String),
    /// The table of keys has more than this many.
    TooManyKeys(usize),
    /// The system provides no thread or runtime.
    System(io::Error),
}

impl Failure {
    /// A word for the kind of failure. The log reports a failure again only if its kind changes.
    pub(super) fn kind(&self) -> &str {
        match self {
            Self::Server(error) => error.code().map_or("unreachable", SqlState::code),
            Self::Lookup(_) | Self::Gone => "unreachable",
            Self::Silence(_) => "silence",
            Self::Tls(_) => "tls",
            Self::NoSchema | Self::OldSchema(..) | Self::NewSchema(..) => "schema",
            Self::Foreign(_) => "foreign",
            Self::TooManyKeys(_) => "keys",
            Self::System(_) => "system",
        }
    }

    /// Returns true if the server refuses the data itself, so that a retry cannot succeed.
    pub(super) fn is_of_the_data(&self) -> bool {
        match self {
            // Class 22: data exception. 54000: a value is too long for an index.
            Self::Server(error) => error.code().is_some_and(|code| {
                code.code().starts_with("22") || *code == SqlState::PROGRAM_LIMIT_EXCEEDED
            }),
            _ => false,
        }
    }

    /// Returns true if the server reported this state.
    pub(super) fn is(&self, state: &SqlState) -> bool {
        matches!(self, Self::Server(error) if error.code() == Some(state))
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}

const MIGRATE: &str = "run `streamgauge ledger migrate`";

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => server(f, error),
            Self::Lookup(error) => write!(f, "its name cannot be looked up: {error}"),
            Self::Gone => write!(f, "the server closed the connection"),
            Self::Silence(time) => write!(f, "the server did not respond within {} s", time.as_secs()),
            Self::Tls(fault) => write!(f, "tls.{fault}"),
            Self::NoSchema => write!(f, "the database has no ledger yet: {MIGRATE}"),
            Self::OldSchema(found, needed) => write!(
                f,
                "the ledger in the database has schema {found}, and this program needs {needed}: {MIGRATE}"
            ),
            Self::NewSchema(found, known) => write!(
                f,
                "the ledger in the database has schema {found}, which this program, knowing {known}, must not write: \
                 update this program"
            ),
            Self::Foreign(table) => write!(
                f,
                "the database has a table {table} that does not belong to a ledger: choose another database, or another schema by \
                 `options=-c search_path=NAME` in the url"
            ),
            Self::TooManyKeys(most) => write!(f, "it has more than {most} keys: remove expired ones"),
            Self::System(error) => write!(f, "{error}"),
        }
    }
}

fn server(f: &mut fmt::Formatter<'_>, error: &tokio_postgres::Error) -> fmt::Result {
    if let Some(said) = error.as_db_error() {
        write!(f, "the server says: {}", said.message())?;
        if let Some(detail) = said.detail() {
            write!(f, " ({detail})")?;
        }
        if let Some(hint) = said.hint() {
            write!(f, "; {hint}")?;
        }
        return match *said.code() {
            SqlState::INSUFFICIENT_PRIVILEGE => {
                write!(f, ". The user of the url needs SELECT and INSERT on its tables")
            }
            _ => Ok(()),
        };
    }
    write!(f, "{error}")?;
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Some errors include their cause in their message.
        if !said.contains(&cause.to_string()) {
            write!(f, ": {cause}")?;
        }
        said = cause.to_string();
        source = cause.source();
    }
    Ok(())
}
