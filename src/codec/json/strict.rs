//! A cursor over one complete JSON text that validates the consumed part.
//!
//! The cursor accepts RFC 8259 with two leniencies: a surrogate escape may stand alone, and numbers may exceed
//! any type. Bytes that are not UTF-8 count as text.

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
    /// Never beyond the text's end.
    at: usize,
    /// Open objects and lists.
    depth: u32,
}

impl<'a> StrictCursor<'a> {
    /// Creates a cursor at the beginning of `text`.
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// The position: the number of bytes before the cursor.
    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The bytes from an earlier position to this one.
    #[inline]
    pub(crate) fn since(&self, from: usize) -> &'a [u8] {
        &self.text[from..self.at]
    }

    /// The byte at `at`, 0 behind the end of the text: no byte that may stand outside of strings.
    #[inline]
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    /// The next byte that is not whitespace, without consuming it; 0 at the end of the text.
    #[inline]
    pub(crate) fn peek(&mut self) -> u8 {
        loop {
            let byte = self.byte(self.at);
            if byte > b' ' || !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return byte;
            }
            self.at += 1;
        }
    }

    /// Consumes the opening bracket that [`StrictCursor::peek`] returned.
    #[inline]
    pub(crate) fn open(&mut self) -> Result<(), Malformed> {
        if self.depth == MAX_DEPTH {
            return Err(Malformed);
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    /// Consumes the first key of the object whose opening brace lies just behind, and its colon.
    /// Returns the key as it is spelled; `None`, after consuming it, if the closing brace is next.
    #[inline]
    pub(crate) fn first_key(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.peek() {
            b'"' => self.rest_of_key().map(Some),
            b'}' => Ok(self.close_object()),
            _ => Err(Malformed),
        }
    }

    /// The same for the key behind a member.
    #[inline]
    pub(crate) fn next_key(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.compact_key() {
            Some(key) => Ok(Some(key)),
            None => self.other_key(),
        }
    }

    /// A short key without escapes, with a comma before it, a colon behind it and no whitespace, as
    /// nearly all are.
    #[inline]
    fn compact_key(&mut self) -> Option<&'a [u8]> {
        let window: &'a [u8; WINDOW] = self.text.get(self.at..)?.first_chunk()?;
        let [b',', b'"', inside @ ..] = window else { return None };
        let (low, high) = inside.split_first_chunk()?;
        let mut found = marks::<true>(low);
        if found == 0 {
            found = marks::<true>(high.first_chunk()?) << BLOCK;
        }
        let length = found.trailing_zeros() as usize;
        let (key, [b'"', b':', ..]) = inside.split_at_checked(length)? else { return None };
        self.at += length + 4;
        Some(key)
    }

    /// Any other key behind a member.
    #[inline(never)]
    fn other_key(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.peek() {
            b'}' => return Ok(self.close_object()),
            b',' => self.at += 1,
            _ => return Err(Malformed),
        }
        if self.peek() == b'"' { self.rest_of_key().map(Some) } else { Err(Malformed) }
    }

    #[inline]
    fn close_object(&mut self) -> Option<&'a [u8]> {
        self.close();
        None
    }

    /// Consumes the key whose quote is next, and its colon.
    fn rest_of_key(&mut self) -> Result<&'a [u8], Malformed> {
        let from = self.at + 1;
        self.skip_string()?;
        let key = &self.text[from..self.at - 1];
        if self.peek() != b':' {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(key)
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
            b',' if !first => self.at += 1,
            _ if first => {}
            _ => return Err(Malformed),
        }
        Ok(true)
    }

    #[inline]
    fn close(&mut self) {
        self.depth -= 1;
        self.at += 1;
    }

    /// Consumes any value, and returns it without the whitespace before it.
    #[inline]
    pub(crate) fn value(&mut self) -> Result<&'a [u8], Malformed> {
        self.peek();
        let from = self.at;
        self.skip()?;
        Ok(self.since(from))
    }

    /// Consumes any value.
    pub(crate) fn skip(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            b'"' => self.skip_string(),
            b'0'..=b'9' | b'-' => self.skip_number(),
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

    /// Consumes an integer without a sign or fraction that a comma or brace follows immediately, as
    /// in nearly every object of counts. `None` for any other value or whitespace, and nothing is
    /// consumed.
    #[inline]
    pub(crate) fn integer(&mut self) -> Option<u64> {
        let (mut integer, mut at) = (0, self.at);
        loop {
            let byte = self.byte(at);
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                let length = at - self.at;
                let is_number = length == 1 || ((2..=DIGITS).contains(&length) && self.byte(self.at) != b'0');
                if !is_number || !matches!(byte, b',' | b'}') {
                    return None;
                }
                self.at = at;
                return Some(integer);
            }
            integer = u64::wrapping_add(u64::wrapping_mul(integer, 10), u64::from(digit));
            at += 1;
        }
    }

    /// # Errors
    ///
    /// Anything but whitespace follows.
    pub(crate) fn end(&mut self) -> Result<(), Malformed> {
        self.peek();
        if self.at == self.text.len() { Ok(()) } else { Err(Malformed) }
    }

    /// Consumes the string whose opening quote is next.
    #[inline]
    fn skip_string(&mut self) -> Result<(), Malformed> {
        let text = self.text;
        let mut at = self.at + 1;
        while let Some(block) = text.get(at..).and_then(<[u8]>::first_chunk) {
            let marks = marks::<true>(block);
            if marks == 0 {
                at += BLOCK;
                continue;
            }
            at += marks.trailing_zeros() as usize;
            match self.byte(at) {
                b'"' => {
                    self.at = at + 1;
                    return Ok(());
                }
                b'\\' => at += self.escape(at)?,
                _ => return Err(Malformed),
            }
        }
        self.skip_last_string(at)
    }

    /// Consumes a string from `at` on, in the last bytes of the text.
    #[cold]
    fn skip_last_string(&mut self, mut at: usize) -> Result<(), Malformed> {
        loop {
            match self.byte(at) {
                b'"' => {
                    self.at = at + 1;
                    return Ok(());
                }
                b'\\' => at += self.escape(at)?,
                0..0x20 => return Err(Malformed),
                _ => at += 1,
            }
        }
    }

    /// The length of the escape at `at`.
    #[inline]
    fn escape(&self, at: usize) -> Result<usize, Malformed> {
        match self.byte(at + 1) {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(2),
            b'u' => self.unicode_escape(at),
            _ => Err(Malformed),
        }
    }

    #[cold]
    fn unicode_escape(&self, at: usize) -> Result<usize, Malformed> {
        let digits = self.text.get(at + 2..at + 6).ok_or(Malformed)?;
        if digits.iter().all(u8::is_ascii_hexdigit) { Ok(6) } else { Err(Malformed) }
    }

    fn skip_word(&mut self, word: &[u8]) -> Result<(), Malformed> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Malformed);
        }
        self.at += word.len();
        Ok(())
    }

    fn skip_number(&mut self) -> Result<(), Malformed> {
        self.at += usize::from(self.byte(self.at) == b'-');
        if self.byte(self.at) == b'0' {
            self.at += 1;
        } else {
            self.skip_digits()?;
        }
        if self.byte(self.at) == b'.' {
            self.at += 1;
            self.skip_digits()?;
        }
        if matches!(self.byte(self.at), b'e' | b'E') {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(self.at), b'+' | b'-'));
            self.skip_digits()?;
        }
        Ok(())
    }

    /// Consumes one digit at least.
    #[inline]
    fn skip_digits(&mut self) -> Result<(), Malformed> {
        let from = self.at;
        while self.byte(self.at).is_ascii_digit() {
            self.at += 1;
        }
        if self.at > from { Ok(()) } else { Err(Malformed) }
    }
}

/// The bytes of a comma, a key of up to 32 bytes with its quotes, and a colon.
const WINDOW: usize = 2 + 2 * BLOCK + 2;

/// Any number of this many digits fits into 64 bits.
const DIGITS: usize = 19;

#[cfg(test)]
mod tests;
