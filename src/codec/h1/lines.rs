//! The lines of a head and of trailers.

use std::mem;

use memchr::memchr;

use super::error::ProtocolError;

/// The largest head, with its empty line: several times as large as those of services, with cookies
/// and policies.
pub const MAX_HEAD: usize = 64 * 1024;

/// The largest number of fields of one head.
pub const MAX_HEADERS: usize = 256;

pub(super) const BLANK_LINE: &[u8] = b"\r\n";

/// The bytes that a head at the beginning of `buf` can have.
pub(super) fn at_most_a_head(buf: &[u8]) -> &[u8] {
    &buf[..buf.len().min(MAX_HEAD)]
}

/// Finds the end of a head that arrives in pieces. Every byte is read once.
#[derive(Debug, Default)]
pub(super) struct HeadEnd {
    /// The beginning of the incomplete line.
    line: usize,
    /// The position up to which its end was searched.
    looked: usize,
}

impl HeadEnd {
    /// The end of the head at the beginning of `buf`, behind its empty line. `None`: it has not
    /// arrived. The search continues where the last one ended, and begins again after an end.
    pub(super) fn find(&mut self, buf: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let buf = at_most_a_head(buf);
        while let Some(found) = memchr(b'\n', &buf[self.looked..]) {
            self.looked += found + 1;
            let line = mem::replace(&mut self.line, self.looked);
            if ends_section(&buf[line..self.looked])? {
                *self = Self::default();
                return Ok(Some(line + 2));
            }
        }
        self.looked = buf.len();
        if buf.len() == MAX_HEAD { Err(ProtocolError::HeadTooLarge) } else { Ok(None) }
    }

    /// Returns true if a head has begun and not ended.
    pub(super) fn has_begun(&self) -> bool {
        self.looked > 0
    }

    #[cfg(test)]
    pub(super) fn looked(&self) -> usize {
        self.looked
    }

    /// Returns true if the first line is incomplete.
    pub(super) fn is_in_first_line(&self) -> bool {
        self.line == 0
    }
}

/// Returns true if `line`, which ends with LF, is the empty one that ends its section.
///
/// # Errors
/// Returns an error if the line ends with LF alone, or continues the field of the line before. The
/// next reader could read both differently; RFC 9112 section 11.1 describes that attack.
pub(super) fn ends_section(line: &[u8]) -> Result<bool, ProtocolError> {
    match line {
        [b'\r', b'\n'] => Ok(true),
        [b' ' | b'\t', ..] => Err(ProtocolError::FoldedLine),
        [.., b'\r', b'\n'] => Ok(false),
        _ => Err(ProtocolError::BareLineFeed),
    }
}

/// Converts an error of the line parser.
pub(super) fn parse_error(error: httparse::Error) -> ProtocolError {
    match error {
        httparse::Error::Version => ProtocolError::NotHttp1,
        httparse::Error::Status | httparse::Error::Token => ProtocolError::StatusLine,
        httparse::Error::HeaderName => ProtocolError::HeaderName,
        // A CR without its LF is a control character in a value.
        httparse::Error::HeaderValue | httparse::Error::NewLine => ProtocolError::HeaderValue,
        httparse::Error::TooManyHeaders => ProtocolError::TooManyHeaders,
    }
}
