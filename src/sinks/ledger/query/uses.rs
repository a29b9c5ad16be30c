//! The use of single requests and attempts, for the counts of limits.

use std::borrow::Cow;
use std::path::Path;

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::ValueRef;
use serde::Deserialize;

use super::super::error::{LedgerError, Reason};
use super::super::schema;
use super::counting::{integer, text, tool_calls};
use super::{Bounds, Selection, open_bounded};
use crate::llm::price::{Cost, Prices, ServedBy, TokenCounts};
use crate::llm::usage::Usage;

/// The use of a request, or of an attempt whose response was thrown away.
#[derive(Clone, Debug)]
pub struct RowUse<'a, const N: usize> {
    /// The start of the request.
    pub started_at: Timestamp,
    /// The client of the request.
    pub client: &'a str,
    /// The user that the request named.
    pub user: Option<&'a str>,
    /// The method of the request.
    pub method: Option<&'a str>,
    /// The name of the endpoint.
    pub endpoint: Option<&'a str>,
    /// The model that the request named.
    pub model_requested: Option<&'a str>,
    /// The upstream of the request, or of the attempt.
    pub upstream: Option<&'a str>,
    /// The group that the request was routed to.
    pub group: Option<&'a str>,
    /// `None`: an attempt, which is no request.
    pub outcome: Option<&'a str>,
    /// The status of the response.
    pub status: Option<u16>,
    /// The events of a stream, or the responses of a session.
    pub events: Option<u64>,
    /// The counts by which limits count.
    pub usage: Usage,
    /// The cost at the prices of the request's start, for each list of prices.
    pub costs: [Cost; N],
}

/// The columns. Files of earlier versions lack those of the second line.
const COLUMNS: [&str; 2] = [
    "started_at, client, user, method, endpoint, model_requested, model, upstream, outcome,
     input_tokens, cached_input_tokens, cache_write_input_tokens, output_tokens, reasoning_tokens,
     status, events",
    "cache_write_1h_input_tokens, service_tier, tool_calls, attempts, \"group\"",
];

/// An item of `attempts`.
#[derive(Deserialize)]
struct Attempt<'a> {
    #[serde(borrow)]
    upstream: Cow<'a, str>,
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    tokens: Option<AttemptTokens>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AttemptTokens {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cached_input_tokens: Option<u64>,
    cache_write_input_tokens: Option<u64>,
    cache_write_1h_input_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
}

/// Calls `read` for each request that began at `since` or later, and for each of its attempts that
/// reported tokens, with the cost by each of `prices`. The sums are those of [`report`](super::report) with attempts.
///
/// # Errors
/// Fails like [`report`](super::report).
pub fn uses<const N: usize>(
    path: &Path,
    since: Timestamp,
    prices: [&Prices; N],
    mut read: impl FnMut(&RowUse<'_, N>),
) -> Result<(), LedgerError> {
    let mut each = || {
        let connection = open_bounded(path, &Bounds::default())?;
        let transaction = connection.unchecked_transaction()?;
        let has_later = schema::has_count(&transaction)?;
        let later = if has_later { COLUMNS[1] } else { "NULL, NULL, NULL, NULL, NULL" };
        let selection = Selection::since(since);
        let condition = selection.condition(selection.range(&transaction)?, has_later);
        let mut statement = transaction.prepare(&format!(
            "SELECT {}, {later} FROM usage_records NOT INDEXED WHERE {}",
            COLUMNS[0], condition.text
        ))?;
        let mut rows = statement.query(condition.values().as_slice())?;
        while let Some(row) = rows.next()? {
            read_row(row, prices, &mut read)?;
        }
        Ok(())
    };
    each().map_err(|reason: Reason| LedgerError::new(path, reason))
}

/// The identity of the ledger at `path`.
///
/// # Errors
/// Fails if there is no ledger, or one of an earlier version that nothing has written to since.
pub fn ledger_id(path: &Path) -> Result<String, LedgerError> {
    let read = || -> Result<String, Reason> {
        let connection = open_bounded(path, &Bounds::default())?;
        Ok(connection.query_row("SELECT id FROM streamgauge_ledger", [], |row| row.get(0))?)
    };
    read().map_err(|reason| LedgerError::new(path, reason))
}

fn read_row<const N: usize>(
    row: &Row<'_>,
    prices: [&Prices; N],
    read: &mut impl FnMut(&RowUse<'_, N>),
) -> Result<(), Reason> {
    let words =
        |index| row.get_ref(index).map(|value| text(value).and_then(|text| std::str::from_utf8(text).ok()));
    let number = |index| row.get_ref(index).map(integer);
    let ValueRef::Integer(started) = row.get_ref(0)? else { return Ok(()) };
    let started_at = Timestamp::from_nanosecond(started.into()).unwrap_or(Timestamp::MAX);
    let usage = Usage {
        input_tokens: number(9)?,
        cached_input_tokens: number(10)?,
        cache_write_input_tokens: number(11)?,
        output_tokens: number(12)?,
        reasoning_tokens: number(13)?,
        cache_write_1h_input_tokens: number(16)?,
        ..Usage::default()
    };
    let own = RowUse {
        started_at,
        client: words(1)?.unwrap_or_default(),
        user: words(2)?,
        method: words(3)?,
        endpoint: words(4)?,
        model_requested: words(5)?,
        upstream: words(7)?,
        group: words(20)?,
        outcome: Some(words(8)?.unwrap_or_default()),
        status: number(14)?.and_then(|status| u16::try_from(status).ok()),
        events: number(15)?,
        usage,
        costs: std::array::from_fn(|_| Cost::default()),
    };
    let calls_json = text(row.get_ref(18)?);
    let calls = calls_json.and_then(tool_calls);
    let is_readable = calls_json.is_some() == calls.is_some();
    let served = ServedBy {
        model: words(6)?.or(own.model_requested).filter(|_| is_readable),
        upstream: own.upstream,
        at: started_at,
        tier: words(17)?,
    };
    let counts = TokenCounts::new(&usage, calls, own.endpoint);
    let own = RowUse { costs: prices.map(|prices| prices.cost(&counts, &served)), ..own };
    read(&own);
    let Some(attempts) = text(row.get_ref(19)?) else { return Ok(()) };
    let attempts: Vec<Attempt<'_>> = serde_json::from_slice(attempts)
        .map_err(|error| Reason::Row(format!("a row has attempts that are not readable: {error}")))?;
    for Attempt { upstream, model, tokens } in &attempts {
        let Some(tokens) = tokens else { continue };
        let usage = Usage {
            input_tokens: tokens.input_tokens,
            cached_input_tokens: tokens.cached_input_tokens,
            cache_write_input_tokens: tokens.cache_write_input_tokens,
            output_tokens: tokens.output_tokens,
            reasoning_tokens: tokens.reasoning_tokens,
            cache_write_1h_input_tokens: tokens.cache_write_1h_input_tokens,
            ..Usage::default()
        };
        let (model, upstream) = (model.as_deref(), Some(&**upstream));
        let served = ServedBy { model, upstream, at: started_at, tier: None };
        let counts = TokenCounts::new(&usage, None, own.endpoint);
        let costs = prices.map(|prices| prices.cost(&counts, &served));
        read(&RowUse { upstream, outcome: None, usage, costs, ..own.clone() });
    }
    Ok(())
}
