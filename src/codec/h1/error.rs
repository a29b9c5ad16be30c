//! Violations of HTTP/1.1 in a message.

use std::fmt;

use super::chunked::MAX_CHUNK_LINE;
use super::lines::{MAX_HEAD, MAX_HEADERS};
use super::response::MAX_INTERIM;
use super::trailers::MAX_TRAILERS;

/// A reason not to trust a response or a request. All further bytes of its connection are
/// meaningless.
///
/// `Display` writes a clause that names a response's mistake; [`crate::record::error`] has the
/// words for a client's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The message does not begin with a status line of HTTP/1.0 or HTTP/1.1 (RFC 9112 section 4).
    NotHttp1,
    /// An empty line comes before the status line. RFC 9112 section 2.2 lets only servers skip it;
    /// for a client it means that the previous response was longer than its length.
    EmptyLineFirst,
    /// The status line is malformed (RFC 9112 section 4).
    StatusLine,
    /// The request line is not one of HTTP/1.0 or HTTP/1.1 (RFC 9112 section 3).
    RequestLine,
    /// A field name has a byte that is not allowed in a token, or a space before its colon (RFC
    /// 9112 section 5.1).
    HeaderName,
    /// A field value has a control character (RFC 9110 section 5.5).
    HeaderValue,
    /// A line ends with LF alone. RFC 9112 section 2.2 lets a recipient accept it; this one does
    /// not.
    BareLineFeed,
    /// A field continues in a second line, `obs-fold` (RFC 9112 section 5.2: a proxy may refuse
    /// it).
    FoldedLine,
    /// The head is larger than [`MAX_HEAD`].
    HeadTooLarge,
    /// A response's head or trailers have more than [`MAX_HEADERS`] fields, or a request's head
    /// more than [`MAX_REQUEST_HEADERS`](super::server::MAX_REQUEST_HEADERS).
    TooManyHeaders,
    /// More than [`MAX_INTERIM`] heads had a status of 1xx, and no response followed.
    TooManyInterim,
    /// `Content-Length` is not a number, or larger than [`super::MAX_LENGTH`] (RFC 9112 section
    /// 6.3, item 5).
    ContentLength,
    /// Several `Content-Length` differ (RFC 9112 section 6.3, item 5).
    ContentLengthsDiffer,
    /// The head has both `Transfer-Encoding` and `Content-Length` (RFC 9112 section 6.3, item 3).
    LengthAndCoding,
    /// `Transfer-Encoding` is not exactly one `chunked`: no other coding was requested (RFC 9112
    /// section 7.4).
    TransferEncoding,
    /// A head of HTTP/1.0 has `Transfer-Encoding`, so its framing must be treated as faulty (RFC
    /// 9112 section 6.1).
    CodingInHttp10,
    /// A chunk's size is not a number (RFC 9112 section 7.1).
    ChunkSize,
    /// A chunk's size has more than 16 digits (RFC 9112 section 7.1 asks to prevent overflows).
    ChunkSizeTooLong,
    /// A chunk's extension has a control character (RFC 9112 section 7.1.1).
    ChunkExtension,
    /// A chunk's size and extensions are longer than [`MAX_CHUNK_LINE`], or all extensions together
    /// exceed their limit (RFC 9112 section 7.1.1 asks for one).
    ChunkExtensionsTooLarge,
    /// A chunk's data does not end with a line end: its length differs from the size (RFC 9112
    /// section 7.1).
    ChunkEnd,
    /// The trailers are larger than [`MAX_TRAILERS`].
    TrailersTooLarge,
    /// The connection ended before `Content-Length` was reached (RFC 9112 section 8).
    BodyCutShort {
        /// The number of missing bytes.
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
            Self::FoldedLine => f.write_str("a header continues in a second line"),
            Self::HeadTooLarge => write!(f, "the response's head is larger than {MAX_HEAD} bytes"),
            Self::TooManyHeaders => write!(f, "the response has more than {MAX_HEADERS} headers"),
            Self::TooManyInterim => {
                write!(f, "more than {MAX_INTERIM} responses with a status of 1xx arrived, and no final one")
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
                f.write_str("the response has Transfer-Encoding, which HTTP/1.0 does not support")
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
                write!(f, "{missing} of the bytes that Content-Length declares are missing in the body")
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
            "3 of the bytes that Content-Length declares are missing in the body"
        );
        assert_eq!(ProtocolError::HeadTooLarge.to_string(), "the response's head is larger than 65536 bytes");
    }
}
