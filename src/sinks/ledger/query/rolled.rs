//! Reads hours from their sums, and rows for what hours do not tell.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::sync_channel;
use std::thread;

use jiff::Timestamp;
use rusqlite::{Connection, Transaction};

use super::super::error::Reason;
use super::super::rollup::{self, Block, HOUR, Key, Text, hour_of, lengths};
use super::parallel::Range;
use super::{Bounds, Selection};
use crate::llm::price::Prices;
use crate::support::tags::TagName;

/// The number of rows up to which rows are read although their sums are known: that takes a fifth of
/// a second, and gives percentiles that occurred.
const FEW: u64 = if cfg!(test) { 1 } else { 200_000 };

/// The number of hours from which on two threads read them.
const MANY_HOURS: usize = 24;

/// The parts of a query.
#[derive(Debug)]
pub(super) struct Plan {
    /// The hours that are read from their sums, ascending.
    pub(super) hours: Vec<i64>,
    /// The rows that are read: parts of the selection, each with its rows.
    pub(super) spans: Vec<(Selection, Range)>,
    /// The last row that is in the sums.
    pub(super) added_up_to: i64,
    /// The end of the last hour that is read as a whole, although the query splits it: its rows are
    /// deleted.
    pub(super) coarse_until: Option<Timestamp>,
}

impl Plan {
    /// Plans a query of the selected rows. `splits`: the query needs to tell apart rows that start
    /// between two times, in nanoseconds. `None`: all rows are to be read.
    pub(super) fn of(
        transaction: &Transaction<'_>,
        selection: &Selection,
        prices: &Prices,
        mut splits: impl FnMut(i64, i64) -> bool,
    ) -> Result<Option<Self>, Reason> {
        if !rollup::exists(transaction)? {
            return Ok(None);
        }
        let (since, until) = selection.times();
        let mut known = transaction
            .prepare("SELECT hour, records FROM rollup_hours WHERE hour BETWEEN ?1 AND ?2 ORDER BY hour")?;
        let known = known.query_map([hour_of(since), hour_of(until.saturating_sub(1))], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
        })?;
        let known: Vec<(i64, u64)> = known.collect::<Result<_, _>>()?;
        let gone_before = rollup::gone_before(transaction)?;
        let begin = |hour: i64| hour.saturating_mul(HOUR);
        let is_gone = |hour: i64| begin(hour).max(since) < gone_before;
        let records: u64 = known.iter().map(|(_, records)| records).sum();
        if records < FEW && !known.iter().any(|(hour, _)| is_gone(*hour)) {
            return Ok(None);
        }
        let added_up_to = rollup::added_up_to(transaction)?;
        let fits = lengths::are_bounds(prices.thresholds());
        let changes = prices.changes();
        let prices_at = |at: i64| {
            let at = Timestamp::from_nanosecond(at.into()).unwrap_or(Timestamp::MAX);
            changes.partition_point(|change| *change <= at)
        };
        let (mut hours, mut runs): (Vec<i64>, Vec<(i64, i64)>) = (Vec::new(), Vec::new());
        let mut coarse = None;
        let mut is_run = false;
        for (hour, _) in known {
            let (first, end) = (begin(hour), begin(hour + 1));
            let is_whole = fits
                && since <= first
                && end <= until
                && prices_at(first) == prices_at(end - 1)
                && !splits(first, end - 1);
            if is_whole || is_gone(hour) {
                hours.push(hour);
                coarse = if is_whole { coarse } else { Some(end) };
                is_run = false;
                continue;
            }
            let run = (first.max(since), end.min(until));
            match runs.last_mut().filter(|_| is_run) {
                Some(last) => last.1 = run.1,
                None => runs.push(run),
            }
            is_run = true;
        }
        if hours.is_empty() {
            return Ok(None);
        }
        let time = |at: i64| Timestamp::from_nanosecond(at.into()).unwrap_or(Timestamp::MAX);
        let mut spans = Vec::new();
        for (since, until) in runs {
            let part = Selection { since: time(since), until: Some(time(until)), ..selection.clone() };
            let (first, last) = part.range(transaction)?;
            spans.push((part, (first, last.min(added_up_to))));
        }
        spans.push((selection.clone(), (added_up_to + 1, i64::MAX)));
        Ok(Some(Self { hours, spans, added_up_to, coarse_until: coarse.map(time) }))
    }

    /// Reads the hours with `read`, which gets the beginning of an hour and its block. With many
    /// hours two threads read, each into a result of its own.
    ///
    /// # Errors
    /// Fails with the errors of `read`, if a block is damaged, and when a bound is reached.
    pub(super) fn read_hours<T: Send>(
        &self,
        transaction: &Connection,
        bounds: &Bounds,
        threads: usize,
        new: impl Fn() -> T + Sync,
        read: impl Fn(&mut T, i64, &mut Block<'_>) -> Result<(), Reason> + Sync,
    ) -> Result<Vec<T>, Reason> {
        let add = |result: &mut T, hour: i64, body: &[u8]| {
            bounds.check()?;
            let mut block = Block::new(body).ok_or_else(|| rollup::damaged(hour))?;
            read(result, hour * HOUR, &mut block)?;
            if block.is_read() { Ok(()) } else { Err(rollup::damaged(hour)) }
        };
        let is_parallel = threads > 1
            && self.hours.len() >= MANY_HOURS
            && thread::available_parallelism().is_ok_and(|threads| threads.get() > 1);
        if !is_parallel {
            let mut result = new();
            self.each_body(transaction, |_, hour, body| add(&mut result, hour, body))?;
            return Ok(vec![result]);
        }
        thread::scope(|scope| {
            let (sender, receiver) = sync_channel::<(i64, Vec<u8>)>(4);
            let (add, new) = (&add, &new);
            let other =
                thread::Builder::new().name("ledger-read".to_owned()).spawn_scoped(scope, move || {
                    let mut result = new();
                    for (hour, body) in receiver {
                        add(&mut result, hour, &body)?;
                    }
                    Ok::<_, Reason>(result)
                });
            let mut result = new();
            // Without a thread, the receiver is gone.
            self.each_body(transaction, |place, hour, body| {
                if place % 2 == 0 && sender.send((hour, body.to_vec())).is_ok() {
                    return Ok(());
                }
                add(&mut result, hour, body)
            })?;
            drop(sender);
            let mut results = vec![result];
            if let Ok(other) = other {
                results.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(results)
        })
    }

    fn each_body(
        &self,
        transaction: &Connection,
        mut take: impl FnMut(usize, i64, &[u8]) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        let (Some(first), Some(last)) = (self.hours.first(), self.hours.last()) else { return Ok(()) };
        let mut select = transaction
            .prepare("SELECT hour, body FROM rollup_hours WHERE hour BETWEEN ?1 AND ?2 ORDER BY hour")?;
        let mut rows = select.query([first, last])?;
        let mut place = 0;
        while let Some(row) = rows.next()? {
            let hour: i64 = row.get(0)?;
            if self.hours.get(place) == Some(&hour) {
                place += 1;
                take(place, hour, row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
            }
        }
        Ok(())
    }
}

/// The conditions of a selection except its times, for entries.
pub(super) struct Filter<'s> {
    texts: Vec<(Text, &'s str)>,
    clients: Option<Vec<String>>,
    only_failed: bool,
    tags: &'s [(TagName, String)],
    has_attempts: bool,
    known: KnownTags,
}

impl<'s> Filter<'s> {
    pub(super) fn new(selection: &'s Selection) -> Self {
        let only_failed = selection.is_of_failed();
        let outcome = if only_failed { &None } else { &selection.outcome };
        let texts = [
            (Text::Client, &selection.client),
            (Text::User, &selection.user),
            (Text::Upstream, &selection.upstream),
            (Text::Model, &selection.model),
            (Text::Endpoint, &selection.endpoint),
            (Text::Outcome, outcome),
        ];
        let texts = texts.into_iter().filter_map(|(text, value)| Some((text, value.as_deref()?))).collect();
        Self {
            texts,
            clients: selection.clients_of_team(),
            only_failed,
            tags: &selection.tags,
            has_attempts: selection.attempts,
            known: KnownTags::default(),
        }
    }

    /// Returns true if the rows of an entry are selected. Attempts are only if the selection asks for
    /// them.
    pub(super) fn selects(&mut self, key: &Key<'_>) -> bool {
        let client = key.text(Text::Client).unwrap_or_default();
        (self.has_attempts || !key.is_attempt())
            && self.texts.iter().all(|(text, value)| key.text(*text) == Some(value.as_bytes()))
            && (!self.only_failed || key.is_failed())
            && self.clients.as_ref().is_none_or(|team| team.iter().any(|of| of.as_bytes() == client))
            && self
                .tags
                .iter()
                .all(|(name, value)| self.known.value(key.text(Text::Tags), *name) == Some(value.as_str()))
    }
}

/// The tags of entries, parsed once.
#[derive(Default)]
pub(super) struct KnownTags(HashMap<Box<[u8]>, BTreeMap<String, String>>);

/// The largest number of texts that are kept.
const MOST_TEXTS: usize = 10_000;

impl KnownTags {
    /// The value of a tag in a text of tags.
    pub(super) fn value(&mut self, text: Option<&[u8]>, name: TagName) -> Option<&str> {
        let text = text?;
        if !self.0.contains_key(text) {
            if self.0.len() == MOST_TEXTS {
                self.0.clear();
            }
            self.0.insert(text.into(), serde_json::from_slice(text).unwrap_or_default());
        }
        self.0.get(text)?.get(name.as_str()).map(String::as_str)
    }
}
