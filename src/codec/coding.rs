//! Content codings (RFC 9110 section 8.4.1) undone for the meter: `gzip`, `deflate`, `br`, `zstd`,
//! and several in a row.
//!
//! It decodes a copy while the bytes go their way, as much at each push as the encoder has flushed.
//! Memory and work are bounded: what would need more, or is no such coding, is an error, and costs
//! no more than the number.

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
    /// Bytes of input that are done with.
    read: usize,
    /// Bytes of output that were written.
    written: usize,
}

/// The input is not what the coding allows, or needs a larger window than it may.
#[derive(Clone, Copy, Debug)]
struct Corrupt;
