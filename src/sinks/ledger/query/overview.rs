//! Reads all data that the dashboard shows of a selection in one pass over its rows, by halves if
//! there are many.

mod accumulate;
mod hours;
mod latency;

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Transaction;
use rusqlite::types::ValueRef;

use super::super::by::By;
use super::super::columns::TAGS;
use super::super::error::{LedgerError, Reason};
use super::super::groups::{Group, Sums};
use super::super::schema;
use super::counting::text;
use super::records::{self, Record};
use super::{Bounds, COUNTED_COLUMNS, Counting, Range, Selection, by_halves, counted, whole};
use crate::llm::price::{Currency, Prices};
use crate::support::tags::TagName;

pub(in crate::sinks::ledger) use accumulate::{Accumulator, FIELDS};
use latency::Samples;
pub(in crate::sinks::ledger) use latency::{BOUNDS, Histogram};

/// The largest number of times to the first token that are kept, at 16 bytes each. Of more rows they
/// are a uniform sample.
const MOST_SAMPLES: usize = 1 << 20;

/// The extent of an overview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverviewSpec {
    /// The length of the chart's steps, counted in the selection's zone.
    pub step: Duration,
    /// The number of latest records.
    pub latest: usize,
    /// The latest records are those of failed requests. Without effect if the selection has an outcome.
    pub latest_failed: bool,
    /// The field whose values split the steps: one with groups in the overview, or a tag.
    pub split: Option<By>,
}

impl OverviewSpec {
    /// Sums in steps of this length, without records.
    pub fn new(step: Duration) -> Self {
        Self { step, latest: 0, latest_failed: false, split: None }
    }
}

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
    /// The sums by endpoint.
    pub endpoints: Vec<Group>,
    /// The sums by outcome.
    pub outcomes: Vec<Group>,
    /// The sums by time: steps of the requested length, from the one that contains the start of the
    /// selection, each with its beginning. Empty steps are included.
    pub times: Vec<(Timestamp, Sums)>,
    /// The sums by time of each value of the field that splits them, in the order of the values.
    pub series: Vec<(Option<String>, Vec<Sums>)>,
    /// The sums by time of further values, if there are too many.
    pub other_series: Option<Vec<Sums>>,
    /// The time to the first token.
    pub first_token: Percentiles,
    /// The time to the first token in each step of `times`.
    pub latencies: Vec<Percentiles>,
    /// The number of times to the first token by class: below the first bound of
    /// [`Self::CLASSES`], between two of them, and from the last.
    pub histogram: Histogram,
    /// The latest records, in the order of descending ends.
    pub latest: Vec<Record>,
    /// The currencies of the prices, in alphabetical order.
    pub currencies: Vec<Currency>,
    /// The end of the last hour that is in the sums as a whole, as in
    /// [`Report`](crate::sinks::ledger::Report).
    pub coarse_until: Option<Timestamp>,
}

impl Overview {
    /// The bounds of the classes of times in milliseconds.
    pub const CLASSES: [f64; BOUNDS.len()] = BOUNDS;
}

/// The nearest-rank percentiles of a duration in milliseconds: values that occurred, or if there are
/// many, values of a sample, or values at most 1.6 % from one that occurred.
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
    /// True if these come from a sample or from classes of similar values, because there were too
    /// many rows.
    pub sampled: bool,
}

/// Reads an overview. All data is read at one point in time.
///
/// # Errors
/// Fails like [`report`](super::report).
pub fn overview(
    path: &Path,
    selection: &Selection,
    spec: &OverviewSpec,
    prices: &Prices,
    bounds: &Bounds,
) -> Result<Overview, LedgerError> {
    let read = |transaction: &Transaction<'_>, range| read_part(transaction, range, selection, spec, prices);
    let add_up = || {
        for threads in [2, 1] {
            match hours::read(path, selection, spec, prices, bounds, threads)? {
                // A name may be a group in one part, and belong to the others in another.
                Some(part) if threads > 1 && part.totals.overflows() => {}
                Some(part) => return Ok(part),
                None => break,
            }
        }
        let (mut part, later) = by_halves(path, selection, bounds, read)?;
        if let Some(later) = later {
            part.add(later, spec.latest);
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
    /// The positions of the latest rows, until they are read as `latest`.
    places: VecDeque<i64>,
    latest: Vec<Record>,
    coarse_until: Option<Timestamp>,
}

impl Part {
    fn new(selection: &Selection, spec: &OverviewSpec, samples: Samples) -> Self {
        let totals = Accumulator::new(selection, spec);
        Self { totals, samples, places: VecDeque::new(), latest: Vec::new(), coarse_until: None }
    }

    /// Adds the overview of later rows.
    fn add(&mut self, mut later: Self, most_latest: usize) {
        self.totals.add_all(later.totals);
        self.samples.add_all(later.samples);
        later.latest.append(&mut self.latest);
        later.latest.truncate(most_latest);
        self.latest = later.latest;
    }

    fn finish(self, prices: &Prices) -> Overview {
        let Self { totals, samples, latest, coarse_until, .. } = self;
        let currencies = prices.currencies().to_vec();
        let overview = totals.finish();
        let (first_token, latencies, histogram) = samples.finish(overview.times.len());
        Overview { first_token, latencies, histogram, latest, currencies, coarse_until, ..overview }
    }
}

/// The columns after those of the sums.
const COLUMNS: &str =
    "started_at, client, upstream, model, user, endpoint, outcome, time_to_first_token_ms, seq";

/// The position of the tags, which follow [`COLUMNS`].
const TAGS_PLACE: usize = 9;

/// The overview of the rows of a range.
fn read_part(
    transaction: &Transaction<'_>,
    range: Range,
    selection: &Selection,
    spec: &OverviewSpec,
    prices: &Prices,
) -> Result<Part, Reason> {
    let mut part = Part::new(selection, spec, Samples::default());
    read(transaction, range, selection, spec, prices, &mut part)?;
    let places = std::mem::take(&mut part.places);
    part.latest = records::at(transaction, places.into_iter().rev())?;
    Ok(part)
}

/// Adds the rows of a range to `part`.
fn read(
    transaction: &Transaction<'_>,
    range: Range,
    selection: &Selection,
    spec: &OverviewSpec,
    prices: &Prices,
    part: &mut Part,
) -> Result<(), Reason> {
    let has_later = schema::has_count(transaction)?;
    let condition = selection.condition(range, has_later);
    let tags = if has_later { TAGS } else { "NULL" };
    let mut statement = transaction.prepare(&format!(
        "SELECT {}, {COLUMNS}, {tags} FROM usage_records NOT INDEXED WHERE {}",
        counted(transaction, prices)?,
        condition.text
    ))?;
    let only_failed = spec.latest_failed && selection.outcome.is_none();
    let Part { totals, samples, places, .. } = part;
    let mut counting = Counting::new(prices);
    let mut rows = statement.query(condition.values().as_slice())?;
    while let Some(row) = rows.next()? {
        let column = |index| row.get_ref(COUNTED_COLUMNS + index);
        let text = |index| Ok::<_, rusqlite::Error>(text(column(index)?));
        let step = totals.step(column(0)?.as_i64().map_err(rusqlite::Error::from)?);
        let names = [text(1)?, text(2)?, text(3)?, text(4)?, text(5)?, text(6)?];
        let sums = totals.sums(step, (names, text(TAGS_PLACE)?));
        let failed_before = sums.failed;
        counting.add(row, sums)?;
        let is_listed = !only_failed || sums.failed > failed_before;
        if let ValueRef::Real(millis) = column(7)? {
            samples.add(step, millis);
        }
        if is_listed && spec.latest > 0 {
            if places.len() == spec.latest {
                places.pop_front();
            }
            places.push_back(column(8)?.as_i64().map_err(rusqlite::Error::from)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
