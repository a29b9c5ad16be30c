//! All that the dashboard shows of a selection, from one pass over its rows.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::super::error::{LedgerError, Reason};
use super::super::groups::{Group, Groups, Sums};
use super::records::{self, Record};
use super::selection::nanoseconds;
use super::{Bounds, COUNTED, COUNTED_COLUMNS, Counting, Selection, open_bounded};
use crate::price::{Currency, Prices};

/// The most groups of each kind. Clients choose what they call their users, and memory is bounded.
const MOST_GROUPS: usize = 10_000;

/// The most points of time.
const MOST_STEPS: i64 = 1_000;

/// The most times to the first token that are kept, 8 bytes each. Of more rows they are a sample, every one as likely as any
/// other.
const MOST_SAMPLES: usize = 1 << 20;

/// What the selected rows add up to, in many ways.
#[derive(Clone, Debug, Default)]
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
    /// By outcome: its name, and how many rows have it, the most first.
    pub outcomes: Vec<(String, u64)>,
    /// By time: from the start of the selection in steps of the length that was asked for, the last one maybe cut short. Empty
    /// ones are there too.
    pub times: Vec<Sums>,
    /// When the first step begins.
    pub start: Timestamp,
    /// How long the first token took.
    pub first_token: Percentiles,
    /// The latest records, the one that ended last first.
    pub latest: Vec<Record>,
    /// The currencies that there are prices in, in alphabetical order.
    pub currencies: Vec<Currency>,
}

/// How long something took, in milliseconds: the nearest-rank percentiles, which are values that occurred.
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
    /// Whether these come from a sample, because there were too many to keep.
    pub sampled: bool,
}

/// Reads it. Times are told apart in steps of `step`, whole ones since 1970; the last `latest` records are read too. The ledger is
/// read as it is at one moment.
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
    open_bounded(path, bounds)
        .and_then(|connection| read(&connection, selection, step, latest, prices))
        .map_err(|reason| LedgerError::new(path, reason))
}

/// The columns after those of the sums, in the order in which [`Adding::row`] takes them.
const COLUMNS: &str = "started_at, client, upstream, model, user, outcome, time_to_first_token_ms, seq";

fn read(
    connection: &Connection,
    selection: &Selection,
    step: Duration,
    latest: usize,
    prices: &Prices,
) -> Result<Overview, Reason> {
    let transaction = connection.unchecked_transaction()?;
    let condition = selection.condition(&transaction)?;
    let mut statement = transaction.prepare(&format!(
        "SELECT {COUNTED}, {COLUMNS} FROM usage_records NOT INDEXED WHERE {}",
        condition.text
    ))?;
    let mut adding = Adding::new(selection, step, latest, prices);
    let mut rows = statement.query(condition.values().as_slice())?;
    while let Some(row) = rows.next()? {
        adding.row(row)?;
    }
    let places = std::mem::take(&mut adding.latest);
    let latest = records::at(&transaction, places.into_iter().rev())?;
    Ok(Overview { latest, currencies: prices.currencies().to_vec(), ..adding.finish() })
}

/// An overview in the making.
struct Adding<'a> {
    counting: Counting<'a>,
    total: Sums,
    groups: [Dimension; 4],
    outcomes: Vec<(String, u64)>,
    times: Vec<Sums>,
    /// Nanoseconds.
    start: i64,
    step: i64,
    samples: Samples,
    latest: VecDeque<i64>,
    most_latest: usize,
}

impl<'a> Adding<'a> {
    fn new(selection: &Selection, step: Duration, latest: usize, prices: &'a Prices) -> Self {
        let since = nanoseconds(selection.since);
        let until = nanoseconds(selection.until.unwrap_or_else(Timestamp::now)).max(since);
        let step = i64::try_from(step.as_nanos()).unwrap_or(i64::MAX).max(super::SECOND);
        let start = since.div_euclid(step).saturating_mul(step);
        let steps = (until.saturating_sub(start).saturating_sub(1) / step + 1).clamp(1, MOST_STEPS);
        Self {
            counting: Counting::new(prices),
            total: Sums::default(),
            groups: Default::default(),
            outcomes: Vec::new(),
            times: vec![Sums::default(); steps as usize],
            start,
            step,
            samples: Samples::default(),
            latest: VecDeque::with_capacity(latest),
            most_latest: latest,
        }
    }

    fn row(&mut self, row: &Row<'_>) -> Result<(), Reason> {
        let mut sums = Sums::default();
        self.counting.add(row, &mut sums)?;
        self.total.add(&sums);
        let column = |index| row.get_ref(COUNTED_COLUMNS + index);
        if let ValueRef::Integer(started) = column(0)? {
            let place = usize::try_from((started - self.start) / self.step).unwrap_or(usize::MAX);
            let last = self.times.len() - 1;
            self.times[place.min(last)].add(&sums);
        }
        for (index, dimension) in self.groups.iter_mut().enumerate() {
            dimension.add(column(1 + index)?, &sums);
        }
        if let ValueRef::Text(outcome) = column(5)? {
            match self.outcomes.iter_mut().find(|(known, _)| known.as_bytes() == outcome) {
                Some((_, rows)) => *rows += 1,
                None => self.outcomes.push((String::from_utf8_lossy(outcome).into_owned(), 1)),
            }
        }
        if let ValueRef::Real(millis) = column(6)? {
            self.samples.add(millis);
        }
        if let ValueRef::Integer(place) = column(7)?
            && self.most_latest > 0
        {
            if self.latest.len() == self.most_latest {
                self.latest.pop_front();
            }
            self.latest.push_back(place);
        }
        Ok(())
    }

    fn finish(mut self) -> Overview {
        self.outcomes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let [clients, upstreams, models, users] = self.groups.map(Dimension::finish);
        Overview {
            total: self.total,
            users,
            clients,
            upstreams,
            models,
            outcomes: self.outcomes,
            times: self.times,
            start: Timestamp::from_nanosecond(self.start.into()).unwrap_or(Timestamp::UNIX_EPOCH),
            first_token: self.samples.finish(),
            latest: Vec::new(),
            currencies: Vec::new(),
        }
    }
}

/// Rows by one column.
#[derive(Default)]
struct Dimension {
    groups: Groups,
    /// Those that would make more groups than there may be.
    others: Sums,
}

impl Dimension {
    fn add(&mut self, value: ValueRef<'_>, sums: &Sums) {
        self.groups.begin();
        self.groups.part(match value {
            ValueRef::Text(text) => Some(text),
            _ => None,
        });
        self.groups.sums_within(MOST_GROUPS).unwrap_or(&mut self.others).add(sums);
    }

    fn finish(self) -> Vec<Group> {
        let text = |part: Option<&[u8]>| part.map(|part| String::from_utf8_lossy(part).into_owned());
        let mut groups = self.groups.finish(|parts| parts.into_iter().map(text).collect());
        if self.others.requests > 0 {
            let key = vec![Some(format!("(more than {MOST_GROUPS} others)"))];
            groups.push(Group { key, sums: self.others });
        }
        groups
    }
}

/// Durations in milliseconds. Beyond [`MOST_SAMPLES`] each new one takes the place of a random one, or none (Vitter's
/// algorithm R).
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
