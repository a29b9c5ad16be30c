//! Content codings (RFC 9110 section 8.4.1), decoded for the meter: `gzip`, `deflate`, `br`,
//! `zstd`, and several in sequence.
//!
//! The decoder reads a copy of the relayed bytes, at each push as far as the encoder has flushed.
//! Memory and work are bounded: input beyond the bounds, or not in the coding, is an error, which
//! costs only the token count.

mod brotli;
mod codings;
mod decoder;
mod deflate;
mod zstd;

pub use codings::{Coding, Codings, MAX_CODINGS};
pub use decoder::{ContentDecoder, DecodeError, FREE_OUTPUT, MAX_RATIO};

/// The result of one step of a decoder.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Input bytes consumed.
    read: usize,
    /// Output bytes written.
    written: usize,
}

/// The input is invalid for the coding, or needs a larger window than allowed.
#[derive(Clone, Copy, Debug)]
struct Corrupt;
