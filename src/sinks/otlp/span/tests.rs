use std::sync::Arc;

use http::Method;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;

use super::*;
use crate::llm::provider::Provider;
use crate::llm::usage::ToolKind;
use crate::record::{Entry, Journal, Outcome, UsageSource};
use crate::sinks::otlp::Service;
use crate::support::tags::{Tag, TagName, Tags};

/// A normal stream of an upstream named `up`.
pub(in crate::sinks::otlp) fn row() -> UsageRecord {
    let journal = Journal::new(1);
    Entry::open(&journal, &"search".into()).close(Outcome::Complete);
    let mut row = journal.take().remove(0);
    row.started_at = "2026-01-02T03:04:05.000006Z".parse().unwrap();
    row.upstream = Some("up".into());
    row.provider = Some(Provider::Other);
    row.method = Some(Method::POST);
    row.endpoint = Some("chat/completions".into());
    row.model_requested = Some("gpt-asked".into());
    row.model = Some("gpt-real".into());
    row.stream = true;
    row.status = Some(200);
    row.usage_source = UsageSource::Reported;
    row.usage.input_tokens = Some(9);
    row.usage.output_tokens = Some(5);
    row.usage.cached_input_tokens = Some(0);
    row.time_to_first_byte_ms = Some(90.0);
    row.time_to_first_event_ms = Some(100.0);
    row.time_to_first_token_ms = Some(120.0);
    row.time_to_last_event_ms = Some(520.0);
    row.duration_ms = 521.5;
    row.user = Some("ada@example".into());
    row.error = None;
    row
}

pub(in crate::sinks::otlp) fn context(parent_id: Option<[u8; 8]>, flags: u8) -> SpanContext {
    SpanContext { trace_id: [1; 16], span_id: [2; 8], parent_id, flags, state: "a=b".into() }
}

pub(in crate::sinks::otlp) fn services() -> Services {
    let services = Services::default();
    services.update([Service::new("up", Provider::Other, "api.groq.com", 443)]);
    services
}

/// The attributes as `name=value`, in alphabetical order.
pub(in crate::sinks::otlp) fn listed(attributes: &[KeyValue]) -> Vec<String> {
    let value = |attribute: &KeyValue| match attribute.value.clone().unwrap().value.unwrap() {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::BoolValue(flag) => flag.to_string(),
        other => panic!("{other:?}"),
    };
    let mut list: Vec<_> = attributes.iter().map(|each| format!("{}={}", each.key, value(each))).collect();
    list.sort();
    list
}

fn made(row: &UsageRecord) -> Span {
    span(row, &context(None, 1), &services())
}

#[test]
fn a_span_has_the_attributes_of_the_conventions_and_no_content() {
    let row = row();
    let span = made(&row);
    assert_eq!((span.name.as_str(), span.kind()), ("chat gpt-asked", SpanKind::Client));
    assert_eq!(
        listed(&span.attributes),
        [
            "gen_ai.operation.name=chat",
            "gen_ai.provider.name=groq",
            "gen_ai.request.model=gpt-asked",
            "gen_ai.request.stream=true",
            "gen_ai.response.model=gpt-real",
            "gen_ai.response.time_to_first_chunk=0.1",
            "gen_ai.usage.cache_read.input_tokens=0",
            "gen_ai.usage.input_tokens=9",
            "gen_ai.usage.output_tokens=5",
            "http.request.body.size=0",
            "http.request.method=POST",
            "http.response.body.size=0",
            "http.response.status_code=200",
            "server.address=api.groq.com",
            "server.port=443",
            "streamgauge.client=search",
            "streamgauge.endpoint=chat/completions",
            "streamgauge.outcome=complete",
            &format!("streamgauge.record.id={}", row.id),
            "streamgauge.upstream=up",
            "streamgauge.usage_source=reported",
        ]
    );
}

#[test]
fn span_tells_tags_and_what_is_billed_beside_tokens() {
    let mut row = row();
    row.service_tier = Some("flex".into());
    row.reported_cost = Some("0.00522".into());
    row.tool_calls = Some(ToolCalls::of(ToolKind::WebSearch, 2));
    row.usage.cache_write_1h_input_tokens = Some(7);
    let name = TagName::parse("team").unwrap();
    row.tags = Some(Arc::new(Tags::new([Tag { name, value: "search".into(), is_in_metrics: false }])));
    let attributes = listed(&made(&row).attributes);
    for expected in [
        "streamgauge.reported_cost=0.00522",
        "streamgauge.service_tier=flex",
        "streamgauge.tag.team=search",
        "streamgauge.tool_calls.web_search=2",
        "streamgauge.usage.cache_creation_1h.input_tokens=7",
    ] {
        assert!(attributes.iter().any(|attribute| attribute == expected), "{expected}: {attributes:?}");
    }
}

#[test]
fn span_covers_its_request_and_marks_the_first_token() {
    let span = made(&row());
    let start = 1_767_323_045_000_006_000;
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (start, start + 521_500_000));
    let [event] = &span.events[..] else { panic!("one event") };
    assert_eq!((event.name.as_str(), event.time_unix_nano), (FIRST_TOKEN, start + 120_000_000));
}

#[test]
fn a_span_knows_its_parent_and_that_it_is_elsewhere() {
    for (parent, flags, all) in [(None, 3, 0x103), (Some([3; 8]), 1, 0x301)] {
        let span = span(&row(), &context(parent, flags), &services());
        assert_eq!((span.trace_id, span.span_id), (vec![1; 16], vec![2; 8]));
        assert_eq!(span.parent_span_id, parent.map_or_else(Vec::new, Vec::from));
        assert_eq!((span.flags, span.trace_state.as_str()), (all, "a=b"));
    }
}

#[test]
fn span_without_a_model_is_named_by_method_and_route() {
    let named = |method: &str, endpoint: &'static str| {
        let mut row = row();
        row.method = Some(method.parse().unwrap());
        row.endpoint = Some(endpoint.into());
        row.usage = crate::llm::usage::Usage::default();
        made(&row).name
    };
    for (method, endpoint, name) in [
        ("GET", "models", "GET models"),
        ("GET", "responses", "GET responses"),
        ("GET", "realtime", "chat gpt-asked"),
        ("POST", "embeddings", "embeddings gpt-asked"),
        ("POST", "completions", "text_completion gpt-asked"),
        ("POST", "audio/transcriptions", "generate_content gpt-asked"),
        ("POST", "files", "POST files"),
        ("BREW", "other", "HTTP other"),
    ] {
        assert_eq!(named(method, endpoint), name, "{method} {endpoint}");
    }
    let mut row = row();
    row.endpoint = Some("rerank".into());
    assert_eq!(
        made(&row).name,
        "rerank gpt-asked",
        "it has used tokens, and the conventions have no word for it"
    );
}

#[test]
fn an_error_has_a_type_and_no_words() {
    for (outcome, status, error) in [
        (Outcome::Complete, Some(200), None),
        (Outcome::Complete, Some(429), Some("429")),
        (Outcome::ClientDisconnected, Some(200), None),
        (Outcome::Truncated, Some(200), Some("truncated")),
        (Outcome::TimedOut, Some(504), Some("timed_out")),
        (Outcome::UpstreamError, Some(502), Some("502")),
        (Outcome::UpstreamError, Some(200), Some("upstream_error")),
        (Outcome::InvalidRequest, Some(404), Some("404")),
        (Outcome::RateLimited, Some(429), Some("429")),
        (Outcome::RateLimited, Some(200), Some("rate_limited")),
        (Outcome::Rejected, Some(401), Some("401")),
        (Outcome::Rejected, None, Some("rejected")),
    ] {
        let mut row = row();
        (row.outcome, row.status) = (outcome, status);
        row.error = Some("words of an upstream, which may repeat what it was asked".into());
        let span = made(&row);
        let said = listed(&span.attributes)
            .into_iter()
            .find_map(|each| Some(each.strip_prefix("error.type=")?.to_owned()));
        assert_eq!(said.as_deref(), error, "{outcome:?} {status:?}");
        let status = span.status.unwrap();
        assert_eq!(status.code() == StatusCode::Error, error.is_some());
        assert_eq!(status.message, "");
    }
}

#[test]
fn input_includes_what_was_cached_whatever_the_endpoint() {
    let mut row = row();
    row.usage.cached_input_tokens = Some(100);
    row.usage.cache_write_input_tokens = Some(1000);
    for (endpoint, input) in [("messages", 1109), ("chat/completions", 9)] {
        row.endpoint = Some(endpoint.into());
        let attributes = listed(&made(&row).attributes);
        assert!(attributes.contains(&format!("gen_ai.usage.input_tokens={input}")), "{attributes:?}");
    }
}

#[test]
fn request_refused_before_routing_has_a_span_too() {
    let journal = Journal::new(1);
    let mut entry = Entry::open(&journal, &Arc::from("anonymous"));
    entry.row().method = Some(Method::POST);
    entry.row().status = Some(401);
    entry.close(Outcome::Rejected);
    let span = made(&journal.take()[0]);
    assert_eq!((span.name.as_str(), span.kind()), ("POST", SpanKind::Server));
}

#[test]
fn request_refused_unsent_is_no_call_and_errors_only_if_ours() {
    for (status, error) in [(400, None), (503, Some("503"))] {
        let mut row = row();
        (row.outcome, row.status, row.time_to_first_byte_ms) = (Outcome::Rejected, Some(status), None);
        let span = made(&row);
        assert_eq!((span.name.as_str(), span.kind()), ("POST chat/completions", SpanKind::Server));
        let attributes = listed(&span.attributes);
        let has = |name: &str| attributes.iter().any(|each| each.starts_with(name));
        assert!(!has("gen_ai.operation.name=") && !has("server.address="), "{attributes:?}");
        assert_eq!(attributes.iter().find_map(|each| each.strip_prefix("error.type=")), error);
        assert_eq!(span.status.unwrap().code() == StatusCode::Error, error.is_some(), "{status}");
    }
}
