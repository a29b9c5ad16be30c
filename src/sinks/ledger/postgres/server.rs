//! A connection to a verified ledger, and the writes through it.

use std::collections::HashSet;
use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::connect::{CONNECT, Connection, STATEMENT, within};
use super::partitions::{self, Dropped, Month, Strays};
use super::rows::{self, Rows};
use super::{Failure, schema};
use crate::config::Postgres;

/// A server with a ledger of this version.
pub(super) struct Server {
    connection: Connection,
    instance: String,
    ledger: Uuid,
    insert: String,
    /// The months whose partition was created or attempted.
    months: HashSet<Month>,
}

/// The result of writing a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Rows that did not exist before.
    pub(super) new: u64,
    /// The rows that the server will never accept: their indices in the batch, and the reasons.
    pub(super) refused: Vec<(usize, String)>,
}

impl Server {
    /// Connects, and verifies the ledger.
    pub(super) async fn connect(settings: &Postgres) -> Result<Self, Failure> {
        let connection = Connection::open(settings).await?;
        let ledger = within(CONNECT, schema::find(&connection.client)).await?;
        let instance = settings.instance.clone();
        Ok(Self { connection, instance, ledger, insert: rows::insert(), months: HashSet::new() })
    }

    /// The ledger's identity.
    pub(super) fn ledger(&self) -> Uuid {
        self.ledger
    }

    /// Writes the rows that do not exist yet. On return the server has them on its disk. Not cancel
    /// safe: after a drop the rows may or may not be written, and must be written again.
    ///
    /// # Errors
    /// Fails if the server refuses them all, or if the connection is closed.
    pub(super) async fn write(&mut self, rows: &Rows) -> Result<Written, Failure> {
        for month in rows.months() {
            self.partition(month).await?;
        }
        let mut written = Written::default();
        // Halves a refused range, down to the single rows that are refused.
        let whole = 0..rows.len();
        let mut parts = vec![whole];
        while let Some(part) = parts.pop() {
            match within(STATEMENT, self.insert(rows, part.clone())).await {
                Ok(new) => written.new += new,
                Err(failure) if failure.is_of_the_data() && part.len() > 1 => {
                    let middle = part.start + part.len() / 2;
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                }
                Err(failure) if failure.is_of_the_data() => {
                    written.refused.push((part.start, failure.to_string()));
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(written)
    }

    /// Writes in one round trip, with a statement that leaves no state on the server: poolers pass
    /// the next statement to another connection.
    async fn insert(&self, rows: &Rows, part: Range<usize>) -> Result<u64, Failure> {
        let slices = rows.slices(part);
        let instance = (&self.instance as _, Type::TEXT);
        let parameters: Vec<_> =
            std::iter::once(instance).chain(slices.iter().map(|slice| slice.parameter())).collect();
        Ok(self.connection.client.execute_typed(&self.insert, &parameters).await?)
    }

    /// Creates the partition of a month, once per connection.
    async fn partition(&mut self, month: Month) -> Result<(), Failure> {
        if self.months.insert(month) {
            let client = &mut self.connection.client;
            excused(within(STATEMENT, partitions::make(client, month, Strays::Leave)).await)?;
        }
        Ok(())
    }

    /// Creates partitions in advance.
    pub(super) async fn look_ahead(&mut self, now: Timestamp) -> Result<(), Failure> {
        excused(within(STATEMENT, partitions::look_ahead(&mut self.connection.client, now)).await)?;
        Ok(())
    }

    /// Deletes the oldest month, if it ended longer than `retention` before `now`.
    pub(super) async fn drop_old(&mut self, retention: Duration, now: Timestamp) -> Result<(), Failure> {
        let client = &mut self.connection.client;
        let dropped = excused(within(STATEMENT, partitions::drop_old(client, retention, now)).await)?;
        if let Some(Dropped { month, records }) = dropped.flatten() {
            tracing::info!(
                %month, records, before = %month.next(),
                "usage records in PostgreSQL that are older than ledger.postgres.retention were deleted"
            );
        }
        Ok(())
    }

    /// Waits until the connection is closed.
    pub(super) async fn gone(&mut self) {
        self.connection.gone().await;
    }
}

/// Excuses a table that belongs to another user or is locked: returns `None`, and rows go to the
/// default partition.
fn excused<T>(result: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match result {
        Err(failure)
            if failure.is(&SqlState::INSUFFICIENT_PRIVILEGE) || failure.is(&SqlState::LOCK_NOT_AVAILABLE) =>
        {
            tracing::debug!(%failure, "the partitions of PostgreSQL stay as they are");
            Ok(None)
        }
        result => result.map(Some),
    }
}
