//! A record's span.

use jiff::Timestamp;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, SpanFlags, Status};

use super::names::{error_type, input_tokens, is_a_call, method, operation};
use super::services::Services;
use super::values::{Attributes, clipped};
use crate::codec::traceparent::SpanContext;
use crate::llm::usage::ToolCalls;
use crate::record::UsageRecord;

/// The event of the first output.
const FIRST_TOKEN: &str = "streamgauge.first_token";

/// The span of a record with a span context.
///
/// The span's kind is CLIENT, as the conventions define for a call to a model; a request that was
/// refused before it was sent has a SERVER span.
pub(super) fn span(row: &UsageRecord, context: &SpanContext, services: &Services) -> Span {
    let start = nanoseconds(row.started_at);
    let at = |millis: f64| start + (millis * 1e6) as u64;
    let error = error_type(row);
    let first_token = row.time_to_first_token_ms.map(|millis| Event {
        time_unix_nano: at(millis),
        name: FIRST_TOKEN.to_owned(),
        ..Event::default()
    });
    let kind = if is_a_call(row) { SpanKind::Client } else { SpanKind::Server };
    let code = if error.is_some() { StatusCode::Error } else { StatusCode::Unset };
    Span {
        trace_id: context.trace_id.to_vec(),
        span_id: context.span_id.to_vec(),
        trace_state: context.state.to_string(),
        parent_span_id: context.parent_id.map_or_else(Vec::new, Vec::from),
        flags: flags(context),
        name: name(row),
        kind: kind.into(),
        start_time_unix_nano: start,
        end_time_unix_nano: at(row.duration_ms),
        attributes: attributes(row, error.as_deref(), services).into_vec(),
        events: first_token.into_iter().collect(),
        status: Some(Status { message: String::new(), code: code.into() }),
        ..Span::default()
    }
}

/// Nanoseconds since 1970.
pub(super) fn nanoseconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or_default()
}

/// The flags of the trace, with the bit for a remote parent.
fn flags(context: &SpanContext) -> u32 {
    let remote = if context.parent_id.is_some() { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    u32::from(context.flags) | SpanFlags::ContextHasIsRemoteMask as u32 | remote
}

/// `chat gpt-4o`, or `GET models` for other requests.
fn name(row: &UsageRecord) -> String {
    let (what, of) = match operation(row) {
        Some(operation) => (operation, row.model_requested.as_deref()),
        None => {
            let method = method(row).filter(|method| *method != "_OTHER").unwrap_or("HTTP");
            (method.to_owned().into(), row.endpoint.as_deref())
        }
    };
    of.map_or_else(|| what.to_string(), |of| format!("{what} {}", clipped(of)))
}

fn attributes(row: &UsageRecord, error: Option<&str>, services: &Services) -> Attributes {
    let operation = operation(row);
    let service = row.upstream.as_deref().filter(|_| is_a_call(row));
    let service = service.and_then(|name| services.get(name));
    let service = service.as_deref();
    let usage = &row.usage;
    let mut attributes = Attributes::default();
    attributes.texts([
        ("gen_ai.operation.name", operation.as_deref()),
        ("gen_ai.provider.name", service.filter(|_| operation.is_some()).map(|service| &*service.provider)),
        ("gen_ai.request.model", row.model_requested.as_deref()),
        ("gen_ai.response.model", row.model.as_deref()),
        ("error.type", error),
        ("http.request.method", method(row)),
        ("server.address", service.map(|service| &*service.address)),
        ("streamgauge.record.id", Some(row.id.hyphenated().to_string().as_str())),
        ("streamgauge.client", Some(&*row.client)),
        ("streamgauge.upstream", row.upstream.as_deref()),
        ("streamgauge.upstream.request.id", row.upstream_request_id.as_deref()),
        ("streamgauge.endpoint", row.endpoint.as_deref()),
        ("streamgauge.outcome", Some(row.outcome.as_str())),
        ("streamgauge.usage_source", Some(row.usage_source.as_str())),
        ("streamgauge.service_tier", row.service_tier.as_deref()),
        ("streamgauge.reported_cost", row.reported_cost.as_deref()),
    ]);
    attributes.numbers([
        ("server.port", service.map(|service| service.port.into())),
        ("http.response.status_code", row.status.map(u64::from)),
        ("http.request.body.size", Some(row.request_bytes)),
        ("http.response.body.size", Some(row.response_bytes)),
        ("gen_ai.usage.input_tokens", input_tokens(row)),
        ("gen_ai.usage.output_tokens", usage.output_tokens),
        ("gen_ai.usage.cache_read.input_tokens", usage.cached_input_tokens),
        ("gen_ai.usage.cache_creation.input_tokens", usage.cache_write_input_tokens),
        ("streamgauge.usage.cache_creation_1h.input_tokens", usage.cache_write_1h_input_tokens),
        ("gen_ai.usage.reasoning.output_tokens", usage.reasoning_tokens),
        ("gen_ai.usage.audio.input_tokens", usage.input_audio_tokens),
        ("gen_ai.usage.audio.output_tokens", usage.output_audio_tokens),
    ]);
    for (kind, count) in row.tool_calls.iter().flat_map(ToolCalls::iter) {
        attributes.number(&format!("streamgauge.tool_calls.{kind}"), count.into());
    }
    for tag in row.tags.iter().flat_map(|tags| tags.iter()) {
        attributes.text(&format!("streamgauge.{}", tag.name.field()), &tag.value);
    }
    if operation.is_some() {
        attributes.flag("gen_ai.request.stream", row.stream);
    }
    if let Some(millis) = row.time_to_first_event_ms.filter(|_| operation.is_some() && row.stream) {
        attributes.decimal("gen_ai.response.time_to_first_chunk", millis / 1e3);
    }
    attributes
}

#[cfg(test)]
pub(super) mod tests;
