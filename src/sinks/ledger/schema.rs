//! The tables, and the migrations of older files.
//!
//! `user_version` has the version of a file, `application_id` identifies it as ours. Version N is
//! the result of the first N steps of [`MIGRATIONS`] on an empty file; a released step never
//! changes, and new steps are appended.
//!
//! Steps only add nullable columns, so that programs of different versions can use one file: a
//! reader opens files of earlier versions. Readers and writers open files of later versions unless
//! `writable_from` in `streamgauge_ledger`, which files have from version 4 on, is above the
//! version that they know.

use rusqlite::{Connection, TransactionBehavior};

use super::error::Reason;

/// `SGgl` in ASCII. Files of other programs stay unchanged, even if they have the same version.
pub(super) const APPLICATION_ID: i64 = 0x5347_676C;

/// The steps between versions.
pub(super) const MIGRATIONS: &[&str] = &[
    // 1. `seq` is the order of writing, in which readers continue; it never changes and is never
    //    reused. `started_at` is in nanoseconds since 1970, UTC, which is exact. The columns of
    //    sums come first: SQLite reads a row from its beginning, as far as needed.
    "CREATE TABLE usage_records (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        started_at INTEGER NOT NULL,
        client TEXT NOT NULL,
        upstream TEXT,
        model TEXT,
        usage_source TEXT NOT NULL,
        input_tokens INTEGER,
        output_tokens INTEGER,
        total_tokens INTEGER,
        cached_input_tokens INTEGER,
        cache_write_input_tokens INTEGER,
        reasoning_tokens INTEGER,
        input_audio_tokens INTEGER,
        output_audio_tokens INTEGER,
        billed_seconds REAL,
        id TEXT NOT NULL,
        user TEXT,
        provider TEXT,
        method TEXT,
        endpoint TEXT,
        model_requested TEXT,
        stream INTEGER NOT NULL,
        status INTEGER,
        outcome TEXT NOT NULL,
        events INTEGER,
        request_bytes INTEGER NOT NULL,
        response_bytes INTEGER NOT NULL,
        time_to_first_byte_ms REAL,
        time_to_first_token_ms REAL,
        duration_ms REAL NOT NULL,
        upstream_request_id TEXT,
        error TEXT
    ) STRICT;
    CREATE INDEX usage_records_started_at ON usage_records (started_at);",
    // 2. The times of the events, and of the client's departure.
    "ALTER TABLE usage_records ADD COLUMN time_to_first_event_ms REAL;
    ALTER TABLE usage_records ADD COLUMN time_to_last_event_ms REAL;
    ALTER TABLE usage_records ADD COLUMN time_to_disconnect_ms REAL;",
    // 3. The last shipped `seq`, for each fleet ledger.
    "CREATE TABLE shipped (ledger TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;",
    // 4. `count`, and the columns that later versions fill (`columns::RESERVED`).
    //    `streamgauge_ledger` has one row: the ledger's identity, the earliest version that may
    //    write to it, and the clock of `retention`.
    "ALTER TABLE usage_records ADD COLUMN \"count\" INTEGER;
    ALTER TABLE usage_records ADD COLUMN service_tier TEXT;
    ALTER TABLE usage_records ADD COLUMN cache_write_1h_input_tokens INTEGER;
    ALTER TABLE usage_records ADD COLUMN tool_calls TEXT;
    ALTER TABLE usage_records ADD COLUMN reported_cost TEXT;
    ALTER TABLE usage_records ADD COLUMN attempts INTEGER;
    ALTER TABLE usage_records ADD COLUMN \"group\" TEXT;
    ALTER TABLE usage_records ADD COLUMN time_waiting_ms REAL;
    ALTER TABLE usage_records ADD COLUMN key_id TEXT;
    ALTER TABLE usage_records ADD COLUMN tags TEXT;
    ALTER TABLE usage_records ADD COLUMN writer TEXT;
    CREATE TABLE streamgauge_ledger (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        id TEXT NOT NULL,
        writable_from INTEGER NOT NULL,
        clock INTEGER,
        doubted_clock INTEGER,
        doubted_for INTEGER
    ) STRICT;
    INSERT INTO streamgauge_ledger (one, id, writable_from) VALUES (1, lower(hex(randomblob(16))), 1);",
    // 5. The keys of counted stored results, in the order of counting.
    "CREATE TABLE counted_results (seq INTEGER PRIMARY KEY AUTOINCREMENT, key INTEGER NOT NULL UNIQUE) STRICT;",
    // 6. `attempts` as JSON. No version wrote the column that was reserved for it, and to rename it
    //    changes no row.
    "ALTER TABLE usage_records RENAME COLUMN attempts TO attempts_unused;
    ALTER TABLE usage_records ADD COLUMN attempts TEXT;",
    // 7. The sums of each hour, by its number since 1970. `rollup` has one row: the last `seq` that
    //    is in the sums, and the time before which rows may be deleted.
    "CREATE TABLE rollup_hours (hour INTEGER PRIMARY KEY, records INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE TABLE rollup (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        seq INTEGER NOT NULL,
        gone_before INTEGER
    ) STRICT;
    INSERT INTO rollup (one, seq) VALUES (1, 0);",
];

/// The first version whose files have `columns::COUNT`.
const COUNT_SINCE: usize = 4;

/// The first version whose files have the tables of `rollup`.
const ROLLUP_SINCE: usize = 7;

/// Migrates the file to the last version of `migrations`, in one transaction: another process sees
/// all of it or nothing, and of two that start together one migrates.
pub(super) fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<(), Reason> {
    if version(connection, migrations)? >= migrations.len() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster.
    let from = version(&transaction, migrations)?;
    if from >= migrations.len() {
        return Ok(());
    }
    for step in &migrations[from..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", migrations.len() as i64)?;
    Ok(transaction.commit()?)
}

/// Returns true if the file is empty. Fails unless it is empty or a ledger that may be written.
/// Changes nothing.
pub(super) fn is_new(connection: &Connection) -> Result<bool, Reason> {
    Ok(version(connection, MIGRATIONS)? == 0)
}

/// Checks that the file has all columns that this version writes.
pub(super) fn expect_writable(connection: &Connection) -> Result<(), Reason> {
    match version(connection, MIGRATIONS)? {
        found if found >= MIGRATIONS.len() => Ok(()),
        found => Err(Reason::Row(format!(
            "its schema is {found} and not {} yet: `streamgauge serve` brings it up to date when it starts",
            MIGRATIONS.len()
        ))),
    }
}

/// The version that the next [`migrate`] changes the file to. `None` if it changes nothing.
pub(super) fn next_version(connection: &Connection) -> Result<Option<usize>, Reason> {
    let known = MIGRATIONS.len();
    Ok((version(connection, MIGRATIONS)? < known).then_some(known))
}

/// Checks that the file is a ledger of a readable version.
pub(super) fn expect_readable(connection: &Connection) -> Result<(), Reason> {
    match version(connection, MIGRATIONS)? {
        0 => Err(Reason::Row("is empty: `streamgauge serve` begins a ledger when it starts".to_owned())),
        _ => Ok(()),
    }
}

/// Returns true if the rows of the ledger have `columns::COUNT`. Files of earlier versions are read
/// unchanged.
pub(super) fn has_count(connection: &Connection) -> Result<bool, Reason> {
    Ok(version(connection, MIGRATIONS)? >= COUNT_SINCE)
}

/// Returns true if the file has the sums of hours.
pub(super) fn has_rollup(connection: &Connection) -> Result<bool, Reason> {
    Ok(version(connection, MIGRATIONS)? >= ROLLUP_SINCE)
}

/// The number of steps that the file has had; 0 for an empty file. More than the known ones if the
/// file may be written nevertheless.
fn version(connection: &Connection, migrations: &[&str]) -> Result<usize, Reason> {
    let known = migrations.len();
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let objects: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match usize::try_from(version) {
        Ok(0) if application == 0 && objects == 0 => Ok(0),
        Ok(version @ 1..) if application == APPLICATION_ID && version <= known => Ok(version),
        Ok(later) if application == APPLICATION_ID && is_writable_from(connection, known) => Ok(later),
        _ if application == APPLICATION_ID => Err(Reason::Newer(version, known as i64)),
        _ => Err(Reason::Foreign),
    }
}

/// Returns true if a program that knows the version `known` may write to the file of a later
/// version.
fn is_writable_from(connection: &Connection, known: usize) -> bool {
    let from = connection.query_row("SELECT writable_from FROM streamgauge_ledger", [], |row| row.get(0));
    // Without the table, the file is not ours.
    from.is_ok_and(|from: i64| from <= known as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Connection {
        Connection::open_in_memory().unwrap()
    }

    #[test]
    fn empty_file_becomes_ledger_and_stays_one() {
        let mut connection = empty();
        assert_eq!(version(&connection, MIGRATIONS).unwrap(), 0);
        for _ in 0..2 {
            migrate(&mut connection, MIGRATIONS).unwrap();
            expect_writable(&connection).unwrap();
        }
    }

    #[test]
    fn table_has_columns_of_records_in_their_order() {
        let mut connection = empty();
        migrate(&mut connection, MIGRATIONS).unwrap();
        let statement = connection.prepare("SELECT * FROM usage_records").unwrap();
        let mut columns: Vec<_> = super::super::columns::COLUMNS.iter().map(|(name, _)| *name).collect();
        columns.insert(0, "seq");
        let found = statement.column_names();
        let is_reserved =
            |name: &&str| super::super::columns::RESERVED.iter().any(|(reserved, _)| reserved == name);
        let (reserved, own): (Vec<&str>, Vec<&str>) = found.into_iter().partition(is_reserved);
        assert_eq!(own, columns);
        assert_eq!(reserved.len(), super::super::columns::RESERVED.len());
    }

    #[test]
    fn file_of_version_1_keeps_its_rows_through_later_steps() {
        let mut connection = empty();
        migrate(&mut connection, &MIGRATIONS[..1]).unwrap();
        connection
            .execute_batch(
                "INSERT INTO usage_records (started_at, client, usage_source, id, stream, outcome, request_bytes,
                 response_bytes, duration_ms) VALUES (7, 'a', 'none', 'x', 0, 'complete', 1, 2, 0.5)",
            )
            .unwrap();
        let later = [
            MIGRATIONS[0],
            "ALTER TABLE usage_records ADD COLUMN region TEXT;",
            "UPDATE usage_records SET region = 'eu';",
        ];
        migrate(&mut connection, &later).unwrap();
        assert_eq!(version(&connection, &later).unwrap(), 3);
        let row = connection.query_row("SELECT started_at, id, region FROM usage_records", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        });
        assert_eq!(row.unwrap(), (7, "x".to_owned(), "eu".to_owned()));
    }

    #[test]
    fn later_file_is_written_as_long_as_it_allows_that() {
        let mut connection = empty();
        let later: Vec<_> =
            MIGRATIONS.iter().copied().chain(["ALTER TABLE usage_records ADD COLUMN x TEXT"]).collect();
        migrate(&mut connection, &later).unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        assert_eq!(version(&connection, &later).unwrap(), later.len(), "its version stays");
        expect_writable(&connection).unwrap();
        let breaking = format!("UPDATE streamgauge_ledger SET writable_from = {}", later.len());
        connection.execute_batch(&breaking).unwrap();
        assert!(matches!(is_new(&connection), Err(Reason::Newer(..))));
        assert!(matches!(expect_readable(&connection), Err(Reason::Newer(..))));
    }

    #[test]
    fn failed_step_leaves_file_at_its_version() {
        let mut connection = empty();
        let broken = [MIGRATIONS[0], "CREATE TABLE extra (a); CREATE TABLE usage_records (a);"];
        migrate(&mut connection, &broken[..1]).unwrap();
        assert!(migrate(&mut connection, &broken).is_err());
        assert_eq!(version(&connection, &broken).unwrap(), 1);
        let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'extra'";
        assert_eq!(connection.query_row(tables, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    }

    #[test]
    fn files_of_others_and_of_later_versions_are_left_alone() {
        let mut connection = empty();
        connection.execute_batch("CREATE TABLE notes (text)").unwrap();
        assert!(matches!(migrate(&mut connection, MIGRATIONS), Err(Reason::Foreign)));
        let mut connection = empty();
        connection.execute_batch("PRAGMA user_version = 1").unwrap();
        assert!(matches!(migrate(&mut connection, MIGRATIONS), Err(Reason::Foreign)));
        let mut connection = empty();
        migrate(&mut connection, &[MIGRATIONS[0], "CREATE TABLE more (a)"]).unwrap();
        assert!(matches!(migrate(&mut connection, &MIGRATIONS[..1]), Err(Reason::Newer(2, 1))));
    }
}
