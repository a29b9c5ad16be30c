//! Recognises events that repeat the one before with another text, as nearly all events of a stream
//! do.
//!
//! If only the text of an event was wanted, only the text of its repetitions is, because a text
//! contains nothing that [`Prefilter`](super::prefilter::Prefilter) searches for. So they are
//! compared instead of searched.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::Finder;

use super::anchor::Anchor;
use super::output::Part;
use crate::codec::json::interruption;

/// A member that OpenAI fills with random letters to hide the length of the text
/// (platform.openai.com, `include_obfuscation`).
static FILLER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"obfuscation\":\""));

/// A member that OpenAI counts up from event to event, as far as its value.
static COUNTER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"sequence_number\":"));

/// The most digits that it may have.
const MOST_DIGITS: usize = 20;

/// The longest text of an event that is recognised.
const TEXT_LIMIT: usize = 64 << 10;

/// The bytes around the text of an event that consists of one `data` line and a blank line, and
/// perhaps an `event` line before them.
#[derive(Clone, Copy)]
pub(super) struct Pattern<'a> {
    before: &'a [u8],
    /// The digits of the counter in `before`; empty if there is none. A counter of another length
    /// moves the text, which the anchor then searches for.
    counter: (usize, usize),
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
        let counter = counter(before).unwrap_or_default();
        let filler = FILLER.find(behind).map(|at| at + FILLER.needle().len());
        let filler = filler.and_then(|at| Some((at, at + string_length(&behind[at..])?)));
        match filler.filter(|(_, end)| ends_value(&behind[*end..])) {
            Some((at, end)) => {
                Some(Self { before, counter, behind: &behind[..at], last: Some(&behind[end..]) })
            }
            None => Some(Self { before, counter, behind, last: None }),
        }
    }

    /// Matches an event at `at` with the same bytes around a non-empty text. Returns the range of
    /// its text and the event's end. Inlined into the loop over repeated events: a call and its
    /// result in memory cost as much as the comparison.
    #[inline(always)]
    pub(super) fn matches(&self, slice: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
        let rest = self.behind_before(&slice[at..])?;
        let length = string_length(rest).filter(|length| (1..=TEXT_LIMIT).contains(length))?;
        let (text, rest) = rest.split_at(length);
        if ends_in_word(text) {
            return None;
        }
        let from = at + self.before.len();
        let rest = rest.strip_prefix(self.behind)?;
        let filled = match self.last {
            Some(last) => filled(rest, last)?,
            None => 0,
        };
        Some((from..from + length, from + length + self.behind.len() + filled))
    }

    /// The bytes behind those before the text.
    #[inline(always)]
    fn behind_before<'s>(&self, slice: &'s [u8]) -> Option<&'s [u8]> {
        let (from, to) = self.counter;
        if to == 0 {
            return slice.strip_prefix(self.before);
        }
        let (digits, rest) = slice.strip_prefix(&self.before[..from])?.split_at_checked(to - from)?;
        let is_number = digits.iter().all(u8::is_ascii_digit);
        if is_number { rest.strip_prefix(&self.before[to..]) } else { None }
    }
}

/// The length of the filler at the beginning of `rest` together with `last`, which must follow it.
/// Kept out of the loop over events without a filler.
#[inline(never)]
fn filled(rest: &[u8], last: &[u8]) -> Option<usize> {
    let filler = string_length(rest).filter(|length| *length <= TEXT_LIMIT)?;
    let ends = !ends_in_word(&rest[..filler]) && rest[filler..].starts_with(last);
    ends.then_some(filler + last.len())
}

/// Returns true if the bytes are a word of the prefilter together with the quote that follows.
#[inline]
fn ends_in_word(text: &[u8]) -> bool {
    text.last() == Some(&b'r') && text.ends_with(b"error")
}

/// The place of the counter's digits, if they do not belong to the text's anchor.
fn counter(before: &[u8]) -> Option<(usize, usize)> {
    let from = COUNTER.find(before)? + COUNTER.needle().len();
    let to = from + before[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    ((1..=MOST_DIGITS).contains(&(to - from)) && to + Anchor::LENGTH <= before.len()).then_some((from, to))
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
#[inline(always)]
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
    bytes: Box<[u8]>,
    /// The position of the text.
    text: u16,
    /// The position of the filler; 0 if there is none.
    filler: u16,
    /// The position and number of the counter's digits; 0 if there is none.
    counter: u16,
    digits: u8,
    /// The part of its text; `None` if no event is kept.
    part: Option<Part>,
}

impl Template {
    /// Keeps a pattern, unless it is too large.
    pub(super) fn keep(&mut self, pattern: Pattern<'_>, part: Part) {
        let Pattern { before, counter, behind, last } = pattern;
        let filler = before.len() + behind.len();
        let length = filler + last.map_or(0, <[u8]>::len);
        self.part = (length <= TEMPLATE_LIMIT).then_some(part);
        if self.part.is_none() {
            return;
        }
        if self.bytes.len() != length {
            self.bytes = vec![0; length].into();
        }
        self.bytes[..before.len()].copy_from_slice(before);
        self.bytes[before.len()..filler].copy_from_slice(behind);
        self.bytes[filler..].copy_from_slice(last.unwrap_or_default());
        self.text = before.len() as u16;
        self.filler = if last.is_some() { filler as u16 } else { 0 };
        self.counter = counter.0 as u16;
        self.digits = (counter.1 - counter.0) as u8;
    }

    #[inline]
    pub(super) fn forget(&mut self) {
        self.part = None;
    }

    #[inline]
    pub(super) fn pattern(&self) -> Option<(Pattern<'_>, Part)> {
        let part = self.part?;
        let (text, filler) = (usize::from(self.text), usize::from(self.filler));
        let (before, behind) = self.bytes.split_at(text);
        let (behind, last) = match filler.checked_sub(text) {
            Some(at) => {
                let (behind, last) = behind.split_at(at);
                (behind, Some(last))
            }
            None => (behind, None),
        };
        let from = usize::from(self.counter);
        let counter = (from, from + usize::from(self.digits));
        Some((Pattern { before, counter, behind, last }, part))
    }
}

#[cfg(test)]
mod tests;
