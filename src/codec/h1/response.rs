//! A response's head.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use memchr::memchr;

use super::error::ProtocolError;
use super::framing::{Framing, FramingHeaders, RequestKind};
use super::lines::{HeadEnd, MAX_HEADERS, parse_error};
use super::names::header_name;

/// The most heads with a status of 1xx before the response: who sends one every few seconds to show
/// that it still works stays below, who sends nothing else is stopped.
pub const MAX_INTERIM: u8 = 100;

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status code, 100 to 999.
    pub status: StatusCode,
    /// The reason phrase, if it differs from the usual one. May be empty.
    pub reason: Option<Bytes>,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The headers as they came, except that a repeated `Content-Length` with one value is there
    /// once, where it says how long the body is (RFC 9110 section 8.6).
    pub headers: HeaderMap,
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
    pub fn read(&mut self, buf: &[u8]) -> Result<Option<(ResponseHead, usize)>, ProtocolError> {
        if self.end.is_in_first_line() {
            check_beginning(buf)?;
        }
        let Some(end) = self.end.find(buf)? else { return Ok(None) };
        let head = parse(Bytes::copy_from_slice(&buf[..end]), self.request)?;
        if head.status.is_informational() {
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(ProtocolError::TooManyInterim);
            }
        }
        Ok(Some((head, end)))
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

/// Reads a whole head. All values share its one allocation.
fn parse(bytes: Bytes, request: RequestKind) -> Result<ResponseHead, ProtocolError> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let complete = config
        .parse_response_with_uninit_headers(&mut parsed, &bytes, &mut lines)
        .map_err(parse_error)?
        .is_complete();
    let (true, Some(version), Some(code)) = (complete, parsed.version, parsed.code) else {
        return Err(ProtocolError::StatusLine);
    };
    let version = if version == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    let status = StatusCode::from_u16(code).map_err(|_| ProtocolError::StatusLine)?;

    let mut framing_headers = FramingHeaders::default();
    let mut headers = HeaderMap::with_capacity(parsed.headers.len() + ROOM);
    for line in parsed.headers.iter() {
        let name = header_name(line.name)?;
        framing_headers.note(&name, line.value);
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value))
            .map_err(|_| ProtocolError::HeaderValue)?;
        headers.append(name, value);
    }

    let framing = framing_headers.framing(request, status, version)?;
    if let (Framing::Length(_), Some(length)) = (framing, framing_headers.repeated_length()) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let keep_alive = framing_headers.keep_alive(request, status, version, framing);
    let reason = unusual_reason(&bytes, status);
    Ok(ResponseHead { status, reason, version, headers, framing, keep_alive })
}

/// Capacity for headers that are added later, so that the map is not built twice.
const ROOM: usize = 2;

/// The phrase after the code, if it is not the usual one. Taken from the bytes: the line parser
/// gives none that has a byte beyond ASCII.
fn unusual_reason(head: &Bytes, status: StatusCode) -> Option<Bytes> {
    const CODE_END: usize = "HTTP/1.1 200".len();
    let rest = head[CODE_END..].strip_prefix(b" ").unwrap_or(&head[CODE_END..]);
    let usual = status.canonical_reason().and_then(|reason| rest.strip_prefix(reason.as_bytes()));
    if usual.is_some_and(|rest| rest.first() == Some(&b'\r')) {
        return None;
    }
    let end = memchr(b'\r', rest).expect("the line has an end, for it was parsed");
    Some(head.slice_ref(&rest[..end]))
}

#[cfg(test)]
mod tests;
