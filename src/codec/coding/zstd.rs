//! `zstd`.

use std::fmt;

use zstd::stream::raw::{DParameter, Decoder, Operation};

use super::{Corrupt, Step};

/// The base-2 logarithm of the largest window: RFC 9659 allows 8 MiB for this coding.
pub(super) const WINDOW_LOG_MAX: u32 = 23;

/// Decodes consecutive frames.
pub(super) struct Zstd {
    /// `None` if its memory could not be allocated.
    inner: Option<Decoder<'static>>,
    /// A frame has ended, and no byte has followed.
    at_end: bool,
}

impl Zstd {
    pub(super) fn new() -> Self {
        let inner = Decoder::new().and_then(|mut decoder| {
            decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
            Ok(decoder)
        });
        Self { inner: inner.ok(), at_end: false }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.at_end
    }

    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, Corrupt> {
        if input.is_empty() && self.at_end {
            // A further call would begin another frame.
            return Ok(Step { read: 0, written: 0 });
        }
        let inner = self.inner.as_mut().ok_or(Corrupt)?;
        let status = inner.run_on_buffers(input, out).map_err(|_| Corrupt)?;
        self.at_end = status.remaining == 0;
        Ok(Step { read: status.bytes_read, written: status.bytes_written })
    }
}

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zstd").field("at_end", &self.at_end).finish_non_exhaustive()
    }
}
