//! The buffer of a body that arrives in pieces.
//!
//! A large body is in memory of its own from the system, to which it goes back at once. The
//! allocator would keep it: glibc takes blocks of up to 32 MiB from its heap once some were freed,
//! and memory that is freed in the middle of a heap stays resident.

use std::mem;

use bytes::{Bytes, BytesMut};
use memmap2::{MmapMut, MmapOptions};

/// Bodies up to this size stay in the allocator's memory.
const SMALL: usize = 1 << 20;

/// The size of the piece that is read at a time into a large body.
const PIECE: usize = 64 << 10;

/// The bytes of a body so far.
#[derive(Debug, Default)]
pub(super) struct BodyBuffer {
    /// The beginning of a large body.
    large: Option<Large>,
    tail: BytesMut,
    /// The declared length, or the largest possible one.
    expected: usize,
    is_declared: bool,
}

/// A part of a body in memory of its own.
#[derive(Debug)]
struct Large {
    memory: MmapMut,
    length: usize,
}

impl AsRef<[u8]> for Large {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl BodyBuffer {
    /// Begins with `first`. The declared length is `declared`, or unknown and at most `most`.
    pub(super) fn new(mut first: BytesMut, declared: Option<usize>, most: usize) -> Self {
        let reserved = declared.map_or(0, |declared| if declared > SMALL { PIECE } else { declared });
        first.reserve(reserved.saturating_sub(first.len()));
        let (expected, is_declared) = (declared.unwrap_or(most), declared.is_some());
        Self { large: None, tail: first, expected, is_declared }
    }

    pub(super) fn len(&self) -> usize {
        self.large.as_ref().map_or(0, |large| large.length) + self.tail.len()
    }

    /// The buffer to which the next bytes are appended.
    pub(super) fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Moves a full piece of a large body to its memory. Called after each append.
    pub(super) fn settle(&mut self) {
        let length = self.len();
        let is_large = length > SMALL || (self.is_declared && self.expected > SMALL);
        if self.tail.len() < PIECE || !is_large {
            return;
        }
        if self.large.as_ref().is_none_or(|large| large.memory.len() < length) {
            // Only the parts that are written to are resident. A body that is longer than expected
            // is moved.
            let size = self.expected.max(if self.large.is_some() { 2 * length } else { length });
            let Ok(memory) = MmapOptions::new().len(size).no_reserve_swap().map_anon() else {
                // The body stays in the allocator's memory.
                return;
            };
            let mut larger = Large { memory, length: 0 };
            if let Some(large) = &self.large {
                larger.append(large.as_ref());
            }
            self.large = Some(larger);
        }
        if let Some(large) = &mut self.large {
            large.append(&self.tail);
            self.tail.clear();
            if self.tail.capacity() > 2 * PIECE {
                self.tail = BytesMut::with_capacity(PIECE);
            }
        }
    }

    /// The body. It may be kept for as long as a stream, so it has no room to grow.
    pub(super) fn finish(mut self) -> Bytes {
        let Some(mut large) = self.large.take() else { return tight(self.tail) };
        if large.length + self.tail.len() > large.memory.len() {
            let mut whole = BytesMut::with_capacity(large.length + self.tail.len());
            whole.extend_from_slice(large.as_ref());
            whole.extend_from_slice(&self.tail);
            return whole.freeze();
        }
        large.append(&mem::take(&mut self.tail));
        Bytes::from_owner(large)
    }
}

impl Large {
    /// Appends bytes for which there is room.
    fn append(&mut self, bytes: &[u8]) {
        self.memory[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }
}

fn tight(all: BytesMut) -> Bytes {
    let is_tight = all.capacity() <= all.len() + all.len() / 4;
    if is_tight { all.freeze() } else { Bytes::copy_from_slice(&all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_in_pieces_is_the_body() {
        for (length, declared) in [
            (0, 0),
            (100, 100),
            (SMALL, SMALL),
            (SMALL + 1, 0),
            (5 * SMALL + 7, 0),
            (5 * SMALL + 7, 5 * SMALL + 7),
        ] {
            for piece in [1000, PIECE, 3 * PIECE + 1, 2 * SMALL] {
                let text: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
                let declared = Some(declared).filter(|&declared| declared > 0);
                let mut buffer = BodyBuffer::new(BytesMut::new(), declared, 3 * SMALL);
                for part in text.chunks(piece) {
                    buffer.tail().extend_from_slice(part);
                    buffer.settle();
                }
                assert_eq!(buffer.len(), length);
                assert_eq!(buffer.large.is_some(), length > SMALL, "{length} in {piece}");
                assert!(buffer.finish() == text, "{length} of {declared:?} in {piece}");
            }
        }
    }
}
