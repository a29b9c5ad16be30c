//! A cursor over one complete JSON text, for finding a few values in a request body without
//! building the rest.
//!
//! The cursor finds the beginning and the end of a value at the speed of the search for the next
//! quote, however large the prompt in between. The text is RFC 8259's. Skipped parts are not
//! validated beyond finding their end: brackets are counted but not paired, numbers and literals
//! are runs of bytes, escapes are not decoded. So every valid text is read correctly. For an
//! invalid one the cursor either fails or reports spans inside the text, and does not panic. There
//! is no depth limit, because nothing recurses.

mod interruption;
mod nesting;
mod strict;
mod stride;
mod text;

use std::ops::Range;

use memchr::memchr2;

use interruption::{BLOCK, marks};
use stride::{Stride, below};

pub(crate) use interruption::interruption;
pub(crate) use strict::{MAX_DEPTH, Malformed, StrictCursor};
pub use text::Text;
pub(crate) use text::escape;

/// The reason for which a text cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The text ends inside a value.
    Truncated,
    /// The byte at this offset is not allowed there.
    Unexpected(usize),
}

/// A position in a JSON text, which only advances.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    text: &'a [u8],
    /// Never beyond the text's end.
    at: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the beginning of `text`.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Advances the cursor by `count` bytes, or to the end of the text.
    #[must_use]
    pub fn skipping(self, count: usize) -> Self {
        Self { at: (self.at + count).min(self.text.len()), ..self }
    }

    /// The position: the number of bytes before the cursor.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next byte that is not whitespace, without consuming it. `None` at the end of the text.
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Consumes `byte`, if it is the next one after whitespace. Returns true if it was.
    pub fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Consumes `byte`, and whitespace before it.
    ///
    /// # Errors
    ///
    /// Fails if another byte is next.
    pub fn expect(&mut self, byte: u8) -> Result<(), Error> {
        if self.take(byte) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Consumes the next member of an object, after the opening brace or the last member. Returns
    /// its key, and the range of its value. `None` at the object's closing brace, which is consumed
    /// too.
    ///
    /// # Errors
    ///
    /// Fails if neither a member nor the closing brace is next.
    pub fn member(&mut self, first: bool) -> Result<Option<(Text<'a>, Range<usize>)>, Error> {
        let Some(key) = self.key(first)? else { return Ok(None) };
        Ok(Some((key, self.value()?)))
    }

    /// Consumes the next key with its colon. The member's value is next.
    ///
    /// # Errors
    ///
    /// Fails if neither a key with its colon nor the closing brace is next.
    pub fn key(&mut self, first: bool) -> Result<Option<Text<'a>>, Error> {
        // The form of most writers, without whitespace.
        let opening: &[u8] = if first { b"\"" } else { b",\"" };
        if self.text[self.at..].starts_with(opening) {
            self.at += opening.len();
        } else if self.take(b'}') {
            return Ok(None);
        } else {
            if !first {
                self.expect(b',')?;
            }
            self.expect(b'"')?;
        }
        let key = self.string_inside()?;
        if self.text.get(self.at) == Some(&b':') {
            self.at += 1;
        } else {
            self.expect(b':')?;
        }
        Ok(Some(key))
    }

    /// Consumes a string.
    ///
    /// # Errors
    ///
    /// Fails if no string is next, or if it does not end.
    pub fn string(&mut self) -> Result<Text<'a>, Error> {
        self.expect(b'"')?;
        self.string_inside()
    }

    /// Reads a string after the opening quote.
    fn string_inside(&mut self) -> Result<Text<'a>, Error> {
        let begin = self.at;
        let has_escapes = self.skip_string()?;
        Ok(Text::new(&self.text[begin..self.at - 1], has_escapes))
    }

    /// Consumes a value of any type, and returns its range without the whitespace around it.
    ///
    /// # Errors
    ///
    /// Fails if no value is next, or if it does not end.
    pub fn value(&mut self) -> Result<Range<usize>, Error> {
        let first = self.peek().ok_or(Error::Truncated)?;
        let begin = self.at;
        match first {
            b'"' => {
                self.at += 1;
                self.skip_string()?;
            }
            b'{' | b'[' => self.skip_nested()?,
            b't' | b'f' | b'n' | b'-' | b'0'..=b'9' => {
                self.at += run(&self.text[begin..], |byte| !ends_scalar(byte));
            }
            _ => return Err(self.unexpected()),
        }
        Ok(begin..self.at)
    }

    /// Consumes the rest of a string after its opening quote, including the closing one. Returns
    /// true if it contains a backslash.
    #[inline]
    fn skip_string(&mut self) -> Result<bool, Error> {
        let rest = &self.text[self.at..];
        // Keys and most values are short.
        if let Some(block) = rest.first_chunk() {
            let length = (marks::<false>(block) | 1 << BLOCK).trailing_zeros() as usize;
            if rest.get(length) == Some(&b'"') {
                self.at += length + 1;
                return Ok(false);
            }
        }
        self.skip_long_string()
    }

    /// Consumes a string of any length.
    #[inline(never)]
    fn skip_long_string(&mut self) -> Result<bool, Error> {
        let mut rest = &self.text[self.at..];
        let (mut backslashes, mut first) = (0, 0);
        while let Some((bytes, behind)) = rest.split_first_chunk() {
            let stride = Stride::of::<false>(bytes);
            if stride.quotes | stride.backslashes | first == 0 {
                // Text without escapes is often long, and this search is quicker.
                let found = memchr2(b'"', b'\\', behind).ok_or(Error::Truncated)?;
                rest = &behind[found..];
                continue;
            }
            let ends = stride.quotes & !stride.escaped(&mut first);
            if ends != 0 {
                backslashes |= stride.backslashes & below(ends);
                self.at = self.text.len() - rest.len() + ends.trailing_zeros() as usize + 1;
                return Ok(backslashes != 0);
            }
            backslashes |= stride.backslashes;
            rest = behind;
        }
        // The last bytes of the text.
        let mut at = first as usize;
        loop {
            at += rest.get(at..).and_then(interruption::<false>).ok_or(Error::Truncated)? + 1;
            if rest[at - 1] == b'"' {
                self.at = self.text.len() - rest.len() + at;
                return Ok(backslashes != 0);
            }
            backslashes = 1;
            // The escaped byte may be a quote. The rest of `\uXXXX` is plain text.
            at += 1;
        }
    }

    /// Consumes an array or object, from its opening bracket to the closing one.
    fn skip_nested(&mut self) -> Result<(), Error> {
        self.at += nesting::length(&self.text[self.at..]).map_err(|error| match error {
            Error::Unexpected(at) => Error::Unexpected(self.at + at),
            Error::Truncated => Error::Truncated,
        })?;
        Ok(())
    }

    fn unexpected(&self) -> Error {
        if self.at == self.text.len() { Error::Truncated } else { Error::Unexpected(self.at) }
    }
}

/// The number of bytes from the start that satisfy `inside`.
fn run(bytes: &[u8], inside: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&byte| !inside(byte)).unwrap_or(bytes.len())
}

fn ends_scalar(byte: u8) -> bool {
    matches!(byte, b',' | b'}' | b']' | b':' | b'"' | b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests;
