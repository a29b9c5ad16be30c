//! Reads small complete values.

use memchr::memchr2;

/// The text of a string value, which may be cut off at its end. `None` if it is not a string.
pub(in crate::llm::usage) fn string(value: &[u8]) -> Option<String> {
    let mut rest = value.strip_prefix(b"\"")?;
    // Excludes the closing quote, so that the capacity of a text without escapes is exact.
    let mut text = Vec::with_capacity(rest.len().saturating_sub(1));
    while let Some(end) = memchr2(b'"', b'\\', rest) {
        text.extend_from_slice(&rest[..end]);
        if rest[end] == b'"' {
            return Some(lossy(text));
        }
        rest = unescape(&rest[end + 1..], &mut text);
    }
    text.extend_from_slice(rest);
    Some(lossy(text))
}

/// Replaces invalid UTF-8; valid text is not copied again.
fn lossy(text: Vec<u8>) -> String {
    String::from_utf8(text).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// Appends the character of an escape, and returns what follows it. A cut escape adds nothing.
fn unescape<'a>(escape: &'a [u8], text: &mut Vec<u8>) -> &'a [u8] {
    let Some((&letter, rest)) = escape.split_first() else { return b"" };
    match letter {
        b'b' => text.push(8),
        b'f' => text.push(12),
        b'n' => text.push(b'\n'),
        b'r' => text.push(b'\r'),
        b't' => text.push(b'\t'),
        b'u' => {
            let Some(unit) = hex(rest) else { return b"" };
            let rest = &rest[4..];
            let low = rest.strip_prefix(b"\\u").and_then(hex);
            let (unit, rest) = match (unit, low) {
                (0xd800..0xdc00, Some(low @ 0xdc00..0xe000)) => {
                    (0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00), &rest[6..])
                }
                _ => (unit, rest),
            };
            let character = char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
            text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return rest;
        }
        itself => text.push(itself),
    }
    rest
}

fn hex(digits: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(digits.get(..4)?).ok()?, 16).ok()
}

#[cfg(test)]
mod tests;
