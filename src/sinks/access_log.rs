//! Writes one log line per request from its record, on a thread of its own, so that logging costs
//! the request nothing.

use std::io;
use std::sync::Arc;

use crate::config::AccessLines;
use crate::llm::price::Prices;
use crate::record::{Outcome, Sink, UsageRecord, cost};
use crate::support::Live;

/// The log target of access lines, for filters such as `info,streamgauge::access=off`.
const TARGET: &str = "streamgauge::access";

/// Logs records at level `info`, and failures of an upstream or of this proxy at level `warn`.
#[derive(Debug)]
pub struct AccessLog {
    lines: Arc<Live<AccessLines>>,
    prices: Arc<Live<Prices>>,
}

impl AccessLog {
    /// Logs these fields, and costs by `prices`.
    pub fn new(lines: Arc<Live<AccessLines>>, prices: Arc<Live<Prices>>) -> Self {
        Self { lines, prices }
    }
}

fn has_line(lines: AccessLines, row: &UsageRecord) -> bool {
    match lines {
        AccessLines::All => true,
        AccessLines::Failures => {
            !matches!(row.outcome, Outcome::Complete | Outcome::ClientDisconnected) || is_warning(row)
        }
        AccessLines::Off => false,
    }
}

/// Returns true if the upstream or this proxy failed the request. A client's mistake is not a
/// warning.
fn is_warning(row: &UsageRecord) -> bool {
    matches!(row.outcome, Outcome::UpstreamError | Outcome::Truncated | Outcome::TimedOut)
        || row.status.is_some_and(|status| status >= 500)
}

/// Writes the line. A macro, since `tracing` fixes the level of an event at its place in the code.
macro_rules! line {
    ($level:ident, $row:ident, $cost:ident) => {
        tracing::$level!(
            target: TARGET,
            id = %$row.id,
            trace_id = $row.span.as_ref().map(|span| span.trace()).as_deref(),
            client_address = $row.seen.address.map(tracing::field::display),
            client = &*$row.client,
            user = $row.user.as_deref(),
            tags = $row.tags.as_deref().map(tracing::field::display),
            request_id = $row.seen.request_id.as_deref(),
            method = $row.method.as_ref().map(http::Method::as_str),
            path = $row.seen.path.as_deref(),
            upstream = $row.upstream.as_deref(),
            endpoint = $row.endpoint.as_deref(),
            model = $row.model.as_deref().or($row.model_requested.as_deref()),
            stream = $row.stream,
            status = $row.status,
            outcome = $row.outcome.as_str(),
            code = $row.code,
            usage = $row.usage_source.as_str(),
            input = $row.usage.input_tokens,
            output = $row.usage.output_tokens,
            cache_write_1h = $row.usage.cache_write_1h_input_tokens,
            tier = $row.service_tier.as_deref(),
            tools = $row.tool_calls.map(tracing::field::display),
            cost = $cost.as_deref(),
            reported_cost = $row.reported_cost.as_deref(),
            bytes = $row.response_bytes,
            first_byte_ms = $row.time_to_first_byte_ms,
            first_token_ms = $row.time_to_first_token_ms,
            duration_ms = $row.duration_ms,
            count = $row.count,
            attempts = $row.group_use.as_ref().map(|group_use| group_use.count()),
            upstream_request_id = $row.upstream_request_id.as_deref(),
            error = $row.error.as_deref(),
            "{} {}",
            $row.method.as_ref().map_or("-", http::Method::as_str),
            $row.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
        )
    };
}

impl Sink for AccessLog {
    fn name(&self) -> String {
        "the log".to_owned()
    }

    fn label(&self) -> &'static str {
        "access-log"
    }

    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
        if !tracing::enabled!(target: TARGET, tracing::Level::WARN) {
            return Ok(());
        }
        let has_info = tracing::enabled!(target: TARGET, tracing::Level::INFO);
        let lines = *self.lines.load();
        for row in batch.iter().filter(|row| has_line(lines, row)) {
            let is_warning = is_warning(row);
            if !is_warning && !has_info {
                continue;
            }
            let cost =
                cost(row, &self.prices.load()).map(|(currency, amount)| format!("{amount} {currency}"));
            if is_warning {
                line!(warn, row, cost);
            } else {
                line!(info, row, cost);
            }
        }
        Ok(())
    }
}
