//! The fields after the last chunk: RFC 9112 section 7.1.2.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;

use super::error::ProtocolError;
use super::lines::{MAX_HEADERS, ends_section, parse_error};

/// The largest number of bytes of trailers, with their empty line. Services send a checksum or a
/// duration.
pub const MAX_TRAILERS: usize = 16 * 1024;

/// Fields about the message's framing or its connection. Such a field is dropped, as RFC 9110
/// section 6.5.1 allows: the body is complete, so the field is harmless.
const DROPPED: [HeaderName; 7] = [TRANSFER_ENCODING, CONTENT_LENGTH, CONNECTION, HOST, TE, TRAILER, UPGRADE];

/// Returns true if a trailer of this name is passed on.
pub(super) fn passes(name: &HeaderName) -> bool {
    !DROPPED.contains(name)
}

/// Collects trailers and reads them. Boxed, since hardly any body has them.
#[derive(Debug, Default)]
pub(super) struct Trailers(Option<Box<Stage>>);

#[derive(Debug)]
enum Stage {
    /// The lines so far, and the beginning of the last one.
    Lines {
        held: Vec<u8>,
        line: usize,
    },
    Read(HeaderMap),
}

impl Trailers {
    /// Adds the next line, or its available part. Returns its number of bytes, and true if the line
    /// was the last.
    pub(super) fn read(&mut self, rest: &[u8]) -> Result<(usize, bool), ProtocolError> {
        if self.0.is_none() && rest.starts_with(b"\r\n") {
            return Ok((2, true));
        }
        let stage = self.0.get_or_insert_with(|| Box::new(Stage::Lines { held: Vec::new(), line: 0 }));
        let Stage::Lines { held, line } = &mut **stage else { return Ok((0, true)) };
        let end = memchr(b'\n', rest).map(|found| found + 1);
        let used = end.unwrap_or(rest.len());
        if held.len() + used > MAX_TRAILERS {
            return Err(ProtocolError::TrailersTooLarge);
        }
        held.extend_from_slice(&rest[..used]);
        if end.is_none() {
            return Ok((used, false));
        }
        if !ends_section(&held[*line..])? {
            *line = held.len();
            return Ok((used, false));
        }
        let trailers = parse(held)?;
        self.0 = (!trailers.is_empty()).then(|| Box::new(Stage::Read(trailers)));
        Ok((used, true))
    }

    pub(super) fn take(&mut self) -> Option<HeaderMap> {
        match *self.0.take_if(|stage| matches!(**stage, Stage::Read(_)))? {
            Stage::Read(trailers) => Some(trailers),
            Stage::Lines { .. } => None,
        }
    }
}

fn parse(lines: &[u8]) -> Result<HeaderMap, ProtocolError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let parsed = httparse::parse_headers(lines, &mut fields).map_err(parse_error)?;
    let httparse::Status::Complete((_, fields)) = parsed else { return Err(ProtocolError::HeaderValue) };
    let mut trailers = HeaderMap::new();
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| ProtocolError::HeaderName)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| ProtocolError::HeaderValue)?;
        if passes(&name) {
            trailers.append(name, value);
        }
    }
    Ok(trailers)
}
