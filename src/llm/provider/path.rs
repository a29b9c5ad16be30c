//! Decides which paths may follow an upstream's own path.
//!
//! A path with dot segments names something above its prefix once a server resolves it (RFC 3986
//! section 5.2.4), and servers differ in what they decode before they do. So a path is judged by
//! the most liberal reading: percent-escapes are decoded, an encoded slash is a slash, `..;x` is
//! `..` as in servlet containers, and `..?x` or `..#x` is `..` as for a server behind a hop that
//! decodes. An unsafe path is refused; a safe one is never changed.

use crate::support::hex;

/// The largest number of times that a path may be encoded. No client encodes a segment more than
/// twice.
const MAX_ENCODINGS: usize = 4;

/// Returns true if every server resolves the path to something below its first slash.
///
/// Refuses: no slash at the start; `.`, `..` and empty segments (a slash at the end is allowed);
/// backslashes, control characters and overlong UTF-8, all of these also percent-encoded; dot
/// segments that appear after repeated decoding; and bytes that cannot appear in a request line's
/// path: a space, `?`, `#`.
pub(crate) fn is_safe(path: &str) -> bool {
    let Some(rest) = path.as_bytes().strip_prefix(b"/") else {
        return false;
    };
    if is_plain(rest) {
        return true;
    }
    if !rest.iter().all(|&byte| may_stand_in_target(byte) && byte != b'?') {
        return false;
    }
    let mut segment = Segment::Empty;
    let (mut previous, mut may_be_encoded_again) = (0, false);
    for byte in Decoded(rest) {
        may_be_encoded_again |= byte == b'%';
        segment = match (byte, segment) {
            (0..0x20 | 0x7f | b'\\', _) => return false,
            (0x80..0xc0, _) if is_overlong(previous, byte) => return false,
            (b'/', Segment::Other) => Segment::Empty,
            (b'/', _) | (b';' | b'?' | b'#', Segment::Dot | Segment::DotDot) => return false,
            // Some file systems ignore a space at the end.
            (b' ', Segment::Dot | Segment::DotDot) => segment,
            (b'.', Segment::Empty) => Segment::Dot,
            (b'.', Segment::Dot) => Segment::DotDot,
            _ => Segment::Other,
        };
        previous = byte;
    }
    matches!(segment, Segment::Empty | Segment::Other) && !(may_be_encoded_again && hides_dot_segment(rest))
}

/// Returns true if a path consists of letters, digits, hyphens and underscores, without an empty
/// segment. Most paths do, and no server resolves them to anything else.
fn is_plain(path: &[u8]) -> bool {
    let (mut is_plain, mut previous) = (true, b'/');
    for &byte in path {
        is_plain &= PLAIN[usize::from(byte)] & !(byte == b'/' && previous == b'/');
        previous = byte;
    }
    is_plain
}

static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        plain[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'/' | b'-' | b'_');
        byte += 1;
    }
    plain
};

/// Returns true if a path has a dot segment once it is decoded more than once, or is encoded more
/// often than any client does.
fn hides_dot_segment(path: &[u8]) -> bool {
    let mut decoded: Vec<u8> = Decoded(path).collect();
    for _ in 1..MAX_ENCODINGS {
        let again: Vec<u8> = Decoded(&decoded).collect();
        if again == decoded {
            return false;
        }
        let has_overlong = again.windows(2).any(|pair| is_overlong(pair[0], pair[1]));
        if has_overlong || again.split(|byte| b"/\\".contains(byte)).any(is_dot_segment) {
            return true;
        }
        decoded = again;
    }
    true
}

/// Returns true for `.` or `..`, also with a suffix that some servers remove before they compare:
/// parameters, a query, a control character, spaces.
fn is_dot_segment(segment: &[u8]) -> bool {
    let Some(rest) = segment.strip_prefix(b".") else { return false };
    match rest.strip_prefix(b".").unwrap_or(rest) {
        [0..0x20 | 0x7f | b';' | b'?' | b'#', ..] => true,
        rest => rest.iter().all(|&byte| byte == b' '),
    }
}

/// Returns true if the two bytes begin an overlong form of a character (RFC 3629 section 3), which
/// lenient decoders accept for a dot or a slash.
fn is_overlong(lead: u8, next: u8) -> bool {
    matches!((lead, next), (0xc0 | 0xc1, 0x80..0xc0) | (0xe0, 0x80..0xa0) | (0xf0, 0x80..0x90))
}

/// Returns true if a query can appear in a request line: no byte ends the line or the target, or
/// begins a fragment.
pub(crate) fn is_query(query: &str) -> bool {
    query.bytes().all(may_stand_in_target)
}

/// `text` as one path segment: all except RFC 3986's unreserved characters are percent-encoded.
pub(crate) fn push_segment(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// Returns true if the name of a query parameter is `name`, compared as servers do: escapes
/// decoded, case ignored.
pub(crate) fn is_parameter(parameter: &str, name: &str) -> bool {
    let key = parameter.split_once('=').map_or(parameter, |(key, _)| key);
    Decoded(key.as_bytes()).map(|byte| byte.to_ascii_lowercase()).eq(name.bytes())
}

/// The decoded value of the query's first parameter of that name. `None` also if it is not UTF-8.
pub(crate) fn parameter(query: &str, name: &str) -> Option<String> {
    let parameter = query.split('&').find(|parameter| is_parameter(parameter, name))?;
    decoded(parameter.split_once('=').map_or("", |(_, value)| value))
}

/// The text with its percent-escapes decoded once. `None` if the result is not UTF-8.
pub(crate) fn decoded(text: &str) -> Option<String> {
    String::from_utf8(Decoded(text.as_bytes()).collect()).ok()
}

/// The bytes with each valid percent-escape decoded, once.
pub(crate) fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    Decoded(bytes).collect()
}

/// Returns true unless the byte is whitespace, a control character, or begins a fragment.
fn may_stand_in_target(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && byte != b'#'
}

/// The kind of a segment, as far as it was read.
#[derive(Clone, Copy)]
enum Segment {
    Empty,
    Dot,
    DotDot,
    Other,
}

/// The bytes with each valid percent-escape decoded, once.
struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if let [b'%', high, low, rest @ ..] = self.0
            && let (Some(high), Some(low)) = (hex::digit(*high), hex::digit(*low))
        {
            self.0 = rest;
            return Some(high << 4 | low);
        }
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_are_safe() {
        for path in [
            "/",
            "/v1/chat/completions",
            "/v1/models/",
            "/v1/models/meta-llama%2FLlama-3",
            "/v1/files/a.b..c",
            "/v1/files/...",
            "/v1/files/.hidden",
            "/v1/files/%zz%2",
            "/v1/files/a;b=c",
            "/v1/files/a%20b",
            "/v1/files/100%25.txt",
            "/v1/files/100%",
            "/v1/models/org%252Fname",
            "/v1/models/org%2Fname",
            "/v1/files/what%3f",
            "/v1/files/a.%3f",
            "/v1/files/...%3fx",
            "/v1/files/..a%23b",
            "/v1/files/%2e%2ea",
            "/v1/files/.%20a",
            "/v1/files/%c3%a9%e2%82%ac%f0%9f%98%80",
            "/v1/files/%e0%a4%85",
            "/v1/files/\u{e9}",
        ] {
            assert!(is_safe(path), "{path} must pass");
        }
    }

    #[test]
    fn path_that_could_leave_the_prefix_is_refused() {
        for path in [
            "",
            "v1/models",
            "/..",
            "/.",
            "/v1/..",
            "/v1/../admin",
            "/v1/./models",
            "/v1//models",
            "//v1",
            "/v1/%2e%2e/admin",
            "/v1/%2E./admin",
            "/v1/.%2e",
            "/v1/a%2f..%2fadmin",
            "/v1/a%2F%2Fb",
            "/v1/a\\..\\b",
            "/v1/a%5c..%5Cb",
            "/v1/..;x=y/admin",
            "/v1/%2e%2e%3bx/admin",
            "/v1/..%3fx",
            "/v1/..%23x",
            "/v1/%2e%2e%3Fx/admin",
            "/v1/.%3f",
            "/v1/..%20/admin",
            "/v1/..%09/admin",
            "/v1/..%00",
            "/v1/%2e%2e%5cadmin",
            "/v1/..%2fadmin",
            "/v1/%252e%252e/admin",
            "/v1/%252e./admin",
            "/v1/..%252fadmin",
            "/v1/a%252f..%252fadmin",
            "/v1/a%255c..%255cadmin",
            "/v1/..%253fx",
            "/v1/..%253bx/admin",
            "/v1/%25252e%25252e/admin",
            "/v1/%2525252525252e",
            "/v1/%c0%ae%c0%ae/admin",
            "/v1/%C0%AE./admin",
            "/v1/..%c0%afadmin",
            "/v1/..%c1%9cadmin",
            "/v1/%e0%80%ae%e0%80%ae/admin",
            "/v1/%f0%80%80%ae",
            "/v1/%25c0%25ae%25c0%25ae/admin",
            "/v1/a b",
            "/v1/a\tb",
            "/v1/a%0d%0ab",
            "/v1/a%00",
            "/v1/a\u{7f}",
            "/v1/a?b",
            "/v1/a#b",
        ] {
            assert!(!is_safe(path), "{path:?} must be refused");
        }
    }

    #[test]
    fn a_segment_is_encoded_and_nothing_of_it_is_a_separator() {
        let mut out = String::new();
        push_segment(&mut out, "a-Z_0.~/?#%& \u{e9}");
        assert_eq!(out, "a-Z_0.~%2F%3F%23%25%26%20%C3%A9");
    }

    #[test]
    fn a_parameters_name_is_read_as_servers_do() {
        for yes in ["api-version=1", "api-version", "API-Version=", "api%2Dversion=x"] {
            assert!(is_parameter(yes, "api-version"), "{yes}");
        }
        for no in ["api-versions=1", "x=api-version", "", "api-versio"] {
            assert!(!is_parameter(no, "api-version"), "{no}");
        }
    }
}
