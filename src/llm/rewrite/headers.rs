//! Selection of the headers that pass in each direction, and the added ones.
//!
//! Hop-by-hop headers are removed (RFC 9110 section 7.6.1): `Connection`, the headers it names, and
//! their relatives. The client's credentials are removed, since they are for this proxy, and so are
//! headers that ask an upstream for another path or method. All other headers pass as they came: over
//! HTTP/1.1 in the same order and spelling.
//!
//! Servers behind CGI or WSGI read `_` in a name as `-`. A client's header with an underscore
//! passes unless the same name with hyphens is removed, added, or describes the body.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::names::{Beginnings, HeaderNames};
use crate::codec::head::{HeaderField, Headers, KnownName, NameSet};

/// The headers of requests for one upstream. Built once per configuration.
#[derive(Clone)]
pub struct OutboundHeaders {
    host: (HeaderName, HeaderValue),
    /// Custom headers that no credential overrides, then the credentials.
    own: Vec<(HeaderName, HeaderValue)>,
    /// `host` and `own` as lines of HTTP/1.1.
    host_line: Vec<u8>,
    own_lines: Vec<u8>,
    /// Names that the client cannot set: those of `own`, and those of [`Self::without`]. With
    /// hyphens for underscores.
    not_clients: Vec<Box<str>>,
    /// Configured names of the client's headers that are dropped.
    dropped: HeaderNames,
    /// The known names of the client's headers that pass.
    passing: NameSet,
    /// Beginnings of names that need a closer look, although they are not known.
    suspects: Beginnings,
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
        let host = (header::HOST, host);
        Self {
            host_line: lines([&host]),
            own_lines: lines(&custom),
            host,
            own: custom,
            not_clients,
            dropped: HeaderNames::default(),
            passing: NameSet::default(),
            suspects: Beginnings::default(),
        }
        .judged()
    }

    /// Returns true if every request gets a header of this name.
    pub fn adds(&self, name: &str) -> bool {
        self.own.iter().any(|(own, _)| own == name)
    }

    /// The same headers with this `Authorization`.
    #[must_use]
    pub fn authorized(&self, value: HeaderValue) -> Self {
        let mut own = self.own.clone();
        own.retain(|(name, _)| *name != header::AUTHORIZATION);
        own.push((header::AUTHORIZATION, value));
        Self { own_lines: lines(&own), own, ..self.clone() }
    }

    /// Drops the client's headers of these names, also where they are spelled with underscores.
    #[must_use]
    pub fn dropping(mut self, names: HeaderNames) -> Self {
        self.dropped = names;
        self.judged()
    }

    /// Keeps the headers of these names from the client. Names are in lower case, with hyphens.
    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Self {
        self.not_clients.extend(names.iter().map(|&name| name.into()));
        self.judged()
    }

    /// Decides once which names pass.
    fn judged(mut self) -> Self {
        self.passing = NameSet::default();
        self.suspects = self.dropped.beginnings();
        for &known in KnownName::ALL {
            if self.is_kept(known.as_str()) || ABOUT_THE_BODY.has(known) {
                self.suspects.add_name(known.as_str());
            }
            if !self.is_kept(known.as_str()) {
                self.passing.add(known);
            }
        }
        let prefixes = [KnownName::AnyProxy, KnownName::AnyOwn].map(KnownName::as_str);
        for name in self.not_clients.iter().map(|name| &**name).chain(prefixes) {
            self.suspects.add_name(name);
        }
        self
    }

    /// Appends the outbound headers as lines of HTTP/1.1: `host`, then the client's headers that
    /// pass as they came, then custom headers, then credentials. The caller adds the framing
    /// (`content-length`, `transfer-encoding`).
    ///
    /// [`end_hop`] must have removed the headers that `Connection` names.
    pub fn write(&self, client: &Headers, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.host_line);
        client.write(out, |field| self.passes(field));
        out.extend_from_slice(&self.own_lines);
    }

    /// The headers of [`Self::write`] in the same order, for HTTP/2.
    pub fn pairs<'a>(&'a self, client: &'a Headers) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let passing = client.iter().filter(|field| self.passes(*field)).filter_map(HeaderField::to_pair);
        std::iter::once(self.host.clone()).chain(passing).chain(self.own.iter().cloned())
    }

    #[inline]
    fn passes(&self, field: HeaderField<'_>) -> bool {
        match field.known() {
            Some(known) => self.passing.has(known),
            None => !self.suspects.may_have_name(field.name()) || self.passes_as(&read_as(field.name())),
        }
    }

    /// `name` as servers behind CGI read it.
    fn passes_as(&self, name: &str) -> bool {
        // A name that is about the body and not known has underscores.
        !self.is_kept(name) && !KnownName::of(name.as_bytes()).is_some_and(|name| ABOUT_THE_BODY.has(name))
    }

    fn is_kept(&self, name: &str) -> bool {
        KnownName::of(name.as_bytes()).is_some_and(|name| ENDS_HERE.has(name))
            || self.not_clients.iter().any(|kept| **kept == *name)
            || self.dropped.has(name)
    }
}

/// The name with hyphens for underscores, as some servers read it.
fn hyphenated(name: &str) -> String {
    name.replace('_', "-")
}

/// A client's name in lower case, with hyphens for underscores.
#[cold]
fn read_as(name: &[u8]) -> String {
    hyphenated(&String::from_utf8_lossy(name)).to_ascii_lowercase()
}

fn lines<'a>(headers: impl IntoIterator<Item = &'a (HeaderName, HeaderValue)>) -> Vec<u8> {
    let line = |(name, value): &'a (HeaderName, HeaderValue)| {
        [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat()
    };
    headers.into_iter().flat_map(line).collect()
}

/// Removes the headers that a request's `Connection` names, so that none of them decides anything.
/// Headers that never pass stay, since the proxy reads some of them.
pub fn end_hop(headers: &mut Headers) {
    let named = named_by_connection(headers);
    if !named.is_empty() {
        headers.retain(|field| field.is_one_of(ENDS_HERE) || !is_named(&named, field));
    }
}

impl fmt::Debug for OutboundHeaders {
    /// Names only: a custom header may be a key too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entry(&self.host).entries(self.own.iter().map(|(name, _)| name)).finish()
    }
}

/// Keeps the response headers for the client: all except the hop-by-hop headers and those that bind
/// a browser to the upstream's host.
///
/// `content-length` stays, also for a body that is not sent (HEAD, 304).
pub fn inbound(headers: &mut Headers) {
    let named = named_by_connection(headers);
    if !named.is_empty() || headers.names().has_any_of(NOT_INBOUND) {
        headers.retain(|field| !field.is_one_of(NOT_INBOUND) && !is_named(&named, field));
    }
}

/// Keeps the headers of a decoded body: without the coding, the length, and digests of the encoded
/// bytes (RFC 9530, RFC 3230, RFC 1864). An entity tag becomes weak, since the bytes differ (RFC
/// 9110 section 8.8.1).
pub fn decoded(headers: &mut Headers) {
    headers.retain(|field| !field.is_one_of(ABOUT_THE_CODED));
    headers.replace(KnownName::Etag, weak);
}

/// The trailers of a decoded body in their order, without digests of the encoded bytes.
pub fn decoded_trailers(trailers: HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(trailers.len());
    let mut current = None;
    for (name, value) in trailers {
        // Further values of a name come without it.
        if let Some(name) = name {
            let known = KnownName::of(name.as_str().as_bytes());
            current = Some(name).filter(|_| !known.is_some_and(|name| ABOUT_THE_CODED.has(name)));
        }
        let Some(name) = &current else { continue };
        let weak = if *name == header::ETAG { weak(value.as_bytes()) } else { None };
        kept.append(name, weak.and_then(|weak| HeaderValue::from_bytes(&weak).ok()).unwrap_or(value));
    }
    kept
}

/// The weak form of an entity tag that is not weak.
fn weak(tag: &[u8]) -> Option<Vec<u8>> {
    (!tag.starts_with(b"W/")).then(|| [b"W/", tag].concat())
}

/// Headers that describe the encoded bytes.
const ABOUT_THE_CODED: NameSet = NameSet::of(&[
    KnownName::ContentEncoding,
    KnownName::ContentLength,
    KnownName::ContentDigest,
    KnownName::ReprDigest,
    KnownName::Digest,
    KnownName::ContentMd5,
    KnownName::AcceptRanges,
]);

/// Returns true if the header may be configured: it is not about the framing or the body, and not
/// one of streamgauge's own.
pub fn is_configurable(name: &HeaderName) -> bool {
    const NOT_CONFIGURABLE: NameSet = HOP_BY_HOP.with(ABOUT_THE_REQUEST).with(OWN);
    !KnownName::of(name.as_str().as_bytes()).is_some_and(|name| NOT_CONFIGURABLE.has(name))
}

/// Returns true if a client's header of this name can go upstream.
pub fn is_forwarded(name: &HeaderName) -> bool {
    !KnownName::of(name.as_str().as_bytes()).is_some_and(|name| ENDS_HERE.has(name))
}

/// Streamgauge's own headers.
const OWN: NameSet =
    NameSet::of(&[KnownName::AnyOwn, KnownName::XStreamgaugeId, KnownName::XStreamgaugeOnDisconnect]);

/// The client's headers that never go upstream.
const ENDS_HERE: NameSet = HOP_BY_HOP.with(ABOUT_THE_REQUEST).with(CREDENTIALS).with(OVERRIDES).with(OWN);

/// Headers by which some frameworks replace the path or the method, which no rule here has checked.
const OVERRIDES: NameSet = NameSet::of(&[
    KnownName::XOriginalUrl,
    KnownName::XRewriteUrl,
    KnownName::XHttpMethodOverride,
    KnownName::XHttpMethod,
    KnownName::XMethodOverride,
]);

/// Headers that describe the body.
const ABOUT_THE_BODY: NameSet = NameSet::of(&[KnownName::ContentType, KnownName::ContentEncoding]);

/// RFC 9110 section 7.6.1, `Keep-Alive` of RFC 2068, and headers for a proxy.
const HOP_BY_HOP: NameSet = NameSet::of(&[
    KnownName::Connection,
    KnownName::KeepAlive,
    KnownName::Te,
    KnownName::Trailer,
    KnownName::TransferEncoding,
    KnownName::Upgrade,
    KnownName::AnyProxy,
]);

/// Response headers that end here: those of the hop, those about the origin, which for the client
/// is this proxy: alternative services (RFC 7838) and TLS only (RFC 6797); and those of another
/// streamgauge, whose limits and names are not this one's.
const NOT_INBOUND: NameSet =
    HOP_BY_HOP.with(OWN).with(NameSet::of(&[KnownName::AltSvc, KnownName::StrictTransportSecurity]));

/// Headers that are written again for the upstream, or handled here (`Expect: 100-continue`).
const ABOUT_THE_REQUEST: NameSet =
    NameSet::of(&[KnownName::Host, KnownName::ContentLength, KnownName::Expect]);

/// Headers whose whole value is a key: those of the SDKs of Azure, Anthropic and Google, and of
/// Azure API Management.
pub const KEY_NAMES: [KnownName; 4] =
    [KnownName::ApiKey, KnownName::XApiKey, KnownName::XGoogApiKey, KnownName::OcpApimSubscriptionKey];

/// The credentials of a client for this proxy: [`KEY_NAMES`] and two more.
const CREDENTIALS: NameSet =
    NameSet::of(&KEY_NAMES).with(NameSet::of(&[KnownName::Authorization, KnownName::Cookie]));

/// Returns true if a header of this name is a credential of a client for this proxy.
pub fn is_credential(name: &str) -> bool {
    KnownName::of(name.as_bytes()).is_some_and(|name| CREDENTIALS.has(name))
}

/// The headers that `Connection` names, except the options that every client names.
fn named_by_connection(headers: &Headers) -> Vec<Box<[u8]>> {
    if !headers.has(KnownName::Connection) {
        return Vec::new();
    }
    let options = headers.values(KnownName::Connection);
    let options = options.flat_map(|value| value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii));
    let is_usual = |option: &&[u8]| {
        option.is_empty()
            || option.eq_ignore_ascii_case(b"keep-alive")
            || option.eq_ignore_ascii_case(b"close")
    };
    options.filter(|option| !is_usual(option)).map(Into::into).collect()
}

fn is_named(named: &[Box<[u8]>], field: HeaderField<'_>) -> bool {
    named.iter().any(|name| field.name().eq_ignore_ascii_case(name))
}

fn has_name(headers: &[(HeaderName, HeaderValue)], name: &HeaderName) -> bool {
    headers.iter().any(|(other, _)| other == name)
}

#[cfg(test)]
mod tests;
