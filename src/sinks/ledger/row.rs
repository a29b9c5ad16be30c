//! Usage records as rows.
//!
//! Most of a row's cost is SQLite's work per statement and per value. So a statement writes several
//! rows, and a value that its parameter has already is not bound again: two requests mostly have
//! much in common.

use std::sync::LazyLock;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ToSql};
use uuid::Uuid;

use super::columns::{COLUMNS, list};
use super::counted;
use crate::llm::provider::Provider;
use crate::llm::usage::{ToolCalls, Usage};
use crate::record::{GroupUse, UsageRecord, UsageSource};
use crate::support::tags::Tags;
use crate::support::threads::Stints;

/// The rows of one statement. More rows save hardly any time, and the last few of a batch need one
/// statement each.
const ROWS: usize = 16;

/// The statements, which are the same for every batch.
static SEVERAL: LazyLock<String> = LazyLock::new(|| sql(ROWS));
static ONE: LazyLock<String> = LazyLock::new(|| sql(1));

/// A row that violates a constraint rolls the whole transaction back, as the caller would. So
/// SQLite need not save each page before the statement.
fn sql(rows: usize) -> String {
    let row = format!("({})", vec!["?"; COLUMNS.len()].join(","));
    format!("INSERT OR ROLLBACK INTO usage_records ({}) VALUES {}", list(COLUMNS), vec![row; rows].join(","))
}

/// Writes records in their order.
pub(super) fn insert<'r>(
    connection: &Connection,
    records: impl Iterator<Item = &'r UsageRecord>,
    stints: &mut Stints,
) -> rusqlite::Result<()> {
    let mut several = None;
    let mut group: Vec<(&UsageRecord, bool)> = Vec::with_capacity(ROWS);
    for record in records {
        // Before the record, so that the last inserted row is a record's.
        group.push((record, counted::keep(connection, record)?));
        if group.len() == ROWS {
            match &mut several {
                Some(insert) => insert,
                none => none.insert(Insert::new(connection, &SEVERAL, ROWS)?),
            }
            .execute(&group)?;
            group.clear();
            stints.pause_if_due();
        }
    }
    let mut one = Insert::new(connection, &ONE, 1)?;
    group.into_iter().try_for_each(|record| one.execute(&[record]))
}

/// A statement that writes this number of rows, with the values bound to its parameters.
struct Insert<'c, 'r> {
    statement: CachedStatement<'c>,
    /// All null at first, as in every new statement.
    bound: Vec<Value<'r>>,
}

impl<'c, 'r> Insert<'c, 'r> {
    fn new(connection: &'c Connection, sql: &str, rows: usize) -> rusqlite::Result<Self> {
        let statement = connection.prepare_cached(sql)?;
        Ok(Self { statement, bound: vec![Value::Null; rows * COLUMNS.len()] })
    }

    /// Writes as many records as the statement has rows, each with its usage or without.
    fn execute(&mut self, records: &[(&'r UsageRecord, bool)]) -> rusqlite::Result<()> {
        let values = records.iter().flat_map(|(record, has_usage)| values(record, *has_usage));
        for (index, (bound, value)) in self.bound.iter_mut().zip(values).enumerate() {
            if *bound != value {
                self.statement.raw_bind_parameter(index + 1, value)?;
                *bound = value;
            }
        }
        self.statement.raw_execute().map(drop)
    }
}

/// The value of a column.
#[derive(Clone, Copy)]
enum Value<'r> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'r str),
    Calls(&'r ToolCalls),
    Attempts(&'r GroupUse),
    Tags(&'r Tags),
    Id(Uuid),
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Integer(one), Self::Integer(other)) => one == other,
            (Self::Real(one), Self::Real(other)) => one == other,
            // Names from the configuration are the same texts in the same place.
            (Self::Text(one), Self::Text(other)) => std::ptr::eq(*one, *other) || one == other,
            (Self::Calls(one), Self::Calls(other)) => one == other,
            (Self::Attempts(one), Self::Attempts(other)) => one == other,
            (Self::Tags(one), Self::Tags(other)) => one == other,
            (Self::Id(one), Self::Id(other)) => one == other,
            _ => false,
        }
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Self::Integer(number) => ToSqlOutput::Borrowed(ValueRef::Integer(*number)),
            Self::Real(number) => ToSqlOutput::Borrowed(ValueRef::Real(*number)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Calls(calls) => ToSqlOutput::Owned(calls.to_string().into()),
            Self::Tags(tags) => ToSqlOutput::Owned(tags.to_string().into()),
            // Numbers and texts, which JSON has.
            Self::Attempts(group) => ToSqlOutput::Owned(serde_json::to_string(group.attempts()).ok().into()),
            Self::Id(id) => {
                let mut buffer = Uuid::encode_buffer();
                ToSqlOutput::Owned(id.hyphenated().encode_lower(&mut buffer).to_owned().into())
            }
        })
    }
}

impl From<Option<u64>> for Value<'_> {
    fn from(count: Option<u64>) -> Self {
        count.map_or(Self::Null, Self::from)
    }
}

impl From<u64> for Value<'_> {
    /// SQLite's integers are signed. A larger count, which no service has ever sent, is saturated.
    fn from(count: u64) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

impl From<Option<f64>> for Value<'_> {
    fn from(number: Option<f64>) -> Self {
        number.map_or(Self::Null, Self::Real)
    }
}

impl<'r> From<&'r str> for Value<'r> {
    fn from(text: &'r str) -> Self {
        Self::Text(text)
    }
}

impl<'r> From<Option<&'r str>> for Value<'r> {
    fn from(text: Option<&'r str>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

/// The values of a record, in the order of [`COLUMNS`]. `has_usage`: with its usage, and what is
/// billed together with that.
fn values(record: &UsageRecord, has_usage: bool) -> [Value<'_>; COLUMNS.len()] {
    let usage = if has_usage { record.usage } else { Usage::default() };
    let usage_source = if has_usage { record.usage_source } else { UsageSource::None };
    let group = record.group_use.as_deref();
    [
        // A time beyond the year 2262 is saturated.
        Value::Integer(i64::try_from(record.started_at.as_nanosecond()).unwrap_or(i64::MAX)),
        (&*record.client).into(),
        record.upstream.as_deref().into(),
        record.model.as_deref().into(),
        usage_source.as_str().into(),
        usage.input_tokens.into(),
        usage.output_tokens.into(),
        usage.total_tokens.into(),
        usage.cached_input_tokens.into(),
        usage.cache_write_input_tokens.into(),
        usage.reasoning_tokens.into(),
        usage.input_audio_tokens.into(),
        usage.output_audio_tokens.into(),
        usage.billed_seconds.into(),
        Value::Id(record.id),
        record.user.as_deref().into(),
        record.provider.map(Provider::as_str).into(),
        record.method.as_ref().map(http::Method::as_str).into(),
        record.endpoint.as_deref().into(),
        record.model_requested.as_deref().into(),
        Value::Integer(record.stream.into()),
        record.status.map(u64::from).into(),
        record.outcome.as_str().into(),
        record.events.into(),
        record.request_bytes.into(),
        record.response_bytes.into(),
        record.time_to_first_byte_ms.into(),
        record.time_to_first_token_ms.into(),
        Value::Real(record.duration_ms),
        record.upstream_request_id.as_deref().into(),
        record.error.as_deref().into(),
        record.time_to_first_event_ms.into(),
        record.time_to_last_event_ms.into(),
        record.time_to_disconnect_ms.into(),
        record.count.into(),
        record.service_tier.as_deref().into(),
        usage.cache_write_1h_input_tokens.into(),
        record.tool_calls.as_ref().filter(|_| has_usage).map_or(Value::Null, Value::Calls),
        record.reported_cost.as_deref().filter(|_| has_usage).into(),
        group.and_then(GroupUse::group).into(),
        record.time_waiting_ms.into(),
        record.key_id.as_deref().into(),
        record.tags.as_deref().map_or(Value::Null, Value::Tags),
        group.filter(|group| group.several().is_some()).map_or(Value::Null, Value::Attempts),
    ]
}
