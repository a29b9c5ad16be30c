//! Which headers pass in each direction, and which are added.
//!
//! Hop-by-hop headers are removed (RFC 9110 section 7.6.1): `Connection`, the headers it names, and
//! their relatives. The client's credentials are removed, since they are for this proxy, and so are
//! headers that ask an upstream for another path or method. All other headers pass unchanged and in
//! their order. Values of one name are grouped and names are in lower case, as `HeaderMap` keeps
//! them.
//!
//! Servers behind CGI or WSGI read `_` in a name as `-`. A client's header with an underscore
//! passes unless the same name with hyphens is removed, added, or describes the body.

use std::collections::HashSet;
use std::{fmt, mem};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::names::HeaderNames;

/// The headers of requests for one upstream. Built once per configuration.
#[derive(Clone)]
pub struct OutboundHeaders {
    host: (HeaderName, HeaderValue),
    /// Custom headers that no credential overrides, then the credentials.
    own: Vec<(HeaderName, HeaderValue)>,
    /// Names that the client cannot set: those of `own`, and those of [`Self::without`]. With
    /// hyphens for underscores.
    not_clients: Vec<Box<str>>,
    /// Configured names of the client's headers that are dropped.
    dropped: HeaderNames,
}

impl OutboundHeaders {
    /// `custom` override the client's headers of the same name, `credentials` override both. Custom
    /// headers that are not [configurable](is_configurable) are left out.
    pub fn new(
        host: HeaderValue,
        mut custom: Vec<(HeaderName, HeaderValue)>,
        credentials: Vec<(HeaderName, HeaderValue)>,
    ) -> Self {
        custom.retain(|(name, _)| is_configurable(name) && !has_name(&credentials, name));
        custom.extend(credentials);
        let not_clients = custom.iter().map(|(name, _)| hyphenated(name.as_str()).into()).collect();
        Self { host: (header::HOST, host), own: custom, not_clients, dropped: HeaderNames::default() }
    }

    /// Drops the client's headers of these names, also where they are spelled with underscores.
    #[must_use]
    pub fn dropping(mut self, names: HeaderNames) -> Self {
        self.dropped = names;
        self
    }

    /// Keeps the headers of these names from the client. Names are in lower case, with hyphens.
    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Self {
        self.not_clients.extend(names.iter().map(|&name| name.into()));
        self
    }

    /// The outbound headers: `host`, then the client's headers that pass in their order, then
    /// custom headers, then credentials. The caller adds the framing (`content-length`,
    /// `transfer-encoding`).
    ///
    /// [`end_hop`] must have removed the headers that `Connection` names.
    pub fn iter<'a>(
        &'a self,
        client: &'a HeaderMap,
    ) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
        let passing = client.iter().filter(move |(name, _)| self.passes(name.as_str()));
        let pair = |(name, value): &'a (HeaderName, HeaderValue)| (name, value);
        std::iter::once(pair(&self.host)).chain(passing).chain(self.own.iter().map(pair))
    }

    fn passes(&self, name: &str) -> bool {
        if has_underscore(name.as_bytes()) {
            let name = hyphenated(name);
            return !self.is_kept(&name) && !is_about_the_body(&name);
        }
        !self.is_kept(name)
    }

    fn is_kept(&self, name: &str) -> bool {
        ends_here(name) || self.not_clients.iter().any(|kept| **kept == *name) || self.dropped.has(name)
    }
}

/// The name with hyphens for underscores, as some servers read it.
#[cold]
fn hyphenated(name: &str) -> String {
    name.replace('_', "-")
}

/// Compares eight bytes at a time, since every name of every request is checked.
fn has_underscore(name: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let has = |word: &[u8; 8]| {
        let differing = u64::from_ne_bytes(*word) ^ (ONES * b'_' as u64);
        differing.wrapping_sub(ONES) & !differing & (ONES << 7) != 0
    };
    match name.last_chunk() {
        // The last word overlaps the one before it.
        Some(last) => has(last) || name.as_chunks().0.iter().any(has),
        None => name.contains(&b'_'),
    }
}

/// Removes the headers that a request's `Connection` names, so that none of them decides anything.
/// Headers that never pass stay, since the proxy reads some of them.
pub fn end_hop(headers: &mut HeaderMap) {
    let named = named_by_connection(headers);
    let passes = |name: &HeaderName| !named.contains(name) || ends_here(name.as_str());
    if !named.is_empty() && !headers.keys().all(passes) {
        *headers = only(mem::take(headers), passes);
    }
}

impl fmt::Debug for OutboundHeaders {
    /// Names only: a custom header may be a key too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entry(&self.host).entries(self.own.iter().map(|(name, _)| name)).finish()
    }
}

/// The response headers for the client, in their order: all but the hop-by-hop headers, and those
/// that bind a browser to the upstream's host.
///
/// `content-length` stays, also for a body that is not sent (HEAD, 304).
pub fn inbound(headers: HeaderMap) -> HeaderMap {
    let named = named_by_connection(&headers);
    let passes = |name: &HeaderName| {
        !is_hop_by_hop(name.as_str()) && !is_about_the_origin(name.as_str()) && !named.contains(name)
    };
    if headers.keys().all(passes) { headers } else { only(headers, passes) }
}

/// Keeps the headers whose names pass, in their order: `HeaderMap::remove` would move the last
/// header into each gap.
fn only(headers: HeaderMap, passes: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len());
    let mut current = None;
    for (name, value) in headers {
        // Further values of a name come without it.
        if let Some(name) = name {
            current = Some(name).filter(&passes);
        }
        if let Some(name) = &current {
            kept.append(name, value);
        }
    }
    kept
}

/// The headers, or trailers, of a decoded body, in their order: without the coding, the length, and
/// digests of the encoded bytes (RFC 9530, RFC 3230, RFC 1864). An entity tag becomes weak, since
/// the bytes differ (RFC 9110 section 8.8.1).
pub fn decoded(headers: HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len());
    let mut current = None;
    for (name, value) in headers {
        // Further values of a name come without it.
        if let Some(name) = name {
            current = Some(name).filter(|name| !is_about_the_coded(name.as_str()));
        }
        let Some(name) = &current else { continue };
        let is_strong = *name == header::ETAG && !value.as_bytes().starts_with(b"W/");
        let weak = is_strong.then(|| HeaderValue::from_bytes(&[b"W/", value.as_bytes()].concat()).ok());
        kept.append(name, weak.flatten().unwrap_or(value));
    }
    kept
}

/// Returns true if a header describes the encoded bytes.
fn is_about_the_coded(name: &str) -> bool {
    matches!(
        name,
        "content-encoding"
            | "content-length"
            | "content-digest"
            | "repr-digest"
            | "digest"
            | "content-md5"
            | "accept-ranges"
    )
}

/// Returns true if the header may be configured: not the headers of the framing and the body, and
/// not those of streamgauge's own.
pub fn is_configurable(name: &HeaderName) -> bool {
    let name = name.as_str();
    !is_hop_by_hop(name) && !is_about_the_request(name) && !name.starts_with(OWN)
}

/// The prefix of streamgauge's own headers.
const OWN: &str = "x-streamgauge-";

/// Returns true if a client's header never goes upstream.
fn ends_here(name: &str) -> bool {
    is_hop_by_hop(name)
        || is_about_the_request(name)
        || is_credential(name)
        || is_override(name)
        || name.starts_with(OWN)
}

/// Headers by which some frameworks replace the path or the method, which no rule here has checked.
fn is_override(name: &str) -> bool {
    matches!(
        name,
        "x-original-url" | "x-rewrite-url" | "x-http-method-override" | "x-http-method" | "x-method-override"
    )
}

/// Headers that describe the body.
fn is_about_the_body(name: &str) -> bool {
    matches!(name, "content-type" | "content-encoding")
}

/// RFC 9110 section 7.6.1, `Keep-Alive` of RFC 2068, and headers for a proxy.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(name, "connection" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade")
        || name.starts_with("proxy-")
}

/// Headers about the origin, which for the client is this proxy: alternative services (RFC 7838)
/// and TLS only (RFC 6797).
fn is_about_the_origin(name: &str) -> bool {
    matches!(name, "alt-svc" | "strict-transport-security")
}

/// Headers that are written again for the upstream, or handled here (`Expect: 100-continue`).
fn is_about_the_request(name: &str) -> bool {
    matches!(name, "host" | "content-length" | "expect")
}

/// Headers whose whole value is a key: of the SDKs of Azure, Anthropic and Google, and of Azure API
/// Management.
pub static KEY_HEADERS: [HeaderName; 4] = [
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("ocp-apim-subscription-key"),
];

/// The credentials of a client for this proxy: [`KEY_HEADERS`] and two more.
pub fn is_credential(name: &str) -> bool {
    matches!(
        name,
        "authorization" | "cookie" | "api-key" | "x-api-key" | "x-goog-api-key" | "ocp-apim-subscription-key"
    )
}

/// The headers that `Connection` names, without those that never pass.
fn named_by_connection(headers: &HeaderMap) -> HashSet<HeaderName> {
    let options = headers
        .get_all(header::CONNECTION)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii));
    options
        .filter(|option| {
            !option.eq_ignore_ascii_case(b"keep-alive") && !option.eq_ignore_ascii_case(b"close")
        })
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .collect()
}

fn has_name(headers: &[(HeaderName, HeaderValue)], name: &HeaderName) -> bool {
    headers.iter().any(|(other, _)| other == name)
}

#[cfg(test)]
mod tests;
