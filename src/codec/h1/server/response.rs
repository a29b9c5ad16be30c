//! A response's head, and the framing of its body.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};

use crate::codec::h1::framing::{is_bodiless, list, parse_length};
use crate::codec::h1::request::{CHUNK_END, ChunkSize, LAST_CHUNK, chunk_size_line, write_length};
use crate::codec::h1::trailers;
use crate::codec::head::{Headers, KnownName, NameSet, RequestHead};

/// The properties of a request on which its response depends.
#[derive(Clone, Copy, Debug)]
pub struct RequestFraming {
    is_head: bool,
    version: Version,
    /// True if the client reads trailers (RFC 9110 section 10.1.4).
    pub takes_trailers: bool,
}

impl RequestFraming {
    /// The properties of a request with this head.
    pub fn new(head: &RequestHead) -> Self {
        let mut options = head.headers.values(KnownName::Te).flat_map(list);
        Self {
            is_head: head.method == Method::HEAD,
            version: head.version,
            takes_trailers: options.any(|option| option.eq_ignore_ascii_case(b"trailers")),
        }
    }
}

/// The status line and the connection option of a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseStart<'a> {
    /// The status.
    pub status: StatusCode,
    /// The reason phrase, if it differs from the usual one.
    pub reason: Option<&'a [u8]>,
    /// True if the connection is closed after the response.
    pub close: bool,
}

/// The framing of a response's body, and the rest of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEncoder {
    /// No body is sent: the request is a HEAD, or the status allows none.
    None,
    /// The number of bytes that are not written yet.
    Length(u64),
    /// Chunks.
    Chunked,
    /// The connection's end is the body's, for a client of HTTP/1.0.
    UntilClose,
}

impl BodyEncoder {
    /// The framing of a response's body, whose length may be unknown (RFC 9112 section 6.3).
    fn new(request: RequestFraming, status: StatusCode, length: Option<u64>) -> Self {
        match length {
            _ if request.is_head || is_bodiless(status) => Self::None,
            Some(length) => Self::Length(length),
            None if request.version == Version::HTTP_11 => Self::Chunked,
            None => Self::UntilClose,
        }
    }

    /// Returns true if the body needs no further poll.
    pub fn is_done(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }

    /// Appends the next piece with its framing. See [`BodyEncoder::frame`].
    pub fn append(&mut self, out: &mut Vec<u8>, data: &[u8]) {
        match self {
            Self::None => {}
            Self::Length(left) => {
                let data = &data[..usize::try_from(*left).unwrap_or(usize::MAX).min(data.len())];
                *left -= data.len() as u64;
                out.extend_from_slice(data);
            }
            Self::Chunked if data.is_empty() => {}
            Self::Chunked => {
                let size = chunk_size_line(data.len());
                out.reserve(size.as_ref().len() + data.len() + CHUNK_END.len());
                out.extend_from_slice(size.as_ref());
                out.extend_from_slice(data);
                out.extend_from_slice(CHUNK_END);
            }
            Self::UntilClose => out.extend_from_slice(data),
        }
    }

    /// The framing before and behind the next piece. Bytes beyond the declared length are cut off,
    /// since the client would read them as the next response.
    pub fn frame(&mut self, data: &mut Bytes) -> (Option<ChunkSize>, &'static [u8]) {
        match self {
            Self::None => data.clear(),
            Self::Length(left) => {
                data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
            }
            Self::Chunked if !data.is_empty() => return (Some(chunk_size_line(data.len())), CHUNK_END),
            Self::Chunked | Self::UntilClose => {}
        }
        (None, b"")
    }

    /// Appends the end of the body, with the trailers that are not about framing. Returns false if
    /// the body is shorter than its length, so that the connection must end too.
    #[must_use]
    pub fn end(self, out: &mut Vec<u8>, trailers: Option<&HeaderMap>) -> bool {
        match (self, trailers) {
            (Self::Length(left), _) => return left == 0,
            (Self::None | Self::UntilClose, _) => {}
            (Self::Chunked, None) => out.extend_from_slice(LAST_CHUNK),
            (Self::Chunked, Some(trailers)) => {
                out.extend_from_slice(b"0\r\n");
                let passing = trailers.iter().filter(|(name, _)| trailers::passes(name));
                passing.for_each(|(name, value)| write_field(out, name.as_str(), value.as_bytes()));
                out.extend_from_slice(b"\r\n");
            }
        }
        true
    }
}

/// Appends a response's head, with its headers unchanged except those about framing and the
/// connection, and returns the framing of its body. Only 101 keeps its own `Connection`. `exact` is
/// the length of the available body, if known. `date` is called if the headers have no date.
pub fn write_response_head(
    out: &mut Vec<u8>,
    request: RequestFraming,
    start: ResponseStart<'_>,
    headers: &Headers,
    exact: Option<u64>,
    date: impl FnOnce() -> String,
) -> BodyEncoder {
    let ResponseStart { status, reason, close } = start;
    write_status_line(out, request.version, status, reason);
    let declared = headers.get(KnownName::ContentLength).and_then(|value| parse_length(value).ok());
    let encoder = BodyEncoder::new(request, status, declared.or(exact));
    // An available length of 0 means nothing if the body is not sent.
    let told = match encoder {
        BodyEncoder::Length(length) => Some(length),
        BodyEncoder::None if !allows_length(status) => None,
        BodyEncoder::None => declared.or(exact.filter(|&length| length > 0)),
        BodyEncoder::Chunked | BodyEncoder::UntilClose => None,
    };
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    let keeps_length = told.is_some() && told == declared && is_canonical(headers);
    let mut dropped = if switches { NameSet::of(&[KnownName::TransferEncoding]) } else { OF_THE_HOP };
    if !keeps_length {
        dropped.add(KnownName::ContentLength);
    }
    headers.write(out, |field| !field.is_one_of(dropped));
    told.filter(|_| !keeps_length).into_iter().for_each(|length| write_length(out, length));
    let more: &[u8] = match (encoder, request.version) {
        _ if switches => b"",
        (BodyEncoder::UntilClose, _) => b"connection: close\r\n",
        (BodyEncoder::Chunked, _) if close => b"transfer-encoding: chunked\r\nconnection: close\r\n",
        (BodyEncoder::Chunked, _) => b"transfer-encoding: chunked\r\n",
        _ if close => b"connection: close\r\n",
        (_, Version::HTTP_10) => b"connection: keep-alive\r\n",
        _ => b"",
    };
    out.extend_from_slice(more);
    if !headers.has(KnownName::Date) && !switches {
        for piece in ["date: ", &date(), "\r\n"] {
            out.extend_from_slice(piece.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    encoder
}

fn write_status_line(out: &mut Vec<u8>, version: Version, status: StatusCode, reason: Option<&[u8]>) {
    if version == Version::HTTP_11 && status == StatusCode::OK && reason.is_none() {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    let version: &[u8] = if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " };
    let reason = reason.unwrap_or_else(|| status.canonical_reason().unwrap_or_default().as_bytes());
    for piece in [version, status.as_str().as_bytes(), b" ", reason, b"\r\n"] {
        out.extend_from_slice(piece);
    }
}

/// The headers that are written for each hop, besides `Content-Length`.
const OF_THE_HOP: NameSet = NameSet::of(&[KnownName::TransferEncoding, KnownName::Connection]);

/// Returns true if there is one `Content-Length`, without leading zeros, so that it can be passed
/// on unchanged.
fn is_canonical(headers: &Headers) -> bool {
    let mut lengths = headers.values(KnownName::ContentLength);
    let is_plain = lengths.next().is_some_and(|length| length == b"0" || !length.starts_with(b"0"));
    is_plain && lengths.next().is_none()
}

/// RFC 9110 section 8.6.
fn allows_length(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for piece in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests;
