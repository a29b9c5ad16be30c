//! HTTP/1.1, sans-IO. The client half writes a request's head and the frame of its body, reads an
//! answer's head and takes the framing off its body; the [server] half does the same the other way
//! round.
//!
//! The rules are those of RFC 9112 ("HTTP/1.1") and, where it says so, RFC 9110 ("HTTP Semantics").
//! They live here in the order in which a response meets them: [`HeadReader`] finds the head and
//! reads it, [`Framing`] says how long the body is, [`BodyDecoder`] takes it out of its frame.
//!
//! Promises, all of them tested at every split:
//! * pieces do not matter: the same bytes give the same head, the same body and the same verdict,
//!   however they were cut;
//! * every byte of an incomplete head is looked at once, so the cost is linear also when a head
//!   comes byte by byte;
//! * a body is never copied out: its payload is brought together inside the buffer it was read
//!   into;
//! * a message that is framed in two ways, or in none that is certain, is refused with a
//!   [`ProtocolError`]. Where RFC 9112 lets a recipient be lenient (bare LF line ends, folded
//!   lines, other codings under `chunked`), this one is not;
//! * what is held is bounded by the named limits.
//!
//! Not here: sockets, time, and the use of a response.

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
