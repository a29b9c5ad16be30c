//! The last use of keys in the whole fleet.

use std::collections::HashMap;

use jiff::Timestamp;
use tokio_postgres::types::Type;

use super::super::columns::KEY_ID;
use super::super::error::LedgerError;
use super::super::query::Bounds;
use super::ask::ask;
use super::rows::Micros;
use crate::config::Postgres;

/// The start of the latest request with each of these keys, by the key's id, in whole microseconds.
/// Requests before `since` do not count.
///
/// Blocks, and must not be called on a thread of tokio.
///
/// # Errors
/// Fails like [`report`](super::report()).
pub fn last_used(
    settings: &Postgres,
    ids: &[String],
    since: Timestamp,
    bounds: &Bounds,
) -> Result<HashMap<String, Timestamp>, LedgerError> {
    ask(settings, bounds, async |moment| {
        if !moment.has(KEY_ID) {
            return Ok(HashMap::new());
        }
        let statement = "SELECT key_id, max(started_at) FROM usage_records
             WHERE started_at >= $1 AND key_id = ANY($2) GROUP BY key_id";
        let since = Micros(since.as_microsecond());
        let rows = moment
            .transaction
            .query_typed(statement, &[(&since, Type::TIMESTAMPTZ), (&ids, Type::TEXT_ARRAY)])
            .await?;
        let mut found = HashMap::new();
        for row in rows {
            let Micros(at) = row.try_get(1)?;
            if let Ok(at) = Timestamp::from_microsecond(at) {
                found.insert(row.try_get(0)?, at);
            }
        }
        Ok(found)
    })
}
