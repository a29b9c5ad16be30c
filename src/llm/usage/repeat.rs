//! Recognises events that repeat the one before with another text, as nearly all events of a burst
//! do.

use std::ops::Range;

use crate::codec::json::interruption;

/// An event in a slice of which only the text was wanted: one `data` line and a blank line.
pub(super) struct Pattern {
    block: Range<usize>,
    text: Range<usize>,
}

impl Pattern {
    /// The event in `block`, with its data at `data` and its text at `text`. `None` if the block
    /// has another line, or does not end with two LFs.
    #[inline]
    pub(super) fn of(
        slice: &[u8],
        block: Range<usize>,
        data: Range<usize>,
        text: Range<usize>,
    ) -> Option<Self> {
        let is_one_line = matches!(&slice[block.start..data.start], b"data: " | b"data:")
            && &slice[data.end..block.end] == b"\n\n";
        is_one_line.then_some(Self { block, text })
    }

    /// Matches an event at `at` with the same bytes around a non-empty text. Returns the range of
    /// its text and the event's end.
    #[inline]
    pub(super) fn matches(&self, slice: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
        let before = &slice[self.block.start..self.text.start];
        let behind = &slice[self.text.end..self.block.end];
        let rest = slice[at..].strip_prefix(before)?;
        let length = text_length(rest).filter(|length| *length > 0)?;
        let from = at + before.len();
        rest[length..].starts_with(behind).then(|| (from..from + length, from + length + behind.len()))
    }
}

/// The length of the JSON string that begins here.
#[inline]
fn text_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += interruption::<true>(bytes.get(at..)?)?;
        match bytes[at] {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => return None,
        }
    }
}
