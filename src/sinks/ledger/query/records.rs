//! Reads records as they were written.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, Statement};
use serde::{Serialize, Serializer};
use serde_json::{Number, Value};
use uuid::Uuid;

use super::super::columns::{RESERVED, text_field};
use super::super::error::{LedgerError, Reason};
use super::super::schema;
use super::page::Filling;
use super::{Bounds, Next, Page, Selection, open_bounded};

/// A usage record as it was written: its id, then its fields in the order of the table's columns.
/// Its JSON equals that of the JSON lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Record(Vec<(Arc<str>, Value)>);

impl Record {
    /// A record with these fields, in this order.
    pub fn new(fields: Vec<(Arc<str>, Value)>) -> Self {
        Self(fields)
    }

    /// The value of a field; null if there is no such field.
    pub fn get(&self, field: &str) -> &Value {
        self.0.iter().find(|(name, _)| &**name == field).map_or(&Value::Null, |(_, value)| value)
    }

    /// The fields, in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.fields())
    }
}

/// The order of writing, which is not a field of the record.
const ORDER: &str = "seq";

/// A UUIDv7 contains the milliseconds of its record's start.
const MILLISECOND: i64 = 1_000_000;

/// The record with this id, if it was written and is still kept.
///
/// # Errors
/// Fails like [`report`](super::report).
pub fn record(path: &Path, id: Uuid, bounds: &Bounds) -> Result<Option<Record>, LedgerError> {
    let found = open_bounded(path, bounds).and_then(|connection| by_id(&connection, id));
    found.map_err(|reason| LedgerError::new(path, reason))
}

/// The latest of the selected records, at most `limit`, and no more than fit on a page, in the
/// order of descending ends. `from` is the end of an earlier page of the same selection.
///
/// # Errors
/// Fails like [`report`](super::report).
pub fn records(
    path: &Path,
    selection: &Selection,
    limit: usize,
    from: Option<&Next>,
    bounds: &Bounds,
) -> Result<Page, LedgerError> {
    let found = open_bounded(path, bounds).and_then(|connection| latest(&connection, selection, limit, from));
    found.map_err(|reason| LedgerError::new(path, reason))
}

/// Searches the rows of the id's millisecond: the table has an index of times, but none of ids.
fn by_id(connection: &Connection, id: Uuid) -> Result<Option<Record>, Reason> {
    let Some(at) = id.get_timestamp() else { return Ok(None) };
    let (seconds, nanoseconds) = at.to_unix();
    let Some(from) = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| seconds.checked_mul(1_000 * MILLISECOND)?.checked_add(nanoseconds.into()))
    else {
        return Ok(None);
    };
    let mut statement = connection.prepare(
        "SELECT * FROM usage_records WHERE started_at >= ?1 AND started_at < ?1 + ?2 AND id = ?3 LIMIT 1",
    )?;
    let names = names(&statement);
    let mut rows = statement.query((from, MILLISECOND, id.hyphenated().to_string()))?;
    rows.next()?.map(|row| read(row, &names)).transpose()
}

fn latest(
    connection: &Connection,
    selection: &Selection,
    limit: usize,
    from: Option<&Next>,
) -> Result<Page, Reason> {
    let transaction = connection.unchecked_transaction()?;
    let (first, last) = match from {
        Some(Next::File(range)) => *range,
        _ => selection.range(&transaction)?,
    };
    let condition = selection.condition((first, last), schema::has_count(&transaction)?);
    let mut statement = transaction.prepare(&format!(
        "SELECT * FROM usage_records NOT INDEXED WHERE {} ORDER BY seq DESC LIMIT {limit}",
        condition.text
    ))?;
    let names = names(&statement);
    let mut rows = statement.query(condition.values().as_slice())?;
    let (mut records, mut filling) = (Vec::new(), Filling::default());
    while let Some(row) = rows.next()? {
        let record = read(row, &names)?;
        let is_full = filling.fill_with(&record);
        records.push(record);
        if is_full {
            let place: i64 = row.get(ORDER)?;
            return Ok(Page { records, next: Some(Next::File((first, place - 1))) });
        }
    }
    Ok(Page { records, next: None })
}

/// The records with these positions in the order of writing, without those that are deleted.
pub(super) fn at(connection: &Connection, places: impl Iterator<Item = i64>) -> Result<Vec<Record>, Reason> {
    let mut statement = connection.prepare("SELECT * FROM usage_records WHERE seq = ?1")?;
    let names = names(&statement);
    let mut records = Vec::new();
    for place in places {
        let mut rows = statement.query([place])?;
        if let Some(row) = rows.next()? {
            records.push(read(row, &names)?);
        }
    }
    Ok(records)
}

/// The names of the fields with their columns, which records share.
fn names(statement: &Statement<'_>) -> Vec<(Arc<str>, usize)> {
    let columns = statement.column_names();
    let mut names: Vec<_> = columns.into_iter().map(Arc::from).zip(0..).collect();
    names.retain(|(name, _)| &**name != ORDER && !RESERVED.iter().any(|(reserved, _)| *reserved == &**name));
    names.sort_by_key(|(name, _)| &**name != "id");
    names
}

fn read(row: &Row<'_>, names: &[(Arc<str>, usize)]) -> Result<Record, Reason> {
    let mut record = Vec::with_capacity(names.len());
    for (name, index) in names {
        let value = match (&**name, row.get_ref(*index)?) {
            ("started_at", ValueRef::Integer(at)) => {
                Timestamp::from_nanosecond(at.into()).map_or(Value::Null, |at| at.to_string().into())
            }
            ("stream", ValueRef::Integer(stream)) => (stream != 0).into(),
            (_, ValueRef::Null | ValueRef::Blob(_)) => Value::Null,
            (_, ValueRef::Integer(number)) => number.into(),
            (_, ValueRef::Real(number)) => Number::from_f64(number).map_or(Value::Null, Value::Number),
            (name, ValueRef::Text(text)) => text_field(name, String::from_utf8_lossy(text).into_owned()),
        };
        record.push((Arc::clone(name), value));
    }
    Ok(Record(record))
}

#[cfg(test)]
mod tests;
