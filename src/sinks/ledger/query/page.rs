//! A page of the selected records.

use uuid::Uuid;

use super::Record;
use super::parallel::Range;

/// A part of the selected records, in the order of descending ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The records, in their order.
    pub records: Vec<Record>,
    /// The start of the next page. `None`: these were the last records.
    pub next: Option<Next>,
}

/// The end of a page. A later query continues there, without a transaction in between.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The rest of the range in SQLite, in the order of writing.
    File(Range),
    /// The last record's start in microseconds, its duration in milliseconds, and its id, in
    /// PostgreSQL, which orders records by their ends.
    Fleet(i64, f64, Uuid),
}

/// The limit for the texts of a page: about 200 usual records. So a page that waits for its client
/// stays small, although clients choose texts of their records.
const PAGE: usize = 256 << 10;

/// The bytes of a record as JSON besides its texts.
const RECORD: usize = 1024;

/// The filled part of a page.
#[derive(Default)]
pub(in crate::sinks::ledger) struct Filling(usize);

impl Filling {
    /// Adds a record. Returns true if the page is full.
    pub(in crate::sinks::ledger) fn fill_with(&mut self, record: &Record) -> bool {
        let texts = record.fields().filter_map(|(_, value)| value.as_str());
        self.0 += RECORD + texts.map(str::len).sum::<usize>();
        self.0 >= PAGE
    }
}

impl Next {
    /// The position behind a record of PostgreSQL. `None` if it is not such a record.
    pub(in crate::sinks::ledger) fn behind(record: &Record) -> Option<Self> {
        let started: jiff::Timestamp = record.get("started_at").as_str()?.parse().ok()?;
        let duration = record.get("duration_ms").as_f64()?;
        let id = record.get("id").as_str()?.parse().ok()?;
        Some(Self::Fleet(started.as_microsecond(), duration, id))
    }
}
