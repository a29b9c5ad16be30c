//! The spans of a record's attempts at members of a group, below the record's own span.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

use super::services::Services;
use super::span::nanoseconds;
use super::values::Attributes;
use crate::codec::traceparent::SpanContext;
use crate::record::{AttemptList, AttemptRecord, GroupUse, UsageRecord};

/// One span for each attempt, if there were several.
pub(super) fn attempt_spans<'a>(
    row: &'a UsageRecord,
    context: &'a SpanContext,
    services: &'a Services,
) -> impl Iterator<Item = Span> + 'a {
    let attempts = row.group_use.as_deref().and_then(GroupUse::several);
    let is_list = row.group_use.as_deref().is_some_and(|group_use| group_use.is_list);
    let start = nanoseconds(row.started_at);
    attempts.into_iter().flat_map(AttemptList::iter).enumerate().map(move |(number, attempt)| {
        let at = |millis: f64| start + (millis.max(0.0) * 1e6) as u64;
        let has_failed = attempt.code.is_some() || attempt.status.is_some_and(|status| status >= 400);
        let code = if has_failed { StatusCode::Error } else { StatusCode::Unset };
        Span {
            trace_id: context.trace_id.to_vec(),
            span_id: span_id(context, number),
            parent_span_id: context.span_id.to_vec(),
            flags: u32::from(context.flags),
            name: format!("attempt {}", attempt.upstream),
            kind: SpanKind::Client.into(),
            start_time_unix_nano: at(attempt.started_ms),
            end_time_unix_nano: at(attempt.started_ms + attempt.ms),
            attributes: attributes(attempt, if is_list { 0 } else { number }, services).into_vec(),
            status: Some(Status { message: String::new(), code: code.into() }),
            ..Span::default()
        }
    })
}

/// An id that differs from the record's and from those of its other attempts.
fn span_id(context: &SpanContext, number: usize) -> Vec<u8> {
    let id = u64::from_be_bytes(context.span_id);
    let other = id.wrapping_add(number as u64 + 1);
    // All zeros is not an id.
    other.max(1).to_be_bytes().to_vec()
}

fn attributes(attempt: &AttemptRecord, number: usize, services: &Services) -> Attributes {
    let service = services.get(&attempt.upstream);
    let status = attempt.status.filter(|status| *status >= 400).map(|status| status.to_string());
    let mut attributes = Attributes::default();
    attributes.texts([
        ("streamgauge.upstream", Some(&*attempt.upstream)),
        ("gen_ai.request.model", attempt.model.as_deref()),
        ("server.address", service.as_ref().map(|service| &*service.address)),
        ("error.type", attempt.code.or(status.as_deref())),
    ]);
    attributes.numbers([
        ("server.port", service.as_ref().map(|service| service.port.into())),
        ("http.response.status_code", attempt.status.map(u64::from)),
        ("http.request.resend_count", Some(number as u64).filter(|number| *number > 0)),
    ]);
    attributes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::llm::provider::Provider;
    use crate::record::error::Kind;
    use crate::record::{Entry, Journal, Outcome};
    use crate::sinks::otlp::span::tests::{context, listed, services};

    #[test]
    fn attempts_are_spans_below_the_record() {
        let journal = Journal::new(1);
        let mut entry = Entry::open(&journal, &"search".into());
        let started = entry.started();
        let after = |ms| started + Duration::from_millis(ms);
        let notes = entry.note_group("chat".into());
        notes.borrow_mut().begin("down".into(), Provider::Other, Some("m"), after(1));
        notes.borrow_mut().fail(&Kind::Unreachable.at("down"), after(3));
        notes.borrow_mut().begin("up".into(), Provider::Other, None, after(4));
        entry.record_head(200, after(9));
        entry.close(Outcome::Complete);
        let row = journal.take().remove(0);
        let (context, services) = (context(None, 1), services());
        let spans: Vec<_> = attempt_spans(&row, &context, &services).collect();
        let [first, second] = &spans[..] else { panic!("{spans:#?}") };
        assert_eq!((first.name.as_str(), second.name.as_str()), ("attempt down", "attempt up"));
        assert_eq!(first.end_time_unix_nano - first.start_time_unix_nano, 2_000_000);
        assert!(
            spans
                .iter()
                .all(|span| span.parent_span_id == context.span_id && span.trace_id == context.trace_id)
        );
        assert!(first.span_id != second.span_id && first.span_id != context.span_id);
        let expected =
            ["error.type=upstream_unreachable", "gen_ai.request.model=m", "streamgauge.upstream=down"];
        assert_eq!(listed(&first.attributes), expected);
        let expected = [
            "http.request.resend_count=1",
            "http.response.status_code=200",
            "server.address=api.groq.com",
            "server.port=443",
            "streamgauge.upstream=up",
        ];
        assert_eq!(listed(&second.attributes), expected);
    }
}
