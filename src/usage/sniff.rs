//! What a body is, by its first bytes: an event stream, JSON, or neither.
//!
//! Content types are wrong in both directions: streams come as `text/plain`, `application/json` or
//! without a type, and JSON (an error, a whole answer) comes as `text/event-stream`. The rule,
//! after a byte order mark and whitespace, which JSON may have before it:
//!
//! * `{` or `[` begins JSON, in any case: no event stream of such a service begins with an unknown
//!   field;
//! * where the type is `text/event-stream`, `<` begins a page, and any other byte the stream that
//!   was announced;
//! * where it is another one, and the request asked for a stream, a colon, or one of the fields
//!   `data`, `event`, `id` and `retry` with its colon, begins a stream (WHATWG, section 9.2.5);
//!   anything else is neither.
//!
//! What begins with more than [`LIMIT`] bytes of whitespace is what its type says.

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// An event stream.
    Events,
    /// JSON.
    Json,
    /// A page, plain text, anything.
    Other,
}

/// The most whitespace that is skipped.
const LIMIT: u32 = 64 << 10;

/// The one byte order mark that may begin a body.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// What may begin an event stream, beside a comment.
const FIELDS: [&[u8]; 4] = [b"data:", b"event:", b"id:", b"retry:"];

/// A look at a body's first bytes, in any pieces.
///
/// ```
/// use streamgauge::usage::{Content, Sniff};
///
/// let mut sniff = Sniff::new(false);
/// assert_eq!(sniff.push(b"\n\ndat"), (2, None));
/// assert_eq!(sniff.push(b"a: {}\n\n"), (0, Some(Content::Events)));
/// assert_eq!(sniff.word(), b"dat");
/// ```
#[derive(Clone, Debug)]
pub struct Sniff {
    says_events: bool,
    /// How many bytes of [`MARK`] have come.
    mark: u8,
    /// How many bytes were skipped.
    skipped: u32,
    /// The beginning of a field's name, which came in earlier pieces.
    word: [u8; 5],
    length: u8,
}

impl Sniff {
    /// Before the first byte; `says_events`: the body's type is `text/event-stream`.
    pub fn new(says_events: bool) -> Self {
        Self { says_events, mark: 0, skipped: 0, word: [0; 5], length: 0 }
    }

    /// Whether the body's type is `text/event-stream`.
    pub fn says_events(&self) -> bool {
        self.says_events
    }

    /// What came in earlier pieces and was not skipped.
    pub fn word(&self) -> &[u8] {
        &self.word[..usize::from(self.length)]
    }

    /// Reads on. Returns how many of these bytes are skipped, and what the body is, once that is
    /// known.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) -> (usize, Option<Content>) {
        // Nearly every stream.
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

    /// How many bytes are a byte order mark or whitespace.
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

    /// What begins with the word so far and these bytes.
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

    // What is decided, at every cut, is tested in `fuzzing::sniff`.

    #[test]
    fn endless_whitespace_is_what_its_type_says() {
        for (says_events, content) in [(true, Content::Events), (false, Content::Other)] {
            let mut sniff = Sniff::new(says_events);
            let found = (0..=LIMIT).find_map(|_| sniff.push(b" ").1);
            assert_eq!(found, Some(content));
        }
    }
}
