//! The last use of keys.

use std::collections::HashMap;
use std::path::Path;

use jiff::Timestamp;

use super::super::error::{LedgerError, Reason};
use super::super::schema;
use super::{Bounds, Selection, open_bounded};

/// The start of the latest request with each of these keys, by the key's id. Requests before `since`
/// do not count.
///
/// Reads backwards, in the order in which requests have ended, until all keys are found: a key that
/// is used takes a moment, and one that is not the time since its creation.
///
/// # Errors
/// Fails like [`report`](super::report).
pub(in crate::sinks::ledger) fn last_used(
    path: &Path,
    ids: &[String],
    since: Timestamp,
    bounds: &Bounds,
) -> Result<HashMap<String, Timestamp>, LedgerError> {
    let read = || {
        let connection = open_bounded(path, bounds)?;
        let transaction = connection.unchecked_transaction()?;
        let mut found = HashMap::new();
        if !schema::has_count(&transaction)? {
            return Ok(found);
        }
        let range = Selection::since(since).range(&transaction)?;
        let mut statement = transaction.prepare(
            "SELECT key_id, started_at FROM usage_records NOT INDEXED
             WHERE seq BETWEEN ?1 AND ?2 AND key_id IS NOT NULL ORDER BY seq DESC",
        )?;
        let mut rows = statement.query(range)?;
        while found.len() < ids.len()
            && let Some(row) = rows.next()?
        {
            let id: String = row.get(0)?;
            if let Ok(at) = Timestamp::from_nanosecond(row.get::<_, i64>(1)?.into())
                && ids.contains(&id)
            {
                found.entry(id).or_insert(at);
            }
        }
        Ok(found)
    };
    read().map_err(|reason: Reason| LedgerError::new(path, reason))
}
