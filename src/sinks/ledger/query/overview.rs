//! Reads all data that the dashboard shows of a selection in one pass over its rows, by halves if
//! there are many.

mod accumulate;

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Transaction;
use rusqlite::types::ValueRef;

use super::super::columns::TAGS;
use super::super::error::{LedgerError, Reason};
use super::super::groups::{Group, Sums};
use super::super::schema;
use super::counting::text;
use super::records::{self, Record};
use super::{Bounds, COUNTED_COLUMNS, Counting, Range, Selection, by_halves, counted, whole};
use crate::llm::price::{Currency, Prices};
use crate::support::tags::TagName;

pub(in crate::sinks::ledger) use accumulate::Accumulator;

/// The largest number of times to the first token that are kept, at 8 bytes each. Of more rows they
/// are a uniform sample.
const MOST_SAMPLES: usize = 1 << 20;

/// Sums of the selected rows, by several fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overview {
    /// The sums of all rows.
    pub total: Sums,
    /// The sums by user; each key has one part.
    pub users: Vec<Group>,
    /// The sums by client.
    pub clients: Vec<Group>,
    /// The sums by upstream.
    pub upstreams: Vec<Group>,
    /// The sums by model.
    pub models: Vec<Group>,
    /// The sums by value of each tag, in the order of the tags' names. Requests without the tag are in
    /// no sum.
    pub tags: Vec<(TagName, Vec<Group>)>,
    /// The number of requests by outcome, the largest first.
    pub outcomes: Vec<(String, u64)>,
    /// The sums by time: steps of the requested length, from the one that contains the start of the
    /// selection, each with its beginning. Empty steps are included.
    pub times: Vec<(Timestamp, Sums)>,
    /// The time to the first token.
    pub first_token: Percentiles,
    /// The latest records, in the order of descending ends.
    pub latest: Vec<Record>,
    /// The currencies of the prices, in alphabetical order.
    pub currencies: Vec<Currency>,
}

/// The nearest-rank percentiles of a duration in milliseconds, which are values that occurred.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Percentiles {
    /// The number of rows with a value. If it is 0, there are no percentiles.
    pub rows: u64,
    /// The median.
    pub p50: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// True if these come from a sample, because there were too many rows.
    pub sampled: bool,
}

/// Reads an overview. `step` is the length of the chart's steps, counted in the selection's zone;
/// `latest` is the number of latest records. All data is read at one point in time.
///
/// # Errors
/// Fails like [`report`](super::report).
pub fn overview(
    path: &Path,
    selection: &Selection,
    step: Duration,
    latest: usize,
    prices: &Prices,
    bounds: &Bounds,
) -> Result<Overview, LedgerError> {
    let read =
        |transaction: &Transaction<'_>, range| read(transaction, range, selection, step, latest, prices);
    let add_up = || {
        let (mut part, later) = by_halves(path, selection, bounds, read)?;
        if let Some(later) = later {
            part.add(later, latest);
            if part.totals.overflows() {
                return whole(path, selection, bounds, read);
            }
        }
        Ok(part)
    };
    let part = add_up().map_err(|reason: Reason| LedgerError::new(path, reason))?;
    Ok(part.finish(prices))
}

/// The overview of a part of the rows.
struct Part {
    totals: Accumulator,
    samples: Samples,
    latest: Vec<Record>,
}

impl Part {
    /// Adds the overview of later rows.
    fn add(&mut self, mut later: Self, most_latest: usize) {
        self.totals.add_all(later.totals);
        self.samples.add_all(later.samples);
        later.latest.append(&mut self.latest);
        later.latest.truncate(most_latest);
        self.latest = later.latest;
    }

    fn finish(self, prices: &Prices) -> Overview {
        let Self { totals, samples, latest } = self;
        let currencies = prices.currencies().to_vec();
        Overview { first_token: samples.finish(), latest, currencies, ..totals.finish() }
    }
}

/// The columns after those of the sums.
const COLUMNS: &str = "started_at, client, upstream, model, user, outcome, time_to_first_token_ms, seq";

/// The position of the tags, which follow [`COLUMNS`].
const TAGS_PLACE: usize = 8;

fn read(
    transaction: &Transaction<'_>,
    range: Range,
    selection: &Selection,
    step: Duration,
    latest: usize,
    prices: &Prices,
) -> Result<Part, Reason> {
    let has_later = schema::has_count(transaction)?;
    let condition = selection.condition(range, has_later);
    let tags = if has_later { TAGS } else { "NULL" };
    let mut statement = transaction.prepare(&format!(
        "SELECT {}, {COLUMNS}, {tags} FROM usage_records NOT INDEXED WHERE {}",
        counted(transaction, prices)?,
        condition.text
    ))?;
    let mut totals = Accumulator::new(selection, step);
    let mut counting = Counting::new(prices);
    let mut samples = Samples::default();
    let mut places = VecDeque::with_capacity(latest);
    let mut rows = statement.query(condition.values().as_slice())?;
    while let Some(row) = rows.next()? {
        let mut sums = Sums::default();
        counting.add(row, &mut sums)?;
        let column = |index| row.get_ref(COUNTED_COLUMNS + index);
        let text = |index| Ok::<_, rusqlite::Error>(text(column(index)?));
        totals.add(
            totals.step(column(0)?.as_i64().map_err(rusqlite::Error::from)?),
            [text(1)?, text(2)?, text(3)?, text(4)?],
            text(5)?.unwrap_or_default(),
            &sums,
        );
        totals.add_tags(text(TAGS_PLACE)?, &sums);
        if let ValueRef::Real(millis) = column(6)? {
            samples.add(millis);
        }
        if places.len() == latest {
            places.pop_front();
        }
        places.push_back(column(7)?.as_i64().map_err(rusqlite::Error::from)?);
    }
    places.truncate(latest);
    Ok(Part { totals, samples, latest: records::at(transaction, places.into_iter().rev())? })
}

/// Durations in milliseconds. Beyond [`MOST_SAMPLES`] each new one replaces a random one, or is
/// dropped (Vitter's algorithm R).
#[derive(Default)]
struct Samples {
    kept: Vec<f64>,
    seen: u64,
}

impl Samples {
    fn add(&mut self, millis: f64) {
        self.seen += 1;
        if self.kept.len() < MOST_SAMPLES {
            return self.kept.push(millis);
        }
        let place = fastrand::u64(..self.seen);
        if let Some(kept) = usize::try_from(place).ok().and_then(|place| self.kept.get_mut(place)) {
            *kept = millis;
        }
    }

    /// Adds another sample, so that each value seen has the same odds.
    fn add_all(&mut self, mut other: Self) {
        let (mut here, mut there) = (self.seen, other.seen);
        self.seen += other.seen;
        if self.seen <= MOST_SAMPLES as u64 {
            return self.kept.append(&mut other.kept);
        }
        fastrand::shuffle(&mut self.kept);
        fastrand::shuffle(&mut other.kept);
        let mut kept = Vec::with_capacity(MOST_SAMPLES);
        while kept.len() < MOST_SAMPLES {
            let is_here = fastrand::u64(..here + there) < here;
            let (left, from) =
                if is_here { (&mut here, &mut self.kept) } else { (&mut there, &mut other.kept) };
            *left -= 1;
            kept.extend(from.pop());
        }
        self.kept = kept;
    }

    fn finish(mut self) -> Percentiles {
        let mut rank = |percent: usize| {
            let rank = (self.kept.len() * percent).div_ceil(100).max(1) - 1;
            match self.kept.len() {
                0 => 0.0,
                _ => *self.kept.select_nth_unstable_by(rank, f64::total_cmp).1,
            }
        };
        Percentiles {
            p50: rank(50),
            p95: rank(95),
            p99: rank(99),
            rows: self.seen,
            sampled: self.seen > MOST_SAMPLES as u64,
        }
    }
}

#[cfg(test)]
mod tests;
