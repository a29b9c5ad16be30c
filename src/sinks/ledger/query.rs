//! Reads a ledger, also while it is being written.
//!
//! Rows are added up here and not by SQLite, which groups by sorting. On a million rows like those
//! of `benches/ledger.rs`, `GROUP BY` of a day and a model takes 1.9 s of CPU, and 2.7 s with the
//! columns that costs depend on; stepping through the same rows with a hash table takes 0.7 s
//! (SQLite 3.40, one thread). Costs and exact decimals would have to be added here in any case.
//! PostgreSQL groups by hashes, so there SQL adds up.

mod attempts;
mod counting;
mod last_used;
mod overview;
mod page;
mod parallel;
mod records;
mod rolled;
mod selection;
mod uses;

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction};

use super::by::By;
use super::calendar::Periods;
use super::columns::TAGS;
use super::error::{LedgerError, Reason};
use super::groups::{Groups, SOURCES, Sums};
use super::report::{Report, time_part};
use super::rollup::{Block, Key, Tally, Text};
use super::{repair, schema};
use crate::llm::price::Prices;
use crate::support::tags::TagName;

pub(super) use attempts::RowKind;
use counting::{COUNTED_COLUMNS, Counting, counted};
pub(super) use counting::{integer, text, tool_calls};
use parallel::{Range, by_halves, whole};
use rolled::{Filter, KnownTags, Plan};

pub(super) use last_used::last_used;
pub(super) use overview::{Accumulator, BOUNDS as CLASS_BOUNDS, FIELDS, Histogram};
pub use overview::{Overview, OverviewSpec, Percentiles, overview};
pub(super) use page::Filling;
pub use page::{Next, Page};
pub use records::{Record, record, records};
pub use selection::{Bounds, Selection, Teams};
pub use uses::{RowUse, ledger_id, uses};

/// The time to wait for a file that is being opened or recovered. Writers do not block readers.
const PATIENCE: Duration = Duration::from_secs(5);

/// The part of the file that is memory-mapped instead of copied, in bytes of address space.
const MAPPED: i64 = 8 << 30;

/// Adds up the selected rows of the ledger at `path`, and their costs by `prices`. All data is read
/// at one point in time, and nothing is written.
///
/// # Errors
/// Fails if there is no ledger, if it cannot be read or has another version, or if a bound was
/// reached.
pub fn report(
    path: &Path,
    selection: &Selection,
    by: &[By],
    prices: &Prices,
    bounds: &Bounds,
) -> Result<Report, LedgerError> {
    let sum = || {
        if let Some(summed) = report_of_hours(path, selection, by, prices, bounds)? {
            return Ok(summed);
        }
        let (mut groups, later) = by_halves(path, selection, bounds, |transaction, range| {
            let mut groups = Groups::default();
            read(transaction, range, selection, by, prices, bounds, RowKind::Requests, &mut groups)?;
            if selection.attempts && schema::has_count(transaction)? {
                read(transaction, range, selection, by, prices, bounds, RowKind::Attempts, &mut groups)?;
            }
            Ok(groups)
        })?;
        groups.add(later.unwrap_or_default(), usize::MAX, &mut Sums::default());
        bounds.allow(groups.len())?;
        Ok((groups, None))
    };
    let (groups, coarse_until) = sum().map_err(|reason: Reason| LedgerError::new(path, reason))?;
    Ok(Report { coarse_until, ..Report::of(groups, by, selection, prices) })
}

/// The groups of hours and of the rows that they do not tell. `None`: all rows are to be read.
fn report_of_hours(
    path: &Path,
    selection: &Selection,
    by: &[By],
    prices: &Prices,
    bounds: &Bounds,
) -> Result<Option<(Groups, Option<Timestamp>)>, Reason> {
    let connection = open_bounded(path, bounds)?;
    let transaction = connection.unchecked_transaction()?;
    let mut periods = periods(by, selection);
    let splits =
        |first, last| periods.iter_mut().flatten().any(|period| period.begin(first) != period.begin(last));
    let Some(plan) = Plan::of(&transaction, selection, prices, splits)? else { return Ok(None) };
    let new = || (Groups::default(), HourRows::new(selection, by, prices));
    let results = plan.read_hours(&transaction, bounds, 2, new, |(groups, rows), started, block| {
        rows.add(started, block, bounds, groups)
    })?;
    let mut groups = Groups::default();
    for (part, _) in results {
        groups.add(part, usize::MAX, &mut Sums::default());
    }
    for (selection, range) in &plan.spans {
        read(&transaction, *range, selection, by, prices, bounds, RowKind::Requests, &mut groups)?;
        if selection.attempts {
            read(&transaction, *range, selection, by, prices, bounds, RowKind::Attempts, &mut groups)?;
        }
    }
    bounds.allow(groups.len())?;
    Ok(Some((groups, plan.coarse_until)))
}

/// The periods of fields that are times.
fn periods<'s>(by: &[By], selection: &'s Selection) -> Vec<Option<Periods<'s>>> {
    by.iter().map(|by| by.period().map(|period| Periods::new(period, &selection.zone))).collect()
}

/// Adds the entries of hours to groups.
struct HourRows<'s> {
    by: &'s [By],
    filter: Filter<'s>,
    periods: Vec<Option<Periods<'s>>>,
    counting: Counting<'s>,
    tags: KnownTags,
    tally: Tally,
}

impl<'s> HourRows<'s> {
    fn new(selection: &'s Selection, by: &'s [By], prices: &'s Prices) -> Self {
        Self {
            by,
            filter: Filter::new(selection),
            periods: periods(by, selection),
            counting: Counting::new(prices),
            tags: KnownTags::default(),
            tally: Tally::default(),
        }
    }

    fn add(
        &mut self,
        started: i64,
        block: &mut Block<'_>,
        bounds: &Bounds,
        groups: &mut Groups,
    ) -> Result<(), Reason> {
        while let Some(key) = block.next(&mut self.tally) {
            if !self.filter.selects(&key) {
                continue;
            }
            groups.begin();
            for (by, periods) in self.by.iter().zip(&mut self.periods) {
                match (by, periods) {
                    (_, Some(periods)) => groups.part(Some(&time_part(periods.begin(started)))),
                    (By::Status, None) => {
                        groups.part(
                            key.status().map(|status| status.to_string()).as_ref().map(String::as_bytes),
                        );
                    }
                    (By::Tag(name), None) => {
                        groups.part(self.tags.value(key.text(Text::Tags), *name).map(str::as_bytes));
                    }
                    (by, None) => groups.part(part(*by, &key)),
                }
            }
            if key.is_attempt() {
                let mut sums = Sums::default();
                self.counting.add_entry(started, &key, &self.tally, &mut sums);
                groups.sums().add(&sums.without_requests());
            } else {
                self.counting.add_entry(started, &key, &self.tally, groups.sums());
            }
            bounds.allow(groups.len())?;
        }
        Ok(())
    }
}

/// The part of a group's key that is a text of an entry's key.
fn part<'k>(by: By, key: &Key<'k>) -> Option<&'k [u8]> {
    match by {
        By::Model => key.text(Text::Model),
        By::Client | By::Team => key.text(Text::Client),
        By::Key => key.text(Text::KeyId),
        By::Upstream => key.text(Text::Upstream),
        By::Group => key.text(Text::Group),
        By::Endpoint => key.text(Text::Endpoint),
        By::User => key.text(Text::User),
        By::Provider => key.text(Text::Provider),
        By::Outcome => key.text(Text::Outcome),
        By::UsageSource => Some(SOURCES[key.source()].as_bytes()),
        By::Status | By::Tag(_) | By::Day | By::Hour | By::Week | By::Month => None,
    }
}

/// Opens the ledger for a query within bounds.
fn open_bounded(path: &Path, bounds: &Bounds) -> Result<Connection, Reason> {
    let mut connection = open(path)?;
    bounds.hold(&mut connection)?;
    connection.pragma_update(None, "mmap_size", MAPPED)?;
    Ok(connection)
}

/// Opens a ledger for reading, also a copy in a read-only place.
pub(super) fn open(path: &Path) -> Result<Connection, Reason> {
    if !fs::exists(path)? {
        return Err(Reason::Missing);
    }
    let connection = Connection::open_with_flags(path, READ_ONLY)?;
    connection.busy_timeout(PATIENCE)?;
    match schema::expect_readable(&connection) {
        // A reader needs the log's index, and may lack the right to create it. A writer would have
        // created it.
        Err(Reason::Sqlite(error))
            if matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
                && !fs::exists(repair::with(path, "-shm"))? =>
        {
            open_unwritten(path)
        }
        result => result.map(|()| connection),
    }
}

const READ_ONLY: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// Opens a file that has no writer, without locks and without files beside it. If it has a log, the
/// log's index is built in memory (sqlite.org/wal.html, "Use of WAL without shared memory").
fn open_unwritten(path: &Path) -> Result<Connection, Reason> {
    let log = fs::metadata(repair::with(path, "-wal"));
    let has_log = log.is_ok_and(|log| log.len() > 0);
    let connection = if has_log {
        let connection = Connection::open_with_flags_and_vfs(path, READ_ONLY, c"unix-none")?;
        connection.pragma_update(None, "locking_mode", "exclusive")?;
        connection
    } else {
        Connection::open_with_flags(immutable(path)?, READ_ONLY | OpenFlags::SQLITE_OPEN_URI)?
    };
    schema::expect_readable(&connection)?;
    Ok(connection)
}

/// The file as a URI that marks it as immutable (sqlite.org/uri.html).
fn immutable(path: &Path) -> Result<PathBuf, Reason> {
    let path = fs::canonicalize(path)?;
    let mut uri = "file://".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    Ok(uri.into())
}

/// Adds the rows of a range to `groups`.
#[expect(clippy::too_many_arguments, reason = "those of a report, of a half, and of its result")]
fn read(
    transaction: &Transaction<'_>,
    range: Range,
    selection: &Selection,
    by: &[By],
    prices: &Prices,
    bounds: &Bounds,
    rows_of: RowKind,
    groups: &mut Groups,
) -> Result<(), Reason> {
    let has_later = schema::has_count(transaction)?;
    let condition = selection.condition(range, has_later);
    let columns: String = by.iter().map(|by| format!(", {}", column(by, has_later))).collect();
    let mut statement = transaction.prepare(&format!(
        "SELECT {}{columns} FROM {} WHERE {}",
        counted(transaction, prices)?,
        rows_of.source(),
        condition.text
    ))?;
    let mut counting = Counting::new(prices);
    let mut periods = periods(by, selection);
    let mut rows = statement.query(condition.values().as_slice())?;
    while let Some(row) = rows.next()? {
        groups.begin();
        for (index, periods) in periods.iter_mut().enumerate() {
            match (row.get_ref(COUNTED_COLUMNS + index)?, periods) {
                (ValueRef::Text(text), _) => groups.part(Some(text)),
                (ValueRef::Integer(started), Some(periods)) => {
                    groups.part(Some(&time_part(periods.begin(started))));
                }
                (ValueRef::Integer(number), None) => groups.part(Some(number.to_string().as_bytes())),
                _ => groups.part(None),
            }
        }
        match rows_of {
            RowKind::Requests => counting.add(row, groups.sums())?,
            RowKind::Attempts => {
                let mut sums = Sums::default();
                counting.add(row, &mut sums)?;
                groups.sums().add(&sums.without_requests());
            }
        }
        bounds.allow(groups.len())?;
    }
    Ok(())
}

/// `has_later`: the file has the columns that earlier versions lack.
fn column(by: &By, has_later: bool) -> Cow<'_, str> {
    match by {
        By::Group if has_later => "\"group\"".into(),
        By::Key if has_later => by.column().into(),
        By::Tag(name) if has_later => tag(*name).into(),
        By::Group | By::Key | By::Tag(_) => "NULL".into(),
        by if by.period().is_some() => "started_at".into(),
        by => by.column().into(),
    }
}

/// The value of a tag, whose name needs no quoting.
fn tag(name: TagName) -> String {
    format!("json_extract({TAGS}, '$.\"{name}\"')")
}

#[cfg(test)]
mod tests;
