//! Assembles the bytes of a slice that pass.

use std::ops::Range;

use bytes::Bytes;

/// The bytes of a slice that pass, and what goes before them.
#[derive(Default)]
pub(super) struct Passing {
    before: Vec<u8>,
    /// Ranges that do not pass, in order.
    cuts: Vec<Range<usize>>,
}

impl Passing {
    /// Prepends bytes that waited. Only the first event of a slice can have any.
    pub(super) fn before(&mut self, held: Vec<u8>) {
        if !held.is_empty() {
            self.before = held;
        }
    }

    pub(super) fn cut(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.cuts.push(range);
        }
    }

    /// Copies only if the result is not one piece of the slice.
    pub(super) fn of(self, bytes: Bytes) -> Bytes {
        let mut kept = Vec::with_capacity(self.cuts.len() + 1);
        let mut from = 0;
        for cut in &self.cuts {
            kept.push(from..cut.start);
            from = cut.end;
        }
        kept.push(from..bytes.len());
        kept.retain(|range| !range.is_empty());
        if self.before.is_empty() && kept.len() < 2 {
            return kept.pop().map_or_else(Bytes::new, |range| bytes.slice(range));
        }
        let mut whole = self.before;
        for range in kept {
            whole.extend_from_slice(&bytes[range]);
        }
        whole.into()
    }
}
