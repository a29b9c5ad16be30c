//! Which payloads are worth reading: a search for words over many payloads at once.
//!
//! Once the model is known and the first token seen, a stream's payloads are deltas, and nothing in
//! them is wanted. Only one that has a wanted key *and* a value worth reading under it goes through
//! the scan; `"usage":null` in every chunk is not worth it. The search may say yes for nothing (the
//! word is elsewhere in the payload), never no for something.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::calls::ToolKind;
use super::found::Announces;

/// A word that is searched for, and what must follow it.
struct Word {
    finder: Finder<'static>,
    worth: fn(&[u8]) -> bool,
}

impl Word {
    fn new(word: &'static str, worth: fn(&[u8]) -> bool) -> Word {
        Word { finder: Finder::new(word), worth }
    }
}

/// The searchers are built once for the process. The last two can be left out.
static WORDS: LazyLock<[Word; 5]> = LazyLock::new(|| {
    [
        // Also Gemini's `usageMetadata`.
        Word::new("\"usage", |rest| {
            let rest = key_end(rest, b"Metadata\"");
            matches!(rest.and_then(value), Some([b'{', ..]))
        }),
        // As a key with any value but null, or as a value: `"type":"error"`.
        Word::new("\"error\"", |rest| !matches!(value(rest), Some([b'n', ..]))),
        Word::new("\"type\"", |rest| {
            let word = word(rest);
            Announces::from_type(word) != Announces::Other || ToolKind::from_item(word).is_some()
        }),
        Word::new("\"timings\"", |rest| matches!(value(rest), Some([b'{', ..]))),
        // Also Gemini's `modelVersion`.
        Word::new("\"model", |rest| {
            let rest = key_end(rest, b"Version\"");
            matches!(rest.and_then(value), Some([b'"', next, ..]) if *next != b'"')
        }),
    ]
});

/// What follows a key, which ends here or goes on with `more`, quote and all.
#[inline]
fn key_end<'a>(rest: &'a [u8], more: &[u8]) -> Option<&'a [u8]> {
    match rest {
        [b'"', rest @ ..] => Some(rest),
        _ => rest.strip_prefix(more),
    }
}

/// The value after a key's closing quote.
fn value(rest: &[u8]) -> Option<&[u8]> {
    Some(rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start())
}

/// The type after `"type"`.
fn word(rest: &[u8]) -> &[u8] {
    let word = value(rest).and_then(|value| value.strip_prefix(b"\"")).unwrap_or_default();
    let end = word.iter().position(|&b| b == b'"').unwrap_or(0);
    &word[..end]
}

/// What is wanted beside usage, errors and the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wants {
    pub(super) model: bool,
    pub(super) timings: bool,
}

/// How far is searched at once: beyond one payload, which is cheaper than each alone, but not to
/// the end of the slice, since most payloads of a large one are never asked about.
const STRIDE: usize = 2048;

/// The words in one pushed slice. Each is searched for over several events at once.
pub(super) struct Watch<'a> {
    bytes: &'a [u8],
    words: &'static [Word; 5],
    /// By word: none begins before this place and behind the start of the last payload asked about;
    /// one may begin here.
    next: [usize; 5],
}

impl<'a> Watch<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8]) -> Watch<'a> {
        Watch { bytes, words: &WORDS, next: [0; 5] }
    }

    /// Whether the payload that lies in the slice from `start` to `end` is worth reading. Payloads
    /// are asked about in their order.
    #[inline]
    pub(super) fn worth_reading(&mut self, start: usize, end: usize, wants: Wants) -> bool {
        self.has(0, start, end)
            || self.has(1, start, end)
            || self.has(2, start, end)
            || wants.timings && self.has(3, start, end)
            || wants.model && self.has(4, start, end)
    }

    #[inline]
    fn has(&mut self, word: usize, start: usize, end: usize) -> bool {
        let Word { finder, worth } = &self.words[word];
        // A payload's line has an end, which no word has: a word is inside one payload or outside.
        let mut next = self.next[word];
        let mut from = start.max(next.min(end));
        let window = &self.bytes[..self.bytes.len().min(end.max(start + STRIDE))];
        while next < end {
            if next >= start && self.bytes[next..].starts_with(finder.needle()) {
                from = next + finder.needle().len();
                if worth(&self.bytes[from..end]) {
                    self.next[word] = next;
                    return true;
                }
            }
            // Behind the window a word may begin that ends beyond it.
            let behind = end.max((window.len() + 1).saturating_sub(finder.needle().len()));
            next = finder.find(&window[from..]).map_or(behind, |at| from + at);
        }
        self.next[word] = next;
        false
    }
}

#[cfg(test)]
mod tests;
