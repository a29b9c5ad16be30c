//! Whether an event is one that only asking for usage brings, seen byte by byte.

mod members;

use memchr::memchr2;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::members::ANSWERS;
use self::members::Members;
use super::HOLD_LIMIT;
use crate::usage::json::Grammar;

/// A look at one event from its first byte on. It is over when a byte rules the event out.
///
/// What stands before the event's first field (comments, the stream's byte order mark) is not part
/// of it.
#[derive(Debug)]
pub(super) struct UsageChunkMatcher {
    at: At,
    /// The last line ended with a CR: an LF now belongs to it.
    after_cr: bool,
    /// A field of the event has begun.
    begun: bool,
    /// It has had a `data` line.
    has_data: bool,
    /// How many bytes the event has so far.
    length: usize,
    grammar: Grammar,
    members: Members,
}

/// Where in the event the bytes so far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At the start of the stream, where so many bytes of [`MARK`] have come.
    Mark(usize),
    /// At the start of a line.
    Line,
    /// In a line that tells nothing: a comment, an ID, an unknown field.
    Skipped,
    /// In the name of a field.
    Name(Word),
    /// The colon behind the name has come.
    Colon(Field),
    /// In the value of a `data` line.
    Data,
    /// In the event's type.
    Type(Word),
    /// The blank line has come, and with it an event with nothing against it.
    End,
    RuledOut,
}

/// A field whose value matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Data,
    Type,
}

/// A short word as far as it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Word {
    letters: [u8; 5],
    length: usize,
}

impl Word {
    /// With one letter more. `None` where it is longer than any word that matters.
    fn with(mut self, letter: u8) -> Option<Self> {
        *self.letters.get_mut(self.length)? = letter;
        self.length += 1;
        Some(self)
    }

    fn is(self, word: &[u8]) -> bool {
        &self.letters[..self.length] == word
    }
}

/// The one byte order mark that may begin a stream.
const MARK: &[u8] = b"\xef\xbb\xbf";

impl UsageChunkMatcher {
    /// Before an event's first byte; `at_start`: the stream's first event.
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

    /// Reads on. Returns how many bytes at the start are not part of the event, which pass in any
    /// case.
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

    /// The event, now that it has ended, is one that only asking brings. `has_content`: an event
    /// before it had content.
    pub(super) fn is_asked_for(&self, has_content: bool) -> bool {
        self.at == At::End && self.members.are_asked_for(has_content)
    }

    /// The same of an event that the stream's end ended.
    pub(super) fn is_asked_for_at_end(&self, has_content: bool) -> bool {
        let is_error = matches!(self.at, At::Type(word) | At::Name(word) if word.is(ERROR));
        let goes_on = !matches!(self.at, At::End | At::RuledOut);
        goes_on && !is_error && self.is_whole() && self.members.are_asked_for(has_content)
    }

    /// The event is another one, whatever follows.
    pub(super) fn is_ruled_out(&self) -> bool {
        self.at == At::RuledOut
    }

    /// Its data so far are a whole JSON object.
    fn is_whole(&self) -> bool {
        self.has_data && self.grammar.complete()
    }

    /// Where the line is over that goes on at `from`; else the slice is.
    fn line_end(&mut self, bytes: &[u8], from: usize) -> usize {
        let Some(end) = memchr2(b'\n', b'\r', &bytes[from..]) else { return bytes.len() };
        self.end_line(bytes[from + end]);
        from + end + 1
    }

    fn end_line(&mut self, byte: u8) {
        self.at = At::Line;
        self.after_cr = byte == b'\r';
    }

    /// A byte of a field's name, or behind it. Returns whether it is taken.
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
                    // llama.cpp reports its failures in a field of that name.
                    self.at = At::RuledOut;
                } else if has_value {
                    self.at = if name.is(b"event") { At::Colon(Field::Type) } else { At::Skipped };
                }
            }
            _ => self.at = name.with(byte).map_or(At::Skipped, At::Name),
        }
        1
    }

    /// A byte of the event's type, or behind it.
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

    /// Lines of data are joined with an LF, which in JSON is whitespace or an error.
    fn begin_data(&mut self) {
        if std::mem::replace(&mut self.has_data, true) {
            self.read(b"\n");
        }
    }

    /// Data, with the line's end if that is here. To the grammar it is whitespace.
    fn data(&mut self, bytes: &[u8]) {
        let value = if self.at == At::Line { &bytes[..bytes.len() - 1] } else { bytes };
        self.read(value);
    }

    fn read(&mut self, json: &[u8]) {
        self.members.push(json, &mut self.grammar);
        if self.grammar.refused() || self.members.are_another() {
            self.at = At::RuledOut;
        }
    }
}

/// The type, and the field, of an event that tells of a failure.
const ERROR: &[u8] = b"error";
