//! Whether an event is the one that asking for usage brings, seen byte by byte.

use memchr::memchr2;

use super::HOLD_LIMIT;
use crate::usage::json::{Grammar, Kind, Outline};

/// A look at one event from its first byte on. It is over when a byte rules the event out.
#[derive(Debug)]
pub(super) struct Likeness {
    at: At,
    /// The last line ended with a CR: an LF now belongs to it.
    after_cr: bool,
    /// How many bytes the event's line has so far.
    length: usize,
    grammar: Grammar,
    members: Members,
}

/// Where in the event the bytes so far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Nothing but comments has come.
    Start,
    Comment,
    /// So many bytes of [`FIELD`] have come.
    Field(usize),
    /// The field's colon has come.
    Colon,
    Data,
    /// The line has ended, and with it a JSON object with nothing against it.
    Behind,
    /// And the blank line.
    End,
    RuledOut,
}

/// The one field that the event has.
const FIELD: &[u8] = b"data:";

impl Default for Likeness {
    fn default() -> Self {
        Self {
            at: At::Start,
            after_cr: false,
            length: 0,
            grammar: Grammar::new(),
            members: Members::default(),
        }
    }
}

impl Likeness {
    /// Reads on. Returns how many bytes at the start are comments before the event, which pass in any case.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        let mut comments = 0;
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            if std::mem::take(&mut self.after_cr) && byte == b'\n' {
                at += 1;
                if self.at == At::Start {
                    comments = at;
                }
                continue;
            }
            match self.at {
                At::Start => {
                    self.at = match byte {
                        b':' => At::Comment,
                        _ if byte == FIELD[0] => At::Field(0),
                        _ => At::RuledOut,
                    };
                }
                At::Comment => {
                    at = self.line_end(bytes, at, At::Start);
                    comments = at;
                }
                At::Field(come) => {
                    self.at = match come + 1 {
                        _ if byte != FIELD[come] => At::RuledOut,
                        come if come == FIELD.len() => At::Colon,
                        come => At::Field(come),
                    };
                    at += 1;
                    self.length += 1;
                }
                At::Colon => {
                    self.at = At::Data;
                    at += usize::from(byte == b' ');
                    self.length += usize::from(byte == b' ');
                }
                At::Data => {
                    let from = at;
                    at = self.line_end(bytes, at, At::Behind);
                    self.data(&bytes[from..at]);
                }
                At::Behind => {
                    self.at = if matches!(byte, b'\n' | b'\r') { At::End } else { At::RuledOut };
                    self.after_cr = byte == b'\r';
                    at += 1;
                }
                At::End => self.at = At::RuledOut,
                At::RuledOut => break,
            }
        }
        comments
    }

    /// The event, now that it has ended, is the one.
    pub(super) fn is_asked_for(&self) -> bool {
        self.at == At::End
    }

    /// The event is another one, whatever follows.
    pub(super) fn is_ruled_out(&self) -> bool {
        self.at == At::RuledOut
    }

    /// Where the line is over that goes on at `from`, and what comes then; else the slice is.
    fn line_end(&mut self, bytes: &[u8], from: usize, then: At) -> usize {
        let Some(end) = memchr2(b'\n', b'\r', &bytes[from..]) else { return bytes.len() };
        self.at = then;
        self.after_cr = bytes[from + end] == b'\r';
        from + end + 1
    }

    /// Data, with the line's end if that is here. To the grammar it is whitespace.
    fn data(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        self.members.push(bytes, &mut self.grammar);
        let ended = self.at == At::Behind;
        let is_another = self.grammar.refused()
            || self.members.is_another
            || self.length > HOLD_LIMIT
            || ended && !(self.grammar.complete() && self.members.are_all());
        if is_another {
            self.at = At::RuledOut;
        }
    }
}

/// Keys longer than this are none of ours.
const KEY_LIMIT: usize = 32;

/// What every chunk has, as OpenAI's specification lists it (`CreateChatCompletionStreamResponse`,
/// `CreateCompletionResponse`): told again in the usage event, and worth nothing without the rest.
const ENVELOPE: [&[u8]; 7] =
    [b"id", b"object", b"created", b"model", b"system_fingerprint", b"service_tier", b"obfuscation"];

/// Azure's times of the answer, which it puts into this event and into no other one.
const LATENCY: &[u8] = b"latency_checkpoint";

/// The members that the object has so far.
#[derive(Debug, Default)]
struct Members {
    /// Values within values, scalars included.
    depth: usize,
    /// A top-level key is being read.
    in_key: bool,
    /// The last top-level key, as it is spelled.
    key: Vec<u8>,
    choices: bool,
    usage: bool,
    /// Something is in it that the event does not have.
    is_another: bool,
}

impl Members {
    fn push(&mut self, bytes: &[u8], grammar: &mut Grammar) {
        let mut piece = Piece { bytes, from: 0, members: self };
        grammar.push(bytes, &mut piece);
        if piece.members.in_key {
            piece.read(bytes.len());
        }
    }

    /// Whether the event's own members are there.
    fn are_all(&self) -> bool {
        self.choices && self.usage
    }

    /// A member's value begins; `is_null` tells only of scalars.
    fn member(&mut self, kind: Kind, is_null: bool) {
        let may_be = match (&self.key[..], kind) {
            (b"choices", Kind::Array) => {
                self.choices = true;
                true
            }
            (b"usage", Kind::Object) => {
                self.usage = true;
                true
            }
            (b"choices" | b"usage", _) => false,
            (LATENCY, _) => true,
            (key, Kind::Scalar) => is_null || ENVELOPE.contains(&key),
            _ => false,
        };
        self.is_another |= !may_be;
    }
}

/// A piece of the object, and the members that are read from it.
struct Piece<'a> {
    bytes: &'a [u8],
    /// Where in the piece the key being read begins or goes on.
    from: usize,
    members: &'a mut Members,
}

impl Piece<'_> {
    /// The key goes on to `to`. Of one that is too long, a byte beyond the limit is kept to show it.
    fn read(&mut self, to: usize) {
        let room = (KEY_LIMIT + 1).saturating_sub(self.members.key.len());
        self.members.key.extend(self.bytes[self.from..to].iter().take(room));
    }
}

impl Outline for Piece<'_> {
    fn key(&mut self, at: usize) {
        if self.members.depth == 1 {
            self.members.in_key = true;
            self.members.key.clear();
            self.from = at;
        }
    }

    fn key_end(&mut self, at: usize) {
        if self.members.in_key {
            self.read(at);
            self.members.in_key = false;
        }
    }

    fn value(&mut self, at: usize, kind: Kind) {
        match self.members.depth {
            0 => self.members.is_another |= kind != Kind::Object,
            1 => self.members.member(kind, self.bytes[at] == b'n'),
            2 if self.members.key == b"choices" => self.members.is_another = true,
            _ => {}
        }
        self.members.depth += 1;
    }

    fn value_end(&mut self, _: usize) {
        self.members.depth -= 1;
    }
}
