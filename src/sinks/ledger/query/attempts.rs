//! Attempts whose response was thrown away, as rows.

/// The rows that a report adds up.
#[derive(Clone, Copy)]
pub(in crate::sinks::ledger) enum RowKind {
    Requests,
    Attempts,
}

impl RowKind {
    /// The table, of which SQLite may use an index for requests.
    pub(in crate::sinks::ledger) fn table(self) -> &'static str {
        match self {
            Self::Requests => "usage_records",
            Self::Attempts => ATTEMPTS,
        }
    }

    /// The text after FROM.
    pub(super) fn source(self) -> &'static str {
        match self {
            Self::Requests => "usage_records NOT INDEXED",
            Self::Attempts => ATTEMPTS,
        }
    }
}

/// The attempts that reported tokens, with the columns that sums and groups need. The tokens of the
/// attempt whose response was relayed are those of its record, and not repeated in the list.
const ATTEMPTS: &str =
    "(SELECT r.seq, r.started_at, r.client, r.user, r.method, r.endpoint, r.\"group\", r.key_id, r.tags,
        json_extract(a.value, '$.upstream') AS upstream,
        json_extract(a.value, '$.provider') AS provider,
        json_extract(a.value, '$.model') AS model, NULL AS model_requested,
        json_extract(a.value, '$.status') AS status, 'upstream_error' AS outcome,
        'reported' AS usage_source,
        json_extract(a.value, '$.tokens.input_tokens') AS input_tokens,
        json_extract(a.value, '$.tokens.output_tokens') AS output_tokens,
        json_extract(a.value, '$.tokens.total_tokens') AS total_tokens,
        json_extract(a.value, '$.tokens.cached_input_tokens') AS cached_input_tokens,
        json_extract(a.value, '$.tokens.cache_write_input_tokens') AS cache_write_input_tokens,
        json_extract(a.value, '$.tokens.cache_write_1h_input_tokens') AS cache_write_1h_input_tokens,
        json_extract(a.value, '$.tokens.reasoning_tokens') AS reasoning_tokens,
        NULL AS billed_seconds, NULL AS \"count\", NULL AS reported_cost, NULL AS service_tier,
        NULL AS tool_calls
    FROM usage_records AS r NOT INDEXED, json_each(r.attempts) AS a
    WHERE r.attempts IS NOT NULL AND json_type(a.value, '$.tokens') = 'object')";
