//! HTTP/1.1, sans-IO. The client half writes a request's head and frames its body, reads a
//! response's head and removes the framing of its body; the [server] half does the reverse.
//!
//! The rules are those of RFC 9112 ("HTTP/1.1") and, where they refer to it, RFC 9110 ("HTTP
//! Semantics"), in the order of a response: [`HeadReader`] finds the head and reads it, [`Framing`]
//! is the framing of the body, [`BodyDecoder`] removes it.
//!
//! Guarantees, all of them tested at every split:
//! * The result does not depend on the pieces: the same bytes give the same head, the same body
//!   and the same verdict.
//! * Every byte of an incomplete head is read once, so that the cost is linear even if a head
//!   arrives byte by byte.
//! * A body is never copied: its payload is gathered inside the buffer into which it was read.
//! * A message with two framings, or with an uncertain one, is refused with a [`ProtocolError`].
//!   RFC 9112 allows a recipient to be lenient (bare LF line ends, folded lines, other codings
//!   under `chunked`); this one is not.
//! * The named limits bound all memory.
//!
//! Sockets, time, and the use of a response are outside of this module.

mod body;
mod chunked;
mod error;
mod fields;
mod framing;
mod lines;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod replay;
mod request;
mod response;
pub mod server;
mod trailers;

pub use body::{BodyDecoder, Decoded};
pub use chunked::{EXTENSIONS_FREE, MAX_CHUNK_LINE};
pub use error::ProtocolError;
pub use framing::{Framing, MAX_LENGTH};
pub use lines::{MAX_HEAD, MAX_HEADERS};
pub use request::{BodyFraming, CHUNK_END, ChunkSize, LAST_CHUNK, chunk_size_line, write_request_head};
pub use response::{HeadReader, MAX_INTERIM, ParsedResponse};
pub use trailers::MAX_TRAILERS;
