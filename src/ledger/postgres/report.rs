//! Reads a fleet's ledger.
//!
//! The server adds up. What rows cost depends on the price of their day, model and upstream, so where there are prices it adds
//! up for each of these, and the rest is done here: costs are linear, and the cost of a sum is the sum of the costs.

use std::collections::HashMap;
use std::time::Instant;

use jiff::Timestamp;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::super::error::{LedgerError, Reason};
use super::super::groups::{By, Group, Key, SOURCES, Sums};
use super::super::query::{Bounds, Report, Selection};
use super::connect::{Connection, STATEMENT, runtime, within};
use super::rows::Micros;
use super::{Failure, schema};
use crate::config::Postgres;
use crate::price::{Billable, INPUT_WITHOUT_CACHE, Prices};

/// Adds up the selected rows of all instances, and what they cost, as [`crate::ledger::report`] does those of one: the same
/// numbers for the same rows, but for the order in which seconds are added up. It is one statement, so it sees one moment.
///
/// It blocks, and must not be called on a thread of tokio's.
///
/// # Errors
/// The server cannot be reached or has no ledger of this version; or one of the bounds was reached.
pub fn report(
    settings: &Postgres,
    selection: &Selection,
    by: &[By],
    prices: &Prices,
    bounds: &Bounds,
) -> Result<Report, LedgerError> {
    let time = bounds.deadline.map_or(STATEMENT, |end| end.saturating_duration_since(Instant::now()));
    let work = async {
        let connection = Connection::open(settings).await?;
        within(time, async {
            schema::find(&connection.client).await?;
            read(&connection.client, selection, by, prices).await
        })
        .await
    };
    let rows = runtime().and_then(|runtime| runtime.block_on(work));
    let rows = rows.map_err(|failure| match failure {
        Failure::Silence(_) if bounds.deadline.is_some() => Reason::TooLong,
        failure => failure.into(),
    });
    rows.and_then(|rows| sum(&rows, by, prices, bounds))
        .map_err(|reason| LedgerError::fleet(settings, reason))
}

/// The sums of tokens, in the order of [`sums`].
const TOKENS: [&str; 6] = [
    "input_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "total_tokens",
];

/// How many rows have counts, and what is paid for in them, each row as [`Billable::new`] has it.
fn billable(prices: &Prices) -> [String; 5] {
    let counted = "FILTER (WHERE input_tokens IS NOT NULL OR output_tokens IS NOT NULL)";
    let rows = format!("count(*) {counted}");
    if prices.is_empty() {
        let nothing = || "'0'".to_owned();
        return [rows, nothing(), nothing(), nothing(), nothing()];
    }
    // A number without an end: what a service reports may be at the end of `bigint`.
    let apart = format!(
        "CASE WHEN endpoint = '{INPUT_WITHOUT_CACHE}' THEN 0
         ELSE coalesce(cached_input_tokens, 0)::numeric + coalesce(cache_write_input_tokens, 0) END"
    );
    let tokens = |tokens: &str| format!("coalesce(sum({tokens}) {counted}, 0)::text");
    [
        rows,
        tokens(&format!("greatest(coalesce(input_tokens, 0) - {apart}, 0)")),
        tokens("cached_input_tokens"),
        tokens("cache_write_input_tokens"),
        tokens("output_tokens"),
    ]
}

async fn read(
    client: &Client,
    selection: &Selection,
    by: &[By],
    prices: &Prices,
) -> Result<Vec<Row>, Failure> {
    let since = micros(selection.since);
    let until = selection.until.map(micros);
    let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> = vec![(&since, Type::TIMESTAMPTZ)];
    let mut condition = "started_at >= $1".to_owned();
    if let Some(until) = &until {
        parameters.push((until, Type::TIMESTAMPTZ));
        condition += " AND started_at < $2";
    }
    for (column, value) in [
        ("client", &selection.client),
        ("\"user\"", &selection.user),
        ("upstream", &selection.upstream),
        ("model", &selection.model),
    ] {
        if let Some(value) = value {
            parameters.push((value, Type::TEXT));
            condition += &format!(" AND {column} = ${}", parameters.len());
        }
    }
    let changes: Vec<_> = prices.changes().iter().map(|change| micros(*change)).collect();
    let mut columns: Vec<_> = by.iter().map(|by| shown(*by)).collect();
    let mut groups: Vec<_> = by.iter().map(|by| key(*by)).collect();
    let mut also = vec!["usage_source".to_owned()];
    if !prices.is_empty() {
        let mut period = "0".to_owned();
        for change in &changes {
            parameters.push((change, Type::TIMESTAMPTZ));
            period += &format!(" + (started_at >= ${})::int", parameters.len());
        }
        also.extend(["upstream".to_owned(), "coalesce(model, model_requested)".to_owned(), period]);
    }
    columns.extend(also.iter().cloned());
    groups.extend(also);
    columns.push("count(*)".to_owned());
    // Sums of `bigint` are numbers without an end, which have no form of their own here but their digits.
    columns.extend(TOKENS.map(|column| format!("sum({column})::text")));
    columns.push("sum(billed_seconds)".to_owned());
    columns.extend(billable(prices));
    let statement = format!(
        "SELECT {} FROM usage_records WHERE {condition} GROUP BY {}",
        columns.join(", "),
        groups.join(", ")
    );
    Ok(client.query_typed(&statement, &parameters).await?)
}

/// What rows are grouped by.
fn key(by: By) -> String {
    match by {
        By::Model => "model".to_owned(),
        By::Client => "client".to_owned(),
        By::Upstream => "upstream".to_owned(),
        By::Endpoint => "endpoint".to_owned(),
        By::User => "\"user\"".to_owned(),
        By::Day => "date_bin('1 day', started_at, '2000-01-01Z')".to_owned(),
        By::Hour => "date_bin('1 hour', started_at, '2000-01-01Z')".to_owned(),
    }
}

/// The same in words, which are made of each group and not of each row.
fn shown(by: By) -> String {
    let form = match by {
        By::Day => "YYYY-MM-DD",
        By::Hour => "YYYY-MM-DD\"T\"HH24\":00Z\"",
        By::Model | By::Client | By::Upstream | By::Endpoint | By::User => return key(by),
    };
    format!("to_char({} AT TIME ZONE 'UTC', '{form}')", key(by))
}

/// Times in the database are whole microseconds, rounded down; so the bounds of a selection are too.
fn micros(at: Timestamp) -> Micros {
    Micros(at.as_microsecond())
}

fn sum(rows: &[Row], by: &[By], prices: &Prices, bounds: &Bounds) -> Result<Report, Reason> {
    let mut groups: HashMap<Key, Sums> = HashMap::new();
    for row in rows {
        let Read { key, sums } = Read::of(row, by.len(), prices)?;
        groups.entry(key).or_default().add(&sums);
        bounds.allow(groups.len())?;
    }
    let mut groups: Vec<_> = groups.into_iter().map(|(key, sums)| Group { key, sums }).collect();
    groups.sort_by(Group::order);
    let mut total = Sums::default();
    groups.iter().for_each(|group| total.add(&group.sums));
    Ok(Report { by: by.to_owned(), groups, total, currencies: prices.currencies().to_vec() })
}

/// A row of the answer: a part of a group that has one usage source and one price.
struct Read {
    key: Key,
    sums: Sums,
}

impl Read {
    fn of(row: &Row, by: usize, prices: &Prices) -> Result<Self, Reason> {
        let mut index = 0;
        let mut next = || {
            index += 1;
            index - 1
        };
        let key = (0..by).map(|_| row.try_get(next())).collect::<Result<_, _>>()?;
        let source: &str = row.try_get(next())?;
        let Some(source) = SOURCES.iter().position(|known| *known == source) else {
            return Err(Reason::Row(format!("a row has the unknown usage_source {source:?}")));
        };
        let rates = if prices.is_empty() {
            None
        } else {
            let (upstream, model): (Option<&str>, Option<&str>) =
                (row.try_get(next())?, row.try_get(next())?);
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
        Ok(Self { key, sums })
    }
}

/// Real counts never come near the end of it.
fn number(digits: Option<&str>) -> Option<u64> {
    digits.map(|digits| digits.parse().unwrap_or(u64::MAX))
}
