//! Queries a fleet's ledger: on one connection, at one point in time, and within a deadline.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{IsolationLevel, Transaction};

use super::super::columns::Kind;
use super::super::error::{LedgerError, Reason};
use super::super::query::Bounds;
use super::connect::{CONNECT, Connection, STATEMENT, block_on, within};
use super::{Failure, schema};
use crate::config::Postgres;

/// The interval at which [`Bounds::given_up`] is read.
const LOOK: Duration = Duration::from_millis(100);

/// The longest time for cancelling a query on the server.
const CANCEL: Duration = Duration::from_secs(1);

/// Queries the ledger at one point in time. It blocks, and must not be called on a thread of tokio.
/// A query that exceeds its deadline, or that was given up, is cancelled on the server too.
///
/// # Errors
/// Fails if the server cannot be reached or has no ledger of this version, or if a bound was
/// reached.
pub(super) fn ask<T>(
    settings: &Postgres,
    bounds: &Bounds,
    question: impl AsyncFnOnce(Moment<'_>) -> Result<T, Reason>,
) -> Result<T, LedgerError> {
    let work = async {
        let (mut connection, columns) = tokio::select! {
            connection = within(CONNECT, find(settings)) => connection?,
            () = given_up(bounds) => return Err(Reason::TooLong),
        };
        let time = bounds.deadline.map_or(STATEMENT, |end| end.saturating_duration_since(Instant::now()));
        let response = tokio::select! {
            response = timeout(time, put(&mut connection, columns, question)) => response,
            () = given_up(bounds) => return Err(give_up(&connection, Reason::TooLong).await),
        };
        match response {
            Ok(response) => response,
            Err(_) if bounds.deadline.is_some() => Err(give_up(&connection, Reason::TooLong).await),
            Err(_) => Err(give_up(&connection, Failure::Silence(time).into()).await),
        }
    };
    block_on(work).map_err(Reason::from).flatten().map_err(|reason| LedgerError::fleet(settings, reason))
}

/// The ledger at one point in time.
pub(super) struct Moment<'a> {
    pub(super) transaction: Transaction<'a>,
    /// The columns of its records.
    pub(super) columns: Columns,
}

type Columns = &'static [(&'static str, Kind)];

impl Moment<'_> {
    pub(super) fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|(name, _)| *name == column)
    }
}

/// Connects to a server, and checks that its ledger can be read.
async fn find(settings: &Postgres) -> Result<(Connection, Columns), Failure> {
    let connection = Connection::open(settings).await?;
    let columns = schema::readable(&connection.client).await?;
    Ok((connection, columns))
}

async fn put<T>(
    connection: &mut Connection,
    columns: Columns,
    question: impl AsyncFnOnce(Moment<'_>) -> Result<T, Reason>,
) -> Result<T, Reason> {
    let transaction = connection.client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
    let transaction = transaction.read_only(true).start().await?;
    question(Moment { transaction, columns }).await.map_err(|reason| match reason {
        // The server's own timeout was shorter than ours.
        Reason::Postgres(failure) if failure.is(&SqlState::QUERY_CANCELED) => Reason::TooLong,
        reason => reason,
    })
}

async fn given_up(bounds: &Bounds) {
    while !bounds.given_up.load(Ordering::Relaxed) {
        sleep(LOOK).await;
    }
}

/// Without a cancel, the server would continue until it has something to send.
async fn give_up(connection: &Connection, reason: Reason) -> Reason {
    // If the cancel takes too long, the query continues.
    let _ = within(CANCEL, async { Ok(connection.cancel().await?) }).await;
    reason
}
