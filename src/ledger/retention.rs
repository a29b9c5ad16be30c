//! Deletes what is older than it shall be, a little at a time.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;

/// Rows that one step deletes: a few milliseconds, after which new records have their turn.
const STEP: usize = 500;

/// Deletes the oldest rows that started more than `retention` before `now`, one step of them. Whether there are more.
///
/// The file does not shrink; what is freed is used for the rows to come.
pub(super) fn step(connection: &Connection, retention: Duration, now: Timestamp) -> rusqlite::Result<bool> {
    let Ok(limit) = now.checked_sub(retention) else { return Ok(false) };
    let Ok(limit) = i64::try_from(limit.as_nanosecond()) else { return Ok(false) };
    let mut delete = connection.prepare_cached(
        "DELETE FROM usage_records WHERE seq IN
         (SELECT seq FROM usage_records WHERE started_at < ?1 ORDER BY started_at LIMIT ?2)",
    )?;
    Ok(delete.execute((limit, STEP as i64))? == STEP)
}
