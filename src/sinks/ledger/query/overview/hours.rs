//! An overview from the sums of hours, and from rows for what these do not tell.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::Transaction;

use super::super::rolled::{Filter, Plan};
use super::super::{Bounds, Counting, Selection, open_bounded};
use super::latency::Samples;
use super::{OverviewSpec, Part, records};
use crate::llm::price::Prices;
use crate::sinks::ledger::error::Reason;
use crate::sinks::ledger::rollup::{Block, HOUR, Tally, Text};
use crate::sinks::ledger::schema;

/// Reads the overview on this number of threads. `None`: all rows are to be read.
pub(super) fn read(
    path: &Path,
    selection: &Selection,
    spec: &OverviewSpec,
    prices: &Prices,
    bounds: &Bounds,
    threads: usize,
) -> Result<Option<Part>, Reason> {
    let connection = open_bounded(path, bounds)?;
    let transaction = connection.unchecked_transaction()?;
    let mut part = Part::new(selection, spec, Samples::by_class());
    let splits = |first, last| part.totals.step(first) != part.totals.step(last);
    let Some(plan) = Plan::of(&transaction, selection, prices, splits)? else { return Ok(None) };
    let only_failed = spec.latest_failed && selection.outcome.is_none();
    let new = || Hours::new(selection, spec, prices, only_failed);
    let results = plan.read_hours(&transaction, bounds, threads, new, |hours, started, block| {
        hours.add(started, block);
        Ok(())
    })?;
    let mut with_listed = Vec::new();
    for mut hours in results {
        with_listed.append(&mut hours.with_listed);
        part.totals.add_all(hours.part.totals);
        part.samples.add_all(hours.part.samples);
    }
    let mut places = Vec::new();
    for (selection, range) in &plan.spans {
        super::read(&transaction, *range, selection, spec, prices, &mut part)?;
        places.extend(part.places.drain(..));
    }
    if spec.latest > 0 {
        let listed = match only_failed {
            true => Selection { outcome: Some(Selection::ALL_FAILED.to_owned()), ..selection.clone() },
            false => selection.clone(),
        };
        with_listed.sort_unstable();
        let places = latest(&transaction, &listed, places, &with_listed, plan.added_up_to, spec.latest)?;
        part.latest = records::at(&transaction, places.into_iter())?;
    }
    part.coarse_until = plan.coarse_until;
    Ok(Some(part))
}

/// The overview of some hours.
struct Hours<'s> {
    part: Part,
    filter: Filter<'s>,
    counting: Counting<'s>,
    tally: Tally,
    only_failed: bool,
    /// The beginnings of hours with records that may be among the latest.
    with_listed: Vec<i64>,
}

impl<'s> Hours<'s> {
    fn new(selection: &'s Selection, spec: &OverviewSpec, prices: &'s Prices, only_failed: bool) -> Self {
        Self {
            part: Part::new(selection, spec, Samples::by_class()),
            filter: Filter::new(selection),
            counting: Counting::new(prices),
            tally: Tally::default(),
            only_failed,
            with_listed: Vec::new(),
        }
    }

    fn add(&mut self, started: i64, block: &mut Block<'_>) {
        let Part { totals, samples, .. } = &mut self.part;
        let step = totals.step(started);
        let mut has_listed = false;
        while let Some(key) = block.next(&mut self.tally) {
            if key.is_attempt() || !self.filter.selects(&key) {
                continue;
            }
            let fields =
                [Text::Client, Text::Upstream, Text::Model, Text::User, Text::Endpoint, Text::Outcome];
            let sums = totals.sums(step, (fields.map(|text| key.text(text)), key.text(Text::Tags)));
            self.counting.add_entry(started, &key, &self.tally, sums);
            self.tally.times.iter().for_each(|counted| samples.add_class(step, *counted));
            has_listed |= !self.only_failed || key.is_failed();
        }
        if has_listed {
            self.with_listed.push(started);
        }
    }
}

/// The positions of the latest selected rows, the last one first. `places` are those of rows that
/// were read, `hours` begin the others.
fn latest(
    transaction: &Transaction<'_>,
    selection: &Selection,
    mut places: Vec<i64>,
    hours: &[i64],
    added_up_to: i64,
    most: usize,
) -> Result<Vec<i64>, Reason> {
    let has_later = schema::has_count(transaction)?;
    let (since, until) = (selection.since, selection.until.unwrap_or(Timestamp::MAX));
    for hour in hours.iter().rev() {
        places.sort_unstable_by(|one, other| other.cmp(one));
        places.truncate(most);
        let time = |at: i64| Timestamp::from_nanosecond(at.into()).unwrap_or(Timestamp::MAX);
        let (since, until) = (time(*hour).max(since), time(hour.saturating_add(HOUR)).min(until));
        let of_hour = Selection { since, until: Some(until), ..selection.clone() };
        let (first, last) = of_hour.range(transaction)?;
        // Rows of earlier hours were written earlier, except for those of requests that took hours
        // and those from a wrong clock: these may be missing.
        if places.len() == most && places.last().is_some_and(|place| last < *place) {
            break;
        }
        let condition = of_hour.condition((first, last.min(added_up_to)), has_later);
        let mut statement = transaction.prepare(&format!(
            "SELECT seq FROM usage_records NOT INDEXED WHERE {} ORDER BY seq DESC LIMIT {most}",
            condition.text
        ))?;
        let mut rows = statement.query(condition.values().as_slice())?;
        while let Some(row) = rows.next()? {
            places.push(row.get(0)?);
        }
    }
    places.sort_unstable_by(|one, other| other.cmp(one));
    places.truncate(most);
    Ok(places)
}
