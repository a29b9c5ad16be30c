//! A request's head.

use std::mem::MaybeUninit;

use http::{Method, Version};
use memchr::memchr;

use crate::codec::h1::error::ProtocolError;
use crate::codec::h1::framing::{Framing, FramingHeaders};
use crate::codec::h1::lines::{HeadEnd, MAX_HEAD, copy_head, parse_error, place_in};
use crate::codec::head::{KnownName, RequestHead};

/// The most fields of one request's head, as of hyper's server.
pub const MAX_REQUEST_HEADERS: usize = 100;

/// The head of a request, and what it says of the body and the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedRequest {
    /// The head as it came, except that a repeated `Content-Length` with one value is there once.
    pub head: RequestHead,
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
    /// behind it. After a head, the next one begins with the first byte of `buf`.
    ///
    /// # Errors
    /// The bytes are no valid request. Bytes that are no HTTP/1 at all are refused with their
    /// first line, or its first bytes.
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
        Ok(Some((parse(&rest[..end])?, used)))
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

/// Reads a whole head.
fn parse(bytes: &[u8]) -> Result<ParsedRequest, ProtocolError> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_REQUEST_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let complete = parse_lines(&mut parsed, bytes, &mut lines)?;
    let (true, Some(method), Some(target), Some(version)) =
        (complete, parsed.method, parsed.path, parsed.version)
    else {
        return Err(ProtocolError::RequestLine);
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| ProtocolError::RequestLine)?;
    let version = if version == 1 { Version::HTTP_11 } else { Version::HTTP_10 };

    let mut framing_headers = FramingHeaders::default();
    let (mut expects_continue, mut has_length_list) = (false, false);
    let mut headers = copy_head(bytes, parsed.headers, |name, value| {
        match name {
            KnownName::ContentLength => has_length_list |= value.contains(&b','),
            KnownName::Expect => expects_continue |= value.eq_ignore_ascii_case(b"100-continue"),
            _ => {}
        }
        framing_headers.note(name, value);
    });
    // RFC 9110 section 8.6 lets a list of one length be refused, which no client sends.
    if has_length_list {
        return Err(ProtocolError::ContentLength);
    }
    let framing = framing_headers.request_framing(version)?;
    if let Some(length) = framing_headers.repeated_length() {
        headers.set(KnownName::ContentLength, length.to_string().as_bytes());
    }
    let keep_alive = framing_headers.client_keeps_alive(version);
    // RFC 9110 section 10.1.1: not of an HTTP/1.0 client, which would not know what the word means.
    let expects_continue = expects_continue && version == Version::HTTP_11;
    let head = RequestHead::received(method, version, place_in(bytes, target.as_bytes()), headers);
    let head = head.ok_or(ProtocolError::RequestLine)?;
    Ok(ParsedRequest { head, framing, keep_alive, expects_continue })
}

#[cfg(test)]
mod tests;
