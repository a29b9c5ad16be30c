//! Sums by what rows have in common.

use super::super::by::By;
use super::super::calendar::nanoseconds;
use super::super::error::{LedgerError, Reason};
use super::super::groups::Groups;
use super::super::query::{Bounds, Selection};
use super::super::report::{Report, time_part};
use super::ask::{Moment, ask};
use super::condition::Condition;
use super::rows::Micros;
use super::sums::add_up;
use crate::config::Postgres;
use crate::llm::price::Prices;
use jiff::Timestamp;

/// Adds up the selected rows of all instances, and what they cost, as
/// [`crate::sinks::ledger::report()`] does those of one: the same numbers for the same rows, except
/// for the order in which seconds are added up. It is read as it is at one moment.
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
    ask(settings, bounds, async |moment| {
        let has_periods = by.iter().any(|by| by.period().is_some());
        let Some((first, last)) = times(&moment, selection, has_periods).await? else {
            return Ok(Report::of(Groups::default(), by, selection, prices));
        };
        let mut condition = Condition::of(selection);
        let mut keys = Vec::new();
        let mut beginnings = Vec::new();
        for by in by {
            let of_by = by.period().map(|period| period.beginnings(first, last, &selection.zone));
            keys.push(match &of_by {
                Some(beginnings) => condition.place(beginnings),
                None if *by == By::Status => "status::text".to_owned(),
                None => format!("\"{by}\""),
            });
            beginnings.push(of_by);
        }
        let mut groups = Groups::default();
        add_up(&moment, condition, &keys, prices, |row, sums| {
            groups.begin();
            for (index, beginnings) in beginnings.iter().enumerate() {
                match beginnings {
                    Some(beginnings) => {
                        let place = usize::try_from(row.try_get::<_, i32>(index)?).unwrap_or_default();
                        let begin = beginnings.get(place.saturating_sub(1)).copied().unwrap_or(first);
                        groups.part(Some(&time_part(nanoseconds(begin))));
                    }
                    None => groups.part(row.try_get::<_, Option<&str>>(index)?.map(str::as_bytes)),
                }
            }
            groups.sums().add(sums);
            bounds.allow(groups.len())
        })
        .await?;
        Ok(Report::of(groups, by, selection, prices))
    })
}

/// The times of the first and the last row, if they are wanted; `None`: there is no row.
async fn times(
    moment: &Moment<'_>,
    selection: &Selection,
    are_wanted: bool,
) -> Result<Option<(Timestamp, Timestamp)>, Reason> {
    if !are_wanted {
        return Ok(Some((selection.since, selection.since)));
    }
    let condition = Condition::of(selection);
    let statement =
        format!("SELECT min(started_at), max(started_at) FROM usage_records WHERE {}", condition.text);
    let row = moment.transaction.query_typed_one(&statement, &condition.parameters()).await?;
    let [first, last] = [row.try_get::<_, Option<Micros>>(0)?, row.try_get(1)?];
    let time = |at: Option<Micros>| Timestamp::from_microsecond(at?.0).ok();
    Ok(time(first).zip(time(last)))
}
