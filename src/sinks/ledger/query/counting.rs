//! The counts of one row, and their cost at the price of its day.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::super::error::Reason;
use super::super::groups::{Estimated, FAILED, MAY_HAVE_TOKENS, SOURCES, Sums};
use super::super::rollup::{Key, Number, Tally, Text, lengths};
use super::super::schema;
use crate::llm::price::{
    Amount, Currency, INPUT_WITHOUT_CACHE, Prices, Rates, Reported, Served, TokenCounts,
};
use crate::llm::usage::{ToolCalls, ToolKind};

/// The columns, in the order in which [`Counting::add`] takes them; later columns and those of the
/// caller follow. The last four are for the price. SQLite finds a column the slower the further
/// back it is, so they are only read if they matter.
const COUNTED: &str = "usage_source, input_tokens, cached_input_tokens, cache_write_input_tokens,
    output_tokens, reasoning_tokens, total_tokens, billed_seconds, started_at, upstream,
    CASE WHEN model IS NULL THEN model_requested ELSE model END,
    CASE WHEN cached_input_tokens > 0 OR cache_write_input_tokens > 0 THEN endpoint END";
pub(super) const COUNTED_COLUMNS: usize = 19;

/// The columns of the open ledger. Files of earlier versions lack some.
pub(super) fn counted(connection: &Connection, prices: &Prices) -> Result<String, Reason> {
    let has_later = schema::has_count(connection)?;
    let later = |column: &'static str, matters: bool| if has_later && matters { column } else { "NULL" };
    let has_prices = !prices.is_empty();
    Ok(format!(
        "{COUNTED}, {}, {}, {}, {}, {}, CASE WHEN usage_source <> 'none' THEN 1 ELSE {MAY_HAVE_TOKENS} END,
        {FAILED}",
        later("\"count\"", true),
        later("reported_cost", true),
        later("service_tier", has_prices),
        later("cache_write_1h_input_tokens", has_prices),
        later("tool_calls", has_prices),
    ))
}

/// The largest number of models whose prices are cached, since clients may invent any number of
/// models.
const MOST_REMEMBERED: usize = 10_000;

/// Adds rows to sums, and caches the price of each model.
pub(super) struct Counting<'a> {
    prices: &'a Prices,
    /// Rates by model, upstream, tier, length of the input, and period between two changes of a
    /// price.
    remembered: HashMap<Box<[u8]>, Option<Rates>>,
    /// The key of the current row. The buffer is reused.
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
        if matches!(row.get_ref(17)?, ValueRef::Integer(1)) {
            sums.countable += requests;
        }
        if matches!(row.get_ref(18)?, ValueRef::Integer(1)) {
            sums.failed += requests;
        }
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
            total = Some(computed);
            for sum in [&mut sums.total_tokens, &mut sums.computed_total_tokens] {
                *sum = Some(sum.unwrap_or(0).saturating_add(computed));
            }
        }
        if let ValueRef::Real(seconds) = row.get_ref(7)? {
            sums.billed_seconds = Some(sums.billed_seconds.unwrap_or(0.0) + seconds);
        }
        if let Some(cost) = text(row.get_ref(13)?) {
            sums.report(std::str::from_utf8(cost).ok().and_then(Reported::parse));
        }
        let json = text(row.get_ref(16)?);
        let tool_calls = json.and_then(tool_calls);
        let is_readable = json.is_some() == tool_calls.is_some();
        let counts = TokenCounts {
            input,
            cached_input: cached,
            cache_write: written,
            cache_write_1h: integer(row.get_ref(15)?),
            output,
            tool_calls,
            cache_is_apart: text(row.get_ref(11)?) == Some(INPUT_WITHOUT_CACHE.as_bytes()),
        };
        let mut cost = None;
        if let Some(used) = counts.billable() {
            let rates = if is_readable { self.rates(row, counts.whole_input())? } else { None };
            match rates.and_then(|rates| Some((rates, rates.amount(&used)?))) {
                Some((rates, amount)) => {
                    let currency = rates.currency;
                    sums.cost.pay(currency, amount);
                    sums.save(currency, rates.saving(used.cached_input));
                    cost = Some((currency, amount));
                }
                None => sums.cost.unpriced += requests,
            }
        }
        if source == Estimated::SOURCE {
            estimate(sums, [input, output, total], cost);
        }
        Ok(())
    }

    /// Adds an entry of the hour that begins at `started`, in nanoseconds since 1970.
    pub(super) fn add_entry(&mut self, started: i64, key: &Key<'_>, tally: &Tally, sums: &mut Sums) {
        let requests = tally.requests;
        sums.requests += requests;
        sums.sources[key.source()] += requests;
        if key.is_countable() {
            sums.countable += requests;
        }
        if key.is_failed() {
            sums.failed += requests;
        }
        let [input, cached, written, output, reasoning, total, computed] = tally.tokens;
        for (sum, more) in [
            (&mut sums.input_tokens, input),
            (&mut sums.cached_input_tokens, cached),
            (&mut sums.cache_write_input_tokens, written),
            (&mut sums.output_tokens, output),
            (&mut sums.reasoning_tokens, reasoning),
            (&mut sums.total_tokens, total),
            (&mut sums.computed_total_tokens, computed),
        ] {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0).saturating_add(more));
            }
        }
        if let Some(seconds) = tally.billed_seconds {
            sums.billed_seconds = Some(sums.billed_seconds.unwrap_or(0.0) + seconds);
        }
        sums.report(tally.reported_cost);
        let mut cost = None;
        if key.is_billable(!self.prices.is_empty()) {
            let model = key.text(Text::Model).or(key.text(Text::Requested));
            let rates = model.filter(|_| !key.has_unknown_calls()).and_then(|model| {
                let (upstream, tier) = (key.text(Text::Upstream), key.text(Text::Tier));
                self.rates_of(started, model, upstream, tier, lengths::least_of(key.number(Number::Length)))
            });
            match rates.and_then(|rates| Some((rates, rates.amount(&tally.billable)?))) {
                Some((rates, amount)) => {
                    sums.cost.pay(rates.currency, amount);
                    sums.save(rates.currency, rates.saving(tally.billable.cached_input));
                    cost = Some((rates.currency, amount));
                }
                None => sums.cost.unpriced += requests,
            }
        }
        if key.is_estimated() {
            estimate(sums, [input, output, total], cost);
        }
    }

    /// The rates for the row, which has this much input.
    fn rates(&mut self, row: &Row<'_>, input_tokens: u64) -> Result<Option<Rates>, Reason> {
        let ValueRef::Integer(started) = row.get_ref(8)? else { return Ok(None) };
        let Some(model) = text(row.get_ref(10)?) else { return Ok(None) };
        let (upstream, tier) = (text(row.get_ref(9)?), text(row.get_ref(14)?));
        Ok(self.rates_of(started, model, upstream, tier, input_tokens))
    }

    fn rates_of(
        &mut self,
        started: i64,
        model: &[u8],
        upstream: Option<&[u8]>,
        tier: Option<&[u8]>,
        input_tokens: u64,
    ) -> Option<Rates> {
        if self.prices.is_empty() {
            return None;
        }
        let at = Timestamp::from_nanosecond(started.into()).unwrap_or(Timestamp::MAX);
        let period = self.prices.changes().partition_point(|change| *change <= at);
        let length = self.prices.thresholds().partition_point(|threshold| *threshold < input_tokens);
        self.key.clear();
        for number in
            [period, length, upstream.map_or(usize::MAX, <[u8]>::len), tier.map_or(usize::MAX, <[u8]>::len)]
        {
            self.key.extend_from_slice(&number.to_ne_bytes());
        }
        for part in [upstream, tier, Some(model)] {
            self.key.extend_from_slice(part.unwrap_or_default());
        }
        if let Some(known) = self.remembered.get(self.key.as_slice()) {
            return *known;
        }
        let (upstream, tier) = (upstream.map(String::from_utf8_lossy), tier.map(String::from_utf8_lossy));
        let found = self.prices.find(&Served {
            model: &String::from_utf8_lossy(model),
            upstream: upstream.as_deref(),
            at,
            tier: tier.as_deref(),
            input_tokens,
        });
        let found = found.copied();
        if self.remembered.len() == MOST_REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.insert(self.key.as_slice().into(), found);
        found
    }
}

/// Adds the counts of input, of output and in all, and their cost, to the estimated part.
fn estimate(sums: &mut Sums, counts: [Option<u64>; 3], cost: Option<(Currency, Amount)>) {
    let [input_tokens, output_tokens, total_tokens] = counts;
    let mut estimated = Estimated { input_tokens, output_tokens, total_tokens, ..Estimated::default() };
    cost.into_iter().for_each(|(currency, amount)| estimated.cost.pay(currency, amount));
    sums.estimated.get_or_insert_default().add(&estimated);
}

pub(in crate::sinks::ledger) fn integer(value: ValueRef<'_>) -> Option<u64> {
    match value {
        ValueRef::Integer(number) => Some(number.unsigned_abs()),
        _ => None,
    }
}

/// The calls in a row's JSON. `None` if this version does not know a kind.
pub(in crate::sinks::ledger) fn tool_calls(json: &[u8]) -> Option<ToolCalls> {
    let counts: BTreeMap<String, u64> = serde_json::from_slice(json).ok()?;
    let mut calls = ToolCalls::default();
    for (name, count) in counts {
        calls.add(ToolKind::from_name(&name)?, count);
    }
    Some(calls)
}

pub(in crate::sinks::ledger) fn text(value: ValueRef<'_>) -> Option<&[u8]> {
    match value {
        ValueRef::Text(text) => Some(text),
        _ => None,
    }
}
