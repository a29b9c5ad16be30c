//! Decides which payloads are worth parsing, by a search for words over many payloads at once.
//!
//! Once the model and the first token are known, most payloads are deltas without a wanted value. A
//! payload is parsed only if it has a wanted key *and* a value worth reading under it;
//! `"usage":null` in every chunk does not count. False positives are allowed (the word may be part
//! of a text), false negatives are not.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::calls::ToolKind;
use super::extracted::EventKind;

/// A word, and a check of what follows it.
struct Word {
    finder: Finder<'static>,
    worth: fn(&[u8]) -> bool,
}

impl Word {
    fn new(word: &'static str, worth: fn(&[u8]) -> bool) -> Word {
        Word { finder: Finder::new(word), worth }
    }
}

/// Built once per process. The last three are optional.
static WORDS: LazyLock<[Word; 6]> = LazyLock::new(|| {
    [
        // `usage`, also as the beginning of Gemini's `usageMetadata`.
        Word::new("\"usage", |rest| {
            let rest = key_end(rest, b"Metadata\"");
            matches!(rest.and_then(value), Some([b'{', ..]))
        }),
        // `error` as a key with any value except null, or as a value: `"type":"error"`.
        Word::new("\"error\"", |rest| !matches!(value(rest), Some([b'n', ..]))),
        Word::new("\"type\"", |rest| {
            let word = word(rest);
            EventKind::from_type(word) != EventKind::Other || ToolKind::from_item(word).is_some()
        }),
        Word::new("\"timings\"", |rest| matches!(value(rest), Some([b'{', ..]))),
        // `model`, also as the beginning of Gemini's `modelVersion`.
        Word::new("\"model", |rest| {
            let rest = key_end(rest, b"Version\"");
            matches!(rest.and_then(value), Some([b'"', next, ..]) if *next != b'"')
        }),
        // The type of Cohere's events of version 1.
        Word::new("\"event_type\"", |rest| word(rest) == b"stream-end"),
    ]
});

/// The bytes behind a key that ends here or continues with `more`, including its quote.
#[inline]
fn key_end<'a>(rest: &'a [u8], more: &[u8]) -> Option<&'a [u8]> {
    match rest {
        [b'"', rest @ ..] => Some(rest),
        _ => rest.strip_prefix(more),
    }
}

/// The value behind a key's closing quote.
fn value(rest: &[u8]) -> Option<&[u8]> {
    Some(rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start())
}

/// The string behind `"type"`.
fn word(rest: &[u8]) -> &[u8] {
    let word = value(rest).and_then(|value| value.strip_prefix(b"\"")).unwrap_or_default();
    let end = word.iter().position(|&b| b == b'"').unwrap_or(0);
    &word[..end]
}

/// The parts that are wanted besides usage, errors and the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wants {
    pub(super) model: bool,
    pub(super) timings: bool,
    /// `event_type` is the type of the stream's events.
    pub(super) event_type: bool,
}

/// Bytes searched at once: more than one payload, which is cheaper than each alone, but not the
/// whole slice, since most payloads of a large slice are never checked.
const STRIDE: usize = 2048;

/// The words in one pushed slice, each searched for over several events at once.
pub(super) struct Prefilter<'a> {
    bytes: &'a [u8],
    words: &'static [Word; 6],
    /// The first offset behind the last payload's start at which each word may begin.
    next: [usize; 6],
}

impl<'a> Prefilter<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8]) -> Prefilter<'a> {
        Prefilter { bytes, words: &WORDS, next: [0; 6] }
    }

    /// Returns true if the payload at `start..end` is worth parsing. Payloads must be checked in
    /// order.
    #[inline]
    pub(super) fn worth_reading(&mut self, start: usize, end: usize, wants: Wants) -> bool {
        self.has(0, start, end)
            || self.has(1, start, end)
            || self.has(2, start, end)
            || wants.timings && self.has(3, start, end)
            || wants.model && self.has(4, start, end)
            || wants.event_type && self.has(5, start, end)
    }

    #[inline]
    fn has(&mut self, word: usize, start: usize, end: usize) -> bool {
        let Word { finder, worth } = &self.words[word];
        let (length, next) = (finder.needle().len(), self.next[word]);
        // A word contains no line end, so it is either inside of a payload or outside.
        if next >= end {
            return false;
        }
        let mut from = start.max(next);
        // The word that the search for an earlier payload found.
        if next >= start && self.bytes[next..].starts_with(finder.needle()) {
            from += length;
            if worth(&self.bytes[from..end]) {
                return true;
            }
        }
        let window = &self.bytes[..self.bytes.len().min(end.max(start + STRIDE))];
        while let Some(at) = finder.find(&window[from..]) {
            let next = from + at;
            if next >= end {
                self.next[word] = next;
                return false;
            }
            from = next + length;
            if worth(&self.bytes[from..end]) {
                self.next[word] = next;
                return true;
            }
        }
        // A word may begin in the window and end behind it.
        self.next[word] = end.max((window.len() + 1).saturating_sub(length));
        false
    }
}

#[cfg(test)]
mod tests;
