use super::super::retention::Retention;
use super::super::store::Store;
use super::super::support::{batch, count_at};
use super::*;

fn ledger(rows: usize) -> (tempfile::TempDir, PathBuf, Store) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut store = Store::open(&path).unwrap();
    store.write(&[batch(rows)]).unwrap();
    (folder, path, store)
}

/// The next rows, and the last of them.
fn next(unshipped: &mut Unshipped, limit: usize) -> (Vec<i64>, Option<i64>) {
    let mut seen = Vec::new();
    let last = unshipped.next(limit, |row| {
        seen.push(row.get(0)?);
        Ok(())
    });
    (seen, last.unwrap())
}

#[test]
fn rows_come_in_order_and_again_until_they_are_shipped() {
    let (_folder, path, mut store) = ledger(5);
    let mut unshipped = Unshipped::open(&path, "fleet").unwrap();
    for _ in 0..2 {
        assert_eq!(next(&mut unshipped, 3), (vec![1, 2, 3], Some(3)));
    }
    unshipped.advance(3).unwrap();
    assert_eq!(unshipped.count().unwrap(), 2);
    assert_eq!(next(&mut unshipped, 3), (vec![4, 5], Some(5)));
    store.write(&[batch(1)]).unwrap();
    unshipped.advance(5).unwrap();
    assert_eq!(next(&mut unshipped, 3), (vec![6], Some(6)));
    unshipped.advance(6).unwrap();
    assert_eq!((next(&mut unshipped, 3), unshipped.count().unwrap()), ((vec![], None), 0));
}

#[test]
fn another_process_goes_on_where_the_last_one_left_off() {
    let (_folder, path, _store) = ledger(5);
    Unshipped::open(&path, "fleet").unwrap().advance(2).unwrap();
    let mut unshipped = Unshipped::open(&path, "fleet").unwrap();
    assert_eq!(next(&mut unshipped, 9).0, [3, 4, 5]);
    assert_eq!(Unshipped::count_at(&path).unwrap(), 3);
    // A late mark of an earlier row has no effect.
    Unshipped::open(&path, "fleet").unwrap().advance(1).unwrap();
    assert_eq!(next(&mut Unshipped::open(&path, "fleet").unwrap(), 9).0, [3, 4, 5]);
}

#[test]
fn another_fleet_gets_everything() {
    let (_folder, path, _store) = ledger(5);
    Unshipped::open(&path, "fleet").unwrap().advance(5).unwrap();
    assert_eq!(next(&mut Unshipped::open(&path, "other").unwrap(), 9).0, [1, 2, 3, 4, 5]);
}

#[test]
fn replaced_file_is_noticed() {
    let (folder, path, _store) = ledger(1);
    let unshipped = Unshipped::open(&path, "fleet").unwrap();
    assert!(unshipped.is_current());
    std::fs::rename(&path, folder.path().join("b.db")).unwrap();
    assert!(!unshipped.is_current());
    drop(Store::open(&path).unwrap());
    assert!(!unshipped.is_current());
}

#[test]
fn full_disk_keeps_place_in_memory_until_there_is_room() {
    let (_folder, path, _store) = ledger(5);
    let mut unshipped = Unshipped::open(&path, "fleet").unwrap();
    unshipped.connection.execute_batch("PRAGMA query_only = 1").unwrap();
    assert!(unshipped.advance(3).is_err());
    assert_eq!(next(&mut unshipped, 9).0, [4, 5], "it goes on all the same");
    assert_eq!(next(&mut Unshipped::open(&path, "fleet").unwrap(), 9).0, [1, 2, 3, 4, 5]);
    unshipped.connection.execute_batch("PRAGMA query_only = 0").unwrap();
    unshipped.advance(5).unwrap();
    assert_eq!(next(&mut Unshipped::open(&path, "fleet").unwrap(), 9).0, Vec::<i64>::new());
}

#[test]
fn unshipped_rows_up_to_bound_are_not_deleted() {
    let (_folder, path, mut store) = ledger(1200);
    let until = batch(1200)[1199].started_at + Duration::from_secs(86_400 - 3600);
    let sweep = |store: &mut Store, most: u64| {
        let retention = Retention { age: Duration::from_secs(3600), unshipped: Some(most) };
        let mut lost = 0;
        loop {
            let step = store.sweep(&retention, until).unwrap();
            lost += step.lost;
            if !step.more {
                break (count_at(&path), lost);
            }
        }
    };
    assert_eq!(sweep(&mut store, 5000), (1200, 0), "nothing is shipped");
    let mut unshipped = Unshipped::open(&path, "fleet").unwrap();
    unshipped.advance(700).unwrap();
    assert_eq!(sweep(&mut store, 5000), (500, 0), "the shipped ones go");
    assert_eq!(sweep(&mut store, 400), (400, 100), "the oldest beyond the bound go");
    assert_eq!(next(&mut unshipped, 1).0, [801]);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn log_of_shipped_file_stays_within_its_bound() {
    let (_folder, path, store) = ledger(5);
    drop(store);
    let mut unshipped = Unshipped::open(&path, "fleet").unwrap();
    let other = Connection::open(&path).unwrap();
    other.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    other.execute_batch("CREATE TABLE large (bytes)").unwrap();
    // The log's length is that of the file: it does not restart before all of it was copied.
    let log = super::super::repair::with(&path, "-wal");
    let length = || std::fs::metadata(&log).unwrap().len();
    while length() < u64::from(BOUND) * 4096 {
        other.execute_batch("INSERT INTO large VALUES (zeroblob(8 << 20))").unwrap();
    }
    let grown = length();
    for seq in 1..=5 {
        unshipped.advance(seq).unwrap();
    }
    assert!(
        length() <= grown + 2 * 4120,
        "only the commit that copies makes it longer: {}",
        length() - grown
    );
}
