//! All codings of a response, undone within bounds.

use std::fmt;

use super::brotli::Brotli;
use super::deflate::Inflate;
use super::zstd::Zstd;
use super::{Coding, Corrupt, Step};

/// The output that is allowed for any input: a short response may repeat itself much.
pub const FREE_OUTPUT: u64 = 8 << 20;

/// Further output that is allowed, as a multiple of the input. Event streams of models shrink
/// to a tenth, bodies to a third; a hundredth is a bomb.
pub const MAX_RATIO: u64 = 128;

/// The output of one step: on the stack, once for each coding.
const PIECE: usize = 8 * 1024;

/// Undoes a response's codings in pieces of any size.
///
/// What the encoder has flushed comes out with the push that brought it. Besides what it needs for
/// its codings (50 KB for `gzip` and `deflate`; for `br` and `zstd` what comes out, up to their
/// windows of 16 and 8 MiB) it holds nothing.
///
/// ```
/// use streamgauge::codec::coding::{Coding, ContentDecoder};
///
/// // A stored block of RFC 1951: `Hi`.
/// let mut decoder = ContentDecoder::new(&[Coding::Deflate]);
/// let mut text = Vec::new();
/// decoder.push(b"\x01\x02\x00\xfd\xffHi", &mut |piece| text.extend_from_slice(piece))?;
/// assert_eq!(text, b"Hi");
/// assert!(decoder.is_complete());
/// # Ok::<(), streamgauge::codec::coding::DecodeError>(())
/// ```
#[derive(Debug)]
pub struct ContentDecoder {
    /// The coding that was applied last comes first.
    stages: Vec<Stage>,
    budget: Budget,
    /// Set after an error: nothing more is decoded.
    failed: Option<DecodeError>,
}

/// Why a response cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It is not what the coding allows, or its window is too large.
    Corrupt,
    /// More comes out of it than [`FREE_OUTPUT`] and [`MAX_RATIO`] allow.
    TooLarge,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Corrupt => "it is not in its Content-Encoding",
            Self::TooLarge => "more comes out of its Content-Encoding than is reasonable",
        })
    }
}

impl std::error::Error for DecodeError {}

impl ContentDecoder {
    /// A decoder of what was encoded with `codings`, applied in this order.
    pub fn new(codings: &[Coding]) -> Self {
        Self {
            stages: codings.iter().rev().map(|coding| Stage::new(*coding)).collect(),
            budget: Budget::default(),
            failed: None,
        }
    }

    /// Reads on; `out` gets what comes of it, in pieces.
    ///
    /// # Errors
    /// It cannot be decoded, or costs too much. So does every further push, at no cost.
    pub fn push(&mut self, input: &[u8], out: &mut dyn FnMut(&[u8])) -> Result<(), DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.budget.read += input.len() as u64;
        let result = run(&mut self.stages, &mut self.budget, input, out);
        self.failed = result.err();
        result
    }

    /// Returns true if the codings have come to their ends. Streams that are whole need not: some
    /// servers flush and hang up.
    pub fn is_complete(&self) -> bool {
        self.stages.iter().all(Stage::is_complete)
    }

    /// Returns true if it has met an error.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }
}

/// The bytes of input and of output, over all codings.
#[derive(Debug, Default)]
struct Budget {
    read: u64,
    written: u64,
}

impl Budget {
    fn spend(&mut self, written: usize) -> Result<(), DecodeError> {
        self.written += written as u64;
        let allowed = FREE_OUTPUT.saturating_add(self.read.saturating_mul(MAX_RATIO));
        if self.written > allowed { Err(DecodeError::TooLarge) } else { Ok(()) }
    }
}

/// Lets `input` through all stages.
fn run(
    stages: &mut [Stage],
    budget: &mut Budget,
    mut input: &[u8],
    out: &mut dyn FnMut(&[u8]),
) -> Result<(), DecodeError> {
    let Some((stage, rest)) = stages.split_first_mut() else {
        out(input);
        return Ok(());
    };
    let mut piece = [0; PIECE];
    loop {
        let Step { read, written } = stage.step(input, &mut piece).map_err(|Corrupt| DecodeError::Corrupt)?;
        input = &input[read..];
        if written > 0 {
            budget.spend(written)?;
            run(rest, budget, &piece[..written], out)?;
        }
        // A full piece may have left more behind.
        if input.is_empty() && written < PIECE {
            return Ok(());
        }
        if read == 0 && written == 0 {
            return Err(DecodeError::Corrupt);
        }
    }
}

/// One coding.
#[derive(Debug)]
enum Stage {
    Inflate(Inflate),
    Brotli(Brotli),
    Zstd(Zstd),
}

impl Stage {
    fn new(coding: Coding) -> Self {
        match coding {
            Coding::Gzip => Self::Inflate(Inflate::gzip()),
            Coding::Deflate => Self::Inflate(Inflate::deflate()),
            Coding::Brotli => Self::Brotli(Brotli::new()),
            Coding::Zstd => Self::Zstd(Zstd::new()),
        }
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, Corrupt> {
        match self {
            Self::Inflate(inflate) => inflate.step(input, out),
            Self::Brotli(brotli) => brotli.step(input, out),
            Self::Zstd(zstd) => zstd.step(input, out),
        }
    }

    fn is_complete(&self) -> bool {
        match self {
            Self::Inflate(inflate) => inflate.is_complete(),
            Self::Brotli(brotli) => brotli.is_complete(),
            Self::Zstd(zstd) => zstd.is_complete(),
        }
    }
}

#[cfg(test)]
mod tests;
