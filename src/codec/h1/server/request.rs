//! A request's head.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use memchr::memchr;

use crate::codec::h1::error::ProtocolError;
use crate::codec::h1::framing::{Framing, FramingHeaders};
use crate::codec::h1::lines::{HeadEnd, MAX_HEAD, parse_error};
use crate::codec::h1::names::header_name;

/// The most fields of one request's head, as of hyper's server.
pub const MAX_REQUEST_HEADERS: usize = 100;

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The method as it came.
    pub method: Method,
    /// The request's target, in any of its forms (RFC 9112 section 3.2).
    pub uri: Uri,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The headers as they came, except that a repeated `Content-Length` with one value is there
    /// once.
    pub headers: HeaderMap,
    /// The framing of the body; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// True if the client may send another request after this one.
    pub keep_alive: bool,
    /// True if the client waits for a word before it sends the body (RFC 9110 section 10.1.1).
    pub expects_continue: bool,
}

/// Why a request is not read. The rest of its connection is meaningless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRequest {
    /// It is no HTTP/1 request, or one whose end is in doubt.
    Malformed(ProtocolError),
    /// Its target alone is more than a head may be.
    TargetTooLong,
    /// Its head is larger than [`MAX_HEAD`], or has more than [`MAX_REQUEST_HEADERS`] fields.
    HeadTooLarge,
}

impl From<ProtocolError> for BadRequest {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::HeadTooLarge | ProtocolError::TooManyHeaders => Self::HeadTooLarge,
            error => Self::Malformed(error),
        }
    }
}

/// Finds the head at the beginning of what has come, and reads it once it is whole; then the next.
#[derive(Debug, Default)]
pub struct RequestReader {
    end: HeadEnd,
    /// Empty lines before the request, which were skipped.
    skipped: usize,
    /// The request line has been looked at ahead of the rest.
    is_line_checked: bool,
}

impl RequestReader {
    /// Reads the head in `buf`; also says how many of its bytes the head had. `None`: more bytes
    /// are needed.
    ///
    /// Until there is a head, each call must be given what the call before was given, and more
    /// behind it. After a head, the next one begins with the first byte of `buf`. `map` gives an
    /// empty map for the headers, which may have room already.
    ///
    /// # Errors
    /// The bytes are no valid request. Bytes that are no HTTP/1 at all are refused with their
    /// first line, or its first bytes.
    pub fn read(
        &mut self,
        buf: &[u8],
        map: impl FnOnce() -> HeaderMap,
    ) -> Result<Option<(RequestHead, usize)>, BadRequest> {
        // RFC 9112 section 2.2: some clients send an empty line behind a body.
        while self.end.is_in_first_line() && buf[self.skipped..].starts_with(b"\r\n") {
            self.skipped += 2;
            self.end = HeadEnd::default();
        }
        if self.skipped >= MAX_HEAD {
            return Err(BadRequest::HeadTooLarge);
        }
        let rest = &buf[self.skipped..];
        let end = match self.end.find(rest) {
            Ok(Some(end)) => end,
            // Before any other mistake, so that what is said of a request does not depend on the
            // pieces it came in.
            other => {
                self.check_beginning(rest)?;
                return match other {
                    Err(ProtocolError::HeadTooLarge) if self.end.is_in_first_line() => {
                        Err(BadRequest::TargetTooLong)
                    }
                    other => other.map(|_| None).map_err(BadRequest::from),
                };
            }
        };
        let used = self.skipped + end;
        *self = Self::default();
        Ok(Some((parse(Bytes::copy_from_slice(&rest[..end]), map())?, used)))
    }

    /// Returns true if some of a head has been seen, and not its end.
    pub fn has_begun(&self) -> bool {
        self.end.has_begun() || self.skipped > 0
    }

    /// Refuses bytes that cannot become a request before their blank line, which may never come.
    fn check_beginning(&mut self, rest: &[u8]) -> Result<(), BadRequest> {
        match rest.first() {
            None | Some(b'\r' | b'\n') => return Ok(()),
            Some(first) if first.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(first) => {}
            Some(_) => return Err(BadRequest::Malformed(ProtocolError::RequestLine)),
        }
        if !self.is_line_checked
            && let Some(end) = memchr(b'\n', rest)
        {
            self.is_line_checked = true;
            parse_lines(&mut httparse::Request::new(&mut []), &rest[..=end], &mut [])?;
        }
        Ok(())
    }
}

type Fields<'f, 'b> = &'f mut [MaybeUninit<httparse::Header<'b>>];

/// Whether all lines are there.
fn parse_lines<'f, 'b>(
    request: &mut httparse::Request<'f, 'b>,
    bytes: &'b [u8],
    fields: Fields<'f, 'b>,
) -> Result<bool, ProtocolError> {
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_request_with_uninit_headers(request, bytes, fields);
    parsed.map(|status| status.is_complete()).map_err(|error| match error {
        httparse::Error::Token | httparse::Error::Status | httparse::Error::Version => {
            ProtocolError::RequestLine
        }
        error => parse_error(error),
    })
}

/// Reads a whole head. Its target and all values share its one allocation.
fn parse(bytes: Bytes, mut headers: HeaderMap) -> Result<RequestHead, ProtocolError> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_REQUEST_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let complete = parse_lines(&mut parsed, &bytes, &mut lines)?;
    let (true, Some(method), Some(target), Some(version)) =
        (complete, parsed.method, parsed.path, parsed.version)
    else {
        return Err(ProtocolError::RequestLine);
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| ProtocolError::RequestLine)?;
    let uri = Uri::from_maybe_shared(bytes.slice_ref(target.as_bytes()));
    let uri = uri.map_err(|_| ProtocolError::RequestLine)?;
    let version = if version == 1 { Version::HTTP_11 } else { Version::HTTP_10 };

    let mut framing_headers = FramingHeaders::default();
    let mut expects_continue = false;
    headers.reserve(parsed.headers.len() + ROOM);
    for line in parsed.headers.iter() {
        let name = header_name(line.name)?;
        // RFC 9110 section 8.6 lets a list of one length be refused, which no client sends.
        if name == CONTENT_LENGTH && line.value.contains(&b',') {
            return Err(ProtocolError::ContentLength);
        }
        framing_headers.note(&name, line.value);
        expects_continue |= name == EXPECT && line.value.eq_ignore_ascii_case(b"100-continue");
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value))
            .map_err(|_| ProtocolError::HeaderValue)?;
        headers.append(name, value);
    }

    let framing = framing_headers.request_framing(version)?;
    if let Some(length) = framing_headers.repeated_length() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let keep_alive = framing_headers.client_keeps_alive(version);
    // RFC 9110 section 10.1.1: not of an HTTP/1.0 client, which would not know what the word means.
    let expects_continue = expects_continue && version == Version::HTTP_11;
    Ok(RequestHead { method, uri, version, headers, framing, keep_alive, expects_continue })
}

/// Capacity for headers that are added later, so that the map is not built twice.
const ROOM: usize = 2;

#[cfg(test)]
mod tests;
