//! Violations of HTTP/1.1 in a message.

use std::fmt;

use super::chunked::MAX_CHUNK_LINE;
use super::lines::{MAX_HEAD, MAX_HEADERS};
use super::response::MAX_INTERIM;
use super::trailers::MAX_TRAILERS;

/// Why a response, or a request, is not to be trusted. Nothing that follows on its connection means
/// anything.
///
/// Shown, it is a clause that names a response's mistake; the words for a client's own mistake are
/// in [`crate::record::error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// It does not begin with a status line of HTTP/1.0 or HTTP/1.1 (RFC 9112 section 4).
    NotHttp1,
    /// An empty line comes before the status line. RFC 9112 section 2.2 lets only servers skip it;
    /// to a client it says that the response before was longer than its length.
    EmptyLineFirst,
    /// The status line is not one (RFC 9112 section 4).
    StatusLine,
    /// The request line is not one of HTTP/1.0 or HTTP/1.1 (RFC 9112 section 3).
    RequestLine,
    /// A field's name has a byte that is no token's, or a space before its colon (RFC 9112 section
    /// 5.1).
    HeaderName,
    /// A field's value has a control character (RFC 9110 section 5.5).
    HeaderValue,
    /// A line ends with LF alone. RFC 9112 section 2.2 lets a recipient accept it; this one does
    /// not.
    BareLineFeed,
    /// A field goes on in a second line, `obs-fold` (RFC 9112 section 5.2: a proxy may refuse it).
    FoldedLine,
    /// The head is beyond [`MAX_HEAD`].
    HeadTooLarge,
    /// A response's head or trailers have more than [`MAX_HEADERS`] fields, or a request's more
    /// than [`MAX_REQUEST_HEADERS`](super::server::MAX_REQUEST_HEADERS).
    TooManyHeaders,
    /// More than [`MAX_INTERIM`] heads with a status of 1xx, and no response.
    TooManyInterim,
    /// `Content-Length` is not a number, or beyond [`super::MAX_LENGTH`] (RFC 9112 section 6.3,
    /// item 5).
    ContentLength,
    /// Several `Content-Length` that differ (RFC 9112 section 6.3, item 5).
    ContentLengthsDiffer,
    /// Both `Transfer-Encoding` and `Content-Length` (RFC 9112 section 6.3, item 3).
    LengthAndCoding,
    /// `Transfer-Encoding` is anything but `chunked`, once: no other coding was asked for (RFC 9112
    /// section 7.4).
    TransferEncoding,
    /// `Transfer-Encoding` in HTTP/1.0, where the framing must be taken as faulty (RFC 9112 section
    /// 6.1).
    CodingInHttp10,
    /// A chunk's size is not a number (RFC 9112 section 7.1).
    ChunkSize,
    /// A chunk's size has more than 16 digits (RFC 9112 section 7.1 asks to prevent overflows).
    ChunkSizeTooLong,
    /// A chunk's extension has a control character (RFC 9112 section 7.1.1).
    ChunkExtension,
    /// A chunk's size and extensions are beyond [`MAX_CHUNK_LINE`], or all extensions together out
    /// of proportion (RFC 9112 section 7.1.1 asks for a limit).
    ChunkExtensionsTooLarge,
    /// No line end after a chunk's data: it is not as long as it said (RFC 9112 section 7.1).
    ChunkEnd,
    /// The trailers are beyond [`MAX_TRAILERS`].
    TrailersTooLarge,
    /// The connection ended before `Content-Length` was reached (RFC 9112 section 8).
    BodyCutShort {
        /// The missing bytes.
        missing: u64,
    },
    /// The connection ended before the last chunk (RFC 9112 section 8).
    ChunksCutShort,
}

impl ProtocolError {
    /// Returns true if the connection ended inside the body, which was valid until then.
    pub fn is_truncation(self) -> bool {
        matches!(self, Self::BodyCutShort { .. } | Self::ChunksCutShort)
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHttp1 => f.write_str("the response does not begin with `HTTP/1.0` or `HTTP/1.1`"),
            Self::EmptyLineFirst => f.write_str("the response begins with an empty line"),
            Self::StatusLine => f.write_str("the response's status line is malformed"),
            Self::RequestLine => f.write_str("the request line is malformed"),
            Self::HeaderName => f.write_str("the name of a header is malformed"),
            Self::HeaderValue => f.write_str("the value of a header has a control character"),
            Self::BareLineFeed => f.write_str("a line ends with LF and not with CR LF"),
            Self::FoldedLine => f.write_str("a header goes on in a second line"),
            Self::HeadTooLarge => write!(f, "the response's head is larger than {MAX_HEAD} bytes"),
            Self::TooManyHeaders => write!(f, "the response has more than {MAX_HEADERS} headers"),
            Self::TooManyInterim => {
                write!(
                    f,
                    "more than {MAX_INTERIM} responses with a status of 1xx came, and not the final one"
                )
            }
            Self::ContentLength => f.write_str("the response's Content-Length is not a length"),
            Self::ContentLengthsDiffer => {
                f.write_str("the response has more than one Content-Length, and they differ")
            }
            Self::LengthAndCoding => f.write_str(
                "the response has both Transfer-Encoding and Content-Length, of which only one can be true",
            ),
            Self::TransferEncoding => f.write_str(
                "the response has a Transfer-Encoding other than `chunked`, which the request did not allow",
            ),
            Self::CodingInHttp10 => {
                f.write_str("the response has Transfer-Encoding, which HTTP/1.0 does not know")
            }
            Self::ChunkSize => f.write_str("the size of a chunk is not a hexadecimal number"),
            Self::ChunkSizeTooLong => f.write_str("the size of a chunk has more than 16 digits"),
            Self::ChunkExtension => f.write_str("the extension of a chunk has a control character"),
            Self::ChunkExtensionsTooLarge => {
                write!(
                    f,
                    "a chunk's extension is longer than {MAX_CHUNK_LINE} bytes, or there are more extensions than data"
                )
            }
            Self::ChunkEnd => f.write_str("a chunk is not as long as its size says"),
            Self::TrailersTooLarge => {
                write!(f, "the response's trailers are larger than {MAX_TRAILERS} bytes")
            }
            Self::BodyCutShort { missing } => {
                write!(f, "{missing} bytes of the body are missing from what Content-Length promised")
            }
            Self::ChunksCutShort => f.write_str("the last chunk of the body is missing"),
        }
    }
}

impl std::error::Error for ProtocolError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_clause_that_fits_into_a_sentence() {
        assert_eq!(
            ProtocolError::LengthAndCoding.to_string(),
            "the response has both Transfer-Encoding and Content-Length, of which only one can be true"
        );
        assert_eq!(
            ProtocolError::BodyCutShort { missing: 3 }.to_string(),
            "3 bytes of the body are missing from what Content-Length promised"
        );
        assert_eq!(ProtocolError::HeadTooLarge.to_string(), "the response's head is larger than 65536 bytes");
    }
}
