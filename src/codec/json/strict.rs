//! A cursor over one complete JSON text that validates what it goes past.
//!
//! It accepts RFC 8259 with two leniencies: a surrogate escape may stand alone, and numbers may exceed
//! any type. Bytes that are not UTF-8 count as text.

use super::interruption;

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
    /// At the beginning of `text`.
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

    /// The next byte that is not whitespace, without going past it; `None` at the end of the text.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.text.get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    /// Goes past the opening bracket that is next, as [`StrictCursor::peek`] said.
    #[inline]
    pub(crate) fn open(&mut self) -> Result<(), Malformed> {
        if self.depth == MAX_DEPTH {
            return Err(Malformed);
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    /// Goes past the next key of the innermost object and its colon, and returns the key as it is
    /// spelled. `first`: no member lies behind. `None` when the closing brace was next, which is
    /// then behind.
    #[inline]
    pub(crate) fn key(&mut self, first: bool) -> Result<Option<&'a [u8]>, Malformed> {
        match self.peek() {
            Some(b',') if !first => {
                self.at += 1;
                if self.peek() != Some(b'"') {
                    return Err(Malformed);
                }
            }
            Some(b'"') if first => {}
            Some(b'}') => {
                self.close();
                return Ok(None);
            }
            _ => return Err(Malformed),
        }
        let from = self.at + 1;
        self.skip_string()?;
        let key = &self.text[from..self.at - 1];
        if self.peek() != Some(b':') {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// Goes up to the next value of the innermost list. False when the closing bracket was next,
    /// which is then behind.
    #[inline]
    pub(crate) fn item(&mut self, first: bool) -> Result<bool, Malformed> {
        match self.peek() {
            Some(b']') => {
                self.close();
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if first => Ok(true),
            _ => Err(Malformed),
        }
    }

    #[inline]
    fn close(&mut self) {
        self.depth -= 1;
        self.at += 1;
    }

    /// Goes past any value, and returns it without the whitespace before it.
    #[inline]
    pub(crate) fn value(&mut self) -> Result<&'a [u8], Malformed> {
        self.peek();
        let from = self.at;
        self.skip()?;
        Ok(self.since(from))
    }

    /// Goes past any value.
    pub(crate) fn skip(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'0'..=b'9' | b'-') => self.skip_number(),
            Some(b'n') => self.skip_word(b"null"),
            Some(b't') => self.skip_word(b"true"),
            Some(b'f') => self.skip_word(b"false"),
            Some(b'{') => {
                self.open()?;
                let mut first = true;
                while self.key(std::mem::take(&mut first))?.is_some() {
                    self.skip()?;
                }
                Ok(())
            }
            Some(b'[') => {
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

    /// Goes past an integer that is next, if it has no sign and no fraction and the comma or the
    /// brace follows at once, as in nearly every object of counts. `None`, and nothing is passed,
    /// where any other value is next, or whitespace is.
    #[inline]
    pub(crate) fn integer(&mut self) -> Option<u64> {
        let mut integer = 0;
        let rest = &self.text[self.at..];
        for (at, &byte) in rest.iter().enumerate() {
            match byte {
                b'0'..=b'9' if at < DIGITS => integer = integer * 10 + u64::from(byte - b'0'),
                b',' | b'}' if at == 1 || (at > 0 && rest[0] != b'0') => {
                    self.at += at;
                    return Some(integer);
                }
                _ => break,
            }
        }
        None
    }

    /// Only whitespace may follow.
    pub(crate) fn end(&mut self) -> Result<(), Malformed> {
        if self.peek().is_none() { Ok(()) } else { Err(Malformed) }
    }

    /// From the opening quote to behind the closing one.
    fn skip_string(&mut self) -> Result<(), Malformed> {
        let mut at = self.at + 1;
        loop {
            at += interruption::<true>(self.text.get(at..).unwrap_or_default()).ok_or(Malformed)?;
            match (self.text[at], self.text.get(at + 1)) {
                (b'"', _) => {
                    self.at = at + 1;
                    return Ok(());
                }
                (b'\\', Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => at += 2,
                (b'\\', Some(b'u')) => {
                    let digits = self.text.get(at + 2..at + 6).ok_or(Malformed)?;
                    if !digits.iter().all(u8::is_ascii_hexdigit) {
                        return Err(Malformed);
                    }
                    at += 6;
                }
                _ => return Err(Malformed),
            }
        }
    }

    fn skip_word(&mut self, word: &[u8]) -> Result<(), Malformed> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Malformed);
        }
        self.at += word.len();
        Ok(())
    }

    fn skip_number(&mut self) -> Result<(), Malformed> {
        self.at += usize::from(self.text[self.at] == b'-');
        match self.text.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.skip_digits()?,
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.skip_digits()?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.text.get(self.at), Some(b'+' | b'-')));
            self.skip_digits()?;
        }
        Ok(())
    }

    /// One digit at least.
    #[inline]
    fn skip_digits(&mut self) -> Result<(), Malformed> {
        let rest = &self.text[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        if digits > 0 { Ok(()) } else { Err(Malformed) }
    }
}

/// Any number of this many digits fits into 64 bits.
const DIGITS: usize = 19;

#[cfg(test)]
mod tests;
