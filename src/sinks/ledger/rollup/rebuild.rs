//! Replaces the sums of the hours whose rows exist.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::fold::{self, added_up_to, gone_before, read_into};
use super::hour::Hour;
use super::rows::Rows;
use super::{HOUR, hour_of};
use crate::sinks::ledger::error::{LedgerError, Reason};
use crate::sinks::ledger::query::open;
use crate::sinks::ledger::schema;

/// The time to wait for the ledger's own writer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The result of [`rebuild`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Hours that were added up from their records.
    pub hours: u64,
    /// Records in these hours.
    pub records: u64,
    /// Hours whose sums were others before, or missing.
    pub changed: u64,
    /// Hours with deleted records, whose sums stay.
    pub kept: u64,
    /// The beginning of the first hour that was added up. `None` if there was none.
    pub since: Option<Timestamp>,
}

/// Adds up all hours whose records exist, also while the ledger is being written. Hours with deleted
/// records keep their sums.
///
/// # Errors
/// Fails if there is no ledger of this version, or if it cannot be read or written.
pub fn rebuild(path: &Path) -> Result<Rebuilt, LedgerError> {
    rebuild_at(path).map_err(|reason| LedgerError::new(path, reason))
}

/// The sums of an hour: its number, its rows, and the block.
type New = (i64, u64, Vec<u8>);

fn rebuild_at(path: &Path) -> Result<Rebuilt, Reason> {
    let reader = open(path)?;
    schema::expect_writable(&reader)?;
    let (new, from, until) = add_up(&reader)?;
    drop(reader);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    replace(&mut connection, new, from, until)
}

/// Adds up the rows in a transaction that blocks no writer, hour by hour. Returns the hours, the
/// first hour of which no row is deleted, and the last row.
fn add_up(connection: &Connection) -> Result<(Vec<New>, i64, i64), Reason> {
    let transaction = connection.unchecked_transaction()?;
    let one = |sql| transaction.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
    let until = one("SELECT max(seq) FROM usage_records")?.unwrap_or(0);
    let from = first_whole(&transaction)?;
    let mut next = one("SELECT min(started_at) FROM usage_records")?;
    let mut new = Vec::new();
    while let Some(started) = next {
        let hour = hour_of(started).max(from);
        let times = [hour.saturating_mul(HOUR), (hour + 1).saturating_mul(HOUR), until];
        let mut rows = Rows::default();
        let condition = "started_at >= ?1 AND started_at < ?2 AND seq <= ?3";
        read_into(&mut rows, &transaction, condition, times, false)?;
        if let (true, Some((first, last))) = (rows.have_attempts, rows.range) {
            let condition = "started_at >= ?1 AND started_at < ?2 AND seq BETWEEN ?3 AND ?4";
            read_into(&mut rows, &transaction, condition, [times[0], times[1], first, last], true)?;
        }
        new.extend(rows.hours.into_iter().map(|(number, hour)| (number, hour.records, hour.encode())));
        next = transaction.query_row(
            "SELECT min(started_at) FROM usage_records WHERE started_at >= ?1",
            [times[1]],
            |row| row.get(0),
        )?;
    }
    Ok((new, from, until))
}

/// The first hour of which no row is deleted.
fn first_whole(connection: &Connection) -> Result<i64, Reason> {
    let gone = gone_before(connection)?;
    let hour = hour_of(gone);
    Ok(if gone > hour.saturating_mul(HOUR) { hour.saturating_add(1) } else { hour })
}

/// Stores the new sums of the hours from `from` on, which are those of rows up to `until`.
fn replace(connection: &mut Connection, new: Vec<New>, from: i64, until: i64) -> Result<Rebuilt, Reason> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Meanwhile rows may have been deleted and others added up.
    let from = first_whole(&transaction)?.max(from);
    let before = stored(&transaction, from)?;
    let place = added_up_to(&transaction)?;
    let last = place.max(until);
    transaction.execute("DELETE FROM rollup_hours WHERE hour >= ?1", [from])?;
    let mut rebuilt = Rebuilt::default();
    for (number, records, body) in new.iter().filter(|(number, ..)| *number >= from) {
        fold::store(&transaction, *number, *records, body)?;
    }
    // Rows of these hours that came later, and rows of earlier hours that were not added up yet.
    let mut rows = Rows::default();
    for (condition, after) in [("started_at >= ?3", until), ("started_at < ?3", place)] {
        let condition = format!("seq > ?1 AND seq <= ?2 AND {condition}");
        let values = [after, last, from.saturating_mul(HOUR)];
        read_into(&mut rows, &transaction, &condition, values, false)?;
        if rows.have_attempts {
            read_into(&mut rows, &transaction, &condition, values, true)?;
        }
        rows.have_attempts = false;
    }
    for (number, hour) in rows.hours {
        fold::add(&transaction, number, hour)?;
    }
    transaction.execute("UPDATE rollup SET seq = ?1", [last])?;
    {
        let mut now = transaction
            .prepare("SELECT hour, records, body FROM rollup_hours WHERE hour >= ?1 ORDER BY hour")?;
        let mut now = now.query([from])?;
        while let Some(row) = now.next()? {
            let (number, records) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?.unsigned_abs());
            let body = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
            let is_same = before.get(&number).is_some_and(|(of, old)| *of == records && agree(old, body));
            rebuilt.hours += 1;
            rebuilt.records += records;
            rebuilt.changed += u64::from(!is_same);
            let begin = || Timestamp::from_second(number.saturating_mul(3600)).ok();
            rebuilt.since = rebuilt.since.or_else(begin);
        }
        // Hours without any record that had sums.
        let missing = before.keys().filter(|number| !has(&transaction, **number).unwrap_or(true));
        rebuilt.changed += missing.count() as u64;
    }
    rebuilt.kept = transaction
        .query_row("SELECT count(*) FROM rollup_hours WHERE hour < ?1", [from], |row| row.get::<_, i64>(0))?
        .unsigned_abs();
    transaction.commit()?;
    Ok(rebuilt)
}

/// Returns true if two blocks have the same sums. Those of seconds may differ by the order in which
/// they were added.
fn agree(one: &[u8], other: &[u8]) -> bool {
    let rounded = |bytes: &[u8]| {
        let mut hour = Hour::default();
        let is_whole = hour.add_block(bytes, 0);
        hour.round_seconds();
        is_whole.then(|| hour.encode())
    };
    one == other || rounded(one).is_some_and(|one| rounded(other) == Some(one))
}

/// The stored hours from a number on: their records and blocks.
fn stored(connection: &Connection, from: i64) -> Result<BTreeMap<i64, (u64, Vec<u8>)>, Reason> {
    let mut select = connection.prepare("SELECT hour, records, body FROM rollup_hours WHERE hour >= ?1")?;
    let hours = select
        .query_map([from], |row| Ok((row.get(0)?, (row.get::<_, i64>(1)?.unsigned_abs(), row.get(2)?))))?;
    Ok(hours.collect::<Result<_, _>>()?)
}

fn has(connection: &Connection, number: i64) -> rusqlite::Result<bool> {
    connection
        .query_row("SELECT EXISTS (SELECT 1 FROM rollup_hours WHERE hour = ?1)", [number], |row| row.get(0))
}
