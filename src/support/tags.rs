//! The tags of a request: names that the operator lists, with values that clients choose.

use std::borrow::Borrow;
use std::fmt;

use serde::{Serialize, Serializer};

/// The largest number of tags of a request, and of names that a configuration lists.
pub const MAX_TAGS: usize = 8;

/// The longest name of a tag, in bytes.
pub const MAX_TAG_NAME: usize = 32;

/// The longest value of a tag, in bytes: as long as the name of a client, so that both fit in the
/// same columns and labels.
pub const MAX_TAG_VALUE: usize = 64;

/// The prefix of a tag's field, in reports and queries.
const PREFIX: &str = "tag.";

/// The name of a tag: 1 to [`MAX_TAG_NAME`] lower-case letters, digits, `-` and `_`, so that it
/// needs no quoting in JSON, SQL, queries and labels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagName {
    /// The field: the prefix, the name, and zeros.
    field: [u8; PREFIX.len() + MAX_TAG_NAME],
    len: u8,
}

impl TagName {
    /// Parses a name. `None`: it is not one.
    pub fn parse(name: &str) -> Option<Self> {
        let is_fit = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        if name.is_empty() || name.len() > MAX_TAG_NAME || !name.bytes().all(is_fit) {
            return None;
        }
        let mut field = [0; PREFIX.len() + MAX_TAG_NAME];
        field[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
        field[PREFIX.len()..][..name.len()].copy_from_slice(name.as_bytes());
        Some(Self { field, len: u8::try_from(PREFIX.len() + name.len()).ok()? })
    }

    /// Parses a field, such as `tag.team`. `None`: it is not one of a tag.
    pub fn of_field(field: &str) -> Option<Self> {
        Self::parse(field.strip_prefix(PREFIX)?)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.field()[PREFIX.len()..]
    }

    /// The field, such as `tag.team`.
    pub fn field(&self) -> &str {
        std::str::from_utf8(&self.field[..self.len.into()]).expect("the name is ASCII")
    }
}

impl fmt::Debug for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Borrow<str> for TagName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

/// The value of a tag without whitespace around it. `None` if it is empty, longer than
/// [`MAX_TAG_VALUE`], or has control characters.
pub fn tag_value(value: &str) -> Option<&str> {
    let value = value.trim();
    let is_fit = !value.is_empty() && value.len() <= MAX_TAG_VALUE && !value.contains(char::is_control);
    is_fit.then_some(value)
}

/// A tag of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The name.
    pub name: TagName,
    /// The value, as [`tag_value`] returns it.
    pub value: Box<str>,
    /// The operator lists the tag for metrics.
    pub is_in_metrics: bool,
}

/// The tags of a request in the order of their names: at most [`MAX_TAGS`], each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Vec<Tag>);

impl Tags {
    /// The tags of these, of which the last one of a name counts.
    pub fn new(tags: impl IntoIterator<Item = Tag>) -> Self {
        let mut all = Self::default();
        tags.into_iter().for_each(|tag| all.set(tag));
        all
    }

    /// Sets a tag in the place of one of the same name. A tag beyond [`MAX_TAGS`] is left out.
    pub fn set(&mut self, tag: Tag) {
        match self.0.binary_search_by(|known| known.name.as_str().cmp(tag.name.as_str())) {
            Ok(place) => self.0[place] = tag,
            Err(place) if self.0.len() < MAX_TAGS => self.0.insert(place, tag),
            Err(_) => {}
        }
    }

    /// The value of a tag.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|tag| tag.name.as_str() == name).map(|tag| &*tag.value)
    }

    /// The tags.
    pub fn iter(&self) -> impl Iterator<Item = &Tag> {
        self.0.iter()
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Tags {
    /// A JSON object of texts.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|tag| (tag.name.as_str(), &*tag.value)))
    }
}

impl fmt::Display for Tags {
    /// The JSON object.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &str, value: &str) -> Tag {
        Tag { name: TagName::parse(name).unwrap(), value: value.into(), is_in_metrics: false }
    }

    #[test]
    fn names_need_no_quoting_and_have_a_bound() {
        let longest = "n".repeat(MAX_TAG_NAME);
        for name in ["a", "team", "cost-center_2", &longest] {
            let parsed = TagName::parse(name).unwrap();
            assert_eq!((parsed.as_str(), parsed.field()), (name, &*format!("tag.{name}")));
            assert_eq!(TagName::of_field(parsed.field()), Some(parsed));
        }
        for name in ["", "Team", "a b", "a.b", "a\"", "ä", &format!("{longest}n")] {
            assert_eq!(TagName::parse(name), None, "{name}");
        }
        assert_eq!(TagName::of_field("team"), None);
    }

    #[test]
    fn values_are_trimmed_and_bounded() {
        let longest = "v".repeat(MAX_TAG_VALUE);
        for (value, expected) in [
            (" search ", Some("search")),
            ("Zoë's \"own\"", Some("Zoë's \"own\"")),
            (&longest, Some(&*longest)),
            ("", None),
            ("  ", None),
            ("a\u{0}b", None),
            ("a\nb", None),
            (&format!("{longest}v"), None),
        ] {
            assert_eq!(tag_value(value), expected, "{value:?}");
        }
    }

    #[test]
    fn tags_are_an_object_in_the_order_of_names() {
        let tags = Tags::new([tag("team", "a"), tag("feature", "\"b\""), tag("team", "c")]);
        assert_eq!(tags.to_string(), r#"{"feature":"\"b\"","team":"c"}"#);
        assert_eq!((tags.get("team"), tags.get("other")), (Some("c"), None));
    }

    #[test]
    fn tags_beyond_the_limit_are_left_out() {
        let mut tags = Tags::new((0..MAX_TAGS + 3).map(|number| tag(&format!("t{number:02}"), "v")));
        assert_eq!(tags.iter().count(), MAX_TAGS);
        tags.set(tag("t00", "other"));
        assert_eq!(tags.get("t00"), Some("other"));
    }
}
