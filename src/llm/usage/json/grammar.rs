//! The grammar of JSON, for texts in pieces of any size.
//!
//! RFC 8259 with two leniencies that lose no count: a surrogate escape may stand alone (some
//! upstreams cut a character in two), and numbers may exceed any type. Invalid UTF-8 counts as
//! text, as in the event stream's rule.

use crate::codec::json::{MAX_DEPTH, interruption};

/// Receives the structure of a document, in order.
pub(in crate::llm::usage) trait Outline {
    /// A key's text begins at `at`, behind its quote.
    fn key(&mut self, at: usize);
    /// The key's text ends before `at`. It may contain escapes.
    fn key_end(&mut self, at: usize);
    /// A value begins at `at`.
    fn value(&mut self, at: usize, kind: Kind);
    /// The value ends before `at`; a container includes its last bracket.
    fn value_end(&mut self, at: usize);
}

/// The type of a value, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::llm::usage) enum Kind {
    Object,
    Array,
    Scalar,
}

impl Kind {
    pub(in crate::llm::usage) const ALL: [Self; 3] = [Self::Object, Self::Array, Self::Scalar];
}

/// Reads one JSON text in pieces of any size and reports its structure to an [`Outline`].
#[derive(Debug)]
pub(in crate::llm::usage) struct Grammar {
    state: State,
    depth: u32,
    /// The innermost open container is an object.
    in_object: bool,
    /// Bit `d` is set when the container at depth `d` is an object.
    objects: u128,
}

/// The tokens that may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    Text {
        key: bool,
    },
    Escape {
        key: bool,
    },
    Hex {
        key: bool,
        left: u8,
    },
    Number(Digits),
    /// A word, and the number of its letters that have come.
    Word {
        word: Word,
        come: u8,
    },
    Refused,
}

/// The part of a number that was read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digits {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    True,
    False,
    Null,
}

impl Grammar {
    pub(in crate::llm::usage) fn new() -> Grammar {
        Grammar { state: State::Value, depth: 0, in_object: false, objects: 0 }
    }

    /// The grammar behind a complete object or list.
    pub(in crate::llm::usage) fn at_end() -> Grammar {
        Grammar { state: State::CommaOrEnd, ..Grammar::new() }
    }

    /// Returns true if nothing but whitespace has come.
    pub(in crate::llm::usage) fn is_at_start(&self) -> bool {
        self.state == State::Value && self.depth == 0
    }

    /// Returns true if the text is known not to be JSON.
    pub(in crate::llm::usage) fn refused(&self) -> bool {
        self.state == State::Refused
    }

    /// Returns true if the text is a complete container.
    pub(in crate::llm::usage) fn complete(&self) -> bool {
        self.depth == 0 && self.state == State::CommaOrEnd
    }

    /// Reads a piece. Offsets in the outline are those in `bytes`.
    pub(in crate::llm::usage) fn push(&mut self, bytes: &[u8], outline: &mut impl Outline) {
        let mut at = 0;
        while at < bytes.len() {
            at = match self.state {
                State::Text { key } => self.text(bytes, at, key, outline),
                State::Number(digits) => self.number(bytes, at, digits, outline),
                State::Escape { key } => {
                    self.state = match bytes[at] {
                        letter if is_escape(letter) => State::Text { key },
                        b'u' => State::Hex { key, left: 4 },
                        _ => State::Refused,
                    };
                    at + 1
                }
                State::Hex { key, left } => {
                    self.state = match (bytes[at].is_ascii_hexdigit(), left) {
                        (true, 1) => State::Text { key },
                        (true, _) => State::Hex { key, left: left - 1 },
                        (false, _) => State::Refused,
                    };
                    at + 1
                }
                State::Word { word, come } => self.word(bytes, at, word, come, outline),
                State::Refused => return,
                _ if is_space(bytes[at]) => {
                    at + 1 + bytes[at + 1..].iter().take_while(|byte| is_space(**byte)).count()
                }
                _ => self.structure(bytes, at, outline),
            };
        }
    }

    /// Reads a byte between values.
    #[inline]
    fn structure(&mut self, bytes: &[u8], at: usize, outline: &mut impl Outline) -> usize {
        let byte = bytes[at];
        self.state = match self.state {
            State::CommaOrEnd => match byte {
                // Compact JSON: the next key follows at once.
                b',' if self.in_object && bytes.get(at + 1) == Some(&b'"') => {
                    outline.key(at + 2);
                    self.state = State::Text { key: true };
                    return at + 2;
                }
                b',' if self.in_object => State::Key,
                b',' if self.depth > 0 => State::Value,
                b'}' if self.in_object => return self.close(at, outline),
                b']' if self.depth > 0 && !self.in_object => return self.close(at, outline),
                _ => State::Refused,
            },
            State::Key | State::KeyOrEnd => match byte {
                b'"' => {
                    outline.key(at + 1);
                    State::Text { key: true }
                }
                b'}' if self.state == State::KeyOrEnd => return self.close(at, outline),
                _ => State::Refused,
            },
            State::Colon if byte == b':' => State::Value,
            State::ValueOrEnd if byte == b']' => return self.close(at, outline),
            State::Value | State::ValueOrEnd => return self.value(byte, at, outline),
            _ => State::Refused,
        };
        at + 1
    }

    /// Reads the first byte of a value.
    #[inline]
    fn value(&mut self, byte: u8, at: usize, outline: &mut impl Outline) -> usize {
        match byte {
            b'{' => self.open(Kind::Object, at, outline),
            b'[' => self.open(Kind::Array, at, outline),
            _ => {
                outline.value(at, Kind::Scalar);
                self.state = scalar(byte);
                at + 1
            }
        }
    }

    fn open(&mut self, kind: Kind, at: usize, outline: &mut impl Outline) -> usize {
        if self.depth == MAX_DEPTH {
            self.state = State::Refused;
            return at;
        }
        self.depth += 1;
        outline.value(at, kind);
        self.in_object = kind == Kind::Object;
        if self.in_object {
            self.objects |= 1 << self.depth;
            self.state = State::KeyOrEnd;
        } else {
            self.objects &= !(1 << self.depth);
            self.state = State::ValueOrEnd;
        }
        at + 1
    }

    fn close(&mut self, at: usize, outline: &mut impl Outline) -> usize {
        self.depth -= 1;
        self.in_object = self.objects >> self.depth & 1 == 1;
        self.state = State::CommaOrEnd;
        outline.value_end(at + 1);
        at + 1
    }

    /// Reads the inside of a string: the largest part of most bodies, so it is searched in strides.
    #[inline]
    fn text(&mut self, bytes: &[u8], at: usize, key: bool, outline: &mut impl Outline) -> usize {
        let mut at = at;
        loop {
            let Some(end) = interruption::<true>(&bytes[at..]) else { return bytes.len() };
            at += end;
            // Most escapes are one letter and complete in the piece: the loop continues behind
            // them.
            if bytes[at] != b'\\' || !bytes.get(at + 1).is_some_and(|&letter| is_escape(letter)) {
                break;
            }
            at += 2;
        }
        if bytes[at] == b'\\' {
            self.state = State::Escape { key };
        } else if bytes[at] != b'"' {
            self.state = State::Refused;
        } else if key {
            outline.key_end(at);
            // Compact JSON: the colon follows at once, and the value follows the colon.
            if bytes.get(at + 1) == Some(&b':') {
                self.state = State::Value;
                if let Some(&byte) = bytes.get(at + 2)
                    && !is_space(byte)
                {
                    return self.value(byte, at + 2, outline);
                }
                return at + 2;
            }
            self.state = State::Colon;
        } else {
            self.state = State::CommaOrEnd;
            outline.value_end(at + 1);
        }
        at + 1
    }

    fn number(&mut self, bytes: &[u8], at: usize, digits: Digits, outline: &mut impl Outline) -> usize {
        let (mut at, mut digits) = (at, digits);
        loop {
            if matches!(digits, Digits::Whole | Digits::Fraction | Digits::Power) {
                at += bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
            }
            let Some(&byte) = bytes.get(at) else {
                self.state = State::Number(digits);
                return at;
            };
            digits = match (digits, byte) {
                (Digits::Minus, b'0') => Digits::Zero,
                (Digits::Minus, b'1'..=b'9') => Digits::Whole,
                (Digits::Zero | Digits::Whole, b'.') => Digits::Point,
                (Digits::Point, b'0'..=b'9') => Digits::Fraction,
                (Digits::Zero | Digits::Whole | Digits::Fraction, b'e' | b'E') => Digits::Exponent,
                (Digits::Exponent, b'+' | b'-') => Digits::Sign,
                (Digits::Exponent | Digits::Sign, b'0'..=b'9') => Digits::Power,
                (Digits::Zero | Digits::Whole | Digits::Fraction | Digits::Power, _) => {
                    // This byte is not part of the number.
                    self.state = State::CommaOrEnd;
                    outline.value_end(at);
                    return at;
                }
                _ => {
                    self.state = State::Refused;
                    return at;
                }
            };
            at += 1;
        }
    }

    fn word(&mut self, bytes: &[u8], at: usize, word: Word, come: u8, outline: &mut impl Outline) -> usize {
        let letters: &[u8] = match word {
            Word::True => b"true",
            Word::False => b"false",
            Word::Null => b"null",
        };
        let rest = &letters[usize::from(come)..];
        let here = rest.len().min(bytes.len() - at);
        if bytes[at..at + here] != rest[..here] {
            self.state = State::Refused;
        } else if here == rest.len() {
            self.state = State::CommaOrEnd;
            outline.value_end(at + here);
        } else {
            self.state = State::Word { word, come: come + here as u8 };
        }
        at + here
    }
}

/// Returns true if the letter forms an escape with the backslash before it. `u` needs digits too.
#[inline]
fn is_escape(letter: u8) -> bool {
    matches!(letter, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')
}

#[inline]
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// The state behind the first byte of a scalar.
fn scalar(byte: u8) -> State {
    match byte {
        b'"' => State::Text { key: false },
        b'-' => State::Number(Digits::Minus),
        b'0' => State::Number(Digits::Zero),
        b'1'..=b'9' => State::Number(Digits::Whole),
        b't' => State::Word { word: Word::True, come: 1 },
        b'f' => State::Word { word: Word::False, come: 1 },
        b'n' => State::Word { word: Word::Null, come: 1 },
        _ => State::Refused,
    }
}

#[cfg(test)]
mod tests;
