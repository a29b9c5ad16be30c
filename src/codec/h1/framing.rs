//! The length of a body, and the reuse of its connection: RFC 9112 sections 6.3 and 9.3.

use http::{Method, StatusCode, Version};

use super::error::ProtocolError;
use crate::codec::head::KnownName;

/// The longest body that a `Content-Length` may declare: no sum of lengths overflows, and a
/// ledger's signed column can hold it.
pub const MAX_LENGTH: u64 = i64::MAX as u64;

/// The framing of a body: the way to find its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// `Content-Length`: this many bytes.
    Length(u64),
    /// Chunks; the last one is empty.
    Chunked,
    /// The body ends when the connection closes.
    UntilClose,
}

/// The kind of the request, as far as its response's framing depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) enum RequestKind {
    Head,
    Connect,
    Other,
}

impl RequestKind {
    pub(super) fn new(method: &Method) -> Self {
        match *method {
            Method::HEAD => Self::Head,
            Method::CONNECT => Self::Connect,
            _ => Self::Other,
        }
    }
}

/// The headers about framing and the connection, gathered while a head is parsed.
#[derive(Debug, Default)]
pub(super) struct FramingHeaders {
    length: Option<Result<u64, ProtocolError>>,
    /// True if several `Content-Length` had the same value.
    repeated: bool,
    /// `Transfer-Encoding`: true if it is exactly one `chunked`.
    chunked: Option<bool>,
    close: bool,
    keep_alive: bool,
}

impl FramingHeaders {
    pub(super) fn note(&mut self, name: KnownName, value: &[u8]) {
        match name {
            KnownName::ContentLength => self.note_length(value),
            KnownName::TransferEncoding => {
                self.chunked = Some(self.chunked.is_none() && value.eq_ignore_ascii_case(b"chunked"));
            }
            KnownName::Connection => {
                for option in list(value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            _ => {}
        }
    }

    /// A list of one repeated length is that length, as RFC 9110 section 8.6 allows.
    fn note_length(&mut self, value: &[u8]) {
        for value in list(value) {
            let length = parse_length(value);
            self.length = Some(match (self.length, length) {
                (None, length) => length,
                (Some(Err(error)), _) | (_, Err(error)) => Err(error),
                (Some(Ok(known)), Ok(length)) if known != length => Err(ProtocolError::ContentLengthsDiffer),
                (Some(known), Ok(_)) => {
                    self.repeated = true;
                    known
                }
            });
        }
    }

    /// Applies RFC 9112 section 6.3, in its order.
    pub(super) fn framing(
        &self,
        request: RequestKind,
        status: StatusCode,
        version: Version,
    ) -> Result<Framing, ProtocolError> {
        let bodiless = is_bodiless(status) || matches!(request, RequestKind::Head);
        let tunnel = matches!(request, RequestKind::Connect) && status.is_success();
        if bodiless || tunnel { Ok(Framing::None) } else { self.declared(version, Framing::UntilClose) }
    }

    /// Applies the same section to a request, whose body never ends with the connection.
    pub(super) fn request_framing(&self, version: Version) -> Result<Framing, ProtocolError> {
        self.declared(version, Framing::None)
    }

    /// The framing by the headers, or `otherwise` without such headers.
    fn declared(&self, version: Version, otherwise: Framing) -> Result<Framing, ProtocolError> {
        match (self.chunked, self.length) {
            (Some(_), Some(_)) => Err(ProtocolError::LengthAndCoding),
            (Some(_), None) if version == Version::HTTP_10 => Err(ProtocolError::CodingInHttp10),
            (Some(false), None) => Err(ProtocolError::TransferEncoding),
            (Some(true), None) => Ok(Framing::Chunked),
            (None, Some(length)) => Ok(Framing::Length(length?)),
            (None, None) => Ok(otherwise),
        }
    }

    /// Returns true if the client may send another request: RFC 9112 section 9.3.
    pub(super) fn client_keeps_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }

    /// Returns true if the connection can be reused: RFC 9112 section 9.3, and false if a body may
    /// follow in spite of the headers.
    pub(super) fn keep_alive(
        &self,
        request: RequestKind,
        status: StatusCode,
        version: Version,
        framing: Framing,
    ) -> bool {
        let ends = match framing {
            Framing::UntilClose => false,
            Framing::Chunked | Framing::Length(_) => true,
            Framing::None if matches!(request, RequestKind::Connect) => false,
            Framing::None if status == StatusCode::SWITCHING_PROTOCOLS => false,
            // A 204 with a length may be followed by a body, against the RFC.
            Framing::None if status == StatusCode::NO_CONTENT => {
                self.chunked.is_none() && matches!(self.length, None | Some(Ok(0)))
            }
            Framing::None => self.chunked.is_none() || self.length.is_none(),
        };
        ends && !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }

    /// The length that was repeated, and must be passed on once.
    pub(super) fn repeated_length(&self) -> Option<u64> {
        self.length.filter(|_| self.repeated)?.ok()
    }
}

/// The members of a comma-separated list, without optional whitespace around them.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(|mut member| {
        while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = member {
            member = rest;
        }
        member
    })
}

/// Parses digits and nothing else; the standard library's parser accepts a sign.
pub(super) fn parse_length(digits: &[u8]) -> Result<u64, ProtocolError> {
    let parse = || {
        digits.iter().try_fold(0_u64, |length, byte| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            length.checked_mul(10)?.checked_add(digit).filter(|&length| length <= MAX_LENGTH)
        })
    };
    if digits.is_empty() { None } else { parse() }.ok_or(ProtocolError::ContentLength)
}
/// Returns true if no response with this status has a body.
pub(super) fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}
