//! Sums of rows by common values.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use futures_core::Stream as _;
use jiff::Timestamp;

use super::super::by::By;
use super::super::calendar::nanoseconds;
use super::super::columns;
use super::super::error::{LedgerError, Reason};
use super::super::groups::Groups;
use super::super::query::{Bounds, Selection};
use super::super::report::{Report, time_part};
use super::ask::{Moment, ask};
use super::condition::{Condition, tag};
use super::rows::Micros;
use super::sums::{ATTEMPTS, REQUESTS, add_up};
use crate::config::Postgres;
use crate::llm::price::Prices;

/// The longest time between the first and the last row for which every period is listed: 88,000
/// hours. Beyond it, because a clock was far off, only the periods of days with rows are listed.
const LONGEST: Duration = Duration::from_hours(24 * 366 * 10);

/// A day less a microsecond, PostgreSQL's unit.
const DAY: Duration = Duration::from_micros(24 * 3600 * 1_000_000 - 1);

/// Adds up the selected rows of all instances, and their costs, as
/// [`crate::sinks::ledger::report()`] does for one instance. For the same rows the numbers are
/// equal, except for the order in which seconds are added. All data is read at one point in time.
///
/// Blocks, and must not be called on a thread of tokio.
///
/// # Errors
/// Fails if the server cannot be reached or has no ledger of this version, or if a bound was
/// reached.
pub fn report(
    settings: &Postgres,
    selection: &Selection,
    by: &[By],
    prices: &Prices,
    bounds: &Bounds,
) -> Result<Report, LedgerError> {
    ask(settings, bounds, async |moment| {
        let has_periods = by.iter().any(|by| by.period().is_some());
        let mut within = selection.clone();
        if selection.attempts {
            // An attempt may have another upstream and model than its request.
            (within.upstream, within.model) = (None, None);
        }
        let spans = if has_periods { spans(&moment, &within).await? } else { Vec::new() };
        if has_periods && spans.is_empty() {
            return Ok(Report::of(Groups::default(), by, selection, prices));
        }
        let mut groups = Groups::default();
        add(&moment, REQUESTS, selection, by, &spans, prices, bounds, &mut groups).await?;
        if selection.attempts && moment.has(columns::ATTEMPTS) {
            add(&moment, ATTEMPTS, selection, by, &spans, prices, bounds, &mut groups).await?;
        }
        Ok(Report::of(groups, by, selection, prices))
    })
}

/// Adds the rows of requests or of attempts to `groups`.
#[expect(clippy::too_many_arguments, reason = "those of a report, and of its result")]
async fn add(
    moment: &Moment<'_>,
    rows_of: &str,
    selection: &Selection,
    by: &[By],
    spans: &[(Timestamp, Timestamp)],
    prices: &Prices,
    bounds: &Bounds,
    groups: &mut Groups,
) -> Result<(), Reason> {
    let mut condition = Condition::of(moment, selection);
    let mut keys = Vec::new();
    let mut beginnings = Vec::new();
    for by in by {
        let of_by = by.period().map(|period| period.beginnings_within(spans, &selection.zone));
        keys.push(match &of_by {
            Some(beginnings) => condition.place(beginnings),
            None if *by == By::Status => "status::text".to_owned(),
            None if !moment.has(by.column()) => "NULL::text".to_owned(),
            None if let By::Tag(name) = by => tag(*name),
            None => format!("\"{}\"", by.column()),
        });
        beginnings.push(of_by);
    }
    add_up(moment, rows_of, condition, &keys, prices, |row, sums| {
        groups.begin();
        for (index, beginnings) in beginnings.iter().enumerate() {
            match beginnings {
                Some(beginnings) => {
                    let place = usize::try_from(row.try_get::<_, i32>(index)?).unwrap_or_default();
                    let begin = beginnings.get(place.saturating_sub(1)).copied().unwrap_or(selection.since);
                    groups.part(Some(&time_part(nanoseconds(begin))));
                }
                None => groups.part(row.try_get::<_, Option<&str>>(index)?.map(str::as_bytes)),
            }
        }
        match rows_of {
            ATTEMPTS => groups.sums().add(&sums.clone().without_requests()),
            _ => groups.sums().add(sums),
        }
        bounds.allow(groups.len())
    })
    .await
}

/// Ordered spans of time that contain all rows: one from the first to the last row, or the days of
/// UTC with rows if these are more than [`LONGEST`] apart.
pub(super) async fn spans(
    moment: &Moment<'_>,
    selection: &Selection,
) -> Result<Vec<(Timestamp, Timestamp)>, Reason> {
    let time = |at: Option<Micros>| Timestamp::from_microsecond(at?.0).ok();
    let condition = Condition::of(moment, selection);
    let statement =
        format!("SELECT min(started_at), max(started_at) FROM usage_records WHERE {}", condition.text);
    let row = moment.transaction.query_typed_one(&statement, &condition.parameters()).await?;
    let Some((first, last)) = time(row.try_get(0)?).zip(time(row.try_get(1)?)) else {
        return Ok(Vec::new());
    };
    if last.duration_since(first).unsigned_abs() <= LONGEST {
        return Ok(vec![(first, last)]);
    }
    let statement = format!(
        "SELECT DISTINCT date_trunc('day', started_at, 'UTC') AS day FROM usage_records WHERE {} ORDER BY day",
        condition.text
    );
    let mut spans = Vec::new();
    let mut rows = pin!(moment.transaction.query_typed_raw(&statement, condition.parameters()).await?);
    while let Some(row) = poll_fn(|cx| rows.as_mut().poll_next(cx)).await {
        if let Some(day) = time(row?.try_get(0)?) {
            spans.push((day, day.checked_add(DAY).unwrap_or(Timestamp::MAX)));
        }
    }
    Ok(spans)
}
