//! A part of the records that a question is about.

use uuid::Uuid;

use super::Record;
use super::parallel::Range;

/// Some of the selected records, the one that ended last first.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// In their order.
    pub records: Vec<Record>,
    /// From where more may come; `None`: these were the last.
    pub next: Option<Next>,
}

/// Where a page ended: a later question goes on from there, with no transaction in between.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// In SQLite: what is left of the range in the order of writing.
    File(Range),
    /// In PostgreSQL, whose records are in the order of their ends: the last one's start in
    /// microseconds, how long it took in milliseconds, and its id.
    Fleet(i64, f64, Uuid),
}

/// The memory for the texts of a page, so that a page that waits for its client is small whatever
/// clients wrote into its records: about 200 of the usual ones.
const PAGE: usize = 256 << 10;

/// The bytes of a record as JSON beside its texts.
const RECORD: usize = 1024;

/// How much of a page is filled.
#[derive(Default)]
pub(in crate::sinks::ledger) struct Filling(usize);

impl Filling {
    /// Adds a record, and says whether the page is full with it.
    pub(in crate::sinks::ledger) fn fill_with(&mut self, record: &Record) -> bool {
        let texts = record.fields().filter_map(|(_, value)| value.as_str());
        self.0 += RECORD + texts.map(str::len).sum::<usize>();
        self.0 >= PAGE
    }
}

impl Next {
    /// Behind a record of PostgreSQL's; `None`: it is no such record.
    pub(in crate::sinks::ledger) fn behind(record: &Record) -> Option<Self> {
        let started: jiff::Timestamp = record.get("started_at").as_str()?.parse().ok()?;
        let duration = record.get("duration_ms").as_f64()?;
        let id = record.get("id").as_str()?.parse().ok()?;
        Some(Self::Fleet(started.as_microsecond(), duration, id))
    }
}
