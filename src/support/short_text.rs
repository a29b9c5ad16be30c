//! A text that is usually short.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::{Serialize, Serializer};

/// A text that needs no memory of its own up to `INLINE` bytes. It takes two bytes more, in whole
/// words. A record is dropped on another thread than the one that fills it in, where freeing its
/// texts costs more than copying them.
#[derive(Clone)]
pub struct ShortText<const INLINE: usize>(Inner<INLINE>);

#[derive(Clone)]
enum Inner<const INLINE: usize> {
    /// The first `length` bytes are a text.
    Inline {
        length: u8,
        bytes: [u8; INLINE],
    },
    Long(Box<str>),
}

impl<const INLINE: usize> ShortText<INLINE> {
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Inner::Inline { length, bytes } => {
                str::from_utf8(&bytes[..usize::from(*length)]).expect("it was copied from a text")
            }
            Inner::Long(text) => text,
        }
    }

    /// The length in bytes. The text itself is checked for UTF-8 each time that it is read.
    pub fn len(&self) -> usize {
        match &self.0 {
            Inner::Inline { length, .. } => usize::from(*length),
            Inner::Long(text) => text.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn inline(text: &str) -> Option<Self> {
        let mut bytes = [0; INLINE];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self(Inner::Inline { length: text.len() as u8, bytes }))
    }
}

impl<const INLINE: usize> From<&str> for ShortText<INLINE> {
    fn from(text: &str) -> Self {
        Self::inline(text).unwrap_or_else(|| Self(Inner::Long(text.into())))
    }
}

impl<const INLINE: usize> From<Box<str>> for ShortText<INLINE> {
    fn from(text: Box<str>) -> Self {
        Self::inline(&text).unwrap_or(Self(Inner::Long(text)))
    }
}

impl<const INLINE: usize> From<String> for ShortText<INLINE> {
    fn from(text: String) -> Self {
        text.into_boxed_str().into()
    }
}

impl<const INLINE: usize> From<Cow<'_, str>> for ShortText<INLINE> {
    fn from(text: Cow<'_, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl<const INLINE: usize> Deref for ShortText<INLINE> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl<const INLINE: usize> PartialEq for ShortText<INLINE> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<const INLINE: usize> Eq for ShortText<INLINE> {}

impl<const INLINE: usize> fmt::Debug for ShortText<INLINE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<const INLINE: usize> Serialize for ShortText<INLINE> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_any_length_stays_what_it_was() {
        for length in 0..40 {
            for text in ["a".repeat(length), "ü".repeat(length)] {
                assert_eq!(*ShortText::<22>::from(&*text), *text);
                assert_eq!(*ShortText::<22>::from(text.clone().into_boxed_str()), *text);
                assert_eq!(ShortText::<22>::from(Cow::Borrowed(&*text)), ShortText::from(text));
            }
        }
    }

    #[test]
    fn short_text_takes_whole_words() {
        let sizes = [
            size_of::<Option<ShortText<22>>>(),
            size_of::<Option<ShortText<30>>>(),
            size_of::<Option<ShortText<38>>>(),
        ];
        assert_eq!(sizes, [24, 32, 40]);
    }
}
