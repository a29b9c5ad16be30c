//! Recognises the usage-only chunk that `include_usage` adds to a stream, byte by byte.

mod members;

use memchr::memchr2;

use self::members::Members;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::members::RESPONSE_MEMBERS;
use super::HOLD_LIMIT;
use crate::llm::usage::json::Grammar;

/// Incrementally matches the usage-only chunk, from an event's first byte on, until a byte rules it
/// out.
///
/// Bytes before the event's first field (comments, the stream's byte order mark) are not part of
/// it.
#[derive(Debug)]
pub(super) struct UsageChunkMatcher {
    at: At,
    /// The last line ended with a CR, to which an LF now belongs.
    after_cr: bool,
    /// A field of the event has begun.
    begun: bool,
    /// The event has a `data` line.
    has_data: bool,
    /// Bytes of the event so far.
    length: usize,
    grammar: Grammar,
    members: Members,
}

/// The position in the event behind the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The position is at the start of the stream, behind this many bytes of [`MARK`].
    Mark(usize),
    /// The position is at the start of a line.
    Line,
    /// The position is in an irrelevant line: a comment, an ID, an unknown field.
    Skipped,
    /// The position is in the name of a field.
    Name(Word),
    /// The position is behind the colon of the name.
    Colon(Field),
    /// The position is in the value of a `data` line.
    Data,
    /// The position is in the event's type.
    Type(Word),
    /// The position is behind the blank line of an event that was not ruled out.
    End,
    RuledOut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Data,
    Type,
}

/// A short word so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Word {
    letters: [u8; 5],
    length: usize,
}

impl Word {
    /// Appends a letter. `None` if the word exceeds all that matter.
    fn with(mut self, letter: u8) -> Option<Self> {
        *self.letters.get_mut(self.length)? = letter;
        self.length += 1;
        Some(self)
    }

    fn is(self, word: &[u8]) -> bool {
        &self.letters[..self.length] == word
    }
}

/// The UTF-8 byte order mark.
const MARK: &[u8] = b"\xef\xbb\xbf";

impl UsageChunkMatcher {
    /// `at_start`: the event is the stream's first.
    pub(super) fn new(at_start: bool) -> Self {
        Self {
            at: if at_start { At::Mark(0) } else { At::Line },
            after_cr: false,
            begun: false,
            has_data: false,
            length: 0,
            grammar: Grammar::new(),
            members: Members::default(),
        }
    }

    /// Reads a piece. Returns how many bytes at its start are not part of the event; they pass in
    /// any case.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        let mut before = 0;
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            let from = at;
            match self.at {
                _ if std::mem::take(&mut self.after_cr) && byte == b'\n' => {
                    at += 1;
                    if !self.begun {
                        before = at;
                    }
                    continue;
                }
                At::Mark(come) if byte == MARK[come] => {
                    at += 1;
                    before = at;
                    self.at = if come + 1 == MARK.len() { At::Line } else { At::Mark(come + 1) };
                }
                At::Mark(0) => self.at = At::Line,
                At::Line => match byte {
                    b'\n' | b'\r' => {
                        self.after_cr = byte == b'\r';
                        self.at = if self.is_whole() { At::End } else { At::RuledOut };
                        at += 1;
                        continue;
                    }
                    b':' => self.at = At::Skipped,
                    _ => {
                        self.begun = true;
                        self.at = At::Name(Word::default());
                    }
                },
                At::Skipped => at = self.line_end(bytes, at),
                At::Name(name) => at += self.name(name, byte),
                At::Colon(field) => {
                    at += usize::from(byte == b' ');
                    self.at = match field {
                        Field::Data => At::Data,
                        Field::Type => At::Type(Word::default()),
                    };
                }
                At::Data => {
                    at = self.line_end(bytes, at);
                    self.data(&bytes[from..at]);
                }
                At::Type(word) => at += self.event_type(word, byte),
                At::Mark(_) | At::End => self.at = At::RuledOut,
                At::RuledOut => break,
            }
            if self.begun {
                self.length += at - from;
                if self.length > HOLD_LIMIT {
                    self.at = At::RuledOut;
                }
            } else if self.at != At::RuledOut {
                before = before.max(at);
            }
        }
        before
    }

    /// Returns true if the ended event is the usage-only chunk. `has_content`: an earlier event had
    /// content.
    pub(super) fn is_match(&self, has_content: bool) -> bool {
        self.at == At::End && self.members.are_usage_only(has_content)
    }

    /// Returns true if the event, which the end of the stream ended, is the usage-only chunk.
    pub(super) fn is_match_at_end(&self, has_content: bool) -> bool {
        let is_error = matches!(self.at, At::Type(word) | At::Name(word) if word.is(ERROR));
        let goes_on = !matches!(self.at, At::End | At::RuledOut);
        goes_on && !is_error && self.is_whole() && self.members.are_usage_only(has_content)
    }

    /// Returns true if the event is known to be another one.
    pub(super) fn is_ruled_out(&self) -> bool {
        self.at == At::RuledOut
    }

    /// Returns true if the data so far are a complete JSON object.
    fn is_whole(&self) -> bool {
        self.has_data && self.grammar.complete()
    }

    /// The end of the line that contains `from`, or of the slice.
    fn line_end(&mut self, bytes: &[u8], from: usize) -> usize {
        let Some(end) = memchr2(b'\n', b'\r', &bytes[from..]) else { return bytes.len() };
        self.end_line(bytes[from + end]);
        from + end + 1
    }

    fn end_line(&mut self, byte: u8) {
        self.at = At::Line;
        self.after_cr = byte == b'\r';
    }

    /// Reads a byte of a field's name, or the one behind it. Returns the number of bytes consumed.
    fn name(&mut self, name: Word, byte: u8) -> usize {
        match byte {
            b':' | b'\n' | b'\r' => {
                let has_value = byte == b':';
                if !has_value {
                    self.end_line(byte);
                }
                if name.is(b"data") {
                    self.begin_data();
                    if has_value {
                        self.at = At::Colon(Field::Data);
                    }
                } else if name.is(ERROR) {
                    // llama.cpp reports failures in a field of that name.
                    self.at = At::RuledOut;
                } else if has_value {
                    self.at = if name.is(b"event") { At::Colon(Field::Type) } else { At::Skipped };
                }
            }
            _ => self.at = name.with(byte).map_or(At::Skipped, At::Name),
        }
        1
    }

    /// Reads a byte of the event's type, or the one behind it.
    fn event_type(&mut self, word: Word, byte: u8) -> usize {
        match byte {
            b'\n' | b'\r' => {
                self.end_line(byte);
                if word.is(ERROR) {
                    self.at = At::RuledOut;
                }
            }
            _ => self.at = word.with(byte).map_or(At::Skipped, At::Type),
        }
        1
    }

    /// Data lines are joined with an LF, which in JSON is whitespace or an error.
    fn begin_data(&mut self) {
        if std::mem::replace(&mut self.has_data, true) {
            self.read(b"\n");
        }
    }

    /// Reads data, possibly with the line's end.
    fn data(&mut self, bytes: &[u8]) {
        let value = if self.at == At::Line { &bytes[..bytes.len() - 1] } else { bytes };
        self.read(value);
    }

    fn read(&mut self, json: &[u8]) {
        self.members.push(json, &mut self.grammar);
        if self.grammar.refused() || self.members.rule_out() {
            self.at = At::RuledOut;
        }
    }
}

/// The type and the field of an event that reports a failure.
const ERROR: &[u8] = b"error";
