//! `br`.

use std::fmt;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

use super::{Corrupt, Step};

type State = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// The largest window.
pub(super) const MAX_WINDOW: usize = 16 << 20;

/// Decodes one Brotli stream. Its window is at most 16 MiB (RFC 7932): larger windows, which
/// browsers do not accept either, are refused.
pub(super) struct Brotli {
    /// `None` after the end.
    state: Option<Box<State>>,
    total: usize,
}

impl Brotli {
    pub(super) fn new() -> Self {
        let alloc = StandardAlloc::default;
        let state = Box::new(State::new_strict(alloc(), alloc(), alloc()));
        Self { state: Some(state), total: 0 }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.state.is_none()
    }

    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, Corrupt> {
        let Some(state) = &mut self.state else { return Ok(Step { read: input.len(), written: 0 }) };
        let (mut left, mut room) = (input.len(), out.len());
        let (mut read, mut written) = (0, 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut read,
            input,
            &mut room,
            &mut written,
            out,
            &mut self.total,
            state,
        );
        match result {
            BrotliResult::ResultFailure => return Err(Corrupt),
            BrotliResult::ResultSuccess => self.state = None,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        Ok(Step { read, written })
    }
}

impl fmt::Debug for Brotli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Brotli").field("total", &self.total).finish_non_exhaustive()
    }
}
