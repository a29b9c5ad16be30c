//! The head of a request.

use std::ops::Range;

use http::uri::Scheme;
use http::{Method, Uri, Version, request};

use super::Headers;

/// The head of a request over either version of HTTP.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method as it came.
    pub method: Method,
    pub version: Version,
    target: Target,
    pub headers: Headers,
}

/// The places of the parts of a request's target in the bytes of its head. All of them are UTF-8.
#[derive(Clone, Copy, Debug, Default)]
struct Target {
    start: u32,
    /// The end of the path. The query, if there is one, follows `?`.
    path_end: u32,
    end: u32,
    /// The authority of the absolute form and the authority form (RFC 9112 section 3.2), or
    /// HTTP/2's `:authority`.
    authority: Option<(u32, u32)>,
    is_https: bool,
}

impl RequestHead {
    /// `None`: the target has no valid form. `target` is its place in the bytes of `headers`,
    /// `path` the length of its path if it is a [`PlainTarget`].
    pub(in crate::codec) fn received(
        method: Method,
        version: Version,
        target: Range<usize>,
        path: Option<usize>,
        mut headers: Headers,
    ) -> Option<Self> {
        let bytes = &headers.buffer().bytes[target.clone()];
        let target = match path {
            Some(path) => Target {
                start: target.start as u32,
                path_end: (target.start + path) as u32,
                end: target.end as u32,
                ..Target::default()
            },
            None => Target::add(&Uri::try_from(bytes).ok()?, &mut headers),
        };
        Some(Self { method, version, target, headers })
    }

    /// The path of the target, empty in the authority form.
    pub fn path(&self) -> &str {
        self.text(self.target.start, self.target.path_end)
    }

    /// The query without its `?`.
    pub fn query(&self) -> Option<&str> {
        let Target { path_end, end, .. } = self.target;
        (path_end < end).then(|| self.text(path_end + 1, end))
    }

    /// The host and port of the target, if it has them, regardless of `Host`.
    pub fn authority(&self) -> Option<&str> {
        self.target.authority.map(|(start, end)| self.text(start, end))
    }

    /// Returns true if the target names the scheme `https`.
    pub fn is_https(&self) -> bool {
        self.target.is_https
    }

    /// Replaces the query, in which `None` leaves no `?`.
    pub fn set_query(&mut self, query: Option<&str>) {
        let Target { start, path_end, .. } = self.target;
        let bytes = &mut self.headers.buffer_mut().bytes;
        let new = bytes.len();
        bytes.extend_from_within(start as usize..path_end as usize);
        self.target.start = new as u32;
        self.target.path_end = bytes.len() as u32;
        if let Some(query) = query {
            bytes.push(b'?');
            bytes.extend_from_slice(query.as_bytes());
        }
        self.target.end = bytes.len() as u32;
    }

    /// The parts are checked when the head is created, so that they are valid.
    fn text(&self, start: u32, end: u32) -> &str {
        let text = &self.headers.buffer().bytes[start as usize..end as usize];
        str::from_utf8(text).unwrap_or_default()
    }
}

impl From<request::Parts> for RequestHead {
    fn from(parts: request::Parts) -> Self {
        let request::Parts { method, uri, version, headers, .. } = parts;
        let mut headers = Headers::from(&headers);
        let target = Target::add(&uri, &mut headers);
        Self { method, version, target, headers }
    }
}

impl Target {
    /// Adds the parts of `uri` to the bytes of its head.
    fn add(uri: &Uri, headers: &mut Headers) -> Self {
        let bytes = &mut headers.buffer_mut().bytes;
        let mut add = |pieces: [&str; 2]| {
            let start = bytes.len() as u32;
            pieces.into_iter().for_each(|piece| bytes.extend_from_slice(piece.as_bytes()));
            (start, bytes.len() as u32)
        };
        let (start, path_end) = add([uri.path(), ""]);
        let end = uri.query().map_or(path_end, |query| add(["?", query]).1);
        let authority = uri.authority().map(|authority| add([authority.as_str(), ""]));
        Self { start, path_end, end, authority, is_https: uri.scheme() == Some(&Scheme::HTTPS) }
    }
}

impl PartialEq for RequestHead {
    /// Compares the parts, regardless of their places in the bytes.
    fn eq(&self, other: &Self) -> bool {
        let parts = |head: &Self| (head.path().to_owned(), head.query().map(str::to_owned), head.is_https());
        (&self.method, self.version, self.authority()) == (&other.method, other.version, other.authority())
            && parts(self) == parts(other)
            && self.headers == other.headers
    }
}

impl Eq for RequestHead {}

/// A target in the origin form that needs no closer look: RFC 3986 allows every byte in both a path
/// and a query.
pub(in crate::codec) struct PlainTarget {
    /// The length of the path.
    pub(in crate::codec) path: usize,
    pub(in crate::codec) length: usize,
}

/// Longer targets are not plain: `http` bounds them.
const MAX_PLAIN: usize = 60_000;

impl PlainTarget {
    /// The target at the beginning of `bytes`.
    pub(in crate::codec) fn at_start_of(bytes: &[u8]) -> Option<Self> {
        if bytes.first() != Some(&b'/') {
            return None;
        }
        let is_plain = |byte: &u8| PLAIN_BYTES[usize::from(*byte)];
        let path = bytes.iter().position(|byte| !is_plain(byte))?;
        let query = match bytes[path] {
            b'?' => bytes[path..].iter().position(|byte| !is_plain(byte) && *byte != b'?')?,
            _ => 0,
        };
        let length = path + query;
        (length <= MAX_PLAIN).then_some(Self { path, length })
    }
}

/// Unreserved characters, sub-delimiters, `:`, `@`, `/` and the `%` of an escape.
static PLAIN_BYTES: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        plain[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~!$&'()*+,;=:@/%";
    let mut index = 0;
    while index < others.len() {
        plain[others[index] as usize] = true;
        index += 1;
    }
    plain
};
