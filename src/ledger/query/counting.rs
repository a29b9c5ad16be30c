//! One row's counts, and what they cost at the price of its day.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::super::error::Reason;
use super::super::groups::{SOURCES, Sums};
use super::super::schema;
use crate::price::{Billable, INPUT_WITHOUT_CACHE, Prices, Rates};

/// The columns, in the order in which [`Counting::add`] takes them; those of the caller follow. The four before the last
/// are for the price, and the further they stand in a row the longer it takes to find them: they are only looked for
/// where they matter.
const COUNTED: &str = "usage_source, input_tokens, cached_input_tokens, cache_write_input_tokens,
    output_tokens, reasoning_tokens, total_tokens, billed_seconds, started_at, upstream,
    CASE WHEN model IS NULL THEN model_requested ELSE model END,
    CASE WHEN cached_input_tokens > 0 OR cache_write_input_tokens > 0 THEN endpoint END";
pub(super) const COUNTED_COLUMNS: usize = 13;

/// The columns of the ledger that is open. Files of earlier versions have no `count`.
pub(super) fn counted(connection: &Connection) -> Result<String, Reason> {
    let count = if schema::has_count(connection)? { "\"count\"" } else { "NULL" };
    Ok(format!("{COUNTED}, {count}"))
}

/// How many models' prices are remembered. Those that a client makes up are not remembered for ever.
const MOST_REMEMBERED: usize = 10_000;

/// Adds rows to sums. What it has found out of a model's price it remembers.
pub(super) struct Counting<'a> {
    prices: &'a Prices,
    /// By model, upstream and period between two changes of a price.
    remembered: HashMap<Box<[u8]>, Option<Rates>>,
    /// The key of the row at hand; its memory is kept.
    key: Vec<u8>,
}

impl<'a> Counting<'a> {
    pub(super) fn new(prices: &'a Prices) -> Self {
        Self { prices, remembered: HashMap::new(), key: Vec::new() }
    }

    /// Adds the row, whose first columns are those of [`counted`].
    pub(super) fn add(&mut self, row: &Row<'_>, sums: &mut Sums) -> Result<(), Reason> {
        let source = row.get_ref(0)?;
        let source = source.as_str().map_err(rusqlite::Error::from)?;
        let Some(source) = SOURCES.iter().position(|known| *known == source) else {
            return Err(Reason::Row(format!("a row has the unknown usage_source {source:?}")));
        };
        let requests = match row.get_ref(12)? {
            ValueRef::Integer(count) => count.unsigned_abs(),
            _ => 1,
        };
        sums.requests += requests;
        sums.sources[source] += requests;
        let [mut input, mut cached, mut written, mut output, mut total] = [None; 5];
        for (index, count, sum) in [
            (1, Some(&mut input), &mut sums.input_tokens),
            (2, Some(&mut cached), &mut sums.cached_input_tokens),
            (3, Some(&mut written), &mut sums.cache_write_input_tokens),
            (4, Some(&mut output), &mut sums.output_tokens),
            (5, None, &mut sums.reasoning_tokens),
            (6, Some(&mut total), &mut sums.total_tokens),
        ] {
            if let ValueRef::Integer(found) = row.get_ref(index)? {
                let found = found.unsigned_abs();
                *sum = Some(sum.unwrap_or(0).saturating_add(found));
                if let Some(count) = count {
                    *count = Some(found);
                }
            }
        }
        if total.is_none() && (input, output) != (None, None) {
            let computed = input.unwrap_or(0).saturating_add(output.unwrap_or(0));
            for sum in [&mut sums.total_tokens, &mut sums.computed_total_tokens] {
                *sum = Some(sum.unwrap_or(0).saturating_add(computed));
            }
        }
        if let ValueRef::Real(seconds) = row.get_ref(7)? {
            sums.billed_seconds = Some(sums.billed_seconds.unwrap_or(0.0) + seconds);
        }
        let cache_is_apart = text(row.get_ref(11)?) == Some(INPUT_WITHOUT_CACHE.as_bytes());
        if let Some(tokens) = Billable::new(input, cached, written, output, cache_is_apart) {
            match self.rates(row)? {
                Some(rates) => sums.cost.pay(rates.currency, rates.amount(&tokens)),
                None => sums.cost.unpriced += requests,
            }
        }
        Ok(())
    }

    /// The price that holds for the row.
    fn rates(&mut self, row: &Row<'_>) -> Result<Option<Rates>, Reason> {
        if self.prices.is_empty() {
            return Ok(None);
        }
        let ValueRef::Integer(started) = row.get_ref(8)? else { return Ok(None) };
        let Some(model) = text(row.get_ref(10)?) else { return Ok(None) };
        let upstream = text(row.get_ref(9)?);
        let started = Timestamp::from_nanosecond(started.into()).unwrap_or(Timestamp::MAX);
        let period = self.prices.changes().partition_point(|change| *change <= started);
        self.key.clear();
        self.key.extend_from_slice(&period.to_ne_bytes());
        self.key.extend_from_slice(&upstream.map_or(usize::MAX, <[u8]>::len).to_ne_bytes());
        self.key.extend_from_slice(upstream.unwrap_or_default());
        self.key.extend_from_slice(model);
        if let Some(known) = self.remembered.get(self.key.as_slice()) {
            return Ok(*known);
        }
        let upstream = upstream.map(String::from_utf8_lossy);
        let found = self.prices.find(&String::from_utf8_lossy(model), upstream.as_deref(), started).copied();
        if self.remembered.len() == MOST_REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.insert(self.key.as_slice().into(), found);
        Ok(found)
    }
}

pub(super) fn text(value: ValueRef<'_>) -> Option<&[u8]> {
    match value {
        ValueRef::Text(text) => Some(text),
        _ => None,
    }
}
