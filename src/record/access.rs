//! One log line per request, from its record: written by a thread of its own, so that logging costs
//! the request nothing.

use std::io;

use super::{Sink, UsageRecord};

/// The log target of access lines, for filters such as `info,streamgauge::access=off`.
const TARGET: &str = "streamgauge::access";

/// Logs each record at level `info`.
#[derive(Clone, Copy, Debug)]
pub struct AccessLog;

impl Sink for AccessLog {
    fn name(&self) -> String {
        "the log".to_owned()
    }

    fn label(&self) -> &'static str {
        "access-log"
    }

    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
        if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            return Ok(());
        }
        for row in batch {
            tracing::info!(
                target: TARGET,
                id = %row.id,
                trace_id = row.span.as_ref().map(|span| span.trace()).as_deref(),
                client = &*row.client,
                upstream = row.upstream.as_deref(),
                endpoint = row.endpoint.as_deref(),
                model = row.model.as_deref().or(row.model_requested.as_deref()),
                stream = row.stream,
                outcome = row.outcome.as_str(),
                usage = row.usage_source.as_str(),
                input = row.usage.input_tokens,
                output = row.usage.output_tokens,
                cache_write_1h = row.usage.cache_write_1h_input_tokens,
                tier = row.service_tier.as_deref(),
                tools = row.tool_calls.map(tracing::field::display),
                cost = row.reported_cost.as_deref(),
                bytes = row.response_bytes,
                first_byte_ms = row.time_to_first_byte_ms,
                first_token_ms = row.time_to_first_token_ms,
                duration_ms = row.duration_ms,
                count = row.count,
                error = row.error.as_deref(),
                "{} {}",
                row.method.as_ref().map_or("-", http::Method::as_str),
                row.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
            );
        }
        Ok(())
    }
}
