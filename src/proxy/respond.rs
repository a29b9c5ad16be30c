//! Responses to the client: the upstream's with the record's id, or an error of ours.

use std::rc::Rc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use http_body_util::Full;
use tokio::time::sleep;
use uuid::Uuid;

use super::attempt::Accepted;
use super::keep_alive::KeptAlive;
use super::pending_response::PendingResponse;
use super::proxy_body::ProxyBody;
use super::worker::WorkerUpstream;
use crate::codec::coding::Codings;
use crate::codec::head::{Headers, KnownName, ResponseHead, visible};
use crate::llm::rewrite;
use crate::llm::usage::Content;
use crate::proxy::meter::{DecodedBody, Metered, ResponseMeter, ResponsePolicy};
use crate::record::error::{Error, Kind};
use crate::record::{Entry, Outcome, RequestId};
use crate::server::{ClientResponse, ResponseBody as _};
use crate::support::UpstreamId;
use crate::upstream::{UpstreamBody, UpstreamResponse};

/// Response headers with the upstream's own id of a request, the most usual first.
const REQUEST_IDS: [KnownName; 4] =
    [KnownName::XRequestId, KnownName::ApimRequestId, KnownName::RequestId, KnownName::XMsRequestId];

/// The pause before the refusal of an address that guesses keys.
pub(super) const SLOWED_BY: Duration = Duration::from_secs(1);

/// Relays a response. From here on its body owns the record.
pub(super) fn relay(
    mut accepted: Accepted,
    mut entry: Entry,
    policy: ResponsePolicy,
) -> ClientResponse<ProxyBody> {
    let id = entry.uuid().hyphenated();
    let added = entry.headers().cloned();
    let served = entry.served().map(|served| (Rc::clone(&accepted.upstream), served));
    let waited_ms = entry.time_waiting_ms();
    let told = if accepted.telling.is_some() { accepted.take_told(&mut entry) } else { None };
    let (mut head, metered) = meter(accepted, entry, policy);
    head.headers.set(KnownName::XStreamgaugeId, id.encode_lower(&mut Uuid::encode_buffer()).as_bytes());
    if let Some((upstream, served)) = served {
        add_served_by(&mut head.headers, &upstream, served);
    }
    add_waited(&mut head.headers, waited_ms);
    if let Some(added) = added {
        head.headers.append_all(&added);
    }
    if let Some(told) = told {
        head.headers.append_all(&told.headers());
    }
    if metered.is_edited() {
        head.headers.remove(KnownName::ContentLength);
    }
    ClientResponse { head, body: ProxyBody::Relayed(metered) }
}

pub(super) type MeteredResponse = Metered<DecodedBody<UpstreamBody>>;

/// Attaches the meter to a response's body, and records its head. Returns the head for the client.
/// A stream in a content coding from which an event may be withheld is decoded, and the head
/// changed accordingly.
pub(super) fn meter(
    accepted: Accepted,
    entry: Entry,
    policy: ResponsePolicy,
) -> (ResponseHead, MeteredResponse) {
    meter_with(accepted, entry, policy, false)
}

/// Does the same for a client that already has a head without `Content-Encoding`: every response in
/// a content coding is decoded.
pub(super) fn meter_begun(
    accepted: Accepted,
    entry: Entry,
    policy: ResponsePolicy,
) -> (ResponseHead, MeteredResponse) {
    meter_with(accepted, entry, policy, true)
}

fn meter_with(
    accepted: Accepted,
    mut entry: Entry,
    policy: ResponsePolicy,
    has_begun: bool,
) -> (ResponseHead, MeteredResponse) {
    accepted.record_upstream(&mut entry);
    let Accepted {
        response: UpstreamResponse { mut head, body },
        asked_for_usage,
        at,
        content,
        feedback,
        permit,
        ids,
        telling,
        ..
    } = accepted;
    rewrite::headers::inbound(&mut head.headers);
    entry.record_head(head.status.as_u16(), at);
    let passes_unread = head.status.is_success() && entry.passes_unread();
    let row = entry.row();
    let asks_for_stream = row.stream && head.status.is_success();
    // The build `unmetered` of `benches/peers` shows the cost of the meter.
    let is_read = !passes_unread && !cfg!(unmetered);
    let mut kind =
        if is_read { ResponseMeter::of(&head.headers, asks_for_stream) } else { ResponseMeter::Opaque };
    let mut body = DecodedBody::plain(body);
    let is_stream = content == Some(Content::Events) || (kind.is_events() && !kind.is_ambiguous());
    let may_be_decoded = asked_for_usage && head.status.is_success() && is_stream && !kind.takes_events();
    if (may_be_decoded || has_begun)
        && let Codings::Known(codings) = Codings::of(&head.headers)
    {
        let upstream = entry.row().upstream.clone();
        body = body.undoing(&codings, upstream.as_deref().unwrap_or_default(), entry.memory());
        rewrite::headers::decoded(&mut head.headers);
        kind = ResponseMeter::of(&head.headers, asks_for_stream);
    }
    if let Some(content) = content {
        kind = kind.decided(content);
    }
    let ids = ids.filter(|_| head.status.is_success() && ResponseMeter::may_have_ids(&head.headers));
    if ids.is_some() && matches!(kind, ResponseMeter::Opaque) {
        kind = ResponseMeter::opaque(&head.headers);
    }
    let row = entry.row();
    row.stream |= kind.is_events();
    row.upstream_request_id = upstream_request_id(&head.headers);
    entry.show();
    let is_llama_cpp = asked_for_usage && head.headers.get(KnownName::Server) == Some(b"llama.cpp");
    let mut metered = Metered::new(body, kind, entry, head.status, policy);
    if asked_for_usage {
        metered.withhold_usage();
        if is_llama_cpp {
            metered.expect_llama_cpp();
        }
    }
    if let Some(telling) = telling {
        metered.tell_cost(telling.into_comment());
    }
    if let Some(feedback) = feedback {
        metered.teach(feedback);
    }
    if let Some(permit) = permit {
        metered.keep_permit(permit);
    }
    if let Some(ids) = ids {
        metered.watch_ids(ids);
    }
    (head, metered)
}

/// Begins a stream before its upstream responds, since the client's interval is over.
pub(super) fn begin_stream(pending: PendingResponse, interval: Duration) -> ClientResponse<ProxyBody> {
    let id = pending.entry().map(Entry::id);
    let added = pending.entry().and_then(Entry::headers);
    // The wait for a member may go on.
    let waited_ms = pending.entry().and_then(Entry::time_waiting_ms);
    let mut head = ResponseHead::new(StatusCode::OK);
    head.headers.set(KnownName::ContentType, EVENT_STREAM);
    head.headers.set(KnownName::CacheControl, b"no-cache");
    if let Some(id) = id {
        head.headers.set(KnownName::XStreamgaugeId, id.as_bytes());
    }
    if let Some(added) = added {
        head.headers.append_all(added);
    }
    add_waited(&mut head.headers, waited_ms);
    let body = ProxyBody::KeptAlive(Box::new(KeptAlive::pending(pending, interval)));
    ClientResponse { head, body }
}

/// The media type of an event stream (WHATWG, section 9.2.1).
const EVENT_STREAM: &[u8] = b"text/event-stream";

/// Tells an nginx in front of streamgauge not to buffer an event stream.
/// <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering>
pub(super) fn unbuffered(mut response: ClientResponse<ProxyBody>) -> ClientResponse<ProxyBody> {
    let is_events = || {
        let media_type = response.head.headers.get(KnownName::ContentType).unwrap_or_default();
        media_type.get(..EVENT_STREAM.len()).is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM))
    };
    let is_stream = response.body.timing().is_some() && is_events();
    if is_stream && !response.head.headers.has(KnownName::XAccelBuffering) {
        response.head.headers.set(KnownName::XAccelBuffering, b"no");
    }
    response
}

/// Adds keep-alive comments to an event stream, if they are configured.
pub(super) fn keep_alive(
    response: ClientResponse<ProxyBody>,
    interval: Option<Duration>,
) -> ClientResponse<ProxyBody> {
    let Some(interval) = interval else { return response };
    let mut response = response.map(|body| body.kept_alive(interval));
    if matches!(response.body, ProxyBody::KeptAlive(_)) {
        // Comments make a declared length wrong.
        response.head.headers.remove(KnownName::ContentLength);
    }
    response
}

/// Responds with an error, and closes the record.
pub(super) fn refuse(error: &Error, mut entry: Entry) -> ClientResponse<ProxyBody> {
    let is_safe = entry.method().is_none_or(Method::is_safe);
    let waited_ms = entry.time_waiting_ms();
    let endpoint = entry.row().endpoint.clone();
    let id = close(error, entry);
    let (parts, body) = error.to_response(id, endpoint.as_deref()).into_parts();
    let mut head = ResponseHead::from(&parts);
    let is_over = matches!(error.kind(), Kind::QuotaReached(_));
    if is_over || (error.may_be_executed() && !is_safe) {
        // The SDKs of OpenAI and Anthropic obey it, and retry after most errors otherwise.
        head.headers.set(KnownName::XShouldRetry, b"false");
    }
    add_waited(&mut head.headers, waited_ms);
    ClientResponse { head, body: ProxyBody::Whole(Full::new(body)) }
}

/// Refuses like [`refuse`], after [`SLOWED_BY`]. The record closes before, so that a client that
/// leaves meanwhile has the same record.
pub(super) async fn refuse_slowly(error: Error, entry: Entry) -> ClientResponse<ProxyBody> {
    let response = refuse(&error, entry);
    sleep(SLOWED_BY).await;
    response
}

/// Adds the member of a group that served, and the number of members that were tried.
pub(super) fn add_served_by(headers: &mut Headers, upstream: &WorkerUpstream, attempts: usize) {
    // Nearly always.
    if attempts == 1 {
        headers.append_all(&upstream.served_by);
    } else {
        headers.append_all(&served_by(&upstream.spec.id, attempts));
    }
}

/// The headers that name the member that served, and the number of members that were tried.
pub(super) fn served_by(upstream: &UpstreamId, attempts: usize) -> Headers {
    let mut headers = Headers::default();
    // A name has no spaces and no control characters.
    headers.append_own("x-streamgauge-upstream", upstream.name().as_bytes());
    headers.append_own("x-streamgauge-attempts", attempts.to_string().as_bytes());
    headers
}

/// Adds the time for which the request waited for limits, and in the queue of a group.
pub(super) fn add_waited(headers: &mut Headers, waited_ms: Option<f64>) {
    if let Some(waited) = waited_ms {
        headers.append_own("x-streamgauge-waited-ms", format!("{waited:.0}").as_bytes());
    }
}

/// Closes the record of a request that ends with an error of ours. Returns the id of the record
/// that counts the request.
pub(super) fn close(error: &Error, mut entry: Entry) -> HeaderValue {
    let (status, code) = (error.status(), error.code());
    let row = entry.row();
    row.status = Some(status.as_u16());
    row.error = Some(format!("{code}: {error}").into());
    row.code = Some(code);
    match error.outcome() {
        Outcome::Rejected => entry.refuse(code),
        outcome => {
            entry.close(outcome);
            entry.id()
        }
    }
}

fn upstream_request_id(headers: &Headers) -> Option<RequestId> {
    let value = REQUEST_IDS.iter().find_map(|name| headers.get(*name))?;
    visible(value).map(Into::into)
}
