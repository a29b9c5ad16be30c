//! Files that are read: in use, read-only, of older schemas, and of others.

use super::*;
use crate::sinks::ledger::schema::{MIGRATIONS, migrate};

#[test]
fn ledger_is_read_unchanged_while_it_is_written() {
    let (_folder, path) = ledger(&records(10));
    let mut writer = Connection::open(&path).unwrap();
    let transaction = writer.transaction().unwrap();
    transaction.execute("DELETE FROM usage_records", []).unwrap();
    assert_eq!(all(&path, &[]).unwrap().total.requests, 10, "it is not committed yet");
    transaction.commit().unwrap();
    assert_eq!(all(&path, &[]).unwrap().total.requests, 0);
    let connection = open(&path).unwrap();
    assert!(connection.execute("DELETE FROM usage_records", []).is_err());
}

#[test]
fn file_in_read_only_folder_is_read_by_its_uri() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("50% of #1?.db");
    Store::open(&path).unwrap().write(&[batch(4)]).unwrap();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(immutable(&path).unwrap(), flags).unwrap();
    let rows = connection.query_row("SELECT count(*) FROM usage_records", [], |row| row.get::<_, i64>(0));
    assert_eq!(rows.unwrap(), 4);
}

#[test]
fn other_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let error = |path: &Path| all(path, &[]).unwrap_err().to_string();
    assert!(error(&path).ends_with("a.db: there is no such file"), "{}", error(&path));
    assert!(!path.exists());
    fs::write(&path, "notes ".repeat(100)).unwrap();
    assert!(error(&path).contains("not a database"), "{}", error(&path));
    assert_eq!(fs::read_to_string(&path).unwrap(), "notes ".repeat(100));
    fs::write(&path, "").unwrap();
    assert!(error(&path).ends_with("a.db: is empty: `streamgauge serve` begins a ledger when it starts"));
}

#[test]
fn older_schemas_are_read_without_being_changed() {
    for version in 1..MIGRATIONS.len() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let mut connection = Connection::open(&path).unwrap();
        migrate(&mut connection, &MIGRATIONS[..version]).unwrap();
        let row = &records(2)[1];
        connection
            .execute(
                "INSERT INTO usage_records (started_at, client, usage_source, id, stream, outcome,
                 request_bytes, response_bytes, duration_ms, input_tokens)
                 VALUES (?1, 'a', 'reported', ?2, 0, 'complete', 1, 2, 0.5, 7)",
                (i64::try_from(row.started_at.as_nanosecond()).unwrap(), row.id.to_string()),
            )
            .unwrap();
        drop(connection);
        let before = fs::read(&path).unwrap();
        let total = all(&path, &[By::Client]).unwrap().total;
        assert_eq!((total.requests, total.input_tokens), (1, Some(7)), "version {version}");
        let (selection, bounds) = (Selection::since(Timestamp::UNIX_EPOCH), Bounds::default());
        let day = Duration::from_hours(24);
        let spec = OverviewSpec { latest: 5, ..OverviewSpec::new(day) };
        let shown = overview(&path, &selection, &spec, &Prices::default(), &bounds).unwrap();
        assert_eq!((shown.total.requests, shown.latest.len()), (1, 1), "version {version}");
        let found = &shown.latest[0];
        assert_eq!((found.get("input_tokens"), found.get("count")), (&7.into(), &serde_json::Value::Null));
        let team = TagName::parse("team").unwrap();
        assert_eq!(all(&path, &[By::Tag(team)]).unwrap().groups[0].key, [None], "version {version}");
        let tagged = Selection { tags: vec![(team, "a".to_owned())], ..selection };
        let none = overview(&path, &tagged, &spec, &Prices::default(), &bounds).unwrap();
        assert_eq!((none.total.requests, none.latest.len()), (0, 0), "version {version}");
        assert_eq!(fs::read(&path).unwrap(), before, "version {version}");
    }
}

#[test]
fn copy_with_log_is_read_in_read_only_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("a.db"), folder.path().join("copy db.db"));
    let mut store = Store::open(&path).unwrap();
    store.write(&[records(100).into()]).unwrap();
    for suffix in ["", "-wal"] {
        fs::copy(repair::with(&path, suffix), repair::with(&copy, suffix)).unwrap();
    }
    let before = ["", "-wal"].map(|suffix| fs::read(repair::with(&copy, suffix)).unwrap());
    let count = |path: &Path| -> i64 {
        let connection = open_unwritten(path).unwrap();
        connection.query_row("SELECT count(*) FROM usage_records", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(&copy), 100, "the log is read");
    assert_eq!(["", "-wal"].map(|suffix| fs::read(repair::with(&copy, suffix)).unwrap()), before);
    assert!(!repair::with(&copy, "-shm").exists());
    // The file without its log is a valid ledger too, with the rows that were copied into the file.
    fs::write(repair::with(&copy, "-wal"), "").unwrap();
    assert!(count(&copy) <= 100);
}
