//! Events that are the one before them with another text in it: in a burst nearly all are.

use std::ops::Range;

use crate::json::interruption;

/// An event in a slice, of which nothing but its text was wanted. It is one `data` line and the
/// blank line behind it.
pub(super) struct Pattern {
    block: Range<usize>,
    text: Range<usize>,
}

impl Pattern {
    /// The event in `block`, with its data at `data` and its text at `text` in that. `None` where
    /// the block has another line, or ends otherwise than nearly all do.
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

    /// Where the text lies of an event at `at` in the same slice, and where that event is over, if
    /// it is like this one: the same bytes around a text that is not empty.
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

/// How long the inside of a JSON string is that begins here.
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
