use super::super::row;
use super::super::schema::{MIGRATIONS, migrate};
use super::super::support::{records, rows};
use super::*;

fn ledger() -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&mut connection, MIGRATIONS).unwrap();
    connection
}

fn write(connection: &mut Connection, records: &[UsageRecord]) -> bool {
    let records: Vec<_> = records.iter().collect();
    Bulk::default().insert(connection, &records).unwrap()
}

fn number(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn is_sound(connection: &Connection) -> bool {
    let said: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    said == "ok"
}

#[test]
fn copied_rows_equal_rows_of_statements() {
    // One page of the index and several, and one inner page of the table and two levels of them.
    for count in [WORTHWHILE, 258, 514, 5_000, 20_000] {
        let mut all = records(count);
        fastrand::shuffle(&mut all);
        let [mut copied, by_statement] = [ledger(), ledger()];
        assert!(write(&mut copied, &all));
        row::insert(&by_statement, all.iter()).unwrap();
        assert!(rows(&copied) == rows(&by_statement), "{count} records");
        assert!(is_sound(&copied));
        let in_order = "SELECT count(*) FROM (SELECT started_at FROM usage_records WHERE started_at > 0)";
        assert_eq!(number(&copied, in_order), count as i64, "the index has all rows");
        assert_eq!(copied.last_insert_rowid(), count as i64);
    }
}

#[test]
fn copied_rows_continue_numbers_that_were_used() {
    let mut connection = ledger();
    assert!(write(&mut connection, &records(300)));
    connection.execute("DELETE FROM usage_records WHERE seq > 200", []).unwrap();
    assert!(write(&mut connection, &records(300)));
    assert_eq!(number(&connection, "SELECT min(seq) FROM usage_records WHERE seq > 200"), 301);
    assert_eq!(number(&connection, LAST), 600);
    row::insert(&connection, records(1).iter()).unwrap();
    assert_eq!(number(&connection, LAST), 601);
    assert!(is_sound(&connection));
}

#[test]
fn copied_rows_have_integers_and_reals_of_every_size() {
    let mut all = records(WORTHWHILE);
    for (place, record) in all.iter_mut().enumerate() {
        let number = u64::MAX >> (place % 64);
        record.usage.input_tokens = Some(number);
        record.usage.output_tokens = Some(number >> 1);
        record.response_bytes = 1 << (place % 63);
        record.duration_ms = number as f64 / 3.0;
        record.error = Some("ä".repeat(place % 512).into());
    }
    let [mut copied, by_statement] = [ledger(), ledger()];
    assert!(write(&mut copied, &all));
    row::insert(&by_statement, all.iter()).unwrap();
    assert!(rows(&copied) == rows(&by_statement));
    assert!(is_sound(&copied));
}

#[test]
fn records_are_refused_if_few_or_longer_than_page() {
    let mut connection = ledger();
    assert!(!write(&mut connection, &records(WORTHWHILE - 1)));
    let mut all = records(WORTHWHILE);
    all[7].error = Some("x".repeat(9_000).into());
    assert!(!write(&mut connection, &all));
    assert_eq!(number(&connection, "SELECT count(*) FROM usage_records"), 0);
}

#[test]
fn tables_with_other_indexes_and_triggers_are_refused() {
    for change in [
        "CREATE INDEX mine ON usage_records (model)",
        "CREATE TRIGGER mine AFTER INSERT ON usage_records BEGIN SELECT 1; END",
        "DROP INDEX usage_records_started_at",
    ] {
        let mut connection = ledger();
        let mut bulk = Bulk::default();
        let all = records(WORTHWHILE);
        let all: Vec<_> = all.iter().collect();
        assert!(bulk.insert(&mut connection, &all).unwrap());
        connection.execute_batch(change).unwrap();
        assert!(!bulk.insert(&mut connection, &all).unwrap(), "{change}");
    }
}

#[test]
fn later_column_stays_null_and_keeps_copy_possible() {
    let mut connection = ledger();
    connection.execute_batch("ALTER TABLE usage_records ADD COLUMN later TEXT").unwrap();
    assert!(write(&mut connection, &records(WORTHWHILE)));
    let null = "SELECT count(*) FROM usage_records WHERE later IS NULL";
    assert_eq!(number(&connection, null), WORTHWHILE as i64);
    assert!(is_sound(&connection));
}

/// Without the transfer optimisation SQLite would read and write each column.
#[test]
fn statement_copies_whole_rows() {
    let connection = ledger();
    let sql: String = text(
        &connection,
        "SELECT group_concat(sql, ';') FROM sqlite_schema WHERE tbl_name = 'usage_records'",
    );
    connection.execute_batch("ATTACH ':memory:' AS batch").unwrap();
    let sql = sql.replace("TABLE usage_records", "TABLE batch.usage_records");
    connection.execute_batch(&sql.replace("INDEX usage", "INDEX batch.usage")).unwrap();
    let mut program = connection
        .prepare("EXPLAIN INSERT OR ROLLBACK INTO main.usage_records SELECT * FROM batch.usage_records")
        .unwrap();
    let steps = program.query_map([], |row| row.get::<_, String>("opcode")).unwrap();
    let steps: Vec<_> = steps.map(Result::unwrap).collect();
    assert!(steps.iter().any(|step| step == "RowCell"), "{steps:?}");
    assert!(!steps.iter().any(|step| step == "TypeCheck"), "{steps:?}");
}

fn text(connection: &Connection, sql: &str) -> String {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}
