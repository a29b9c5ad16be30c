//! A cursor over one complete JSON text that validates the consumed part.
//!
//! The cursor accepts RFC 8259 with two leniencies: a surrogate escape may stand alone, and numbers may exceed
//! any type. Bytes that are not UTF-8 count as text.

mod scalar;

use super::interruption::{BLOCK, marks};

/// The deepest nesting; deeper texts are refused, as by serde_json.
pub(crate) const MAX_DEPTH: u32 = 127;

/// The text is not JSON, or ends too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A place in a JSON text. It moves forward only. After an error its place has no meaning.
#[derive(Debug)]
pub(crate) struct StrictCursor<'a> {
    text: &'a [u8],
    /// The end of the text that is not consumed.
    rest: &'a [u8],
    /// Open objects and lists.
    depth: u32,
}

impl<'a> StrictCursor<'a> {
    /// Creates a cursor at the beginning of `text`.
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, rest: text, depth: 0 }
    }

    /// The position: the number of bytes before the cursor.
    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    /// The bytes from an earlier position to this one.
    #[inline]
    pub(crate) fn since(&self, from: usize) -> &'a [u8] {
        &self.text[from..self.position()]
    }

    /// The next byte that is not whitespace, without consuming it; 0 at the end of the text, a byte
    /// that is not allowed outside of strings.
    #[inline]
    pub(crate) fn peek(&mut self) -> u8 {
        match self.rest.first() {
            Some(&byte) if byte > b' ' => byte,
            _ => self.peek_behind_space(),
        }
    }

    #[inline(never)]
    fn peek_behind_space(&mut self) -> u8 {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
        self.rest.first().copied().unwrap_or(0)
    }

    /// Consumes the opening bracket that [`StrictCursor::peek`] returned.
    #[inline]
    pub(crate) fn open(&mut self) -> Result<(), Malformed> {
        if self.depth == MAX_DEPTH {
            return Err(Malformed);
        }
        self.depth += 1;
        self.pass(1);
        Ok(())
    }

    /// Consumes the first key of the object whose opening brace was just consumed, and its colon.
    /// Returns the key as it is spelled; `None`, after consuming it, if the closing brace is next.
    #[inline]
    pub(crate) fn first_key(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        if let Some([b'"', window @ ..]) = self.rest.first_chunk::<{ WINDOW + 1 }>()
            && let Some(length) = compact_key(window)
        {
            self.pass(length + 3);
            return Ok(Some(&window[..length]));
        }
        self.other_key(true)
    }

    /// The same for the key behind a member.
    #[inline]
    pub(crate) fn next_key(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        if let Some([b',', b'"', window @ ..]) = self.rest.first_chunk::<{ WINDOW + 2 }>()
            && let Some(length) = compact_key(window)
        {
            self.pass(length + 4);
            return Ok(Some(&window[..length]));
        }
        if self.rest.first() == Some(&b'}') {
            return Ok(self.close_object());
        }
        self.other_key(false)
    }

    /// Any other key of an object.
    #[inline(never)]
    fn other_key(&mut self, first: bool) -> Result<Option<&'a [u8]>, Malformed> {
        match self.peek() {
            b'}' => return Ok(self.close_object()),
            b',' if !first => self.pass(1),
            _ if first => {}
            _ => return Err(Malformed),
        }
        if self.peek() != b'"' {
            return Err(Malformed);
        }
        let from = self.position() + 1;
        self.skip_string()?;
        let key = &self.text[from..self.position() - 1];
        if self.peek() != b':' {
            return Err(Malformed);
        }
        self.pass(1);
        Ok(Some(key))
    }

    #[inline]
    fn close_object(&mut self) -> Option<&'a [u8]> {
        self.close();
        None
    }

    /// Consumes the bytes before the next value of the innermost list. False, after consuming it,
    /// if the closing bracket is next.
    #[inline]
    pub(crate) fn item(&mut self, first: bool) -> Result<bool, Malformed> {
        match self.peek() {
            b']' => {
                self.close();
                return Ok(false);
            }
            b',' if !first => self.pass(1),
            _ if first => {}
            _ => return Err(Malformed),
        }
        Ok(true)
    }

    #[inline]
    fn close(&mut self) {
        self.depth -= 1;
        self.pass(1);
    }

    /// Consumes bytes of the text.
    #[inline]
    fn pass(&mut self, count: usize) {
        self.rest = &self.rest[count..];
    }

    /// Consumes any value, and returns it without the whitespace before it.
    pub(crate) fn value(&mut self) -> Result<&'a [u8], Malformed> {
        let byte = self.peek();
        self.value_from(byte)
    }

    /// Consumes the value that begins with `byte`, which [`StrictCursor::peek`] returned.
    #[inline(always)]
    pub(crate) fn value_from(&mut self, byte: u8) -> Result<&'a [u8], Malformed> {
        let rest = self.rest;
        self.skip_from(byte)?;
        Ok(&rest[..rest.len() - self.rest.len()])
    }

    /// Consumes any value.
    #[inline]
    pub(crate) fn skip(&mut self) -> Result<(), Malformed> {
        let byte = self.peek();
        self.skip_from(byte)
    }

    /// Consumes the value that begins with `byte`, which [`StrictCursor::peek`] returned.
    #[inline]
    pub(crate) fn skip_from(&mut self, byte: u8) -> Result<(), Malformed> {
        match byte {
            b'"' => self.skip_string(),
            b'0'..=b'9' => self.skip_unsigned(),
            _ => self.skip_other(byte),
        }
    }

    #[inline(never)]
    fn skip_other(&mut self, byte: u8) -> Result<(), Malformed> {
        match byte {
            b'-' => self.skip_number(),
            b'n' => self.skip_word(b"null"),
            b't' => self.skip_word(b"true"),
            b'f' => self.skip_word(b"false"),
            b'{' => {
                self.open()?;
                let mut key = self.first_key()?;
                while key.is_some() {
                    self.skip()?;
                    key = self.next_key()?;
                }
                Ok(())
            }
            b'[' => {
                self.open()?;
                let mut first = true;
                while self.item(std::mem::take(&mut first))? {
                    self.skip()?;
                }
                Ok(())
            }
            _ => Err(Malformed),
        }
    }

    /// # Errors
    ///
    /// Anything but whitespace follows.
    pub(crate) fn end(&mut self) -> Result<(), Malformed> {
        self.peek();
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// The bytes of a key of up to 32 bytes, its closing quote, and a colon.
const WINDOW: usize = 2 * BLOCK + 2;

/// The length of a short key without escapes, with a colon behind it and no whitespace, as nearly
/// all are.
#[inline(always)]
fn compact_key(window: &[u8; WINDOW]) -> Option<usize> {
    let (low, high) = window.split_first_chunk()?;
    let mut found = marks::<true>(low);
    if found == 0 {
        found = marks::<true>(high.first_chunk()?) << BLOCK;
    }
    let length = found.trailing_zeros() as usize;
    (window[length] == b'"' && window[length + 1] == b':').then_some(length)
}

#[cfg(test)]
mod tests;
