//! The lines of a head and of trailers.

use super::error::ProtocolError;

/// Whether `line`, which ends with LF, is the empty one that ends its section.
///
/// # Errors
/// It ends with LF alone, or goes on with the field of the line before. Both could be read differently by the next
/// reader: RFC 9112 section 11.1 tells what that is used for.
pub(super) fn ends_section(line: &[u8]) -> Result<bool, ProtocolError> {
    match line {
        [b'\r', b'\n'] => Ok(true),
        [b' ' | b'\t', ..] => Err(ProtocolError::FoldedLine),
        [.., b'\r', b'\n'] => Ok(false),
        _ => Err(ProtocolError::BareLineFeed),
    }
}

/// What the line parser found, in our words.
pub(super) fn parse_error(error: httparse::Error) -> ProtocolError {
    match error {
        httparse::Error::Version => ProtocolError::NotHttp1,
        httparse::Error::Status | httparse::Error::Token => ProtocolError::StatusLine,
        httparse::Error::HeaderName => ProtocolError::HeaderName,
        // A CR without its LF is a control character in what would have been a value.
        httparse::Error::HeaderValue | httparse::Error::NewLine => ProtocolError::HeaderValue,
        httparse::Error::TooManyHeaders => ProtocolError::TooManyHeaders,
    }
}
