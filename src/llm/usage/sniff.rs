//! Classifies a body by its first bytes: event stream, JSON, or neither.
//!
//! Content types are wrong in both directions: streams arrive as `text/plain`, `application/json`
//! or without a type, and JSON (an error, a complete response) arrives as `text/event-stream`. The
//! rule, after an optional byte order mark and whitespace:
//!
//! * `{` or `[` begins JSON in any case, because no event stream of such a service begins with an
//!   unknown field.
//! * With the type `text/event-stream`, `<` begins a page, and any other byte the announced stream.
//! * With another type, if the request asked for a stream, a colon or one of the fields `data`,
//!   `event`, `id` and `retry` with its colon begins a stream (WHATWG, section 9.2.5). Anything
//!   else is neither.
//!
//! A body with more than [`LIMIT`] bytes of leading whitespace is classified by its type.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Events,
    Json,
    /// A page, plain text, or anything else.
    Other,
}

/// The largest amount of leading whitespace that is skipped, in bytes.
const LIMIT: u32 = 64 << 10;

/// The UTF-8 byte order mark.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The fields that may begin an event stream, besides a comment.
const FIELDS: [&[u8]; 4] = [b"data:", b"event:", b"id:", b"retry:"];

/// Classifies a body from pieces of any size.
///
/// ```
/// use streamgauge::llm::usage::{Content, Sniff};
///
/// let mut sniff = Sniff::new(false);
/// assert_eq!(sniff.push(b"\n\ndat"), (2, None));
/// assert_eq!(sniff.push(b"a: {}\n\n"), (0, Some(Content::Events)));
/// assert_eq!(sniff.word(), b"dat");
/// ```
#[derive(Clone, Debug)]
pub struct Sniff {
    says_events: bool,
    /// Bytes of [`MARK`] that have come.
    mark: u8,
    /// Bytes that were skipped.
    skipped: u32,
    /// The beginning of a field's name, from earlier pieces.
    word: [u8; 5],
    length: u8,
}

impl Sniff {
    /// `says_events`: the body's type is `text/event-stream`.
    pub fn new(says_events: bool) -> Self {
        Self { says_events, mark: 0, skipped: 0, word: [0; 5], length: 0 }
    }

    pub fn says_events(&self) -> bool {
        self.says_events
    }

    /// The bytes of earlier pieces that were not skipped.
    pub fn word(&self) -> &[u8] {
        &self.word[..usize::from(self.length)]
    }

    /// Reads a piece. Returns the number of its bytes that are skipped, and the class once it is
    /// known.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) -> (usize, Option<Content>) {
        // The fast path of most streams.
        if self.says_events && self.skipped == 0 && matches!(bytes.first(), Some(b'd' | b'e' | b':')) {
            return (0, Some(Content::Events));
        }
        let mut from = 0;
        if self.length == 0 {
            from = self.skip(bytes);
            if self.skipped > LIMIT {
                return (from, Some(if self.says_events { Content::Events } else { Content::Other }));
            }
        }
        (from, self.judge(&bytes[from..]))
    }

    /// Counts the leading bytes that are a byte order mark or whitespace.
    fn skip(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let is_mark =
                self.skipped == u32::from(self.mark) && MARK.get(usize::from(self.mark)) == Some(&byte);
            if !is_mark && (!byte.is_ascii_whitespace() || self.skipped > LIMIT) {
                break;
            }
            self.mark += u8::from(is_mark);
            self.skipped += 1;
            at += 1;
        }
        at
    }

    /// The class of a body that begins with the word so far and these bytes.
    fn judge(&mut self, bytes: &[u8]) -> Option<Content> {
        let first = *self.word().first().or(bytes.first())?;
        match first {
            b'{' | b'[' => return Some(Content::Json),
            b'<' => return Some(Content::Other),
            _ if self.says_events => return Some(Content::Events),
            b':' => return Some(Content::Events),
            _ => {}
        }
        let seen = usize::from(self.length);
        let may_be = |field: &&&[u8]| {
            let rest = field.strip_prefix(self.word());
            rest.is_some_and(|rest| bytes.starts_with(rest) || rest.starts_with(bytes))
        };
        let Some(field) = FIELDS.iter().find(may_be) else { return Some(Content::Other) };
        if seen + bytes.len() >= field.len() {
            return Some(Content::Events);
        }
        self.word[seen..seen + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len() as u8;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // `fuzzing::sniff` tests the decision at every cut.

    #[test]
    fn sniff_of_endless_whitespace_follows_the_content_type() {
        for (says_events, content) in [(true, Content::Events), (false, Content::Other)] {
            let mut sniff = Sniff::new(says_events);
            let found = (0..=LIMIT).find_map(|_| sniff.push(b" ").1);
            assert_eq!(found, Some(content));
        }
    }
}
