//! A connection that has found its ledger, and what is written through it.

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
    /// The months that were seen to, whether or not they could get a partition.
    months: HashSet<Month>,
}

/// The result of writing a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Rows that were not there before.
    pub(super) new: u64,
    /// Those that the server will never take, as places in the batch, each with its reason.
    pub(super) refused: Vec<(usize, String)>,
}

impl Server {
    /// Connects, and looks for the ledger.
    pub(super) async fn connect(settings: &Postgres) -> Result<Self, Failure> {
        let connection = Connection::open(settings).await?;
        let ledger = within(CONNECT, schema::find(&connection.client)).await?;
        let instance = settings.instance.clone();
        Ok(Self { connection, instance, ledger, insert: rows::insert(), months: HashSet::new() })
    }

    /// Which ledger it is.
    pub(super) fn ledger(&self) -> Uuid {
        self.ledger
    }

    /// Writes the rows that are not there yet, whatever of them is; the server has them on its disk
    /// then. Not cancel safe: after a drop it is unknown whether the rows
    /// were written, and they must be written again.
    ///
    /// # Errors
    /// The server refuses them, or the connection is gone.
    pub(super) async fn write(&mut self, rows: &Rows) -> Result<Written, Failure> {
        for month in rows.months() {
            self.partition(month).await?;
        }
        let mut written = Written::default();
        // Halves of what the server does not take, down to the rows that it means.
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

    /// In one round trip, with a statement that leaves nothing behind on the server: poolers hand
    /// the next one to another connection.
    async fn insert(&self, rows: &Rows, part: Range<usize>) -> Result<u64, Failure> {
        let slices = rows.slices(part);
        let instance = (&self.instance as _, Type::TEXT);
        let parameters: Vec<_> =
            std::iter::once(instance).chain(slices.iter().map(|slice| slice.parameter())).collect();
        Ok(self.connection.client.execute_typed(&self.insert, &parameters).await?)
    }

    /// Sees to the partition of a month, once per connection.
    async fn partition(&mut self, month: Month) -> Result<(), Failure> {
        if self.months.insert(month) {
            let client = &mut self.connection.client;
            excused(within(STATEMENT, partitions::make(client, month, Strays::Leave)).await)?;
        }
        Ok(())
    }

    /// Makes partitions in advance.
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

    /// Waits until the connection is gone.
    pub(super) async fn gone(&mut self) {
        self.connection.gone().await;
    }
}

/// Tables may be another user's to change, or in use just now: `None`, and rows go to the default
/// partition.
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
