//! Adds rows to the sums of their hours.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params_from_iter};

use super::hour::Hour;
use super::rows::{self, Rows};
use super::{HOUR, hour_of};
use crate::sinks::ledger::error::Reason;
use crate::sinks::ledger::query::RowKind;
use crate::sinks::ledger::schema;

/// Returns true if the file has the tables, which earlier versions lack.
pub(in crate::sinks::ledger) fn exists(connection: &Connection) -> Result<bool, Reason> {
    schema::has_rollup(connection)
}

/// The last row that is added up; 0 if none is.
pub(in crate::sinks::ledger) fn added_up_to(connection: &Connection) -> rusqlite::Result<i64> {
    let place = connection.query_row("SELECT seq FROM rollup", [], |row| row.get(0)).optional()?;
    Ok(place.unwrap_or(0))
}

/// Rows that started before this time, in nanoseconds, may be deleted.
pub(in crate::sinks::ledger) fn gone_before(connection: &Connection) -> rusqlite::Result<i64> {
    let one = |sql| connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).optional();
    let stored = one("SELECT gone_before FROM rollup")?.flatten().unwrap_or(i64::MIN);
    // A program of an earlier version deletes rows without storing it.
    let Some(first_hour) = one("SELECT min(hour) FROM rollup_hours")?.flatten() else { return Ok(stored) };
    Ok(match one("SELECT min(started_at) FROM usage_records")?.flatten() {
        Some(oldest) if hour_of(oldest) <= first_hour => stored,
        Some(oldest) => stored.max(oldest),
        None => i64::MAX,
    })
}

/// Stores that rows that started before this time may be deleted.
pub(in crate::sinks::ledger) fn keep_gone_before(connection: &Connection, at: i64) -> rusqlite::Result<()> {
    let mut update =
        connection.prepare_cached("UPDATE rollup SET gone_before = max(coalesce(gone_before, ?1), ?1)")?;
    update.execute([at]).map(drop)
}

/// Deletes the hours that ended before this time, in nanoseconds, unless rows are left of them or of
/// earlier ones. Returns their number.
pub(in crate::sinks::ledger) fn sweep(connection: &Connection, until: i64) -> rusqlite::Result<usize> {
    connection.execute(
        "DELETE FROM rollup_hours WHERE hour < ?1
         AND (hour + 1) * ?2 <= coalesce((SELECT min(started_at) FROM usage_records), ?1 * ?2)",
        [hour_of(until), HOUR],
    )
}

/// Adds the next rows, at most `most`, in one transaction. Returns true if there may be more.
///
/// # Errors
/// Fails if the file cannot be read or written. Nothing is added then.
pub(in crate::sinks::ledger) fn fold(connection: &mut Connection, most: usize) -> Result<bool, Reason> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let place = added_up_to(&transaction)?;
    let rows = read(&transaction, place, most)?;
    let Some((_, last)) = rows.range else { return Ok(false) };
    let count: u64 = rows.hours.values().map(|hour| hour.records).sum();
    for (number, hour) in rows.hours {
        add(&transaction, number, hour)?;
    }
    transaction.execute("UPDATE rollup SET seq = ?1", [last])?;
    transaction.commit()?;
    Ok(count >= most as u64)
}

/// Reads the rows behind a place, at most `most`.
fn read(connection: &Connection, place: i64, most: usize) -> Result<Rows, Reason> {
    let mut rows = Rows::default();
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    read_into(&mut rows, connection, "seq > ?1 ORDER BY seq LIMIT ?2", [place, most], false)?;
    if let (true, Some((_, last))) = (rows.have_attempts, rows.range) {
        read_into(&mut rows, connection, "seq > ?1 AND seq <= ?2", [place, last], true)?;
    }
    Ok(rows)
}

/// Adds the rows that a condition selects, or their attempts.
pub(super) fn read_into<const N: usize>(
    rows: &mut Rows,
    connection: &Connection,
    condition: &str,
    values: [i64; N],
    of_attempts: bool,
) -> Result<(), Reason> {
    let (columns, kind) = match of_attempts {
        true => (&rows::ATTEMPTS, RowKind::Attempts),
        false => (&rows::REQUESTS, RowKind::Requests),
    };
    let sql = format!("SELECT {} FROM {} WHERE {condition}", **columns, kind.table());
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(params_from_iter(values))?;
    while let Some(row) = found.next()? {
        rows.add(row, of_attempts)?;
    }
    Ok(())
}

/// Adds to the stored sums of an hour.
pub(super) fn add(connection: &Connection, number: i64, mut hour: Hour) -> Result<(), Reason> {
    let mut select = connection.prepare_cached("SELECT records, body FROM rollup_hours WHERE hour = ?1")?;
    let mut rows = select.query([number])?;
    if let Some(row) = rows.next()? {
        let records: i64 = row.get(0)?;
        let body = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        if !hour.add_block(body, records.unsigned_abs()) {
            return Err(damaged(number));
        }
    }
    drop(rows);
    store(connection, number, hour.records, &hour.encode())
}

/// Replaces the stored sums of an hour.
pub(super) fn store(connection: &Connection, number: i64, records: u64, body: &[u8]) -> Result<(), Reason> {
    let mut insert = connection
        .prepare_cached("INSERT OR REPLACE INTO rollup_hours (hour, records, body) VALUES (?1, ?2, ?3)")?;
    insert.execute((number, i64::try_from(records).unwrap_or(i64::MAX), body))?;
    Ok(())
}

/// The reason for which an hour cannot be read.
pub(in crate::sinks::ledger) fn damaged(number: i64) -> Reason {
    let at = jiff::Timestamp::from_second(number.saturating_mul(3600)).unwrap_or_default();
    Reason::Row(format!(
        "the sums of the hour {at} are damaged or of a later version: `streamgauge ledger rebuild` adds its records up again"
    ))
}
