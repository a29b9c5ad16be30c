//! A ledger of an earlier schema, while the process that writes to it still runs.
//!
//! During an upgrade the earlier process can still take over again until the new one serves. So the
//! new one changes the schema only then, on a thread of its own, since a copy of a large ledger takes
//! minutes. Records wait until the ledger is open; if too many wait, they go to the file of spilled
//! records, which the open ledger takes in.

use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::error::LedgerError;
use super::sink::{Batch, GATHERING, Ledger};
use super::{query, schema, spill};
use crate::record::{Journal, Sink, Turn, UsageRecord, count};
use crate::support::threads::{Threads, enter_background};
use crate::support::{Gathering, Latch};

/// The pause between looks at the latch, and between attempts to open the ledger.
const PAUSE: Duration = Duration::from_millis(100);

/// Opens the ledger, and changes its schema.
type Opening = Box<dyn FnMut() -> Result<Ledger, LedgerError> + Send>;

/// Returns true if a start would change the schema of the file at `path`.
pub fn is_of_earlier_schema(path: &Path) -> bool {
    query::open(path).is_ok_and(|connection| schema::expect_writable(&connection).is_err())
}

/// The sink. It becomes the ledger when the latch is open and the schema is changed.
pub struct LateLedger {
    path: PathBuf,
    taken_over: Latch,
    threads: Threads,
    shared: Arc<Shared>,
    /// The thread that opens the ledger runs, or has ended.
    is_opening: bool,
    opened: Option<Ledger>,
    has_failed: bool,
    /// Records were spilled that the ledger must take in.
    has_spilled: bool,
    /// The number of records from which on those that wait are spilled: half of those that may
    /// wait.
    most_waiting: usize,
}

/// The parts that the thread which opens the ledger shares with the sink.
struct Shared {
    open: Mutex<Opening>,
    opened: Mutex<Option<Ledger>>,
}

impl LateLedger {
    /// `open` is called until it succeeds, from the opening of `taken_over` on, on a thread of
    /// `journal`.
    pub fn new(
        path: &Path,
        taken_over: &Latch,
        journal: &Journal,
        open: impl FnMut() -> Result<Ledger, LedgerError> + Send + 'static,
    ) -> Self {
        Self {
            path: path.to_owned(),
            taken_over: taken_over.clone(),
            threads: journal.threads().clone(),
            shared: Arc::new(Shared { open: Mutex::new(Box::new(open)), opened: Mutex::default() }),
            is_opening: false,
            opened: None,
            has_failed: false,
            has_spilled: false,
            most_waiting: journal.sink_capacity() / 2,
        }
    }

    fn ledger(&mut self) -> Option<&mut Ledger> {
        if self.opened.is_none() {
            if !self.is_opening && self.taken_over.is_open() {
                self.begin_opening();
            }
            self.opened = self.shared.opened().take();
            if let Some(ledger) = &mut self.opened
                && mem::take(&mut self.has_spilled)
            {
                ledger.take_in_spilled();
            }
        }
        self.opened.as_mut()
    }

    fn begin_opening(&mut self) {
        let (shared, name) = (Arc::downgrade(&self.shared), self.name());
        let started = self.threads.spawn("ledger-open", move || {
            enter_background();
            open(&shared, &name);
            Ok(())
        });
        self.is_opening = started.is_ok();
        if let Err(error) = started
            && !mem::replace(&mut self.has_failed, true)
        {
            tracing::error!(ledger = self.name(), %error, "usage records wait: there is no thread to open the ledger");
        }
    }

    /// Leaves records to the open ledger, or to the next start.
    fn spill(&mut self, batches: &[Batch], turn: &mut Turn<'_>) {
        let spilled = spill::append(&self.path, batches.iter().flat_map(|batch| batch.iter()));
        self.has_spilled |= spilled.records > 0;
        turn.record_written(spilled.records);
        turn.record_lost(count(batches) - spilled.records);
    }
}

/// Opens the ledger as soon as that is possible, unless the sink ends before.
fn open(shared: &Weak<Shared>, name: &str) {
    let mut has_failed = false;
    while let Some(shared) = shared.upgrade() {
        let opened = (shared.open.lock().unwrap_or_else(PoisonError::into_inner))();
        match opened {
            Ok(ledger) => {
                tracing::info!(ledger = name, "the ledger has the schema of this version now");
                *shared.opened() = Some(ledger);
                return;
            }
            Err(error) if !mem::replace(&mut has_failed, true) => {
                tracing::error!("ledger.path: {error}; usage records wait until it can be opened");
            }
            Err(_) => {}
        }
        drop(shared);
        thread::sleep(PAUSE);
    }
}

impl Shared {
    fn opened(&self) -> MutexGuard<'_, Option<Ledger>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for LateLedger {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn label(&self) -> &'static str {
        "ledger"
    }

    fn gathering(&self) -> Gathering {
        GATHERING
    }

    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
        match self.ledger() {
            Some(ledger) => ledger.write(batch),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn write_batches(&mut self, batches: &[Batch], turn: &mut Turn<'_>) {
        loop {
            if let Some(ledger) = self.ledger() {
                return ledger.write_batches(batches, turn);
            }
            let is_ending = turn.pause(PAUSE).is_some();
            if is_ending || turn.waiting() > self.most_waiting {
                return self.spill(batches, turn);
            }
        }
    }

    fn wake(&mut self) -> Option<Instant> {
        match self.ledger() {
            Some(ledger) => ledger.wake(),
            None => Some(Instant::now() + PAUSE),
        }
    }

    fn take_gone(&mut self) -> usize {
        self.opened.as_mut().map_or(0, Sink::take_gone)
    }

    fn reopen(&mut self) {
        if let Some(ledger) = &mut self.opened {
            ledger.reopen();
        }
    }

    fn end(&mut self) {
        if let Some(ledger) = &mut self.opened {
            ledger.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use rusqlite::Connection;

    use super::super::support::records;
    use super::*;
    use crate::record::{CAPACITY, Writer};
    use crate::support::threads::Deadline;

    const SOON: Duration = Duration::from_secs(20);

    fn version(path: &Path) -> usize {
        Connection::open(path)
            .unwrap()
            .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
            .unwrap() as usize
    }

    fn rows(path: &Path) -> i64 {
        let connection = Connection::open(path).unwrap();
        connection.query_row("SELECT count(*) FROM usage_records", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn schema_changes_after_the_take_over_and_a_copy_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.db");
        let earlier = schema::MIGRATIONS.len() - 1;
        let mut connection = Connection::open(&path).unwrap();
        schema::migrate(&mut connection, &schema::MIGRATIONS[..earlier]).unwrap();
        drop(connection);
        assert!(is_of_earlier_schema(&path));

        let (journal, latch) = (Journal::new(CAPACITY), Latch::default());
        let opening = (path.clone(), journal.clone());
        let late =
            LateLedger::new(&path, &latch, &journal, move || Ledger::open(&opening.0, None, &opening.1));
        let mut writer = Writer::spawn(&journal, vec![Box::new(late)]).unwrap();
        records(1).into_iter().for_each(|record| journal.push(record));
        thread::sleep(PAUSE * 3);
        assert_eq!((version(&path), rows(&path)), (earlier, 0), "the earlier process may still need it");
        latch.open();
        let start = Instant::now();
        while rows(&path) < 1 {
            assert!(start.elapsed() < SOON, "the record is not written");
            thread::sleep(PAUSE / 10);
        }
        assert_eq!(version(&path), schema::MIGRATIONS.len());
        let copy = folder.path().join(format!("usage.db.before-{}", schema::MIGRATIONS.len()));
        assert_eq!((version(&copy), rows(&copy)), (earlier, 0));
        assert!(!is_of_earlier_schema(&path));
        assert!(writer.end(&Deadline::after(SOON)));
    }

    #[test]
    fn records_of_a_process_that_ends_first_are_left_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.db");
        let (journal, latch) = (Journal::new(CAPACITY), Latch::default());
        let late = LateLedger::new(&path, &latch, &journal, || unreachable!("it has not taken over"));
        let mut writer = Writer::spawn(&journal, vec![Box::new(late)]).unwrap();
        for record in records(3) {
            journal.push(record);
        }
        assert!(writer.end(&Deadline::after(SOON)));
        assert!(!path.exists());
        assert!(fs::metadata(spill::file_of(&path)).unwrap().len() > 0);
    }

    /// A sink whose ledger opens when `copied` does, as after the copy of a large one.
    fn copying(path: &Path, journal: &Journal, copied: &Latch) -> LateLedger {
        let (taken_over, copied) = (Latch::default(), copied.clone());
        taken_over.open();
        let opening = (path.to_owned(), journal.clone());
        LateLedger::new(path, &taken_over, journal, move || {
            copied.wait(SOON);
            Ledger::open(&opening.0, None, &opening.1)
        })
    }

    #[test]
    fn end_during_a_long_copy_leaves_records_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.db");
        let (journal, copied) = (Journal::new(CAPACITY), Latch::default());
        let late = copying(&path, &journal, &copied);
        let mut writer = Writer::spawn(&journal, vec![Box::new(late)]).unwrap();
        records(3).into_iter().for_each(|record| journal.push(record));
        assert!(writer.end(&Deadline::after(SOON / 2)), "the copy does not hold the end up");
        assert!(fs::metadata(spill::file_of(&path)).unwrap().len() > 0);
        copied.open();
        drop(Ledger::open(&path, None, &journal).unwrap());
        assert_eq!(rows(&path), 3);
    }

    #[test]
    fn more_records_than_may_wait_survive_a_long_copy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.db");
        let (journal, copied) = (Journal::new(CAPACITY), Latch::default());
        let late = LateLedger { most_waiting: 50, ..copying(&path, &journal, &copied) };
        let mut writer = Writer::spawn(&journal, vec![Box::new(late)]).unwrap();
        records(200).into_iter().for_each(|record| journal.push(record));
        let start = Instant::now();
        while fs::metadata(spill::file_of(&path)).map_or(0, |file| file.len()) == 0 {
            assert!(start.elapsed() < SOON, "records wait for the copy");
            thread::sleep(PAUSE / 10);
        }
        copied.open();
        records(7).into_iter().for_each(|record| journal.push(record));
        assert!(writer.end(&Deadline::after(SOON)));
        drop(Ledger::open(&path, None, &journal).unwrap());
        assert_eq!(rows(&path), 207);
    }
}
