//! Strings, numbers and words.

use super::super::interruption::{BLOCK, digits, marks};
use super::super::stride::{Stride, below};
use super::{Malformed, StrictCursor};

impl<'a> StrictCursor<'a> {
    /// Consumes the string whose opening quote is next.
    #[inline]
    pub(super) fn skip_string(&mut self) -> Result<(), Malformed> {
        // The opening quote, a block, and the byte behind it.
        if let Some(window) = self.rest.first_chunk::<{ BLOCK + 2 }>()
            && let Some(block) = window[1..].first_chunk()
        {
            // The bit behind the block bounds the length.
            let length = (marks::<true>(block) | 1 << BLOCK).trailing_zeros() as usize;
            if window[1 + length] == b'"' {
                self.rest = &self.rest[length + 2..];
                return Ok(());
            }
        }
        self.skip_long_string()
    }

    /// Consumes a string of any length.
    #[inline(never)]
    fn skip_long_string(&mut self) -> Result<(), Malformed> {
        // Most strings of several blocks have two.
        let mut reading = in_blocks(&self.rest[1..], 2)?;
        if let Reading::Inside(rest) = reading {
            reading = in_strides(rest)?;
        }
        if let Reading::Inside(rest) = reading {
            reading = in_blocks(rest, usize::MAX)?;
        }
        if let Reading::Inside(rest) = reading {
            reading = self.in_last_bytes(rest)?;
        }
        match reading {
            Reading::Behind(rest) => {
                self.rest = rest;
                Ok(())
            }
            Reading::Inside(_) => Err(Malformed),
        }
    }

    /// Reads the last bytes of the text, less than a block, in a block that ends with them.
    #[inline]
    fn in_last_bytes(&self, rest: &'a [u8]) -> Result<Reading<'a>, Malformed> {
        let marks = match self.text.last_chunk() {
            Some(block) => marks::<true>(block) >> (BLOCK - rest.len()),
            None => {
                let mut block = [b' '; BLOCK];
                block[..rest.len()].copy_from_slice(rest);
                marks::<true>(&block)
            }
        };
        behind_marks(rest, marks, rest.len())
    }

    pub(super) fn skip_word(&mut self, word: &[u8]) -> Result<(), Malformed> {
        self.rest = self.rest.strip_prefix(word).ok_or(Malformed)?;
        Ok(())
    }

    /// Consumes the number that begins with a digit.
    #[inline]
    pub(super) fn skip_unsigned(&mut self) -> Result<(), Malformed> {
        match self.rest {
            [_, b',' | b'}' | b']', ..] => self.pass(1),
            [b'1'..=b'9', ..] => return self.skip_digits(),
            _ => return self.skip_number(),
        }
        Ok(())
    }

    /// Consumes the number that begins with a digit other than 0.
    #[inline(never)]
    fn skip_digits(&mut self) -> Result<(), Malformed> {
        if let Some(window) = self.rest.first_chunk::<{ BLOCK + 1 }>()
            && let Some(block) = window.first_chunk()
        {
            let length = digits(block);
            if length < BLOCK && !matches!(window[length], b'.' | b'e' | b'E') {
                self.rest = &self.rest[length..];
                return Ok(());
            }
        }
        self.skip_number()
    }

    /// Consumes any number.
    #[inline(never)]
    pub(super) fn skip_number(&mut self) -> Result<(), Malformed> {
        let mut rest = self.rest;
        if let [b'-', behind @ ..] = rest {
            rest = behind;
        }
        rest = match rest {
            [b'0', behind @ ..] => behind,
            _ => behind_digits(rest)?,
        };
        if let [b'.', behind @ ..] = rest {
            rest = behind_digits(behind)?;
        }
        if let [b'e' | b'E', b'+' | b'-', behind @ ..] | [b'e' | b'E', behind @ ..] = rest {
            rest = behind_digits(behind)?;
        }
        self.rest = rest;
        Ok(())
    }

    /// Consumes an integer without a sign or fraction that a comma or brace follows immediately, as
    /// in nearly every object of counts. `None` for any other value or whitespace, and nothing is
    /// consumed.
    #[inline]
    pub(crate) fn integer(&mut self) -> Option<u64> {
        match self.rest {
            // Most details are 0.
            [digit @ b'0'..=b'9', b',' | b'}', ..] => {
                self.pass(1);
                Some(u64::from(digit - b'0'))
            }
            _ => self.long_integer(),
        }
    }

    #[inline(never)]
    fn long_integer(&mut self) -> Option<u64> {
        let mut integer = 0_u64;
        for (length, &byte) in self.rest.iter().enumerate().take(DIGITS + 1) {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                let is_number = length == 1 || (length > 1 && self.rest[0] != b'0');
                if !is_number || !matches!(byte, b',' | b'}') {
                    return None;
                }
                self.rest = &self.rest[length..];
                return Some(integer);
            }
            integer = integer.wrapping_mul(10).wrapping_add(u64::from(digit));
        }
        None
    }
}

/// Any number of this many digits fits into 64 bits.
const DIGITS: usize = 19;

/// A reading of a string's inside: the bytes that follow.
#[derive(Clone, Copy)]
enum Reading<'a> {
    Inside(&'a [u8]),
    /// The string has ended.
    Behind(&'a [u8]),
}

/// Reads up to `most` blocks, as long as there are any.
#[inline(always)]
fn in_blocks(mut rest: &[u8], most: usize) -> Result<Reading<'_>, Malformed> {
    let mut blocks = 0;
    while blocks < most
        && let Some(block) = rest.first_chunk()
    {
        match behind_marks(rest, marks::<true>(block), BLOCK)? {
            Reading::Inside(behind) => rest = behind,
            behind => return Ok(behind),
        }
        blocks += 1;
    }
    Ok(Reading::Inside(rest))
}

/// Reads the marks in the first `block` bytes, which may end in an escape that is longer.
#[inline(always)]
fn behind_marks(rest: &[u8], mut marks: u32, block: usize) -> Result<Reading<'_>, Malformed> {
    let mut length = block;
    while marks != 0 {
        let at = marks.trailing_zeros() as usize;
        match rest[at] {
            b'"' => return Ok(Reading::Behind(&rest[at + 1..])),
            b'\\' if is_escape(&rest[at + 1..]) => {
                // A mark behind a backslash is part of its escape.
                marks &= u32::MAX << (at + 2);
                length = length.max(at + 2);
            }
            _ => return Err(Malformed),
        }
    }
    Ok(Reading::Inside(&rest[length..]))
}

/// Reads strides, as long as there are any: slower than blocks for few bytes, and quicker for many
/// escapes.
#[inline(always)]
fn in_strides(mut rest: &[u8]) -> Result<Reading<'_>, Malformed> {
    let mut first = 0;
    while let Some((bytes, behind)) = rest.split_first_chunk() {
        let stride = Stride::of::<true>(bytes);
        let escaped = stride.escaped(&mut first);
        let ends = stride.quotes & !escaped;
        let inside = below(ends);
        let mut letters = escaped & inside;
        while letters != 0 {
            if !is_escape(&rest[letters.trailing_zeros() as usize..]) {
                return Err(Malformed);
            }
            letters &= letters - 1;
        }
        if stride.controls & inside != 0 {
            return Err(Malformed);
        }
        if ends != 0 {
            return Ok(Reading::Behind(&rest[ends.trailing_zeros() as usize + 1..]));
        }
        rest = behind;
    }
    // The last stride may end between a backslash and its letter.
    match first {
        0 => Ok(Reading::Inside(rest)),
        _ if is_escape(rest) => Ok(Reading::Inside(&rest[1..])),
        _ => Err(Malformed),
    }
}

/// The letters that form an escape with a backslash, other than `u`.
static LETTERS: [bool; 256] = {
    let (mut letters, mut at) = ([false; 256], 0);
    while at < 8 {
        letters[b"\"\\/bfnrt"[at] as usize] = true;
        at += 1;
    }
    letters
};

/// Returns true if the bytes behind a backslash form an escape with it.
#[inline(always)]
fn is_escape(rest: &[u8]) -> bool {
    match rest {
        [letter, ..] if LETTERS[usize::from(*letter)] => true,
        [b'u', digits @ ..] => has_four_digits(digits),
        _ => false,
    }
}

#[inline(never)]
fn has_four_digits(rest: &[u8]) -> bool {
    rest.first_chunk::<4>().is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

/// The bytes behind one digit at least.
#[inline]
fn behind_digits(rest: &[u8]) -> Result<&[u8], Malformed> {
    let length = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    if length > 0 { Ok(&rest[length..]) } else { Err(Malformed) }
}
