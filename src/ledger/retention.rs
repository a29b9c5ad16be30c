//! Deletes what is older than it shall be, a little at a time.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;

use super::shipped;

/// Rows that one step deletes: a few milliseconds, after which new records have their turn.
const STEP: usize = 500;

/// What may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retention {
    /// Rows that started longer ago than this.
    pub(super) age: Duration,
    /// `Some`: of those that are not shipped to PostgreSQL yet, only those beyond this number, counted from the last row.
    pub(super) unshipped: Option<u64>,
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// There is more to delete.
    pub(super) more: bool,
    /// Rows that were deleted and not shipped.
    pub(super) lost: u64,
}

/// Deletes the oldest rows that `retention` lets go, one step of them.
///
/// The file does not shrink; what is freed is used for the rows to come.
pub(super) fn step(connection: &Connection, retention: &Retention, now: Timestamp) -> rusqlite::Result<Step> {
    let Ok(limit) = now.checked_sub(retention.age) else { return Ok(Step::default()) };
    let Ok(limit) = i64::try_from(limit.as_nanosecond()) else { return Ok(Step::default()) };
    let (last, shipped) = match retention.unshipped {
        Some(most) => shipped::deletable(connection, most)?,
        None => (i64::MAX, i64::MAX),
    };
    // Rows are written in about the order in which they started. Where the first may not go, none may, and the index need
    // not be read to learn that of each.
    let first: Option<i64> =
        connection.query_row("SELECT min(seq) FROM usage_records", [], |row| row.get(0))?;
    if first.is_none_or(|first| first > last) {
        return Ok(Step::default());
    }
    let mut delete = connection.prepare_cached(
        "DELETE FROM usage_records WHERE seq IN
         (SELECT seq FROM usage_records WHERE started_at < ?1 AND seq <= ?2 ORDER BY started_at LIMIT ?3)
         RETURNING seq",
    )?;
    let mut deleted = 0;
    let mut lost = 0;
    let mut rows = delete.query((limit, last, STEP as i64))?;
    while let Some(row) = rows.next()? {
        deleted += 1;
        lost += u64::from(row.get::<_, i64>(0)? > shipped);
    }
    Ok(Step { more: deleted == STEP, lost })
}
