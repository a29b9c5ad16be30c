//! Decodes all codings of a response within bounds.

use std::fmt;

use super::brotli::{Brotli, MAX_WINDOW};
use super::deflate::Inflate;
use super::zstd::{WINDOW_LOG_MAX, Zstd};
use super::{Coding, Corrupt, Step};
use crate::support::memory::{Memory, MemoryHold, MemoryPart};

/// The output that is allowed for any input: a short response may repeat itself much.
pub const FREE_OUTPUT: u64 = 8 << 20;

/// Further output that is allowed, as a multiple of the input. Models' event streams shrink to a
/// tenth, bodies to a third; a ratio of a hundred is a bomb.
pub const MAX_RATIO: u64 = 128;

/// The memory of a decoder without its window.
const STATE: usize = 64 << 10;

/// Windows are counted in steps of this size.
const WINDOW_STEP: usize = 256 << 10;

/// The output buffer of one step, on the stack, once for each coding.
const PIECE: usize = 8 * 1024;

/// Decodes a response's codings in pieces of any size.
///
/// A push returns everything that the encoder has flushed up to it. The decoder holds only the
/// state of its codings: 50 KB for `gzip` and `deflate`; the output for `br` and `zstd`, up to
/// their windows of 16 and 8 MiB.
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
    /// The decoder of the coding that was applied last comes first.
    stages: Vec<Stage>,
    budget: Budget,
    /// Set after an error. Nothing more is decoded.
    failed: Option<DecodeError>,
}

/// The reason for which a response cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The input is invalid for the coding, or its window is too large.
    Corrupt,
    /// The output exceeds [`FREE_OUTPUT`] and [`MAX_RATIO`].
    TooLarge,
    /// The memory budget of the process has no room for the window.
    NoMemory,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Corrupt => "it is not in its Content-Encoding",
            Self::TooLarge => "more comes out of its Content-Encoding than is reasonable",
            Self::NoMemory => "there is no memory to decode its Content-Encoding (server.max_memory)",
        })
    }
}

impl std::error::Error for DecodeError {}

impl ContentDecoder {
    /// A decoder for `codings`, applied in this order.
    pub fn new(codings: &[Coding]) -> Self {
        Self {
            stages: codings.iter().rev().map(|coding| Stage::new(*coding)).collect(),
            budget: Budget::default(),
            failed: None,
        }
    }

    /// Counts the decoder's memory in the budget of the process. A window that does not fit ends the
    /// decoding; the first 256 KiB always fit.
    #[must_use]
    pub fn counted(mut self, memory: &Memory) -> Self {
        let most = self.stages.iter().map(Stage::window).sum();
        let hold = memory.hold(MemoryPart::Decoders).of(STATE * self.stages.len());
        self.budget.window = Some(Box::new(Window { hold, state: STATE * self.stages.len(), most }));
        self
    }

    /// Decodes a piece, and calls `out` with the pieces of the output.
    ///
    /// # Errors
    /// Fails if the input cannot be decoded, or costs too much. Then every further push fails too,
    /// at no cost.
    pub fn push(&mut self, input: &[u8], out: &mut dyn FnMut(&[u8])) -> Result<(), DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.budget.read += input.len() as u64;
        let result = run(&mut self.stages, &mut self.budget, input, out);
        self.failed = result.err();
        result
    }

    /// Returns true if all codings have reached their ends. A complete response may lack them: some
    /// servers flush and close.
    pub fn is_complete(&self) -> bool {
        self.stages.iter().all(Stage::is_complete)
    }

    /// Returns true after an error.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }
}

/// The number of input and output bytes, over all codings.
#[derive(Debug, Default)]
struct Budget {
    read: u64,
    written: u64,
    /// `None`: the memory does not count.
    window: Option<Box<Window>>,
}

/// The counted memory of the windows, which grow with the output.
#[derive(Debug)]
struct Window {
    hold: MemoryHold,
    state: usize,
    most: usize,
}

impl Window {
    fn grow(&mut self, written: u64) -> Result<(), DecodeError> {
        let window = usize::try_from(written).unwrap_or(usize::MAX).min(self.most);
        let counted = self.state + window / WINDOW_STEP * WINDOW_STEP;
        if self.hold.grow_to(counted, usize::MAX) { Ok(()) } else { Err(DecodeError::NoMemory) }
    }
}

impl Budget {
    fn spend(&mut self, written: usize) -> Result<(), DecodeError> {
        self.written += written as u64;
        let allowed = FREE_OUTPUT.saturating_add(self.read.saturating_mul(MAX_RATIO));
        if self.written > allowed {
            return Err(DecodeError::TooLarge);
        }
        self.window.as_mut().map_or(Ok(()), |window| window.grow(self.written))
    }
}

/// Passes `input` through all stages.
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
        // After a full piece the stage may hold more output.
        if input.is_empty() && written < PIECE {
            return Ok(());
        }
        if read == 0 && written == 0 {
            return Err(DecodeError::Corrupt);
        }
    }
}

/// The decoder of one coding.
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

    /// The largest window besides the fixed state.
    fn window(&self) -> usize {
        match self {
            Self::Inflate(_) => 0,
            Self::Brotli(_) => MAX_WINDOW,
            Self::Zstd(_) => 1 << WINDOW_LOG_MAX,
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
