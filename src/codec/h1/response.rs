//! A response's head.

use http::{Method, StatusCode, Version};
use memchr::memchr;

use super::error::ProtocolError;
use super::fields::read_fields;
use super::framing::{Framing, FramingHeaders, RequestKind};
use super::lines::{BLANK_LINE, HeadEnd, MAX_HEADERS, at_most_a_head, parse_error};
use crate::codec::head::{Headers, KnownName, ResponseHead};

/// The largest number of heads with a status of 1xx before the response. A server that sends one
/// every few seconds to show progress stays below it.
pub const MAX_INTERIM: u8 = 100;

/// The head of a response, and its meaning for the body and the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedResponse {
    /// The head as it came, except that a repeated `Content-Length` with one value is there once,
    /// if it is the length of the body (RFC 9110 section 8.6). The status is 100 to 999.
    pub head: ResponseHead,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The framing of the body.
    pub framing: Framing,
    /// True if the connection may be used again, once the body has ended and nothing follows it.
    pub keep_alive: bool,
}

/// Finds the head at the beginning of the received bytes, and reads it when it is complete.
///
/// Heads with a status of 1xx are returned unchanged, with [`Framing::None`]; the same reader then
/// reads the next.
#[derive(Debug)]
pub struct HeadReader {
    request: RequestKind,
    /// The 1xx heads so far.
    interim: u8,
    end: HeadEnd,
}

impl HeadReader {
    /// Creates a reader of the response to a request with this method, which decides whether a body
    /// follows.
    pub fn new(method: &Method) -> Self {
        Self { request: RequestKind::new(method), interim: 0, end: HeadEnd::default() }
    }

    /// Reads the head in `buf`; returns also its number of bytes. `None`: more bytes are needed.
    ///
    /// Until there is a head, each call must be given the bytes of the call before, and more behind
    /// them. After a head, the next one begins with the first byte of `buf`.
    ///
    /// # Errors
    /// Returns an error if the bytes are not a valid response. Bytes that are not HTTP/1 at all are
    /// refused with their first bytes.
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
        // Most heads come in one piece. For any other head, and to find a mistake, the end is
        // searched first.
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

/// A TLS, HTTP/2 or SSH server may never send an empty line.
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
    let mut table = headers.receive();
    let mut framing_headers = FramingHeaders::default();
    let end = read_fields(bytes, line_end, MAX_HEADERS, |name, known, value| {
        table.add(bytes, name, known, value.clone());
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

/// The phrase after the code, if it is not the usual one. It is taken from the bytes, since the
/// line parser returns no phrase that has a byte beyond ASCII.
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
