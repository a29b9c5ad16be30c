//! Responses, with the headers that each kind needs.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, StatusCode};

use super::live::LiveEvents;
use crate::record::error::ERROR_TYPE;

/// Content policy of pages: their own script, style and icon, and nothing inline.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Content policy of everything else.
const DATA_POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The value for responses that are valid at one moment only.
const NO_STORE: &str = "no-store";

/// The value for assets, whose names change with their content.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// Headers of every response: browsers do not guess its type, do not frame it, and send no referrer
/// to other sites. (The login form needs the origin of a same-origin request.)
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

/// Data of a media type, as a body.
pub(super) fn whole(kind: &'static str, body: Body) -> Response {
    respond(StatusCode::OK, kind, body, NO_STORE)
}

/// Text for people and probes.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response {
    small(status, "text/plain; charset=utf-8", body)
}

/// Data of a media type.
pub(super) fn data(kind: &'static str, body: impl Into<Bytes>) -> Response {
    small(StatusCode::OK, kind, body)
}

pub(super) fn json(value: &impl serde::Serialize) -> Response {
    match serde_json::to_string_pretty(value) {
        Ok(text) => data("application/json", text + "\n"),
        Err(error) => fault(StatusCode::INTERNAL_SERVER_ERROR, "internal", &error.to_string()),
    }
}

/// A new object, which no cache may keep.
pub(super) fn created(value: &impl serde::Serialize) -> Response {
    let mut response = json(value);
    if response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::CREATED;
    }
    response
}

pub(super) fn page(status: StatusCode, markup: maud::Markup) -> Response {
    small(status, "text/html; charset=utf-8", markup.into_string())
}

/// An asset. Its name is its digest.
pub(super) fn asset(kind: &'static str, body: &'static str) -> Response {
    respond(StatusCode::OK, kind, Body::from(body), FOR_EVER)
}

pub(super) fn live(live: LiveEvents) -> Response {
    respond(StatusCode::OK, "text/event-stream; charset=utf-8", Body::from_stream(live), NO_STORE)
}

/// Redirects to another page with a GET.
pub(super) fn see_other(to: &str) -> Response {
    let mut response = text(StatusCode::SEE_OTHER, "");
    let to = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(http::header::LOCATION, to);
    response
}

/// An error in the format of the proxy's errors.
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

/// The method is not among `methods`.
pub(super) fn not_allowed(methods: &'static str) -> Response {
    let mut response = fault(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        &format!("this path accepts {methods} only"),
    );
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}
