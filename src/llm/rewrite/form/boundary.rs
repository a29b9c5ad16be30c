//! The boundary of a form.

use super::part::parameters;
use crate::codec::head::{Headers, KnownName};

/// The longest boundary (RFC 2046 section 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// The boundary of a form, if there is exactly one `Content-Type`. With several, servers may use
/// any.
pub fn boundary(headers: &Headers) -> Option<Vec<u8>> {
    let mut types = headers.values(KnownName::ContentType);
    let (Some(media_type), None) = (types.next(), types.next()) else { return None };
    let (name, rest) = split(media_type);
    if !name.eq_ignore_ascii_case(b"multipart/form-data") {
        return None;
    }
    let boundary = parameters(rest).find(|(name, _)| name.eq_ignore_ascii_case(b"boundary"))?.1;
    let is_boundary = (1..=MAX_BOUNDARY).contains(&boundary.len()) && !boundary.contains(&b'\n');
    is_boundary.then_some(boundary)
}

/// Splits a media type from its parameters.
fn split(media_type: &[u8]) -> (&[u8], &[u8]) {
    let end = media_type.iter().position(|&byte| byte == b';').unwrap_or(media_type.len());
    (media_type[..end].trim_ascii(), &media_type[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(types: &[&'static str]) -> Option<String> {
        let mut headers = Headers::default();
        types.iter().for_each(|media_type| headers.append(b"content-type", media_type.as_bytes()));
        boundary(&headers).map(|boundary| String::from_utf8(boundary).unwrap())
    }

    #[test]
    fn a_boundary_is_a_token_or_quoted() {
        for (media_type, boundary) in [
            ("multipart/form-data; boundary=abc", "abc"),
            ("Multipart/Form-Data;charset=utf-8;BOUNDARY=abc ; x=y", "abc"),
            ("multipart/form-data; boundary=\"a b;c\\\"d\"", "a b;c\"d"),
            (
                "multipart/form-data; x=\"boundary=no; boundary=no\"; boundary=----WebKitFormBoundary7",
                "----WebKitFormBoundary7",
            ),
        ] {
            assert_eq!(of(&[media_type]).as_deref(), Some(boundary), "{media_type}");
        }
    }

    #[test]
    fn type_without_exactly_one_boundary_has_none() {
        for types in [
            &[][..],
            &["multipart/mixed; boundary=a"],
            &["multipart/form-data"],
            &["multipart/form-data; boundary="],
            &["multipart/form-data; boundary=\"\""],
            &[
                "multipart/form-data; boundary=0123456789012345678901234567890123456789012345678901234567890123456789a",
            ],
            &["multipart/form-data; boundary=a", "multipart/form-data; boundary=a"],
            &["application/json"],
        ] {
            assert_eq!(of(types), None, "{types:?}");
        }
    }
}
