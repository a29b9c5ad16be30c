//! What rows add up to.
//!
//! The server adds up. What rows cost depends on the price of their day, model and upstream, so where there are prices it adds
//! up for each of these, and the rest is done here: costs are linear, and the cost of a sum is the sum of the costs.

use std::future::poll_fn;
use std::pin::pin;

use futures_core::Stream;
use jiff::Timestamp;
use tokio_postgres::Row;

use super::super::columns::COUNT;
use super::super::error::Reason;
use super::super::groups::{SOURCES, Sums};
use super::ask::Moment;
use super::condition::Condition;
use crate::price::{Billable, INPUT_WITHOUT_CACHE, Prices};

/// The sums of tokens, in the order of [`sums`].
const TOKENS: [&str; 7] = [
    "input_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "coalesce(total_tokens::numeric, input_tokens::numeric + output_tokens, input_tokens, output_tokens)",
    "CASE WHEN total_tokens IS NULL
         THEN coalesce(input_tokens::numeric + output_tokens, input_tokens, output_tokens) END",
];

/// How many requests rows stand for.
fn requests(moment: &Moment<'_>, filter: &str) -> String {
    match moment.has(COUNT) {
        true => format!("coalesce(sum(coalesce(\"{COUNT}\", 1)) {filter}, 0)::bigint"),
        false => format!("count(*) {filter}"),
    }
}

/// How many requests have counts, and what is paid for in them, each row as [`Billable::new`] has it.
fn billable(moment: &Moment<'_>, prices: &Prices) -> [String; 5] {
    let counted = "FILTER (WHERE input_tokens IS NOT NULL OR output_tokens IS NOT NULL)";
    let requests = requests(moment, counted);
    if prices.is_empty() {
        let nothing = || "'0'".to_owned();
        return [requests, nothing(), nothing(), nothing(), nothing()];
    }
    // A number without an end: what a service reports may be at the end of `bigint`.
    let apart = format!(
        "CASE WHEN endpoint = '{INPUT_WITHOUT_CACHE}' THEN 0
         ELSE coalesce(cached_input_tokens, 0)::numeric + coalesce(cache_write_input_tokens, 0) END"
    );
    let tokens = |tokens: &str| format!("coalesce(sum({tokens}) {counted}, 0)::text");
    [
        requests,
        tokens(&format!("greatest(coalesce(input_tokens, 0) - {apart}, 0)")),
        tokens("cached_input_tokens"),
        tokens("cache_write_input_tokens"),
        tokens("output_tokens"),
    ]
}

/// What rows are grouped by: as it is shown, and as it is compared.
pub(super) struct Key {
    pub(super) shown: String,
    pub(super) compared: String,
}

/// Adds up the rows of each group. `take` gets a group, whose first columns are the `keys`, and its sums; a group comes in several
/// parts, and no more of them are in memory than one.
pub(super) async fn add_up(
    moment: &Moment<'_>,
    mut condition: Condition,
    keys: &[Key],
    prices: &Prices,
    mut take: impl FnMut(&Row, &Sums) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let mut also = vec!["usage_source".to_owned()];
    if !prices.is_empty() {
        let mut period = "0".to_owned();
        for change in prices.changes() {
            period += &format!(" + (started_at >= {})::int", condition.time(*change));
        }
        also.extend(["upstream".to_owned(), "coalesce(model, model_requested)".to_owned(), period]);
    }
    let mut columns: Vec<_> = keys.iter().map(|key| key.shown.clone()).collect();
    let mut groups: Vec<_> = keys.iter().map(|key| key.compared.clone()).collect();
    columns.extend(also.iter().cloned());
    groups.extend(also);
    columns.push(requests(moment, ""));
    // Sums of `bigint` are numbers without an end, which have no form of their own here but their digits.
    columns.extend(TOKENS.map(|column| format!("sum({column})::text")));
    columns.push("sum(billed_seconds)".to_owned());
    columns.extend(billable(moment, prices));
    let statement = format!(
        "SELECT {} FROM usage_records WHERE {} GROUP BY {}",
        columns.join(", "),
        condition.text,
        groups.join(", ")
    );
    let mut rows = pin!(moment.transaction.query_typed_raw(&statement, condition.parameters()).await?);
    while let Some(row) = poll_fn(|cx| rows.as_mut().poll_next(cx)).await {
        let row = row?;
        take(&row, &sums(&row, keys.len(), prices)?)?;
    }
    Ok(())
}

/// Of a part of a group that has one usage source and one price; its columns after those of the key.
fn sums(row: &Row, keys: usize, prices: &Prices) -> Result<Sums, Reason> {
    let mut index = keys;
    let mut next = || {
        index += 1;
        index - 1
    };
    let source: &str = row.try_get(next())?;
    let Some(source) = SOURCES.iter().position(|known| *known == source) else {
        return Err(Reason::Row(format!("a row has the unknown usage_source {source:?}")));
    };
    let rates = if prices.is_empty() {
        None
    } else {
        let (upstream, model): (Option<&str>, Option<&str>) = (row.try_get(next())?, row.try_get(next())?);
        let period: i32 = row.try_get(next())?;
        let since =
            usize::try_from(period).ok().and_then(|period| prices.changes().get(period.checked_sub(1)?));
        let since = since.copied().unwrap_or(Timestamp::MIN);
        model.and_then(|model| prices.find(model, upstream, since))
    };
    let count = |index| row.try_get::<_, i64>(index).map(i64::unsigned_abs);
    let tokens = |index| row.try_get(index).map(number);
    let mut sums = Sums {
        requests: count(next())?,
        input_tokens: tokens(next())?,
        cached_input_tokens: tokens(next())?,
        cache_write_input_tokens: tokens(next())?,
        output_tokens: tokens(next())?,
        reasoning_tokens: tokens(next())?,
        total_tokens: tokens(next())?,
        computed_total_tokens: tokens(next())?,
        billed_seconds: row.try_get(next())?,
        ..Sums::default()
    };
    sums.sources[source] = sums.requests;
    let counted = count(next())?;
    let mut part = || tokens(next()).map(Option::unwrap_or_default);
    let paid = Billable { input: part()?, cached_input: part()?, cache_write: part()?, output: part()? };
    match rates {
        Some(rates) if counted > 0 => sums.cost.pay(rates.currency, rates.amount(&paid)),
        Some(_) => {}
        None => sums.cost.unpriced = counted,
    }
    Ok(sums)
}

/// Real counts never come near the end of it.
fn number(digits: Option<&str>) -> Option<u64> {
    digits.map(|digits| digits.parse().unwrap_or(u64::MAX))
}
