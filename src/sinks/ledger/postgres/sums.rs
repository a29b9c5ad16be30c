//! Sums of rows, computed by the server.
//!
//! The cost of rows depends on the price of their day, model and upstream, so with configured
//! prices the server adds up for each combination of these, and the rest is computed here: costs
//! are linear, so the cost of a sum is the sum of the costs.

use std::future::poll_fn;
use std::pin::pin;

use futures_core::Stream;
use jiff::Timestamp;
use tokio_postgres::Row;

use super::super::columns::COUNT;
use super::super::error::Reason;
use super::super::groups::{Estimated, FAILED, MAY_HAVE_TOKENS, SOURCES, Sums};
use super::super::query;
use super::ask::Moment;
use super::condition::Condition;
use crate::llm::price::{Billable, INPUT_WITHOUT_CACHE, Prices, Reported, Served};
use crate::llm::usage::ToolCalls;

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

/// The expression for the number of requests in rows.
fn requests(moment: &Moment<'_>, filter: &str) -> String {
    match moment.has(COUNT) {
        true => format!("coalesce(sum(coalesce(\"{COUNT}\", 1)) {filter}, 0)::bigint"),
        false => format!("count(*) {filter}"),
    }
}

/// A column that earlier versions lack, or null of its type.
fn later(moment: &Moment<'_>, column: &str, kind: &str) -> String {
    if moment.has(column) { column.to_owned() } else { format!("NULL::{kind}") }
}

/// The columns that a price depends on, in the order of [`sums`], in the form of
/// [`TokenCounts`](crate::llm::price::TokenCounts).
struct Priced {
    /// The expressions that are equal in a group.
    keys: Vec<String>,
    /// The number of billed requests, and their billable tokens.
    paid: Vec<String>,
}

impl Priced {
    fn of(moment: &Moment<'_>, condition: &mut Condition, prices: &Prices) -> Self {
        if prices.is_empty() {
            let counted = "FILTER (WHERE input_tokens IS NOT NULL OR output_tokens IS NOT NULL)";
            return Self { keys: Vec::new(), paid: vec![requests(moment, counted)] };
        }
        // Not a bare number: in GROUP BY that is the position of a column.
        let period = match prices.changes() {
            [] => "0::int4".to_owned(),
            changes => condition.place(changes),
        };
        let tier = later(moment, "service_tier", "text");
        let hour = format!("coalesce({}, 0)", later(moment, "cache_write_1h_input_tokens", "bigint"));
        let calls = format!("nullif({}, '{{}}')", later(moment, "tool_calls", "text"));
        // Numeric values, which cannot overflow: a reported count may be at the end of `bigint`.
        let cached = "coalesce(cached_input_tokens, 0)::numeric";
        let written = format!("greatest(coalesce(cache_write_input_tokens, 0), {hour})::numeric");
        let is_apart = format!("coalesce(endpoint, '') = '{INPUT_WITHOUT_CACHE}'");
        let input = "coalesce(input_tokens, 0)::numeric";
        let mut length = "0::int4".to_owned();
        for threshold in prices.thresholds() {
            let whole = format!("{input} + CASE WHEN {is_apart} THEN {cached} + {written} ELSE 0 END");
            length += &format!(" + ({whole} > {threshold})::int");
        }
        let counted = format!(
            "FILTER (WHERE input_tokens IS NOT NULL OR output_tokens IS NOT NULL OR {calls} IS NOT NULL)"
        );
        let sum = |tokens: &str| format!("coalesce(sum({tokens}) {counted}, 0)::text");
        Self {
            keys: vec![
                "upstream".to_owned(),
                "coalesce(model, model_requested)".to_owned(),
                period,
                length,
                tier,
                calls.clone(),
                // Usage without a price must not be added to usage with one.
                format!("{hour} > 0"),
            ],
            paid: vec![
                requests(moment, &counted),
                sum(&format!(
                    "greatest({input} - CASE WHEN {is_apart} THEN 0 ELSE {cached} + {written} END, 0)"
                )),
                sum("cached_input_tokens"),
                sum(&format!("{written} - {hour}")),
                sum(&hour),
                sum("output_tokens"),
            ],
        }
    }
}

/// The rows of requests.
pub(super) const REQUESTS: &str = "usage_records";

/// Attempts whose response was thrown away, as rows with the columns that sums and groups need, if
/// they reported tokens. The tokens of the attempt whose response was relayed are those of its
/// record, and not repeated in the list.
pub(super) const ATTEMPTS: &str =
    "(SELECT r.started_at, r.client, r.\"user\", r.method, r.endpoint, r.\"group\", r.key_id, r.tags,
        a.value->>'upstream' AS upstream, a.value->>'provider' AS provider,
        a.value->>'model' AS model, NULL::text AS model_requested,
        (a.value->>'status')::int4 AS status, 'upstream_error' AS outcome, 'reported' AS usage_source,
        (a.value->'tokens'->>'input_tokens')::bigint AS input_tokens,
        (a.value->'tokens'->>'output_tokens')::bigint AS output_tokens,
        (a.value->'tokens'->>'total_tokens')::bigint AS total_tokens,
        (a.value->'tokens'->>'cached_input_tokens')::bigint AS cached_input_tokens,
        (a.value->'tokens'->>'cache_write_input_tokens')::bigint AS cache_write_input_tokens,
        (a.value->'tokens'->>'cache_write_1h_input_tokens')::bigint AS cache_write_1h_input_tokens,
        (a.value->'tokens'->>'reasoning_tokens')::bigint AS reasoning_tokens,
        NULL::float8 AS billed_seconds, NULL::bigint AS \"count\", NULL::text AS reported_cost,
        NULL::text AS service_tier, NULL::text AS tool_calls
    FROM usage_records AS r, jsonb_array_elements(r.attempts::jsonb) AS a(value)
    WHERE r.attempts IS NOT NULL AND jsonb_typeof(a.value->'tokens') = 'object') AS attempts";

/// Adds up the rows of each group. Calls `take` with a group, whose first columns are the `keys`,
/// and its sums. A group comes in several parts, of which only one is in memory.
pub(super) async fn add_up(
    moment: &Moment<'_>,
    rows_of: &str,
    mut condition: Condition,
    keys: &[String],
    prices: &Prices,
    mut take: impl FnMut(&Row, &Sums) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let mut also = vec!["usage_source".to_owned()];
    let Priced { keys: priced, paid } = Priced::of(moment, &mut condition, prices);
    also.extend(priced);
    let mut columns: Vec<_> = keys.iter().cloned().chain(also).collect();
    let groups = columns.clone();
    columns.push(requests(moment, ""));
    columns.push(requests(moment, &format!("FILTER (WHERE {MAY_HAVE_TOKENS})")));
    columns.push(requests(moment, &format!("FILTER (WHERE {FAILED})")));
    // Sums of `bigint` are `numeric`, which has no type in this driver, so they are read as digits.
    columns.extend(TOKENS.map(|column| format!("sum({column})::text")));
    columns.push("sum(billed_seconds)".to_owned());
    let cost = later(moment, "reported_cost", "text");
    columns.push(format!(
        "sum(CASE WHEN {cost} ~ '^[0-9]+([.][0-9]*)?([eE][+-]?[0-9]{{1,3}})?$'
              THEN CASE WHEN {cost}::numeric < 1e20 THEN trunc({cost}::numeric, {}) END END)::text",
        Reported::DECIMALS
    ));
    columns.extend(paid);
    let statement = format!(
        "SELECT {} FROM {rows_of} WHERE {} GROUP BY {}",
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

/// The sums of a part of a group with one usage source and one price. Its columns follow those of
/// the key.
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
    let mut tool_calls = Some(ToolCalls::default());
    let rates = if prices.is_empty() {
        None
    } else {
        let (upstream, model): (Option<&str>, Option<&str>) = (row.try_get(next())?, row.try_get(next())?);
        // The beginning of the period, and an input of that length.
        let [at, above] = [next(), next()].map(|index| row.try_get::<_, i32>(index));
        let place = |number: i32| usize::try_from(number).ok()?.checked_sub(1);
        let at = place(at?).and_then(|place| prices.changes().get(place).copied()).unwrap_or(Timestamp::MIN);
        let above = place(above?).and_then(|place| prices.thresholds().get(place).copied());
        let input_tokens = above.map_or(0, |above| above.saturating_add(1));
        let (tier, calls): (Option<&str>, Option<&str>) = (row.try_get(next())?, row.try_get(next())?);
        if let Some(calls) = calls {
            tool_calls = query::tool_calls(calls.as_bytes());
        }
        // This column only separates the groups.
        next();
        model.and_then(|model| prices.find(&Served { model, upstream, at, tier, input_tokens }))
    };
    let count = |index| row.try_get::<_, i64>(index).map(i64::unsigned_abs);
    let tokens = |index| row.try_get(index).map(number);
    let mut sums = Sums {
        requests: count(next())?,
        countable: count(next())?,
        failed: count(next())?,
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
    if source == Estimated::SOURCE {
        sums.estimated = Some(Box::new(Estimated {
            input_tokens: sums.input_tokens,
            output_tokens: sums.output_tokens,
            total_tokens: sums.total_tokens,
            ..Estimated::default()
        }));
    }
    let reported: Option<&str> = row.try_get(next())?;
    sums.report(reported.and_then(Reported::parse));
    let counted = count(next())?;
    if counted == 0 {
        return Ok(sums);
    }
    let amount = match (rates, tool_calls) {
        (Some(rates), Some(calls)) => {
            let mut part = || tokens(next()).map(Option::unwrap_or_default);
            let paid = Billable {
                input: part()?,
                cached_input: part()?,
                cache_write: part()?,
                cache_write_1h: part()?,
                output: part()?,
                tool_calls: calls.counts().map(|calls| counted.saturating_mul(calls.into())),
            };
            rates.amount(&paid).map(|amount| (rates, paid.cached_input, amount))
        }
        _ => None,
    };
    match amount {
        Some((rates, cached_input, amount)) => {
            let currency = rates.currency;
            sums.cost.pay(currency, amount);
            sums.save(currency, rates.saving(cached_input));
            if let Some(estimated) = &mut sums.estimated {
                estimated.cost.pay(currency, amount);
            }
        }
        None => sums.cost.unpriced = counted,
    }
    Ok(sums)
}

/// Real counts never overflow.
fn number(digits: Option<&str>) -> Option<u64> {
    digits.map(|digits| digits.parse().unwrap_or(u64::MAX))
}
