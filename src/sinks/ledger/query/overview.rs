//! All that the dashboard shows of a selection, from one pass over its rows, or by halves where
//! there are many.

mod accumulate;

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Transaction;
use rusqlite::types::ValueRef;

use super::super::error::{LedgerError, Reason};
use super::super::groups::{Group, Sums};
use super::counting::text;
use super::records::{self, Record};
use super::{Bounds, COUNTED_COLUMNS, Counting, Range, Selection, by_halves, counted, whole};
use crate::llm::price::{Currency, Prices};

pub(in crate::sinks::ledger) use accumulate::Accumulator;

/// The most times to the first token that are kept, 8 bytes each. Of more rows they are a sample,
/// every one as likely as any other.
const MOST_SAMPLES: usize = 1 << 20;

/// Sums of the selected rows, in many ways.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overview {
    /// All of them.
    pub total: Sums,
    /// By user; each key has one part.
    pub users: Vec<Group>,
    /// By client.
    pub clients: Vec<Group>,
    /// By upstream.
    pub upstreams: Vec<Group>,
    /// By model.
    pub models: Vec<Group>,
    /// By outcome: its name, and how many requests had it, the most first.
    pub outcomes: Vec<(String, u64)>,
    /// By time: steps of the length that was asked for, from the one that has the start of the
    /// selection, each with its beginning. Empty ones are there too.
    pub times: Vec<(Timestamp, Sums)>,
    /// How long the first token took.
    pub first_token: Percentiles,
    /// The latest records, the one that ended last first.
    pub latest: Vec<Record>,
    /// The currencies that there are prices in, in alphabetical order.
    pub currencies: Vec<Currency>,
}

/// How long something took, in milliseconds: the nearest-rank percentiles, which are values that
/// occurred.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Percentiles {
    /// How many rows have a value. With 0 there are no percentiles.
    pub rows: u64,
    /// Half of them took no longer.
    pub p50: f64,
    /// 95 of 100.
    pub p95: f64,
    /// 99 of 100.
    pub p99: f64,
    /// True if these come from a sample, because there were too many to keep.
    pub sampled: bool,
}

/// Reads it. Times are told apart in steps of `step`, as the selection's zone has days; the last
/// `latest` records are read too. The ledger is read as it is at one moment.
///
/// # Errors
/// As for [`report`](super::report).
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

/// An overview of some of the rows.
struct Part {
    totals: Accumulator,
    samples: Samples,
    latest: Vec<Record>,
}

impl Part {
    /// Adds one of later rows.
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

fn read(
    transaction: &Transaction<'_>,
    range: Range,
    selection: &Selection,
    step: Duration,
    latest: usize,
    prices: &Prices,
) -> Result<Part, Reason> {
    let condition = selection.condition(range);
    let mut statement = transaction.prepare(&format!(
        "SELECT {}, {COLUMNS} FROM usage_records NOT INDEXED WHERE {}",
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

/// Durations in milliseconds. Beyond [`MOST_SAMPLES`] each new one takes the place of a random one,
/// or none (Vitter's algorithm R).
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

    /// Adds others, with the same odds for each of all that were seen.
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
