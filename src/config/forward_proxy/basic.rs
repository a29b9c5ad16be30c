//! `Proxy-Authorization: Basic` (RFC 7617).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::support::secret::Secret;

/// The value of `Proxy-Authorization`, marked sensitive. `username` must have no colon.
pub fn basic(username: &str, password: &Secret) -> HeaderValue {
    debug_assert!(!username.contains(':'), "the first colon ends the name (RFC 7617 section 2)");
    let text = format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.expose())));
    let mut value = HeaderValue::try_from(text).expect("Base64 has only letters, digits, +, / and =");
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_encodes_rfc_example_and_marks_it_sensitive() {
        let value = basic("Aladdin", &Secret::new("open sesame".to_owned()));
        assert_eq!(value, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(value.is_sensitive());
    }
}
