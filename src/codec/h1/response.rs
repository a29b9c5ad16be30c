//! A response's head.

use std::mem::MaybeUninit;

use http::{Method, StatusCode, Version};
use memchr::memchr;

use super::error::ProtocolError;
use super::framing::{Framing, FramingHeaders, RequestKind};
use super::lines::{HeadEnd, MAX_HEADERS, copy_head, parse_error};
use crate::codec::head::{KnownName, ResponseHead};

/// The most heads with a status of 1xx before the response: who sends one every few seconds to show
/// that it still works stays below, who sends nothing else is stopped.
pub const MAX_INTERIM: u8 = 100;

/// The head of a response, and what it says of the body and the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedResponse {
    /// The head as it came, except that a repeated `Content-Length` with one value is there once,
    /// where it says how long the body is (RFC 9110 section 8.6). The status is 100 to 999.
    pub head: ResponseHead,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The framing of the body.
    pub framing: Framing,
    /// True if the connection may be used again, once the body has ended and nothing has come after
    /// it.
    pub keep_alive: bool,
}

/// Finds the head at the beginning of what has come, and reads it once it is whole.
///
/// Heads with a status of 1xx are given as they are, with [`Framing::None`]; the same reader then
/// reads the next.
#[derive(Debug)]
pub struct HeadReader {
    request: RequestKind,
    /// The 1xx heads so far.
    interim: u8,
    end: HeadEnd,
}

impl HeadReader {
    /// A reader of the response to a request with this method: it decides whether a body follows.
    pub fn new(method: &Method) -> Self {
        Self { request: RequestKind::new(method), interim: 0, end: HeadEnd::default() }
    }

    /// Reads the head in `buf`; also says how many of its bytes the head had. `None`: more bytes
    /// are needed.
    ///
    /// Until there is a head, each call must be given what the call before was given, and more
    /// behind it. After a head, the next one begins with the first byte of `buf`.
    ///
    /// # Errors
    /// The bytes are no valid response. Bytes that are no HTTP/1 at all are refused with their
    /// first bytes.
    pub fn read(&mut self, buf: &[u8]) -> Result<Option<(ParsedResponse, usize)>, ProtocolError> {
        if self.end.is_in_first_line() {
            check_beginning(buf)?;
        }
        let Some(end) = self.end.find(buf)? else { return Ok(None) };
        let parsed = parse(&buf[..end], self.request)?;
        if parsed.head.status.is_informational() {
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(ProtocolError::TooManyInterim);
            }
        }
        Ok(Some((parsed, end)))
    }
}

/// A TLS, HTTP/2 or SSH server may never send a blank line.
fn check_beginning(buf: &[u8]) -> Result<(), ProtocolError> {
    const BEGINNING: &[u8] = b"HTTP/1.";
    let common = buf.len().min(BEGINNING.len());
    match buf {
        _ if buf[..common] == BEGINNING[..common] => Ok(()),
        [b'\r' | b'\n', ..] => Err(ProtocolError::EmptyLineFirst),
        _ => Err(ProtocolError::NotHttp1),
    }
}

/// Reads a whole head.
fn parse(bytes: &[u8], request: RequestKind) -> Result<ParsedResponse, ProtocolError> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let complete = config
        .parse_response_with_uninit_headers(&mut parsed, bytes, &mut lines)
        .map_err(parse_error)?
        .is_complete();
    let (true, Some(version), Some(code)) = (complete, parsed.version, parsed.code) else {
        return Err(ProtocolError::StatusLine);
    };
    let version = if version == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    let status = StatusCode::from_u16(code).map_err(|_| ProtocolError::StatusLine)?;

    let mut framing_headers = FramingHeaders::default();
    let mut headers = copy_head(bytes, parsed.headers, |name, value| framing_headers.note(name, value));
    let framing = framing_headers.framing(request, status, version)?;
    if let (Framing::Length(_), Some(length)) = (framing, framing_headers.repeated_length()) {
        headers.set(KnownName::ContentLength, length.to_string().as_bytes());
    }
    let keep_alive = framing_headers.keep_alive(request, status, version, framing);
    let reason = unusual_reason(bytes, status);
    Ok(ParsedResponse { head: ResponseHead { status, reason, headers }, version, framing, keep_alive })
}

/// The phrase after the code, if it is not the usual one. Taken from the bytes: the line parser
/// gives none that has a byte beyond ASCII.
fn unusual_reason(head: &[u8], status: StatusCode) -> Option<Box<[u8]>> {
    const CODE_END: usize = "HTTP/1.1 200".len();
    let rest = head[CODE_END..].strip_prefix(b" ").unwrap_or(&head[CODE_END..]);
    let usual = status.canonical_reason().and_then(|reason| rest.strip_prefix(reason.as_bytes()));
    if usual.is_some_and(|rest| rest.first() == Some(&b'\r')) {
        return None;
    }
    let end = memchr(b'\r', rest).expect("the line has an end, for it was parsed");
    Some(rest[..end].into())
}

#[cfg(test)]
mod tests;
