use super::super::store::Store;
use super::super::support::{records, rows};
use super::*;

/// A directory with a ledger that has these records.
fn ledger(records: &[UsageRecord]) -> (tempfile::TempDir, PathBuf, Connection) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    Store::open(&path).unwrap().write(&[records.to_vec().into()]).unwrap();
    let connection = Connection::open(&path).unwrap();
    (folder, path, connection)
}

#[test]
fn spilled_records_are_the_rows_they_would_have_been() {
    let records = records(300);
    let (_folder, path, mut connection) = ledger(&records[..100]);
    assert_eq!(append(&path, records[100..200].iter()).records, 100);
    assert_eq!(append(&path, records[200..].iter()).records, 100);
    let taken = take_in(&path, &mut connection).unwrap().unwrap();
    assert_eq!(taken, TakenIn { records: 200, known: 0, unreadable: None });
    assert!(!file_of(&path).exists());
    let (_other, _, whole) = ledger(&records);
    assert_eq!(rows(&connection), rows(&whole));
    assert_eq!(take_in(&path, &mut connection).unwrap(), None);
}

#[test]
fn records_that_are_there_are_not_written_again() {
    let records = records(30);
    let (_folder, path, mut connection) = ledger(&records[..20]);
    append(&path, records[10..].iter());
    // A crash before the file was deleted leaves this state; one line is there twice.
    append(&path, records[25..].iter());
    let taken = take_in(&path, &mut connection).unwrap().unwrap();
    assert_eq!((taken.records, taken.known), (10, 15));
    assert_eq!(rows(&connection).len(), 30);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn every_cut_of_the_file_loses_only_the_line_that_was_cut() {
    let records = records(3);
    let (_folder, path, _) = ledger(&[]);
    append(&path, records.iter());
    let whole = fs::read(file_of(&path)).unwrap();
    for cut in (0..=whole.len()).step_by(37).chain([whole.len() - 1, whole.len()]) {
        let (_folder, path, mut connection) = ledger(&[]);
        fs::write(file_of(&path), &whole[..cut]).unwrap();
        // The next process that cannot write appends to it.
        assert_eq!(append(&path, records[..1].iter()).records, 1);
        let taken = take_in(&path, &mut connection).unwrap().unwrap();
        let lines = whole[..cut].split(|byte| *byte == b'\n');
        let is_record = |line: &&[u8]| serde_json::from_slice::<Map<String, Value>>(line).is_ok();
        let records = lines.clone().filter(is_record).count();
        let broken = lines.filter(|line| !line.is_empty() && !is_record(line)).count();
        assert_eq!(rows(&connection).len(), records.max(1), "cut at {cut}");
        assert_eq!(taken.unreadable.as_ref().map_or(0, |(lines, _)| *lines), broken, "cut at {cut}");
        assert!(!file_of(&path).exists());
        assert!(taken.unreadable.is_none_or(|(_, kept)| kept.exists()), "what is not read is kept");
    }
}

#[test]
fn ledger_that_cannot_be_written_leaves_the_file_as_it_is() {
    let (_folder, path, mut connection) = ledger(&[]);
    append(&path, records(5).iter());
    connection.execute_batch("PRAGMA query_only = 1").unwrap();
    assert!(take_in(&path, &mut connection).is_err());
    assert!(file_of(&path).exists());
    connection.execute_batch("PRAGMA query_only = 0").unwrap();
    assert_eq!(take_in(&path, &mut connection).unwrap().unwrap().records, 5);
}

#[test]
fn file_that_cannot_be_made_keeps_no_record_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let appended = append(&folder.path().join("gone/a.db"), records(5).iter());
    assert_eq!(appended.records, 0);
    assert_eq!(appended.error.unwrap().kind(), io::ErrorKind::NotFound);
}
