//! Values of JSON as they are written.

use super::json;
use super::slots::ERROR_LIMIT;

/// A non-empty string.
pub(super) fn text(value: &[u8]) -> Option<Box<str>> {
    json::string(value).filter(|text| !text.is_empty()).map(String::into_boxed_str)
}

/// An error's text: a string, a number, or a list as written; never a bare word. Zero and an empty
/// list say that there is none.
pub(super) fn saying(value: &[u8]) -> Option<Box<str>> {
    match value.first()? {
        b'"' => json::string(value).map(beginning).filter(|text| !text.is_empty()),
        b'[' if !has_content(value) => None,
        b'-' | b'0' if is_zero(value) => None,
        b'[' | b'-' | b'0'..=b'9' => Some(beginning(String::from_utf8_lossy(value).into_owned())),
        _ => None,
    }
}

fn is_zero(number: &[u8]) -> bool {
    str::from_utf8(number).is_ok_and(|number| number.parse() == Ok(0.0))
}

/// Up to [`ERROR_LIMIT`] bytes, cut at a character boundary.
pub(super) fn beginning(mut text: String) -> Box<str> {
    text.truncate(text.floor_char_boundary(ERROR_LIMIT));
    text.into()
}

/// A string without its quotes. The words compared have no escapes.
pub(super) fn word(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(b"")
}

/// Returns true if this is a non-empty string, list or object.
pub(super) fn has_content(value: &[u8]) -> bool {
    let inside = value.get(1..).unwrap_or_default();
    match value.first() {
        Some(b'"') => inside.first() != Some(&b'"'),
        Some(b'[' | b'{') => !matches!(inside.trim_ascii_start().first(), None | Some(b']' | b'}')),
        _ => false,
    }
}
