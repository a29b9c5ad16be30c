//! A response's head.

use http::{Method, StatusCode, Version};
use memchr::memchr;

use super::error::ProtocolError;
use super::fields::read_fields;
use super::framing::{Framing, FramingHeaders, RequestKind};
use super::lines::{BLANK_LINE, HeadEnd, MAX_HEADERS, at_most_a_head, parse_error};
use crate::codec::head::{Headers, KnownName, ResponseHead};

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
        let Some((parsed, end)) = self.parse(buf)? else { return Ok(None) };
        if parsed.head.status.is_informational() {
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(ProtocolError::TooManyInterim);
            }
        }
        Ok(Some((parsed, end)))
    }

    fn parse(&mut self, buf: &[u8]) -> Result<Option<(ParsedResponse, usize)>, ProtocolError> {
        // Most heads come in one piece. For any other, and to find what is wrong with one, the end
        // is looked for first.
        if !self.end.has_begun()
            && let Ok(Some(found)) = parse(at_most_a_head(buf), self.request)
        {
            return Ok(Some(found));
        }
        if self.end.is_in_first_line() {
            check_beginning(buf)?;
        }
        let Some(end) = self.end.find(buf)? else { return Ok(None) };
        parse(&buf[..end], self.request)?.ok_or(ProtocolError::StatusLine).map(Some)
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

/// Reads a head, and returns its length. `None`: it is incomplete.
fn parse(bytes: &[u8], request: RequestKind) -> Result<Option<(ParsedResponse, usize)>, ProtocolError> {
    let Some((version, status, line_end)) = read_status_line(bytes)? else { return Ok(None) };
    let mut headers = Headers::default();
    let mut framing_headers = FramingHeaders::default();
    let end = read_fields(bytes, line_end, MAX_HEADERS, |name, known, value| {
        headers.add_received(bytes, name, known, value.clone());
        if let Some(known) = known {
            framing_headers.note(known, &bytes[value]);
        }
    })?;
    let Some(end) = end else { return Ok(None) };
    headers.copy_received(&bytes[..end - BLANK_LINE.len()]);
    let framing = framing_headers.framing(request, status, version)?;
    if let (Framing::Length(_), Some(length)) = (framing, framing_headers.repeated_length()) {
        headers.set(KnownName::ContentLength, length.to_string().as_bytes());
    }
    let keep_alive = framing_headers.keep_alive(request, status, version, framing);
    let head = ResponseHead { status, reason: unusual_reason(bytes, status), headers };
    Ok(Some((ParsedResponse { head, version, framing, keep_alive }, end)))
}

/// Reads the status line that `bytes` begin with, and returns its end. `None`: it is incomplete.
fn read_status_line(bytes: &[u8]) -> Result<Option<(Version, StatusCode, usize)>, ProtocolError> {
    if let Some(rest) = bytes.strip_prefix(b"HTTP/1.1 200 OK\r\n") {
        return Ok(Some((Version::HTTP_11, StatusCode::OK, bytes.len() - rest.len())));
    }
    let Some(end) = memchr(b'\n', bytes).map(|at| at + 1) else { return Ok(None) };
    let line = &bytes[..end];
    if !line.ends_with(b"\r\n") {
        return Err(ProtocolError::BareLineFeed);
    }
    let mut parsed = httparse::Response::new(&mut []);
    parsed.parse(line).map_err(parse_error)?;
    let (Some(version), Some(code)) = (parsed.version, parsed.code) else {
        return Err(ProtocolError::StatusLine);
    };
    let version = if version == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    let status = StatusCode::from_u16(code).map_err(|_| ProtocolError::StatusLine)?;
    Ok(Some((version, status, end)))
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
