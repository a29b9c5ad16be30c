//! Reads small complete values.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use crate::codec::json::escape;

/// The text of a string value, which may be cut off at its end. `None` if it is not a string.
pub(in crate::llm::usage) fn string(value: &[u8]) -> Option<String> {
    if let [b'"', text @ .., b'"'] = value
        && memchr(b'\\', text).is_none()
    {
        // Quicker than the lossy conversion, which finds pieces.
        let text = str::from_utf8(text).map_or_else(|_| String::from_utf8_lossy(text), Cow::Borrowed);
        return Some(text.into_owned());
    }
    let mut rest = value.strip_prefix(b"\"")?;
    let mut text = Vec::with_capacity(rest.len());
    while let Some(end) = memchr2(b'"', b'\\', rest) {
        text.extend_from_slice(&rest[..end]);
        if rest[end] == b'"' {
            return Some(lossy(text));
        }
        rest = unescape(&rest[end..], &mut text);
    }
    text.extend_from_slice(rest);
    Some(lossy(text))
}

/// Replaces invalid UTF-8; valid text is not copied again.
fn lossy(text: Vec<u8>) -> String {
    String::from_utf8(text).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// Appends the character of the escape that `raw` begins with, and returns what follows it. A cut
/// escape adds nothing; of one that JSON does not have, the backslash is left out.
fn unescape<'a>(raw: &'a [u8], text: &mut Vec<u8>) -> &'a [u8] {
    match (escape(raw), raw) {
        (Some((character, length)), _) => {
            text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            &raw[length..]
        }
        (None, [_, b'u', ..] | [_] | []) => b"",
        (None, [_, itself, rest @ ..]) => {
            text.push(*itself);
            rest
        }
    }
}

#[cfg(test)]
mod tests;
