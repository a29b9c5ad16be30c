//! The columns of usage records in both databases: `usage_records` in SQLite and in PostgreSQL.
//!
//! A new field of the record needs a column here, a parameter in `row`, and a step in the
//! migrations of both schemas; or it takes one of the [`RESERVED`] columns, which moves to
//! [`COLUMNS`]. The tests of `schema` and of PostgreSQL compare them.

use serde_json::Value;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A time: nanoseconds since 1970 in SQLite, `timestamptz` in PostgreSQL.
    Time,
    /// A UUID: its text in SQLite, `uuid` in PostgreSQL.
    Id,
    /// `TEXT`, `text`.
    Text,
    /// `INTEGER`, `bigint`.
    Integer,
    /// `REAL`, `double precision`.
    Real,
    /// 0 or 1 in SQLite, `boolean` in PostgreSQL.
    Boolean,
}

/// All columns except `seq`, which only SQLite has, and `instance`, which only PostgreSQL has.
pub(super) const COLUMNS: &[(&str, Kind)] = &[
    ("started_at", Kind::Time),
    ("client", Kind::Text),
    ("upstream", Kind::Text),
    ("model", Kind::Text),
    ("usage_source", Kind::Text),
    ("input_tokens", Kind::Integer),
    ("output_tokens", Kind::Integer),
    ("total_tokens", Kind::Integer),
    ("cached_input_tokens", Kind::Integer),
    ("cache_write_input_tokens", Kind::Integer),
    ("reasoning_tokens", Kind::Integer),
    ("input_audio_tokens", Kind::Integer),
    ("output_audio_tokens", Kind::Integer),
    ("billed_seconds", Kind::Real),
    ("id", Kind::Id),
    ("user", Kind::Text),
    ("provider", Kind::Text),
    ("method", Kind::Text),
    ("endpoint", Kind::Text),
    ("model_requested", Kind::Text),
    ("stream", Kind::Boolean),
    ("status", Kind::Integer),
    ("outcome", Kind::Text),
    ("events", Kind::Integer),
    ("request_bytes", Kind::Integer),
    ("response_bytes", Kind::Integer),
    ("time_to_first_byte_ms", Kind::Real),
    ("time_to_first_token_ms", Kind::Real),
    ("duration_ms", Kind::Real),
    ("upstream_request_id", Kind::Text),
    ("error", Kind::Text),
    ("time_to_first_event_ms", Kind::Real),
    ("time_to_last_event_ms", Kind::Real),
    ("time_to_disconnect_ms", Kind::Real),
    (COUNT, Kind::Integer),
    ("service_tier", Kind::Text),
    ("cache_write_1h_input_tokens", Kind::Integer),
    (TOOL_CALLS, Kind::Text),
    ("reported_cost", Kind::Text),
    (GROUP, Kind::Text),
    ("time_waiting_ms", Kind::Real),
    (KEY_ID, Kind::Text),
    (TAGS, Kind::Text),
    (ATTEMPTS, Kind::Text),
];

/// The number of requests in a record; null means 1.
pub(super) const COUNT: &str = "count";

/// Calls billed per use, as the text of a JSON object of numbers by kind. `reported_cost` is text
/// too, in both databases: the digits as the service reported them, since sums of binary fractions
/// differ from its invoice.
pub(super) const TOOL_CALLS: &str = "tool_calls";

/// The group that the request was routed to.
pub(super) const GROUP: &str = "group";

/// The beginning of the digest of the client's key.
pub(super) const KEY_ID: &str = "key_id";

/// The request's tags, as the text of a JSON object of texts.
pub(super) const TAGS: &str = "tags";

/// The attempts at members of a group, if there were several: the text is a JSON array.
pub(super) const ATTEMPTS: &str = "attempts";

/// The value of a field whose column holds text.
pub(super) fn text_field(name: &str, text: String) -> Value {
    match name {
        TOOL_CALLS | TAGS | ATTEMPTS => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        _ => Value::String(text),
    }
}

/// Columns of both tables that no version writes yet. They were added together with [`COUNT`]. They
/// are not shown as fields of a record.
pub(super) const RESERVED: &[(&str, Kind)] = &[
    ("writer", Kind::Text),
    // `attempts` as it was reserved first, for numbers.
    ("attempts_unused", Kind::Integer),
];

/// The names as a list, quoted: `user`, `group` and `count` are words of SQL.
pub(super) fn list(columns: &[(&str, Kind)]) -> String {
    let names: Vec<_> = columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    names.join(", ")
}
