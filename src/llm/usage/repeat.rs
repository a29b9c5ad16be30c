//! Recognises events that repeat the one before with another text, as nearly all events of a stream
//! do.
//!
//! If only the text of an event was wanted, only the text of its repetitions is, because a text
//! contains nothing that [`Prefilter`](super::prefilter::Prefilter) searches for. So they are
//! compared instead of searched.

use std::ops::Range;

use memchr::{memchr2, memmem};

use super::output::Part;
use crate::codec::json::interruption;

/// A member that OpenAI fills with random letters to hide the length of the text
/// (platform.openai.com, `include_obfuscation`).
const FILLER: &[u8] = b"\"obfuscation\":\"";

/// The longest text of an event that is recognised.
const TEXT_LIMIT: usize = 64 << 10;

/// The bytes around the text of an event that consists of one `data` line and a blank line, and
/// perhaps an `event` line before them.
#[derive(Clone, Copy)]
pub(super) struct Pattern<'a> {
    before: &'a [u8],
    behind: &'a [u8],
    /// The bytes behind the filler, if there is one behind the text; `behind` ends with its quote.
    last: Option<&'a [u8]>,
}

impl<'a> Pattern<'a> {
    /// The event in `block`, with the places of its data and its text. `None` if the block has
    /// another line, or does not end with two LFs.
    #[inline]
    pub(super) fn of(block: &'a [u8], data: Range<usize>, text: Range<usize>) -> Option<Self> {
        let head = behind_event_line(&block[..data.start]);
        let is_one_line = matches!(head, b"data: " | b"data:") && &block[data.end..] == b"\n\n";
        let (before, behind) = (&block[..text.start], &block[text.end..]);
        if !is_one_line || !ends_value(behind) {
            return None;
        }
        let filler = memmem::find(behind, FILLER).map(|at| at + FILLER.len());
        let filler = filler.and_then(|at| Some((at, at + string_length(&behind[at..])?)));
        match filler.filter(|(_, end)| ends_value(&behind[*end..])) {
            Some((at, end)) => Some(Self { before, behind: &behind[..at], last: Some(&behind[end..]) }),
            None => Some(Self { before, behind, last: None }),
        }
    }

    /// Matches an event at `at` with the same bytes around a non-empty text. Returns the range of
    /// its text and the event's end.
    #[inline]
    pub(super) fn matches(&self, slice: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
        let rest = slice[at..].strip_prefix(self.before)?;
        let length = string_length(rest).filter(|length| (1..=TEXT_LIMIT).contains(length))?;
        let (text, rest) = rest.split_at(length);
        // With the closing quote, this is a word of the prefilter.
        if text.ends_with(b"error") {
            return None;
        }
        let from = at + self.before.len();
        let mut end = from + length + self.behind.len();
        let rest = rest.strip_prefix(self.behind)?;
        if let Some(last) = self.last {
            let filler = string_length(rest)?;
            if filler > TEXT_LIMIT || rest[..filler].ends_with(b"error") || !rest[filler..].starts_with(last)
            {
                return None;
            }
            end += filler + last.len();
        }
        Some((from..from + length, end))
    }
}

/// The bytes behind the `event` line that `head` begins with, or all of them.
fn behind_event_line(head: &[u8]) -> &[u8] {
    if !head.starts_with(b"event:") {
        return head;
    }
    match memchr2(b'\n', b'\r', head) {
        Some(end) if head[end] == b'\n' => &head[end + 1..],
        _ => head,
    }
}

/// Returns true if the bytes begin with the closing quote of a member's or item's value.
fn ends_value(bytes: &[u8]) -> bool {
    matches!(bytes, [b'"', b',' | b'}' | b']', ..])
}

/// The length of the JSON string that begins here.
#[inline]
fn string_length(bytes: &[u8]) -> Option<usize> {
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

/// The largest event that is kept.
const TEMPLATE_LIMIT: usize = 512;

/// The bytes of a [`Pattern`], kept from one slice to the next.
#[derive(Debug, Default)]
pub(super) struct Template {
    /// The event without its text and its filler.
    bytes: Vec<u8>,
    /// The position of the text.
    text: u16,
    /// The position of the filler, if there was one.
    filler: Option<u16>,
    /// The part of its text; `None` if no event is kept.
    part: Option<Part>,
}

impl Template {
    /// Keeps a pattern, unless it is too large.
    pub(super) fn keep(&mut self, pattern: Pattern<'_>, part: Part) {
        let Pattern { before, behind, last } = pattern;
        let parts = [before, behind, last.unwrap_or_default()];
        let length = parts.iter().map(|part| part.len()).sum();
        self.bytes.clear();
        self.part = (length <= TEMPLATE_LIMIT).then_some(part);
        if self.part.is_some() {
            self.bytes.reserve_exact(length);
            parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
            self.text = before.len() as u16;
            self.filler = last.map(|_| (before.len() + behind.len()) as u16);
        }
    }

    #[inline]
    pub(super) fn forget(&mut self) {
        self.part = None;
    }

    #[inline]
    pub(super) fn pattern(&self) -> Option<(Pattern<'_>, Part)> {
        let part = self.part?;
        let (before, behind) = self.bytes.split_at(usize::from(self.text));
        let (behind, last) = match self.filler {
            Some(at) => {
                let (behind, last) = behind.split_at(usize::from(at - self.text));
                (behind, Some(last))
            }
            None => (behind, None),
        };
        Some((Pattern { before, behind, last }, part))
    }
}

#[cfg(test)]
mod tests;
