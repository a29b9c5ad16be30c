//! The text between two quotes, compared and decoded only on request.

use std::borrow::Cow;

use memchr::memchr;

use crate::support::hex;

/// A JSON string as written, without its quotes.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    raw: &'a [u8],
    pub(super) has_escapes: bool,
}

impl<'a> Text<'a> {
    pub(super) fn new(raw: &'a [u8], has_escapes: bool) -> Self {
        Self { raw, has_escapes }
    }

    /// The text between two quotes.
    pub fn of(raw: &'a [u8]) -> Self {
        Self::new(raw, memchr(b'\\', raw).is_some())
    }

    /// The text as written, with escapes.
    pub fn spelled(&self) -> &'a [u8] {
        self.raw
    }

    /// The bytes of the string's value, without the check for UTF-8 if there are no escapes.
    #[inline]
    pub fn plain(&self) -> Cow<'a, [u8]> {
        if self.has_escapes { Cow::Owned(unescape(self.raw).into_bytes()) } else { Cow::Borrowed(self.raw) }
    }

    /// The string's value, borrowed unless there are escapes.
    ///
    /// Invalid text (bytes that are not UTF-8, half of a surrogate pair, an unknown escape) becomes
    /// U+FFFD, as in lenient parsers.
    pub fn decode(&self) -> Cow<'a, str> {
        if self.has_escapes {
            return Cow::Owned(unescape(self.raw));
        }
        // Quicker than the lossy conversion, which finds pieces.
        str::from_utf8(self.raw).map_or_else(|_| String::from_utf8_lossy(self.raw), Cow::Borrowed)
    }
}

impl PartialEq<str> for Text<'_> {
    /// Compares values: `"mod\u0065l"` equals `model`.
    fn eq(&self, other: &str) -> bool {
        if self.has_escapes { unescape(self.raw) == *other } else { self.raw == other.as_bytes() }
    }
}

fn unescape(mut raw: &[u8]) -> String {
    let mut out = String::with_capacity(raw.len());
    while let Some(at) = memchr(b'\\', raw) {
        out.push_str(&String::from_utf8_lossy(&raw[..at]));
        let (character, length) = escape(&raw[at..]).unwrap_or_else(|| {
            // Any byte other than `u` may be the first of several.
            (char::REPLACEMENT_CHARACTER, 1 + usize::from(raw.get(at + 1) == Some(&b'u')))
        });
        out.push(character);
        raw = &raw[at + length..];
    }
    out.push_str(&String::from_utf8_lossy(raw));
    out
}

/// The character of the escape at the beginning of `raw`, and the escape's length. Half of a
/// surrogate pair is U+FFFD. `None` if the escape is unknown or incomplete.
pub(crate) fn escape(raw: &[u8]) -> Option<(char, usize)> {
    let character = match raw.get(1)? {
        b'u' => return unicode_escape(raw),
        &byte @ (b'"' | b'\\' | b'/') => char::from(byte),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        _ => return None,
    };
    Some((character, 2))
}

/// `\uXXXX`, or two of them that form a surrogate pair.
fn unicode_escape(raw: &[u8]) -> Option<(char, usize)> {
    let first = code_unit(raw)?;
    let second = code_unit(&raw[UNIT..]);
    Some(match char::decode_utf16([first].into_iter().chain(second)).next() {
        Some(Ok(character)) => (character, UNIT * character.len_utf16()),
        _ => (char::REPLACEMENT_CHARACTER, UNIT),
    })
}

/// The length of `\uXXXX`.
const UNIT: usize = 6;

fn code_unit(raw: &[u8]) -> Option<u16> {
    let digits = raw.get(..UNIT)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | u16::from(hex::digit(digit)?)))
}
