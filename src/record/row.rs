//! The usage record's fields.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::{GroupUse, Outcome, Seen, group_use};
use crate::codec::traceparent::SpanContext;
use crate::llm::provider::Provider;
use crate::llm::usage::{ToolCalls, Usage};
use crate::support::ShortText;
use crate::support::tags::Tags;

/// The source of the token counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The upstream reported them, and they are final.
    Reported,
    /// The upstream reported them in the rest of the response, which was read after the client had
    /// left.
    Drained,
    /// The upstream reported them, but the exchange ended before they were final.
    Partial,
    /// The upstream reported none; the proxy counted the relayed text ([`crate::llm::estimate`]).
    /// Then all counts of the record are estimates.
    Estimated,
    /// There are no counts.
    #[default]
    None,
}

impl UsageSource {
    /// The name in records, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Drained => "drained",
            Self::Partial => "partial",
            Self::Estimated => "estimated",
            Self::None => "none",
        }
    }
}

/// The longest text of a record, in bytes. Texts from clients and upstreams have no other bound,
/// and the queues of records count records, not bytes.
pub(super) const MAX_TEXT: usize = 1024;

/// The name of a model, in place up to the length of names with a date (`gpt-4.1-mini-2025-04-14`).
pub type ModelName = ShortText<30>;

/// An upstream's id of a request, in place up to the length of a UUID.
pub type RequestId = ShortText<38>;

/// One row per request. Unknown values are null, never 0. Counts that the upstream reported are
/// never recomputed.
#[derive(Clone, Debug, Serialize)]
pub struct UsageRecord {
    /// UUIDv7, also sent as `x-streamgauge-id`.
    pub id: Uuid,
    /// The time when the request's head had arrived, in UTC.
    pub started_at: Timestamp,
    /// The client: a configured name, or `anonymous`.
    pub client: Arc<str>,
    /// The beginning of the digest of the client's key; null if it sent none.
    pub key_id: Option<Arc<str>>,
    /// The body's `safety_identifier`, else its `user`.
    pub user: Option<Box<str>>,
    /// The upstream's name in the configuration.
    pub upstream: Option<Arc<str>>,
    /// The dialect of the upstream.
    #[serde(serialize_with = "provider")]
    pub provider: Option<Provider>,
    /// The request's method.
    #[serde(serialize_with = "method")]
    pub method: Option<http::Method>,
    /// The path's place in the API, such as `chat/completions`.
    pub endpoint: Option<Cow<'static, str>>,
    /// The model in the client's body.
    pub model_requested: Option<ModelName>,
    /// The model that the response named.
    pub model: Option<ModelName>,
    /// True if the request asked for a stream, or the response was one.
    pub stream: bool,
    /// The status of the response, from the upstream or from the proxy; null if there was none.
    pub status: Option<u16>,
    /// The end of the exchange.
    pub outcome: Outcome,
    /// The source of the counts.
    pub usage_source: UsageSource,
    /// The counts: all reported, or all estimated.
    #[serde(flatten, serialize_with = "usage")]
    pub usage: Usage,
    /// Server-sent events that were read, also after the client had left; in a realtime session,
    /// its ended responses. Null if the response was neither.
    pub events: Option<u64>,
    /// Bytes of the request's body as the client sent it.
    pub request_bytes: u64,
    /// Bytes of the response's body that were read, also after the client had left.
    pub response_bytes: u64,
    /// The time from the request's head to the response's head, in milliseconds.
    pub time_to_first_byte_ms: Option<f64>,
    /// The time from the request's head to the first event with output, in milliseconds.
    pub time_to_first_token_ms: Option<f64>,
    /// The time from the request's head to the first event, in milliseconds.
    pub time_to_first_event_ms: Option<f64>,
    /// The time from the request's head to the last event, in milliseconds.
    pub time_to_last_event_ms: Option<f64>,
    /// The time from the request's head to the client's departure, in milliseconds; null if it
    /// stayed.
    pub time_to_disconnect_ms: Option<f64>,
    /// The time from the request's head to the end, in milliseconds.
    pub duration_ms: f64,
    /// The upstream's own id of the request (`x-request-id`, or Azure's `apim-request-id`).
    pub upstream_request_id: Option<RequestId>,
    /// The error's message.
    pub error: Option<Box<str>>,
    /// The number of requests in this record; null means 1. Only refusals before authentication
    /// share a record.
    pub count: Option<u64>,
    /// The `code` of an error of this proxy. Not stored.
    #[serde(skip)]
    pub code: Option<&'static str>,
    /// Additional fields of the access log, if one is configured. Not stored.
    #[serde(skip)]
    pub seen: Seen,
    /// The service tier as the service named it: `default`, `flex`, `priority`, `batch` and others.
    pub service_tier: Option<Cow<'static, str>>,
    /// Calls of the service's own tools that are billed per use, by kind.
    #[serde(serialize_with = "tool_calls")]
    pub tool_calls: Option<ToolCalls>,
    /// The cost that the service reported, in US dollars, in its own digits.
    pub reported_cost: Option<Box<str>>,
    /// The time for which the request waited for limits and for a member of its group, in
    /// milliseconds; null if it did not.
    pub time_waiting_ms: Option<f64>,
    /// The group that the request was routed to, with its attempts; `None`: it was routed to an
    /// upstream.
    #[serde(flatten, serialize_with = "group_use::fields")]
    pub group_use: Option<Box<GroupUse>>,
    /// The request's tags, as an object of texts.
    pub tags: Option<Arc<Tags>>,
    /// The key of the stored result that the usage belongs to. Not shown.
    #[serde(skip)]
    pub counted_result: Option<u64>,
    /// The request's span, if traces are exported. Not stored.
    #[serde(skip)]
    pub span: Option<Box<SpanContext>>,
}

impl UsageRecord {
    /// The record of a request that has just begun: that of a client who leaves at once.
    pub fn begun(id: Uuid, started_at: Timestamp, client: Arc<str>) -> Self {
        Self {
            id,
            started_at,
            client,
            key_id: None,
            user: None,
            upstream: None,
            provider: None,
            method: None,
            endpoint: None,
            model_requested: None,
            model: None,
            stream: false,
            status: None,
            outcome: Outcome::ClientDisconnected,
            usage_source: UsageSource::None,
            usage: Usage::default(),
            events: None,
            request_bytes: 0,
            response_bytes: 0,
            time_to_first_byte_ms: None,
            time_to_first_token_ms: None,
            time_to_first_event_ms: None,
            time_to_last_event_ms: None,
            time_to_disconnect_ms: None,
            duration_ms: 0.0,
            upstream_request_id: None,
            error: None,
            count: None,
            code: None,
            seen: Seen::default(),
            service_tier: None,
            tool_calls: None,
            reported_cost: None,
            time_waiting_ms: None,
            group_use: None,
            tags: None,
            counted_result: None,
            span: None,
        }
    }

    /// The number of requests in this record.
    pub fn requests(&self) -> u64 {
        self.count.unwrap_or(1)
    }

    /// Cuts texts that are longer than [`MAX_TEXT`], between two characters.
    pub(super) fn clip(&mut self) {
        clip(&mut self.user, |text| text.len());
        clip(&mut self.model_requested, ShortText::len);
        clip(&mut self.model, ShortText::len);
        clip(&mut self.upstream_request_id, ShortText::len);
        clip(&mut self.error, |text| text.len());
    }
}

fn clip<T: Deref<Target = str> + for<'a> From<&'a str>>(text: &mut Option<T>, length: impl Fn(&T) -> usize) {
    if let Some(text) = text.as_mut().filter(|text| length(text) > MAX_TEXT) {
        *text = text[..text.floor_char_boundary(MAX_TEXT)].into();
    }
}

fn provider<S: Serializer>(value: &Option<Provider>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(Provider::as_str).serialize(serializer)
}

fn method<S: Serializer>(value: &Option<http::Method>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(http::Method::as_str).serialize(serializer)
}

fn tool_calls<S: Serializer>(calls: &Option<ToolCalls>, serializer: S) -> Result<S::Ok, S::Error> {
    match calls {
        Some(calls) => serializer.collect_map(calls.iter()),
        None => serializer.serialize_none(),
    }
}

/// Serialises the counts under the record's names. [`Usage`] is pure and does not depend on serde.
fn usage<S: Serializer>(usage: &Usage, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Counts {
        input_tokens: Option<u64>,
        output_tokens: Option<u64>,
        total_tokens: Option<u64>,
        cached_input_tokens: Option<u64>,
        cache_write_input_tokens: Option<u64>,
        cache_write_1h_input_tokens: Option<u64>,
        reasoning_tokens: Option<u64>,
        input_audio_tokens: Option<u64>,
        output_audio_tokens: Option<u64>,
        billed_seconds: Option<f64>,
    }
    Counts {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        total_tokens: usage.total_tokens,
        cached_input_tokens: usage.cached_input_tokens,
        cache_write_input_tokens: usage.cache_write_input_tokens,
        cache_write_1h_input_tokens: usage.cache_write_1h_input_tokens,
        reasoning_tokens: usage.reasoning_tokens,
        input_audio_tokens: usage.input_audio_tokens,
        output_audio_tokens: usage.output_audio_tokens,
        billed_seconds: usage.billed_seconds,
    }
    .serialize(serializer)
}
