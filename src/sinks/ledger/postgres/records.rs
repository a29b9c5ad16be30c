//! Reads records as they were written, each with its instance.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Number, Value};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::super::columns::{Kind, list, text_field};
use super::super::error::{LedgerError, Reason};
use super::super::query::{Bounds, Filling, Next, Page, Record, Selection};
use super::ask::{Moment, ask};
use super::condition::{Condition, END};
use super::rows::Micros;
use crate::config::Postgres;

/// The record with this id, if it was shipped and is still kept. Its start is in whole
/// microseconds.
///
/// Blocks, and must not be called on a thread of tokio.
///
/// # Errors
/// Fails like [`report`](super::report()).
pub fn record(settings: &Postgres, id: Uuid, bounds: &Bounds) -> Result<Option<Record>, LedgerError> {
    ask(settings, bounds, async |moment| {
        let columns = moment.columns;
        let statement =
            format!("SELECT instance, {} FROM usage_records WHERE id = $1 LIMIT 1", list(columns));
        let row = moment.transaction.query_typed_opt(&statement, &[(&id, Type::UUID)]).await?;
        row.map(|row| read(&row, &names(columns))).transpose()
    })
}

/// The latest of the selected records, at most `limit`, and no more than fit on a page, in the
/// order of descending ends. `from` is the end of an earlier page of the same selection.
///
/// Blocks, and must not be called on a thread of tokio.
///
/// # Errors
/// Fails like [`report`](super::report()).
pub fn records(
    settings: &Postgres,
    selection: &Selection,
    limit: usize,
    from: Option<&Next>,
    bounds: &Bounds,
) -> Result<Page, LedgerError> {
    let most = limit.min(MOST);
    let records = ask(settings, bounds, async |moment| latest(&moment, selection, most, from).await)?;
    let mut filling = Filling::default();
    let full = records.iter().position(|record| filling.fill_with(record));
    let is_cut = full.is_some() || records.len() == MOST;
    let records: Vec<_> = records.into_iter().take(full.map_or(MOST, |last| last + 1)).collect();
    let next = records.last().filter(|_| is_cut).and_then(Next::behind);
    Ok(Page { records, next })
}

/// The largest number of rows of a page: about as many usual ones as fit on it.
const MOST: usize = 250;

pub(super) async fn latest(
    moment: &Moment<'_>,
    selection: &Selection,
    limit: usize,
    from: Option<&Next>,
) -> Result<Vec<Record>, Reason> {
    let mut condition = Condition::of(moment, selection);
    if let Some(Next::Fleet(started, duration, id)) = from {
        condition.ends_before(*started, *duration, *id);
    }
    let statement = format!(
        "SELECT instance, {} FROM usage_records WHERE {}
         ORDER BY {END} DESC, started_at DESC, id DESC LIMIT {limit}",
        list(moment.columns),
        condition.text
    );
    let rows = moment.transaction.query_typed(&statement, &condition.parameters()).await?;
    let names = names(moment.columns);
    rows.iter().map(|row| read(row, &names)).collect()
}

/// The names of the fields with their columns, which records share: the id, then the order of
/// SQLite's table, and the instance.
fn names(columns: &[(&str, Kind)]) -> Vec<(Arc<str>, usize, Kind)> {
    let columns = columns.iter().zip(1..);
    let mut names: Vec<_> = columns.map(|((name, kind), index)| (Arc::from(*name), index, *kind)).collect();
    names.sort_by_key(|(_, _, kind)| *kind != Kind::Id);
    names.push((Arc::from("instance"), 0, Kind::Text));
    names
}

fn read(row: &Row, names: &[(Arc<str>, usize, Kind)]) -> Result<Record, Reason> {
    let mut record = Vec::with_capacity(names.len());
    for (name, index, kind) in names {
        let index = *index;
        let value = match kind {
            Kind::Time => {
                let Micros(at) = row.try_get(index)?;
                Timestamp::from_microsecond(at).map_or(Value::Null, |at| at.to_string().into())
            }
            Kind::Id => row.try_get::<_, Uuid>(index)?.to_string().into(),
            Kind::Text => {
                let text = row.try_get::<_, Option<String>>(index)?;
                text.map_or(Value::Null, |text| text_field(name, text))
            }
            Kind::Integer => row.try_get::<_, Option<i64>>(index)?.into(),
            Kind::Real => {
                let number: Option<f64> = row.try_get(index)?;
                number.and_then(Number::from_f64).map_or(Value::Null, Value::Number)
            }
            Kind::Boolean => row.try_get::<_, bool>(index)?.into(),
        };
        record.push((Arc::clone(name), value));
    }
    Ok(Record::new(record))
}
