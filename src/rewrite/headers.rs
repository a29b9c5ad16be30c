//! Which headers pass, both ways, and which are put on.
//!
//! RFC 9110 section 7.6.1: what concerns one connection only (`Connection`, what it names, and its
//! relatives) ends at each hop. The client's credentials end here too, because they were meant for
//! this proxy and not for an upstream, and so do headers that ask an upstream for another path or
//! method than the request's. Everything else passes untouched and in its order, known or not;
//! several values of one name stand together, and names are in lower case, because that is how
//! `HeaderMap` keeps them.
//!
//! Servers behind CGI or WSGI read `_` in a name as `-`. A client's header with an underscore
//! passes unless its name with hyphens is one that does not, or is put on, or says how the body is
//! to be read.

use std::collections::HashSet;
use std::{fmt, mem};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::names::HeaderNames;

/// What is written in front of and behind the headers of requests for one upstream. Made once at
/// start.
#[derive(Clone)]
pub struct OutboundHeaders {
    host: (HeaderName, HeaderValue),
    /// The custom headers that no credential overrides, then the credentials.
    own: Vec<(HeaderName, HeaderValue)>,
    /// What the client cannot say: the names of `own`, and what is kept from it. With hyphens for
    /// underscores.
    not_clients: Vec<Box<str>>,
    /// What the user does not want to pass of the client's headers.
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

    /// What goes upstream: `host`, then what passes of the client's headers in their order, then
    /// the custom headers, then the credentials. The framing (`content-length`,
    /// `transfer-encoding`) is left to who writes the body.
    ///
    /// What `Connection` names is not looked for: [`end_hop`] has removed it.
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

/// The name as a server reads it that takes `_` for `-`.
#[cold]
fn hyphenated(name: &str) -> String {
    name.replace('_', "-")
}

/// Eight bytes at a time, as every name of every request is looked at.
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

/// Removes what a request's `Connection` names, so that nothing is decided by a header that no
/// upstream sees. The headers that end here in any case stay, since this proxy reads some of them.
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

/// What goes back to the client of an answer's headers, in their order: all but the hop-by-hop
/// ones, and those that bind a browser to the upstream's host.
///
/// `content-length` stays: it tells the length of the body, also of one that is not sent (HEAD,
/// 304).
pub fn inbound(headers: HeaderMap) -> HeaderMap {
    let named = named_by_connection(&headers);
    let passes = |name: &HeaderName| {
        !is_hop_by_hop(name.as_str()) && !is_about_the_origin(name.as_str()) && !named.contains(name)
    };
    if headers.keys().all(passes) { headers } else { only(headers, passes) }
}

/// Those of the names that pass, in their order: removing the others would move the last header
/// into each gap.
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

/// What is left of an answer's headers, or trailers, where its content coding is undone, in their
/// order: without the coding, the length, and the digests of what is no longer sent (RFC 9530, RFC
/// 3230, RFC 1864). An entity tag becomes weak: what is sent says the same in other bytes (RFC 9110
/// section 8.8.1).
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

/// Whether a header tells of the bytes that were encoded.
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

/// Whether the user may configure the header: not what HTTP itself or the body decides, nor what
/// only this proxy says.
pub fn is_configurable(name: &HeaderName) -> bool {
    let name = name.as_str();
    !is_hop_by_hop(name) && !is_about_the_request(name) && !name.starts_with(OWN)
}

/// What the proxy's own headers begin with.
const OWN: &str = "x-streamgauge-";

/// Whether a client's header never goes upstream.
fn ends_here(name: &str) -> bool {
    is_hop_by_hop(name)
        || is_about_the_request(name)
        || is_credential(name)
        || is_override(name)
        || name.starts_with(OWN)
}

/// By what some frameworks take a request for one with another path or method, which nothing here
/// has judged.
fn is_override(name: &str) -> bool {
    matches!(
        name,
        "x-original-url" | "x-rewrite-url" | "x-http-method-override" | "x-http-method" | "x-method-override"
    )
}

/// What says how a body is to be read.
fn is_about_the_body(name: &str) -> bool {
    matches!(name, "content-type" | "content-encoding")
}

/// RFC 9110 section 7.6.1, `Keep-Alive` as RFC 2068 had it, and whatever talks to a proxy.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(name, "connection" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade")
        || name.starts_with("proxy-")
}

/// What holds for the origin that a client believes to be talking to, which is this proxy: where
/// else it is served (RFC 7838), and that it is to be reached through TLS alone (RFC 6797).
fn is_about_the_origin(name: &str) -> bool {
    matches!(name, "alt-svc" | "strict-transport-security")
}

/// Written anew for the upstream, or answered here (`Expect: 100-continue`).
fn is_about_the_request(name: &str) -> bool {
    matches!(name, "host" | "content-length" | "expect")
}

/// The headers whose value is a client's key as such: of Azure's SDKs, Anthropic's and Google's,
/// and of Azure API Management.
pub static KEY_HEADERS: [HeaderName; 4] = [
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("ocp-apim-subscription-key"),
];

/// By what a client says to this proxy who it is: [`KEY_HEADERS`] and two more.
pub fn is_credential(name: &str) -> bool {
    matches!(
        name,
        "authorization" | "cookie" | "api-key" | "x-api-key" | "x-goog-api-key" | "ocp-apim-subscription-key"
    )
}

/// The headers that `Connection` names, apart from those that end here anyway.
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
