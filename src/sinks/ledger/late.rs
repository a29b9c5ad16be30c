//! A ledger of an earlier schema, while the process that writes to it still runs.
//!
//! During an upgrade the earlier process can still take over again until the new one serves. So the
//! new one changes the schema only then; records wait until the ledger is open.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::LedgerError;
use super::sink::{Batch, GATHERING, Ledger};
use super::{query, schema, spill};
use crate::record::{Sink, Turn, UsageRecord, count};
use crate::support::{Gathering, Latch};

/// The pause between looks at the latch, and between attempts to open the ledger.
const PAUSE: Duration = Duration::from_millis(100);

/// Opens the ledger, and changes its schema.
type Opening = Box<dyn FnMut() -> Result<Ledger, LedgerError> + Send>;

/// Returns true if a start would change the schema of the file at `path`.
pub fn is_of_earlier_schema(path: &Path) -> bool {
    query::open(path).is_ok_and(|connection| schema::expect_writable(&connection).is_err())
}

/// The sink. It becomes the ledger when the latch opens.
pub struct LateLedger {
    path: PathBuf,
    taken_over: Latch,
    open: Opening,
    opened: Option<Ledger>,
    has_failed: bool,
}

impl LateLedger {
    /// `open` is called until it succeeds, from the opening of `taken_over` on.
    pub fn new(
        path: &Path,
        taken_over: &Latch,
        open: impl FnMut() -> Result<Ledger, LedgerError> + Send + 'static,
    ) -> Self {
        Self {
            path: path.to_owned(),
            taken_over: taken_over.clone(),
            open: Box::new(open),
            opened: None,
            has_failed: false,
        }
    }

    fn ledger(&mut self) -> Option<&mut Ledger> {
        if self.opened.is_none() && self.taken_over.is_open() {
            match (self.open)() {
                Ok(ledger) => {
                    tracing::info!(ledger = self.name(), "the ledger has the schema of this version now");
                    self.opened = Some(ledger);
                }
                Err(error) if !self.has_failed => {
                    self.has_failed = true;
                    tracing::error!("ledger.path: {error}; usage records wait until it can be opened");
                }
                Err(_) => {}
            }
        }
        self.opened.as_mut()
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
            if turn.pause(PAUSE).is_some() {
                break;
            }
        }
        // The process ends: the next start reads them.
        let spilled = spill::append(&self.path, batches.iter().flat_map(|batch| batch.iter()));
        turn.record_written(spilled.records);
        turn.record_lost(count(batches) - spilled.records);
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
    use crate::record::{CAPACITY, Journal, Writer};
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
        let late = LateLedger::new(&path, &latch, move || Ledger::open(&opening.0, None, &opening.1));
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
        let late = LateLedger::new(&path, &latch, || unreachable!("it has not taken over"));
        let mut writer = Writer::spawn(&journal, vec![Box::new(late)]).unwrap();
        for record in records(3) {
            journal.push(record);
        }
        assert!(writer.end(&Deadline::after(SOON)));
        assert!(!path.exists());
        assert!(fs::metadata(spill::file_of(&path)).unwrap().len() > 0);
    }
}
