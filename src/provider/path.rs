//! Which paths may be put behind an upstream's own path.
//!
//! A path with dot segments names something above its prefix once a server resolves it (RFC 3986 section
//! 5.2.4), and servers differ in what they decode before they do. So a path is looked at as the most liberal
//! of them would see it: percent-escapes decoded once, an encoded slash a slash, `..;x` a `..` as servlet
//! containers have it. What is refused is refused; what is not is never changed.

/// Whether every server resolves the path to something below its first slash.
///
/// Refused are: no slash at the start; `.`, `..` and empty segments (an empty last one, a slash at the end,
/// is fine); backslashes and control characters, all of these also when percent-encoded; and bytes that
/// cannot stand in a request line's path: a space, `?`, `#`.
pub(crate) fn is_safe(path: &str) -> bool {
    let Some(rest) = path.as_bytes().strip_prefix(b"/") else {
        return false;
    };
    if !rest.iter().all(|&byte| may_stand_in_target(byte) && byte != b'?') {
        return false;
    }
    let mut segment = Segment::Empty;
    for byte in Decoded(rest) {
        segment = match (byte, segment) {
            (0..0x20 | 0x7f | b'\\', _) => return false,
            (b'/', Segment::Other) => Segment::Empty,
            (b'/', _) | (b';', Segment::Dot | Segment::DotDot) => return false,
            (b'.', Segment::Empty) => Segment::Dot,
            (b'.', Segment::Dot) => Segment::DotDot,
            _ => Segment::Other,
        };
    }
    matches!(segment, Segment::Empty | Segment::Other)
}

/// Whether a query can stand in a request line: nothing in it ends the line, the target, or begins a
/// fragment.
pub(crate) fn is_query(query: &str) -> bool {
    query.bytes().all(may_stand_in_target)
}

/// `text` as one path segment: all but RFC 3986's unreserved characters percent-encoded.
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

/// Whether the name of a query parameter is `name`, read as servers do: escapes decoded, case ignored.
pub(crate) fn is_parameter(parameter: &str, name: &str) -> bool {
    let key = parameter.split_once('=').map_or(parameter, |(key, _)| key);
    Decoded(key.as_bytes()).map(|byte| byte.to_ascii_lowercase()).eq(name.bytes())
}

/// The decoded value of the query's first parameter of that name; `None` also where it is no UTF-8.
pub(crate) fn parameter(query: &str, name: &str) -> Option<String> {
    let parameter = query.split('&').find(|parameter| is_parameter(parameter, name))?;
    let value = parameter.split_once('=').map_or("", |(_, value)| value);
    let value = Decoded(value.as_bytes()).collect();
    String::from_utf8(value).ok()
}

/// Not whitespace, not a control character, not a fragment's beginning.
fn may_stand_in_target(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && byte != b'#'
}

/// What a segment is, as far as it was read.
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
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            self.0 = rest;
            return Some(high << 4 | low);
        }
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
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
            "/v1/files/\u{e9}",
        ] {
            assert!(is_safe(path), "{path} must pass");
        }
    }

    #[test]
    fn whatever_could_leave_the_prefix_is_refused() {
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
