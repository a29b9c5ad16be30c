use rusqlite::Connection;

use super::super::support::{batch, count_at};
use super::*;
use crate::record::{CAPACITY, Lane};

/// Long enough for any machine; no test should take it.
const PATIENCE: Duration = Duration::from_secs(20);

fn lane(path: &Path, retention: Option<Duration>, journal: &Journal) -> Lane {
    Lane::spawn(Box::new(Ledger::open(path, retention, journal).unwrap()), journal).unwrap()
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come about");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn records_handed_over_are_in_file_after_drop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut ledger = lane(&path, None, &Journal::new(1));
    for _ in 0..50 {
        ledger.push(&batch(100));
    }
    ledger.push(&batch(7));
    drop(ledger);
    assert_eq!(count_at(&path), 5007);
}

#[test]
fn single_record_is_committed_soon() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut ledger = lane(&path, None, &Journal::new(1));
    ledger.push(&batch(1));
    wait_for("the commit", || count_at(&path) == 1);
    assert_eq!(ledger.health().waiting(), 0, "its room is free again");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn locked_file_delays_records_and_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let journal = Journal::new(1);
    let mut ledger = lane(&path, None, &journal);
    ledger.push(&batch(10));
    wait_for("the first commit", || count_at(&path) == 10);

    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let start = Instant::now();
    ledger.push(&batch(20));
    // The first attempt has failed if there is still no room after the time for one.
    thread::sleep(Duration::from_millis(800));
    assert_eq!(ledger.health().waiting(), 20, "they wait");
    ledger.push(&batch(30));
    assert!(start.elapsed() < Duration::from_secs(2), "handing over waits for nothing");
    other.execute_batch("COMMIT").unwrap();
    wait_for("all records", || count_at(&path) == 60);
    drop(ledger);
    assert_eq!((count_at(&path), journal.health().failed.load(Ordering::Relaxed)), (60, 0));
}

#[test]
fn records_beyond_the_bound_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut ledger = lane(&path, None, &Journal::new(1));
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let batch = batch(CAPACITY / 4);
    (0..6).for_each(|_| ledger.push(&batch));
    assert_eq!(ledger.health().lost(), 2 * batch.len() as u64);
    assert!(ledger.health().waiting() <= CAPACITY);
    other.execute_batch("COMMIT").unwrap();
    drop(ledger);
    assert_eq!(count_at(&path), CAPACITY);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn file_that_stays_locked_leaves_its_records_to_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let journal = Journal::new(1);
    let mut ledger = lane(&path, None, &journal);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    ledger.push(&batch(5));
    let start = Instant::now();
    drop(ledger);
    assert!(start.elapsed() < GRACE + PATIENCE, "the end is not held up for ever");
    assert_eq!(journal.health().failed.load(Ordering::Relaxed), 0);
    other.execute_batch("COMMIT").unwrap();
    drop(Ledger::open(&path, None, &journal).unwrap());
    assert_eq!(count_at(&path), 5);
    assert!(!spill::file_of(&path).exists());
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn records_that_cannot_be_spilled_either_are_counted_as_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let journal = Journal::new(1);
    let mut ledger = lane(&path, None, &journal);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    std::fs::create_dir(spill::file_of(&path)).unwrap();
    ledger.push(&batch(5));
    drop(ledger);
    assert_eq!(journal.health().failed.load(Ordering::Relaxed), 5);
}

#[test]
fn rows_deleted_with_file_count_as_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let journal = Journal::new(1);
    let mut ledger = lane(&path, None, &journal);
    // More records than stay in memory.
    const FORGOTTEN: usize = 33_000;
    ledger.push(&batch(FORGOTTEN));
    wait_for("the first commit", || count_at(&path) == FORGOTTEN);
    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(super::super::repair::with(&path, suffix)).unwrap();
    }
    ledger.push(&batch(4));
    wait_for("the loss", || ledger.health().lost() == FORGOTTEN as u64);
    assert_eq!(journal.health().failed.load(Ordering::Relaxed), FORGOTTEN as u64);
    drop(ledger);
    assert_eq!(count_at(&path), 4);
}

#[test]
fn retention_that_changes_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let live = Live::new(None);
    let ledger = Ledger::open(&folder.path().join("a.db"), None, &Journal::new(1)).unwrap();
    let mut ledger = ledger.following(Arc::clone(&live));
    let mut age = |retention: Option<Duration>| {
        live.replace(retention);
        ledger.wake().unwrap();
        ledger.sweeper.as_ref().map(|sweeper| sweeper.retention().unwrap().age)
    };
    for retention in [None, Some(Duration::from_hours(1)), Some(Duration::from_hours(2)), None] {
        assert_eq!(age(retention), retention);
    }
}
