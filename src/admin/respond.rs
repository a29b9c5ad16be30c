//! Answers, with the headers that each kind of them needs.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, StatusCode};

use super::live::Live;
use crate::error::ERROR_TYPE;

/// What pages may load and do: their own script, style and picture, and nothing that was written
/// into them.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The same for what is no page.
const DATA_POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Numbers of the moment: kept nowhere.
const NO_STORE: &str = "no-store";

/// What is called by its digest never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// On every answer: a browser takes it for what it says it is, shows it in no frame, and tells
/// nobody where it came from. (The login form needs the origin of a same-origin request.)
const ALWAYS: [(HeaderName, &str); 5] = [
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
    (HeaderName::from_static("x-frame-options"), "DENY"),
    (HeaderName::from_static("referrer-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

fn respond(status: StatusCode, kind: &'static str, body: Body, cache: &'static str) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let policy = if kind.starts_with("text/html") { PAGE_POLICY } else { DATA_POLICY };
    let headers = response.headers_mut();
    for (name, value) in ALWAYS.into_iter().chain([
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, policy),
        (CACHE_CONTROL, cache),
    ]) {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn small(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response {
    respond(status, kind, Body::from(body.into()), NO_STORE)
}

/// Data of some kind, as its body comes.
pub(super) fn whole(kind: &'static str, body: Body) -> Response {
    respond(StatusCode::OK, kind, body, NO_STORE)
}

/// Text for people and probes.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response {
    small(status, "text/plain; charset=utf-8", body)
}

/// Data of some kind.
pub(super) fn data(kind: &'static str, body: impl Into<Bytes>) -> Response {
    small(StatusCode::OK, kind, body)
}

/// A value as JSON.
pub(super) fn json(value: &impl serde::Serialize) -> Response {
    match serde_json::to_string_pretty(value) {
        Ok(text) => data("application/json", text + "\n"),
        Err(error) => fault(StatusCode::INTERNAL_SERVER_ERROR, "internal", &error.to_string()),
    }
}

/// A page.
pub(super) fn page(status: StatusCode, markup: maud::Markup) -> Response {
    small(status, "text/html; charset=utf-8", markup.into_string())
}

/// What a page loads; it is called by its digest.
pub(super) fn asset(kind: &'static str, body: &'static str) -> Response {
    respond(StatusCode::OK, kind, Body::from(body), FOR_EVER)
}

/// Events.
pub(super) fn live(live: Live) -> Response {
    respond(StatusCode::OK, "text/event-stream; charset=utf-8", Body::from_stream(live), NO_STORE)
}

/// To another page, with a GET.
pub(super) fn see_other(to: &str) -> Response {
    let mut response = text(StatusCode::SEE_OTHER, "");
    let to = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(http::header::LOCATION, to);
    response
}

/// An error, OpenAI-style as all of the proxy's.
pub(super) fn fault(status: StatusCode, code: &str, message: &str) -> Response {
    let error = serde_json::json!({
        "error": { "message": message, "type": ERROR_TYPE, "param": null, "code": code }
    });
    let mut response = small(status, "application/json", format!("{error:#}\n"));
    let more = match status {
        StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer realm=\"streamgauge admin\"")),
        StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, "2")),
        _ => None,
    };
    if let Some((name, value)) = more {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The method is none of those.
pub(super) fn not_allowed(methods: &'static str) -> Response {
    let mut response =
        fault(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &format!("this takes {methods} only"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}
