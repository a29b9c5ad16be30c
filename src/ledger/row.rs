//! A usage record as a row.

use rusqlite::{Statement, ToSql};
use uuid::Uuid;

use crate::provider::Provider;
use crate::record::UsageRecord;

/// Writes one row; its parameters are bound by [`insert`], in this order.
pub(super) const INSERT: &str = "INSERT INTO usage_records (started_at, client, upstream, model, usage_source,
    input_tokens, output_tokens, total_tokens, cached_input_tokens, cache_write_input_tokens, reasoning_tokens,
    input_audio_tokens, output_audio_tokens, billed_seconds, id, user, provider, method, endpoint, model_requested,
    stream, status, outcome, events, request_bytes, response_bytes, time_to_first_byte_ms, time_to_first_token_ms,
    duration_ms, upstream_request_id, error, time_to_first_event_ms, time_to_last_event_ms, time_to_disconnect_ms)
    VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21,?22,?23,?24,?25,?26,?27,?28,?29,?30,?31,?32,?33,?34)";

/// Executes the statement [`INSERT`] with a record.
pub(super) fn insert(statement: &mut Statement<'_>, record: &UsageRecord) -> rusqlite::Result<()> {
    let mut buffer = Uuid::encode_buffer();
    let usage = &record.usage;
    let values: [&dyn ToSql; 34] = [
        // A clock beyond the year 2262 stays at its end.
        &i64::try_from(record.started_at.as_nanosecond()).unwrap_or(i64::MAX),
        &&*record.client,
        &record.upstream.as_deref(),
        &record.model.as_deref(),
        &record.usage_source.as_str(),
        &usage.input_tokens.map(integer),
        &usage.output_tokens.map(integer),
        &usage.total_tokens.map(integer),
        &usage.cached_input_tokens.map(integer),
        &usage.cache_write_input_tokens.map(integer),
        &usage.reasoning_tokens.map(integer),
        &usage.input_audio_tokens.map(integer),
        &usage.output_audio_tokens.map(integer),
        &usage.billed_seconds,
        &&*record.id.hyphenated().encode_lower(&mut buffer),
        &record.user.as_deref(),
        &record.provider.map(Provider::as_str),
        &record.method.as_ref().map(http::Method::as_str),
        &record.endpoint.as_deref(),
        &record.model_requested.as_deref(),
        &record.stream,
        &record.status,
        &record.outcome.as_str(),
        &record.events.map(integer),
        &integer(record.request_bytes),
        &integer(record.response_bytes),
        &record.time_to_first_byte_ms,
        &record.time_to_first_token_ms,
        &record.duration_ms,
        &record.upstream_request_id.as_deref(),
        &record.error.as_deref(),
        &record.time_to_first_event_ms,
        &record.time_to_last_event_ms,
        &record.time_to_disconnect_ms,
    ];
    for (index, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, value)?;
    }
    statement.raw_execute().map(drop)
}

/// SQLite's integers are signed. A count beyond them, which no service has ever served, stays at their end.
fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
