//! Sums by what rows have in common.

use std::collections::HashMap;

use super::super::error::LedgerError;
use super::super::groups::{self, By, Group, Sums};
use super::super::query::{Bounds, Report, Selection};
use super::ask::ask;
use super::condition::Condition;
use super::sums::{Key, add_up};
use crate::config::Postgres;
use crate::price::Prices;

/// Adds up the selected rows of all instances, and what they cost, as [`crate::ledger::report`]
/// does those of one: the same numbers for the same rows, but for the order in which seconds are
/// added up. It is read as it is at one moment.
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
        let keys: Vec<_> = by.iter().map(|by| Key { shown: shown(*by), compared: key(*by) }).collect();
        let mut groups: HashMap<groups::Key, Sums> = HashMap::new();
        add_up(&moment, Condition::of(selection), &keys, prices, |row, sums| {
            let key = (0..by.len()).map(|index| row.try_get(index)).collect::<Result<_, _>>()?;
            groups.entry(key).or_default().add(sums);
            bounds.allow(groups.len())
        })
        .await?;
        let mut groups: Vec<_> = groups.into_iter().map(|(key, sums)| Group { key, sums }).collect();
        groups.sort_by(Group::order);
        let mut total = Sums::default();
        groups.iter().for_each(|group| total.add(&group.sums));
        Ok(Report { by: by.to_owned(), groups, total, currencies: prices.currencies().to_vec() })
    })
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
