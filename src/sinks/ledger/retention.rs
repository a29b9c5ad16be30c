//! Deletes records that are older than the retention, a few at a time.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use super::clock::{Clock, Doubted};
use super::{rollup, shipped};

/// The largest number of rows that one step deletes. It takes a few milliseconds, after which new
/// records are written.
const STEP: usize = 500;

/// The number of the newest rows that are searched for a clock.
const NEWEST: usize = 100;

/// Two rows within this time confirm each other's clock.
const NEAR: i64 = 86_400_000_000_000;

/// The rows that may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retention {
    /// Rows that started longer ago than this may be deleted.
    pub(super) age: Duration,
    /// `Some`: of the rows that are not shipped to PostgreSQL yet, only those beyond this number,
    /// counted from the last row, may be deleted.
    pub(super) unshipped: Option<u64>,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// More rows are to be deleted.
    pub(super) more: bool,
    /// Deleted rows.
    pub(super) deleted: u64,
    /// Deleted rows that were not shipped.
    pub(super) lost: u64,
}

/// Deletes the oldest of the rows that started before `until`, one step of them.
///
/// The file does not shrink; new rows reuse the space.
pub(super) fn step(
    connection: &Connection,
    retention: &Retention,
    until: Timestamp,
) -> rusqlite::Result<Step> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let (last, shipped) = match retention.unshipped {
        Some(most) => shipped::deletable(connection, most)?,
        None => (i64::MAX, i64::MAX),
    };
    // Sums of hours are kept longer than rows.
    let last = last.min(rollup::added_up_to(connection)?);
    // Rows are written approximately in the order of their starts. If the first one must stay, all
    // must, and the index need not be read.
    let first: Option<i64> =
        connection.query_row("SELECT min(seq) FROM usage_records", [], |row| row.get(0))?;
    if first.is_none_or(|first| first > last) {
        return Ok(Step::default());
    }
    let mut delete = connection.prepare_cached(
        "DELETE FROM usage_records WHERE seq IN
         (SELECT seq FROM usage_records WHERE started_at < ?1 AND seq <= ?2 ORDER BY started_at LIMIT ?3)
         RETURNING seq, started_at",
    )?;
    let (mut step, mut newest) = (Step::default(), i64::MIN);
    let mut rows = delete.query((nanoseconds(until), last, STEP as i64))?;
    while let Some(row) = rows.next()? {
        step.deleted += 1;
        step.lost += u64::from(row.get::<_, i64>(0)? > shipped);
        newest = newest.max(row.get(1)?);
    }
    drop(rows);
    if step.deleted > 0 {
        rollup::keep_gone_before(connection, newest.saturating_add(1))?;
    }
    transaction.commit()?;
    step.more = step.deleted == STEP as u64;
    Ok(step)
}

/// The start of the oldest row. `None` without rows.
pub(super) fn oldest(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let oldest: Option<i64> =
        connection.query_row("SELECT min(started_at) FROM usage_records", [], |row| row.get(0))?;
    Ok(oldest.map(timestamp))
}

/// The clock that the last process stored. In a ledger without one, the newest row gives the time,
/// unless no other row is near it: a row from a wrong clock has no neighbours. `None` without rows.
pub(super) fn clock(connection: &Connection) -> rusqlite::Result<Option<Clock>> {
    let stored = connection
        .query_row("SELECT clock, doubted_clock, doubted_for FROM streamgauge_ledger", [], |row| {
            Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, Option<i64>>(2)?))
        })
        .optional()?;
    if let Some((Some(believed), doubted, held)) = stored {
        let doubted = doubted
            .zip(held)
            .map(|(at, held)| Doubted { at: timestamp(at), held: Duration::from_secs(held.unsigned_abs()) });
        return Ok(Some(Clock { believed: timestamp(believed), doubted }));
    }
    let mut newest =
        connection.prepare("SELECT started_at FROM usage_records ORDER BY started_at DESC LIMIT ?1")?;
    let times = newest.query_map([NEWEST as i64], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    let near = times.windows(2).find(|pair| pair[0].saturating_sub(pair[1]) <= NEAR).map(|pair| pair[0]);
    Ok(near.or(times.last().copied()).map(|at| Clock::at(timestamp(at))))
}

/// Stores the clock for the next process.
pub(super) fn keep_clock(connection: &Connection, clock: Clock) -> rusqlite::Result<()> {
    let doubted = clock.doubted;
    connection.execute(
        "UPDATE streamgauge_ledger SET clock = ?1, doubted_clock = ?2, doubted_for = ?3",
        (
            nanoseconds(clock.believed),
            doubted.map(|doubted| nanoseconds(doubted.at)),
            doubted.map(|doubted| i64::try_from(doubted.held.as_secs()).unwrap_or(i64::MAX)),
        ),
    )?;
    Ok(())
}

/// The time in nanoseconds, saturated at SQLite's integers.
fn nanoseconds(at: Timestamp) -> i64 {
    let end = if at.as_nanosecond() < 0 { i64::MIN } else { i64::MAX };
    i64::try_from(at.as_nanosecond()).unwrap_or(end)
}

fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::MAX)
}
