//! Cross-origin resource sharing (Fetch, section 3.3): the pages of listed origins read responses.
//!
//! A browser first asks for permission with a preflight: `OPTIONS` without a key, whose response
//! only its headers decide. Then it gives a response to the page if the response names the page's
//! origin, and shows the page those headers that the response lists.
//!
//! Never `*`, since any page could read, and never `Access-Control-Allow-Credentials`, since cookies
//! are no credentials here.

use http::{HeaderName, Method, StatusCode};

use super::{Origin, Origins};
use crate::codec::head::{HeaderField, Headers, KnownName, RequestHead, ResponseHead};

/// Methods that the API has. `POST` and `GET` need no permission.
const METHODS: &[u8] = b"GET, HEAD, POST, PUT, PATCH, DELETE";

/// The time for which a browser keeps a permission, in seconds. Chromium's limit is two hours.
const MAX_AGE: &[u8] = b"600";

/// The parts of a preflight that decide its response.
const PREFLIGHT_VARY: &[u8] = b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers, \
                                Access-Control-Request-Private-Network";

/// The headers that a preflight is granted, at most. SDKs ask for about ten.
const MAX_ASKED: usize = 100;

/// The length of their list, at most, in bytes.
const MAX_ASKED_BYTES: usize = 4 * 1024;

/// Headers that SDKs and pages read, besides [`FAMILIES`] and those that every page may read.
const EXPOSED: &str = "x-streamgauge-id, x-request-id, request-id, apim-request-id, retry-after, retry-after-ms, \
                       x-should-retry, openai-processing-ms, openai-model, openai-organization, openai-version, \
                       content-disposition, location";

/// Beginnings of names that pages may read. A list cannot have patterns, so a response lists those
/// of its own names.
const FAMILIES: [&str; 3] = ["x-streamgauge-", "x-ratelimit-", "anthropic-ratelimit-"];

/// The names of [`FAMILIES`] that are listed, at most.
const MAX_OF_FAMILIES: usize = 48;

/// The meaning of a response for browsers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// A page of this origin may read it. The bytes are those of the request, with which a browser
    /// compares them.
    With(Box<[u8]>),
    /// No listed page sent the request, but a cache may store the response, and later a listed page
    /// would get it.
    Cacheable,
}

impl Sharing {
    /// `None`: the response is neither for a listed page nor for a cache.
    pub(super) fn of(head: &RequestHead, origins: &Origins) -> Option<Self> {
        let mut said = head.headers.values(KnownName::Origin);
        let origin = said.next().filter(|_| said.next().is_none());
        match origin {
            Some(origin) if Origin::of(origin).is_some_and(|origin| origins.take(&origin)) => {
                Some(Self::With(origin.into()))
            }
            _ if matches!(head.method, Method::GET | Method::HEAD) => Some(Self::Cacheable),
            _ => None,
        }
    }

    /// The response to a preflight. `None`: the request is none, or not a listed page's.
    pub(super) fn preflight(&self, head: &RequestHead) -> Option<ResponseHead> {
        let Self::With(origin) = self else { return None };
        let asks = |name: &str| head.headers.iter().any(|field| field.is_named(name));
        if head.method != Method::OPTIONS || !asks("access-control-request-method") {
            return None;
        }
        let mut response = ResponseHead::new(StatusCode::NO_CONTENT);
        let headers = &mut response.headers;
        headers.append(ALLOW_ORIGIN, origin);
        headers.append(b"access-control-allow-methods", METHODS);
        let asked = asked_headers(&head.headers);
        if !asked.is_empty() {
            headers.append(b"access-control-allow-headers", asked.as_bytes());
        }
        if asks("access-control-request-private-network") {
            headers.append(b"access-control-allow-private-network", b"true");
        }
        headers.append(b"access-control-max-age", MAX_AGE);
        headers.set(KnownName::Vary, PREFLIGHT_VARY);
        Some(response)
    }

    /// Replaces an upstream's permissions by our own.
    pub fn apply(&self, head: &mut ResponseHead) {
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let headers = &mut head.headers;
        headers.retain(|field| !begins_with(field, "access-control-"));
        vary_by_origin(headers);
        if let Self::With(origin) = self {
            let exposed = exposed(headers);
            headers.append(ALLOW_ORIGIN, origin);
            headers.append(b"access-control-expose-headers", exposed.as_bytes());
        }
    }
}

const ALLOW_ORIGIN: &[u8] = b"access-control-allow-origin";

/// The valid names among those that a preflight asks for. A browser sends no request with a header
/// that is missing here.
fn asked_headers(headers: &Headers) -> String {
    let fields = headers.iter().filter(|field| field.is_named("access-control-request-headers"));
    let names = fields.flat_map(|field| field.value().split(|&byte| byte == b',')).take(MAX_ASKED);
    let mut asked = String::new();
    // A `*` would be all names.
    let valid = names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
    for name in valid.filter(|name| *name != "*") {
        if asked.len() + SEPARATOR.len() + name.as_str().len() <= MAX_ASKED_BYTES {
            push(&mut asked, name.as_str());
        }
    }
    asked
}

/// The names of the response's headers that the page may read.
fn exposed(headers: &Headers) -> String {
    let mut exposed = EXPOSED.to_owned();
    let of_families =
        headers.iter().filter(|field| FAMILIES.iter().any(|family| begins_with(*field, family)));
    for name in of_families.take(MAX_OF_FAMILIES).filter_map(|field| str::from_utf8(field.name()).ok()) {
        if !exposed.split(SEPARATOR).any(|other| other.eq_ignore_ascii_case(name)) {
            push(&mut exposed, name);
        }
    }
    exposed
}

/// Adds `Origin` to `Vary`, in one line, since some caches read only the first. A response without
/// it, to a program, could be stored and given to a page, which then could not read it.
fn vary_by_origin(headers: &mut Headers) {
    let names = headers.values(KnownName::Vary).flat_map(|value| value.split(|&byte| byte == b','));
    let mut vary: Vec<_> = names.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty()).collect();
    if vary.iter().any(|name| *name == b"*" || name.eq_ignore_ascii_case(b"origin")) {
        return;
    }
    vary.push(b"Origin");
    let vary = vary.join(SEPARATOR.as_bytes());
    headers.set(KnownName::Vary, &vary);
}

const SEPARATOR: &str = ", ";

fn push(list: &mut String, name: &str) {
    if !list.is_empty() {
        list.push_str(SEPARATOR);
    }
    list.push_str(name);
}

fn begins_with(field: HeaderField<'_>, beginning: &str) -> bool {
    let start = field.name().get(..beginning.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(beginning.as_bytes()))
}

#[cfg(test)]
mod tests;
