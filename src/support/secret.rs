//! A value that does not print itself: keys of upstreams and clients.
//!
//! No formatting shows it: `Debug` prints `***`, and there is neither `Display` nor `Serialize`.
//! Code that needs the text calls [`Secret::expose`], which can be searched for. The memory is not
//! wiped: the same text was in the environment or in a file, and will be in every request.

use std::fmt;

/// A secret text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text` from now on.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that sends or compares it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Replaces a secret.
const MASK: &str = "***";

/// The shortest beginning of a secret that is searched for at the end of a text, in bytes.
const MIN_BEGINNING: usize = 8;

/// Removes secrets from texts of the network: an upstream may repeat a secret in an error.
#[derive(Default)]
pub struct Masks {
    /// The longest first, since one may be a part of another.
    secrets: Vec<Box<str>>,
}

impl Masks {
    /// Masks these secrets. If one has a scheme before it (`Bearer ...`), the credential without it
    /// is masked too.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let parts =
            |secret: &'a str| [Some(secret), secret.split_once(' ').map(|(_, credential)| credential)];
        let secrets = secrets.into_iter().flat_map(parts).flatten().filter(|secret| !secret.is_empty());
        let mut secrets: Vec<Box<str>> = secrets.map(Into::into).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self { secrets }
    }

    /// The text with masked secrets. `None` if it contains none. A secret that is cut off at the
    /// end of the text is masked too.
    pub fn mask(&self, text: &str) -> Option<String> {
        let mut masked = None;
        for secret in &self.secrets {
            let text = masked.as_deref().unwrap_or(text);
            if text.contains(&**secret) {
                masked = Some(text.replace(&**secret, MASK));
            }
        }
        let text = masked.as_deref().unwrap_or(text);
        let cut = self.secrets.iter().filter_map(|secret| beginning_at_end(secret, text)).max();
        match cut {
            Some(length) => Some(format!("{}{MASK}", &text[..text.len() - length])),
            None => masked,
        }
    }
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// The length of the longest beginning of `secret` at the end of `text`.
fn beginning_at_end(secret: &str, text: &str) -> Option<usize> {
    let lengths = (MIN_BEGINNING..secret.len()).rev();
    lengths.into_iter().find(|&length| text.as_bytes().ends_with(&secret.as_bytes()[..length]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_take_secrets_out_of_a_text_also_at_its_cut_end() {
        let masks = Masks::new(["sk-1234567890", "Bearer tok-abcdefghij", "", "sk-1234567890-longer"]);
        for (text, expected) in [
            ("no such key: sk-1234567890.", Some("no such key: ***.")),
            ("sk-1234567890-longer and sk-1234567890", Some("*** and ***")),
            ("authorization: Bearer tok-abcdefghij", Some("authorization: ***")),
            ("tok-abcdefghij", Some("***")),
            ("the key sk-12345", Some("the key ***")),
            ("the key sk-1234", None),
            ("", None),
            ("nothing", None),
        ] {
            assert_eq!(masks.mask(text).as_deref(), expected, "{text}");
        }
        assert_eq!(format!("{masks:?}"), "***");
        assert_eq!(Masks::default().mask("sk-1234567890"), None);
    }

    #[test]
    fn debug_shows_neither_the_text_nor_its_length() {
        for text in ["", "sk-marker", "***"] {
            let secret = Secret::new(text.to_owned());
            assert_eq!(format!("{secret:?} {secret:#?}"), "*** ***");
        }
    }

    #[test]
    fn two_are_equal_when_their_texts_are() {
        let secret = Secret::new("a".to_owned());
        assert_eq!(secret, secret.clone());
        assert_ne!(secret, Secret::new("b".to_owned()));
        assert_eq!(secret.expose(), "a");
    }
}
