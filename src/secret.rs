//! A value that does not print itself: keys of upstreams and clients.
//!
//! It promises that no formatting shows it: `Debug` prints `***`, and there is neither `Display` nor `Serialize`. Whoever
//! needs the text says [`Secret::expose`], which can be searched for. The memory is not wiped: the same text was in the
//! environment or in a file, and will be in every request.

use std::fmt;

/// A text that is nobody else's business.
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

#[cfg(test)]
mod tests {
    use super::*;

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
