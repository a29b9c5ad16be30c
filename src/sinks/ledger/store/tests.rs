use std::fs;
use std::time::Duration;

use rusqlite::Connection;

use super::super::support::{batch, count_at, records, rows};
use super::*;
use crate::record::Sink as _;

fn connection(store: &mut Store) -> &Connection {
    &store.connect().unwrap().connection
}

fn aside(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names
        .filter(|name| name.contains(".corrupt-") && !name.ends_with("-wal") && !name.ends_with("-shm"))
        .collect();
    names.sort();
    names
}

#[test]
fn row_equals_json_line_field_by_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut batch = records(100);
    batch[5].count = Some(40);
    let batch = Batch::new(batch);
    let mut store = Store::open(&path).unwrap();
    store.write(std::slice::from_ref(&batch)).unwrap();

    let mut lines = crate::sinks::jsonl::Jsonl::open(&folder.path().join("a.jsonl")).unwrap();
    lines.write(&batch).unwrap();
    let lines = fs::read_to_string(folder.path().join("a.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows = rows(&Connection::open(&path).unwrap());
    assert_eq!(rows.len(), 100);
    for (row, line) in rows.iter().zip(&lines) {
        assert_eq!(row, line);
    }
}

#[test]
fn rows_of_one_statement_take_nothing_from_each_other() {
    let folder = tempfile::tempdir().unwrap();
    // Fewer rows than a statement has, the same number, one more, and many. Most values change from
    // row to row.
    for count in [0, 1, 15, 16, 17, 32, 333] {
        let path = folder.path().join(format!("{count}.db"));
        let mut all = records(count);
        fastrand::shuffle(&mut all);
        let batches: Vec<Batch> = all.chunks(7).map(|some| Batch::new(some.to_vec())).collect();
        Store::open(&path).unwrap().write(&batches).unwrap();
        let rows = rows(&Connection::open(&path).unwrap());
        assert_eq!(rows.len(), count);
        for (row, record) in rows.iter().zip(&all) {
            assert_eq!(*row, serde_json::to_value(record).unwrap());
        }
    }
}

#[test]
fn count_beyond_sqlites_integers_saturates() {
    let folder = tempfile::tempdir().unwrap();
    let mut records = records(2);
    records[1].usage.input_tokens = Some(u64::MAX);
    let mut store = Store::open(&folder.path().join("a.db")).unwrap();
    store.write(&[records.into()]).unwrap();
    assert_eq!(rows(connection(&mut store))[1]["input_tokens"], i64::MAX);
}

#[test]
fn second_start_continues_and_reuses_no_seq() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    for round in 1..=2 {
        let mut store = Store::open(&path).unwrap();
        store.write(&[batch(3), batch(4)]).unwrap();
        assert_eq!(count_at(&path), 7 * round);
    }
    let mut store = Store::open(&path).unwrap();
    connection(&mut store).execute("DELETE FROM usage_records", []).unwrap();
    store.write(&[batch(1)]).unwrap();
    let seq =
        connection(&mut store).query_row("SELECT seq FROM usage_records", [], |row| row.get::<_, i64>(0));
    assert_eq!(seq.unwrap(), 15);
}

#[test]
fn two_processes_write_to_one_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut stores = [Store::open(&path).unwrap(), Store::open(&path).unwrap()];
    for _ in 0..20 {
        stores.iter_mut().for_each(|store| store.write(&[batch(5)]).unwrap());
    }
    assert_eq!(count_at(&path), 200);
}

#[test]
fn broken_ledger_is_moved_aside_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    Store::open(&path).unwrap().write(&[batch(30)]).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[100..].fill(0xA5);
    fs::write(&path, &bytes).unwrap();
    let mut store = Store::open(&path).unwrap();
    store.write(&[batch(3)]).unwrap();
    let aside = aside(folder.path());
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(fs::read(folder.path().join(&aside[0])).unwrap(), bytes);
    assert_eq!(count_at(&path), 3);
}

#[test]
fn broken_ledger_behind_a_link_is_replaced_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("real.db"), folder.path().join("a.db"));
    Store::open(&path).unwrap().write(&[batch(30)]).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[100..].fill(0xA5);
    fs::write(&path, &bytes).unwrap();
    std::os::unix::fs::symlink("real.db", &link).unwrap();
    Store::open(&link).unwrap().write(&[batch(3)]).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!((count_at(&path), aside(folder.path()).len()), (3, 1));
}

#[test]
fn files_of_others_are_refused_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let ledger = folder.path().join("ledger.db");
    Store::open(&ledger).unwrap().write(&[batch(3)]).unwrap();
    let ledger = fs::read(&ledger).unwrap();
    let mut unmarked = ledger.clone();
    unmarked[68..72].fill(0);
    unmarked[100..].fill(0xA5);
    for (content, reason) in [
        (&b"[server]\nlisten = \"127.0.0.1:4100\"\n"[..], "ledger.path must name a ledger of streamgauge or"),
        (b"sk-secret", "is a file of another kind, not a ledger"),
        (&"notes ".repeat(2000).into_bytes(), "is a file of another kind, not a ledger"),
        (&ledger[..40], "its first page does not say that it is a ledger"),
        (&unmarked, "its first page does not say that it is a ledger"),
    ] {
        fs::write(&path, content).unwrap();
        let error = Store::open(&path).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content);
        assert_eq!(aside(folder.path()), Vec::<String>::new());
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = Store::open(&path).unwrap_err().to_string();
    assert!(error.contains("it is a folder, and stays unchanged"), "{error}");
    let error = Store::open(Path::new("/dev/null")).unwrap_err().to_string();
    assert!(error.contains("is a device, not a ledger"), "{error}");
}

#[test]
fn first_page_of_a_new_ledger_says_whose_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    fs::write(&path, "").unwrap();
    let store = Store::open(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap()[68..72], *b"SGgl", "also while all else is in the log");
    drop(store);
}

/// A ledger whose log has rows that are not in the file.
fn with_log(folder: &Path) -> (PathBuf, PathBuf, Store) {
    let path = folder.join("a.db");
    let mut store = Store::open(&path).unwrap();
    store.write(&[batch(30)]).unwrap();
    let log = repair::with(&path, "-wal");
    assert!(fs::metadata(&log).unwrap().len() > 4096);
    (path, log, store)
}

#[test]
fn log_that_is_cut_is_noticed_and_its_rows_are_written_again() {
    for cut in [
        |log: &Path| fs::write(log, "").unwrap(),
        |log: &Path| {
            let file = fs::File::options().write(true).open(log).unwrap();
            file.set_len(9000).unwrap();
        },
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (path, log, mut store) = with_log(folder.path());
        cut(&log);
        store.write(&[batch(4)]).unwrap();
        assert_eq!((count_at(&path), store.take_lost()), (34, 0));
        store.write(&[batch(1)]).unwrap();
        drop(store);
        assert_eq!(count_at(&path), 35);
        let check = Connection::open(&path).unwrap();
        assert_eq!(check.query_row("PRAGMA integrity_check", [], |row| row.get(0)), Ok("ok".to_owned()));
        let ids = "SELECT count(DISTINCT id) FROM usage_records";
        assert_eq!(check.query_row(ids, [], |row| row.get(0)), Ok(35));
        assert!(aside(folder.path()).is_empty());
    }
}

#[test]
fn log_that_is_cut_while_somebody_reads_is_mended_after_that() {
    let folder = tempfile::tempdir().unwrap();
    let (path, log, mut store) = with_log(folder.path());
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM usage_records").unwrap();
    fs::write(&log, "").unwrap();
    let error = store.write(&[batch(4)]).unwrap_err().to_string();
    assert!(error.contains("was truncated by another program"), "{error}");
    assert_eq!(store.unsaved().iter().map(|batch| batch.len()).sum::<usize>(), 30);
    // Closing it must not copy the old log.
    copy_no_more(&reader, true);
    drop(reader);
    store.write(&[batch(4)]).unwrap();
    assert_eq!((count_at(&path), store.take_lost()), (34, 0));
}

#[test]
fn log_that_is_deleted_costs_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let (path, log, mut store) = with_log(folder.path());
    fs::remove_file(&log).unwrap();
    store.write(&[batch(4)]).unwrap();
    assert_eq!((count_at(&path), store.take_lost()), (34, 0));
}

#[test]
fn rows_of_a_deleted_file_are_written_again_or_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (path, log, mut store) = with_log(folder.path());
    for file in [&path, &log, &repair::with(&path, "-shm")] {
        fs::remove_file(file).unwrap();
    }
    store.mend().unwrap();
    assert_eq!((count_at(&path), store.take_lost()), (30, 0));
    // Copied records are no longer in memory.
    store.uncopied.clear();
    fs::remove_file(&path).unwrap();
    store.write(&[batch(4)]).unwrap();
    assert_eq!((count_at(&path), store.take_lost()), (4, 30));
}

#[test]
fn damage_found_while_writing_costs_no_record_of_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut store = Store::open(&path).unwrap();
    store.write(&[batch(2000)]).unwrap();
    drop(store);
    // The header and the schema are on the first page; everything else is damaged.
    let mut bytes = fs::read(&path).unwrap();
    assert!(bytes.len() > 100_000);
    bytes[4096..].fill(0xA5);
    fs::write(&path, &bytes).unwrap();

    let mut store = Store::open(&path).unwrap();
    assert!(aside(folder.path()).is_empty(), "the first page is good");
    store.write(&[batch(3)]).unwrap();
    assert_eq!(count_at(&path), 3);
    let aside = aside(folder.path());
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(fs::metadata(folder.path().join(&aside[0])).unwrap().len(), bytes.len() as u64);
}

#[test]
fn full_disk_takes_no_part_of_batch_and_all_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut store = Store::open(&path).unwrap();
    store.write(&[batch(3)]).unwrap();
    let pages = |store: &mut Store, pages: u32| {
        connection(store).pragma_update(None, "max_page_count", pages).unwrap();
    };
    pages(&mut store, 8);
    let error = store.write(&[batch(2000)]).unwrap_err();
    assert_eq!(error.to_string(), "the disk is full");
    assert_eq!(count_at(&path), 3);
    pages(&mut store, 100_000);
    store.write(&[batch(2000)]).unwrap();
    assert_eq!(count_at(&path), 2003);
}

#[test]
fn file_moved_while_written_keeps_its_rows_and_new_one_begins() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("a.db"), folder.path().join("old.db"));
    let mut store = Store::open(&path).unwrap();
    store.write(&[batch(3)]).unwrap();
    fs::rename(&path, &old).unwrap();
    store.write(&[batch(4)]).unwrap();
    assert_eq!((count_at(&old), count_at(&path)), (3, 4));
}

#[test]
fn path_without_room_for_file_is_refused_with_reason() {
    let folder = tempfile::tempdir().unwrap();
    // No user may create files in the second one, not even root.
    for path in [folder.path().join("gone/a.db"), "/proc/a.db".into(), folder.path().to_owned()] {
        let error = Store::open(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: cannot be opened", path.display())), "{error}");
    }
}

#[test]
fn database_of_another_program_is_refused_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE notes (text)").unwrap();
    let before = fs::read(&path).unwrap();
    let error = Store::open(&path).unwrap_err().to_string();
    assert!(error.ends_with("is a database of another program: choose another path"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn old_rows_are_deleted_in_steps_and_the_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("a.db")).unwrap();
    let batch = batch(1300);
    store.write(std::slice::from_ref(&batch)).unwrap();
    let retention = Retention { age: Duration::from_secs(86_400), unshipped: None };
    let until = batch[1100].started_at;
    let mut left = Vec::new();
    loop {
        let step = store.sweep(&retention, until).unwrap();
        left.push(rows(connection(&mut store)).len());
        if !step.more {
            break;
        }
    }
    assert_eq!(left, [800, 300, 200]);
    let first = &rows(connection(&mut store))[0];
    assert_eq!(first["id"], batch[1100].id.to_string(), "what is exactly as old as allowed stays");
}
