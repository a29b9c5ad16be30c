//! Manages a partition per month, so that an old month is deleted in one step and queries about a
//! time read little else.
//!
//! Every instance creates the partitions for the rows that it ships, and those of the coming
//! months. Rows without a partition are in the default one, where every query finds them too: no
//! row is lost if a partition cannot be created, because the user lacks the right or because the
//! table is locked.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tokio_postgres::Client;

use super::Failure;
use super::schema::{exists, lock};

/// The number of coming months that get a partition in advance.
const AHEAD: usize = 3;

/// The longest wait for the lock of the table. Other users of the table wait behind it.
const PATIENCE: &str = "2s";

/// A month of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Month(Date);

impl Month {
    /// The month that contains a time.
    pub(super) fn of(at: Timestamp) -> Self {
        Self(at.to_zoned(TimeZone::UTC).date().first_of_month())
    }

    /// The month of a `started_at` in microseconds since 1970.
    pub(super) fn of_micros(micros: i64) -> Self {
        Self::of(Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX))
    }

    /// The next month.
    pub(super) fn next(self) -> Self {
        Self(self.0.last_of_month().tomorrow().unwrap_or(Date::MAX))
    }

    /// This month and the coming ones.
    fn with_coming(self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self), |month| Some(month.next())).take(1 + AHEAD)
    }

    fn table(self) -> String {
        format!("usage_records_{}", self.0.strftime("%Y_%m"))
    }

    fn of_table(name: &str) -> Option<Self> {
        let (year, month) = name.strip_prefix("usage_records_")?.split_once('_')?;
        Date::new(year.parse().ok()?, month.parse().ok()?, 1).ok().map(Self)
    }

    /// The first moment of the month, as a literal.
    fn start(self) -> String {
        format!("'{} 00:00:00+00'", self.0)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%Y-%m"))
    }
}

/// The treatment of rows in the default partition, which prevent their month from getting one of
/// its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Strays {
    /// Leave them there, and the month without a partition.
    Leave,
    /// Move them, while all other users of the table wait.
    Move,
}

/// Creates the partition of a month unless it exists. Returns true if it was created.
pub(super) async fn make(client: &mut Client, month: Month, strays: Strays) -> Result<bool, Failure> {
    let (table, from, to) = (month.table(), month.start(), month.next().start());
    let condition = format!("started_at >= {from} AND started_at < {to}");
    let transaction = client.transaction().await?;
    lock(&transaction, PATIENCE).await?;
    if exists(&transaction, &table).await? {
        return Ok(false);
    }
    let some = format!("SELECT EXISTS (SELECT FROM usage_records_default WHERE {condition})");
    let has_strays: bool = transaction.query_one(&some, &[]).await?.get(0);
    if has_strays && strays == Strays::Leave {
        return Ok(false);
    }
    // The partition is created first and then attached, so that the shared table is locked only
    // briefly, and never for reading.
    let create =
        format!("CREATE TABLE {table} (LIKE usage_records INCLUDING DEFAULTS INCLUDING CONSTRAINTS)");
    transaction.batch_execute(&create).await?;
    if has_strays {
        let move_them = format!(
            "LOCK TABLE usage_records_default IN ACCESS EXCLUSIVE MODE;
             WITH moved AS (DELETE FROM usage_records_default WHERE {condition} RETURNING *)
             INSERT INTO {table} SELECT * FROM moved"
        );
        transaction.batch_execute(&move_them).await?;
    }
    let attach =
        format!("ALTER TABLE usage_records ATTACH PARTITION {table} FOR VALUES FROM ({from}) TO ({to})");
    transaction.batch_execute(&attach).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Creates the partitions of this month and the coming ones, and of months with rows in the default
/// partition. Returns the created ones.
pub(super) async fn prepare(client: &mut Client) -> Result<Vec<Month>, Failure> {
    let mut made = Vec::new();
    let strays = "SELECT DISTINCT date_trunc('month', started_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
        FROM usage_records_default";
    let strays = client.query(strays, &[]).await?;
    let strays = strays.iter().filter_map(|row| {
        let at: std::time::SystemTime = row.get(0);
        Timestamp::try_from(at).ok().map(Month::of)
    });
    let mut months: Vec<_> = strays.chain(Month::of(Timestamp::now()).with_coming()).collect();
    months.sort_unstable();
    months.dedup();
    for month in months {
        if make(client, month, Strays::Move).await? {
            made.push(month);
        }
    }
    Ok(made)
}

/// Creates the partitions of this month and the coming ones.
pub(super) async fn look_ahead(client: &mut Client, now: Timestamp) -> Result<(), Failure> {
    for month in Month::of(now).with_coming() {
        make(client, month, Strays::Leave).await?;
    }
    Ok(())
}

/// A deleted month, and its approximate number of records: PostgreSQL's last estimate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) month: Month,
    pub(super) records: i64,
}

/// Deletes the oldest month, if it ended longer than `retention` ago. The current time is the
/// earliest of the caller's clock (`now`), the server's and the newest record's time.
pub(super) async fn drop_old(
    client: &mut Client,
    retention: Duration,
    now: Timestamp,
) -> Result<Option<Dropped>, Failure> {
    let transaction = client.transaction().await?;
    lock(&transaction, PATIENCE).await?;
    let clocks = "SELECT least(now(), (SELECT max(started_at) FROM usage_records))";
    let witnessed: std::time::SystemTime = transaction.query_one(clocks, &[]).await?.get(0);
    let now = Timestamp::try_from(witnessed).map_or(now, |witnessed| witnessed.min(now));
    let Ok(limit) = now.checked_sub(retention) else { return Ok(None) };
    let tables = transaction
        .query(
            "SELECT c.relname::text, c.reltuples::bigint FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'usage_records'::regclass",
            &[],
        )
        .await?;
    let months = tables.iter().filter_map(|row| Some((Month::of_table(row.get(0))?, row.get::<_, i64>(1))));
    let stray = "SELECT min(started_at) FROM usage_records_default";
    let stray: Option<std::time::SystemTime> = transaction.query_one(stray, &[]).await?.get(0);
    let stray = stray.and_then(|at| Timestamp::try_from(at).ok()).map(|at| (Month::of(at), 0));
    let Some((month, counted)) = months.chain(stray).min().filter(|(month, _)| *month < Month::of(limit))
    else {
        return Ok(None);
    };
    let mut records = counted;
    if exists(&transaction, &month.table()).await? {
        if counted < 0 {
            let count = format!("SELECT count(*) FROM {}", month.table());
            records = transaction.query_one(&count, &[]).await?.get(0);
        }
        transaction.batch_execute(&format!("DROP TABLE {}", month.table())).await?;
    }
    let strays = format!("DELETE FROM usage_records_default WHERE started_at < {}", month.next().start());
    records += i64::try_from(transaction.execute(&strays, &[]).await?).unwrap_or(i64::MAX);
    transaction.commit().await?;
    Ok(Some(Dropped { month, records }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_follow_each_other_and_know_their_tables() {
        let month = Month::of("2026-11-30T23:59:59.999999Z".parse().unwrap());
        assert_eq!((month.to_string(), month.table()), ("2026-11".into(), "usage_records_2026_11".into()));
        assert_eq!(month.start(), "'2026-11-01 00:00:00+00'");
        let coming: Vec<_> = month.with_coming().map(|month| month.to_string()).collect();
        assert_eq!(coming, ["2026-11", "2026-12", "2027-01", "2027-02"]);
        assert_eq!(Month::of_table("usage_records_2026_11"), Some(month));
        for other in ["usage_records_default", "usage_records_2026_13", "usage_records", "other_2026_11"] {
            assert_eq!(Month::of_table(other), None, "{other}");
        }
    }

    #[test]
    fn time_before_1970_has_a_month() {
        assert_eq!(Month::of_micros(-1).to_string(), "1969-12");
        assert_eq!(Month::of_micros(0).to_string(), "1970-01");
    }
}
