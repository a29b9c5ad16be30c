//! A request's head.

use std::ops::Range;

use http::{Method, Version};
use memchr::memchr;

use crate::codec::h1::error::ProtocolError;
use crate::codec::h1::fields::read_fields;
use crate::codec::h1::framing::{Framing, FramingHeaders};
use crate::codec::h1::lines::{BLANK_LINE, HeadEnd, MAX_HEAD, at_most_a_head, parse_error};
use crate::codec::head::{Headers, KnownName, PlainTarget, RequestHead};

/// The largest number of fields of one request's head, as in hyper's server.
pub const MAX_REQUEST_HEADERS: usize = 100;

/// The head of a request, and its meaning for the body and the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedRequest {
    /// The head as it came, except that a repeated `Content-Length` with one value is there once.
    pub head: RequestHead,
    /// The framing of the body; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// True if the client may send another request after this one.
    pub keep_alive: bool,
    /// True if the client waits for `100 Continue` before it sends the body (RFC 9110 section
    /// 10.1.1).
    pub expects_continue: bool,
}

/// The reason why a request is not read. The rest of its connection is meaningless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRequest {
    /// The request is not one of HTTP/1, or its end is uncertain.
    Malformed(ProtocolError),
    /// The target alone is larger than a head may be.
    TargetTooLong,
    /// The head is larger than [`MAX_HEAD`], or has more than [`MAX_REQUEST_HEADERS`] fields.
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

/// Finds the head at the beginning of the received bytes, and reads it when it is complete; then
/// the next.
#[derive(Debug, Default)]
pub struct RequestReader {
    end: HeadEnd,
    /// Empty lines before the request, which were skipped.
    skipped: usize,
    /// The request line was checked before the rest arrived.
    is_line_checked: bool,
}

impl RequestReader {
    /// Reads the head in `buf`; returns also its number of bytes. `None`: more bytes are needed.
    ///
    /// Until there is a head, each call must be given the bytes of the call before, and more behind
    /// them. After a head, the next one begins with the first byte of `buf`.
    ///
    /// # Errors
    /// Returns an error if the bytes are not a valid request. Bytes that are not HTTP/1 at all are
    /// refused with their first line, or its first bytes.
    pub fn read(&mut self, buf: &[u8]) -> Result<Option<(ParsedRequest, usize)>, BadRequest> {
        // RFC 9112 section 2.2: some clients send an empty line behind a body.
        while self.end.is_in_first_line() && buf[self.skipped..].starts_with(b"\r\n") {
            self.skipped += 2;
            self.end = HeadEnd::default();
        }
        if self.skipped >= MAX_HEAD {
            return Err(BadRequest::HeadTooLarge);
        }
        let rest = &buf[self.skipped..];
        // Most heads come in one piece. For any other head, and to find a mistake, the end is
        // searched first.
        if !self.end.has_begun()
            && let Ok(Some((parsed, end))) = parse(at_most_a_head(rest))
        {
            let used = self.skipped + end;
            *self = Self::default();
            return Ok(Some((parsed, used)));
        }
        let end = match self.end.find(rest) {
            Ok(Some(end)) => end,
            // This check comes before any other mistake, so that the verdict does not depend on the
            // pieces of the request.
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
        let (parsed, _) = parse(&rest[..end])?.ok_or(ProtocolError::RequestLine)?;
        Ok(Some((parsed, used)))
    }

    /// Returns true if a head has begun and not ended.
    pub fn has_begun(&self) -> bool {
        self.end.has_begun() || self.skipped > 0
    }

    /// Refuses bytes that cannot become a request before their empty line, which may never come.
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
            parse_line(&mut httparse::Request::new(&mut []), &rest[..=end])?;
        }
        Ok(())
    }
}

/// The parts of a request line.
struct RequestLine {
    method: Method,
    version: Version,
    target: Range<usize>,
    /// The length of the path of a target that needs no closer look.
    path: Option<usize>,
    /// The end of the line.
    end: usize,
}

impl RequestLine {
    /// Reads the line that `bytes` begin with. `None`: it is incomplete.
    fn read(bytes: &[u8]) -> Result<Option<Self>, ProtocolError> {
        if let Some(usual) = Self::usual(bytes) {
            return Ok(Some(usual));
        }
        let Some(end) = memchr(b'\n', bytes).map(|at| at + 1) else { return Ok(None) };
        let line = &bytes[..end];
        if !line.ends_with(b"\r\n") {
            return Err(ProtocolError::BareLineFeed);
        }
        let mut parsed = httparse::Request::new(&mut []);
        parse_line(&mut parsed, line)?;
        let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(ProtocolError::RequestLine);
        };
        let start = method.len() + 1;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| ProtocolError::RequestLine)?;
        let version = if version == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
        Ok(Some(Self { method, version, target: start..start + target.len(), path: None, end }))
    }

    /// Reads the line of nearly every request.
    fn usual(bytes: &[u8]) -> Option<Self> {
        const END: &[u8] = b" HTTP/1.1\r\n";
        let (method, start) = match bytes {
            [b'P', b'O', b'S', b'T', b' ', ..] => (Method::POST, 5),
            [b'G', b'E', b'T', b' ', ..] => (Method::GET, 4),
            _ => return None,
        };
        let PlainTarget { path, length } = PlainTarget::at_start_of(&bytes[start..])?;
        let target = start..start + length;
        let end = target.end + END.len();
        let is_usual = bytes[target.end..].starts_with(END);
        is_usual.then_some(Self { method, version: Version::HTTP_11, target, path: Some(path), end })
    }
}

fn parse_line<'b>(request: &mut httparse::Request<'_, 'b>, line: &'b [u8]) -> Result<(), ProtocolError> {
    request.parse(line).map(|_| ()).map_err(|error| match error {
        httparse::Error::Token | httparse::Error::Status | httparse::Error::Version => {
            ProtocolError::RequestLine
        }
        error => parse_error(error),
    })
}

/// Reads a head, and returns its length. `None`: it is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<(ParsedRequest, usize)>, ProtocolError> {
    let Some(line) = RequestLine::read(bytes)? else { return Ok(None) };
    let version = line.version;
    let mut headers = Headers::default();
    let mut table = headers.receive();
    let mut framing_headers = FramingHeaders::default();
    let (mut expects_continue, mut has_length_list) = (false, false);
    let end = read_fields(bytes, line.end, MAX_REQUEST_HEADERS, |name, known, value| {
        table.add(bytes, name, known, value.clone());
        match known.map(|name| (name, &bytes[value])) {
            Some((KnownName::ContentLength, value)) => {
                has_length_list |= value.contains(&b',');
                framing_headers.note(KnownName::ContentLength, value);
            }
            Some((KnownName::Expect, value)) => {
                expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
            }
            Some((name, value)) => framing_headers.note(name, value),
            None => {}
        }
    })?;
    let Some(end) = end else { return Ok(None) };
    headers.copy_received(&bytes[..end - BLANK_LINE.len()]);
    // RFC 9110 section 8.6 allows a list of one length to be refused; no client sends one.
    if has_length_list {
        return Err(ProtocolError::ContentLength);
    }
    let framing = framing_headers.request_framing(version)?;
    if let Some(length) = framing_headers.repeated_length() {
        headers.set(KnownName::ContentLength, length.to_string().as_bytes());
    }
    let keep_alive = framing_headers.client_keeps_alive(version);
    // RFC 9110 section 10.1.1: an HTTP/1.0 client does not know the expectation.
    let expects_continue = expects_continue && version == Version::HTTP_11;
    let head = RequestHead::received(line.method, version, line.target, line.path, headers);
    let head = head.ok_or(ProtocolError::RequestLine)?;
    Ok(Some((ParsedRequest { head, framing, keep_alive, expects_continue }, end)))
}

#[cfg(test)]
mod tests;
