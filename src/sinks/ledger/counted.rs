//! Stores the keys of counted stored results, so that the next process does not count them again.

use rusqlite::Connection;

use crate::record::UsageRecord;

/// The number of keys that are kept, the latest ones: the number that a process is sure to
/// remember.
const KEPT: usize = 65_536;

/// Keeps the key of a record's result, in the same transaction as the record. Returns false if
/// another record has the usage of that result: during an upgrade two processes write, and each has
/// counted what it saw.
pub(super) fn keep(connection: &Connection, record: &UsageRecord) -> rusqlite::Result<bool> {
    let Some(key) = record.counted_result else { return Ok(true) };
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO counted_results (key) VALUES (?1)")?;
    Ok(insert.execute([key.cast_signed()])? > 0)
}

/// All stored keys, the latest last. Deletes older ones.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Vec<u64>> {
    let mut select = connection.prepare("SELECT key, seq FROM counted_results ORDER BY seq")?;
    let rows =
        select.query_map([], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?)))?;
    let rows: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
    let (old, latest) = rows.split_at(rows.len().saturating_sub(KEPT));
    if let Some((_, last)) = old.last() {
        connection.execute("DELETE FROM counted_results WHERE seq <= ?1", [last])?;
    }
    Ok(latest.iter().map(|(key, _)| *key).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::ledger::schema::{MIGRATIONS, migrate};
    use crate::sinks::ledger::support::records;

    #[test]
    fn latest_keys_are_kept_and_each_once() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        let mut record = records(1).remove(0);
        let mut keep_key = |key: Option<u64>| {
            record.counted_result = key;
            keep(&connection, &record).unwrap()
        };
        let kept = [Some(3), None, Some(u64::MAX), Some(3)].map(&mut keep_key);
        assert_eq!(kept, [true, true, true, false]);
        assert_eq!(load(&connection).unwrap(), [3, u64::MAX]);
        connection.execute_batch("BEGIN").unwrap();
        assert!((10..10 + KEPT as u64).all(|key| keep_key(Some(key))));
        connection.execute_batch("COMMIT").unwrap();
        for _ in 0..2 {
            let keys = load(&connection).unwrap();
            assert_eq!((keys.len(), keys[0]), (KEPT, 10));
        }
        let left: i64 =
            connection.query_row("SELECT count(*) FROM counted_results", [], |row| row.get(0)).unwrap();
        assert_eq!(left, KEPT as i64);
    }
}
