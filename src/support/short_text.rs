//! A text that is usually short.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::{Serialize, Serializer};

/// The longest text that is kept in place, in bytes: with it, a value takes 40 bytes. Names of
/// models have some 20 bytes, and ids of requests 36.
const INLINE: usize = 38;

/// A text whose first [`INLINE`] bytes need no memory of their own. A record is dropped on another
/// thread than the one that fills it in, where freeing its texts costs more than copying them.
#[derive(Clone)]
pub struct ShortText(Inner);

#[derive(Clone)]
enum Inner {
    /// The first `length` bytes are a text.
    Inline {
        length: u8,
        bytes: [u8; INLINE],
    },
    Long(Box<str>),
}

impl ShortText {
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Inner::Inline { length, bytes } => {
                str::from_utf8(&bytes[..usize::from(*length)]).expect("it was copied from a text")
            }
            Inner::Long(text) => text,
        }
    }

    fn inline(text: &str) -> Option<Self> {
        let mut bytes = [0; INLINE];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self(Inner::Inline { length: text.len() as u8, bytes }))
    }
}

impl From<&str> for ShortText {
    fn from(text: &str) -> Self {
        Self::inline(text).unwrap_or_else(|| Self(Inner::Long(text.into())))
    }
}

impl From<Box<str>> for ShortText {
    fn from(text: Box<str>) -> Self {
        Self::inline(&text).unwrap_or(Self(Inner::Long(text)))
    }
}

impl From<String> for ShortText {
    fn from(text: String) -> Self {
        text.into_boxed_str().into()
    }
}

impl From<Cow<'_, str>> for ShortText {
    fn from(text: Cow<'_, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl Deref for ShortText {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for ShortText {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for ShortText {}

impl fmt::Debug for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl Serialize for ShortText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_any_length_stays_what_it_was() {
        for length in 0..2 * INLINE {
            for text in ["a".repeat(length), "ü".repeat(length)] {
                assert_eq!(*ShortText::from(&*text), *text);
                assert_eq!(*ShortText::from(text.clone().into_boxed_str()), *text);
                assert_eq!(ShortText::from(Cow::Borrowed(&*text)), ShortText::from(text));
            }
        }
    }

    #[test]
    fn short_text_takes_no_more_than_five_words() {
        assert!(size_of::<Option<ShortText>>() <= 40);
    }
}
