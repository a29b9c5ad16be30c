//! The tags of requests: from the header `x-streamgauge-tags: team=search, feature=summary`, from
//! `metadata` of the body, and fixed ones of a client or a key.
//!
//! Tags only sort usage, so that a request with a bad tag is served without it: metering may lose a
//! number, never a request. Of several values of a tag a fixed one counts, else one of the header,
//! else one of the body. In the header the last one counts, which a proxy in front can append.

use std::borrow::Cow;
use std::sync::Arc;

use crate::codec::head::{Headers, KnownName};
use crate::support::tags::{Tag, TagName, Tags, tag_value};

/// The request header with tags. It is not forwarded, like all of streamgauge's own headers.
pub const TAGS_HEADER: &str = "x-streamgauge-tags";

/// A tag that the operator lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagRule {
    /// The name.
    pub name: TagName,
    /// The value may come from `metadata` of a body.
    pub is_in_metadata: bool,
    /// The tag is counted in metrics.
    pub is_in_metrics: bool,
}

/// The listed tags; at least one, each name once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRules(Vec<TagRule>);

/// The tags of a request so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundTags {
    /// `None`: there are none.
    pub tags: Option<Arc<Tags>>,
    /// The number of tags that were left out: their names are not listed, or they are malformed.
    pub dropped: u64,
}

impl TagRules {
    /// `None` if no tag is listed, so that a request need not be looked at.
    pub fn new(rules: impl IntoIterator<Item = TagRule>) -> Option<Self> {
        let rules: Vec<_> = rules.into_iter().collect();
        (!rules.is_empty()).then_some(Self(rules))
    }

    /// Fixed tags. Those that are not listed are left out.
    pub fn fixed<'a>(&self, tags: impl IntoIterator<Item = (&'a str, &'a str)>) -> Tags {
        Tags::new(tags.into_iter().filter_map(|(name, value)| self.tag(name, value)))
    }

    /// Reads the tags in a request's head, beside the fixed ones.
    pub fn in_head(&self, headers: &Headers, fixed: Option<&Arc<Tags>>) -> FoundTags {
        let fixed = fixed.cloned();
        if !headers.has(KnownName::AnyOwn) {
            return FoundTags { tags: fixed, dropped: 0 };
        }
        let (mut tags, mut dropped) = (Tags::default(), 0);
        for field in headers.iter().filter(|field| field.is_named(TAGS_HEADER)) {
            for pair in field.value().split(|byte| *byte == b',').filter(|pair| !pair.trim_ascii().is_empty())
            {
                match self.pair(pair) {
                    Some(tag) => tags.set(tag),
                    None => dropped += 1,
                }
            }
        }
        fixed.iter().flat_map(|fixed| fixed.iter()).for_each(|tag| tags.set(tag.clone()));
        FoundTags { tags: (!tags.is_empty()).then(|| Arc::new(tags)), dropped }
    }

    /// Returns true if `metadata` of a body has tags.
    pub fn reads_metadata(&self) -> bool {
        self.0.iter().any(|rule| rule.is_in_metadata)
    }

    /// Adds a member of a body's `metadata`, if it is listed. `value`: `None` if it is not a text.
    pub fn add_member(&self, found: &mut FoundTags, key: &str, value: Option<Cow<'_, str>>) {
        let Some(rule) = self.rule(key).filter(|rule| rule.is_in_metadata) else { return };
        match value.as_deref().and_then(|value| rule.tag(value)) {
            Some(tag) => Arc::make_mut(found.tags.get_or_insert_default()).set(tag),
            None => found.dropped += 1,
        }
    }

    /// `name=value`.
    fn pair(&self, pair: &[u8]) -> Option<Tag> {
        let (name, value) = str::from_utf8(pair).ok()?.split_once('=')?;
        self.tag(name.trim(), value)
    }

    fn tag(&self, name: &str, value: &str) -> Option<Tag> {
        self.rule(name)?.tag(value)
    }

    /// The listed tag of this name, in any case.
    fn rule(&self, name: &str) -> Option<&TagRule> {
        self.0.iter().find(|rule| rule.name.as_str().eq_ignore_ascii_case(name))
    }
}

impl FoundTags {
    /// Adds tags that have precedence over these.
    #[must_use]
    pub fn beneath(mut self, above: Option<Arc<Tags>>) -> Self {
        match (&mut self.tags, above) {
            (_, None) => {}
            (None, above) => self.tags = above,
            (Some(tags), Some(above)) => {
                let tags = Arc::make_mut(tags);
                above.iter().for_each(|tag| tags.set(tag.clone()));
            }
        }
        self
    }
}

impl TagRule {
    fn tag(&self, value: &str) -> Option<Tag> {
        let value = tag_value(value)?.into();
        Some(Tag { name: self.name, value, is_in_metrics: self.is_in_metrics })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::tags::MAX_TAG_VALUE;

    fn rules() -> TagRules {
        let rule = |name, is_in_metadata| TagRule {
            name: TagName::parse(name).unwrap(),
            is_in_metadata,
            is_in_metrics: name == "team",
        };
        TagRules::new([rule("team", true), rule("feature", false)]).unwrap()
    }

    fn shown(found: &FoundTags) -> (String, u64) {
        (found.tags.as_ref().map_or_else(String::new, |tags| tags.to_string()), found.dropped)
    }

    fn in_head(lines: &[&str], fixed: &[(&str, &str)]) -> FoundTags {
        let mut headers = Headers::default();
        headers.append(b"x-streamgauge-on-disconnect", b"drain");
        lines.iter().for_each(|line| headers.append(b"X-Streamgauge-Tags", line.as_bytes()));
        let fixed = Arc::new(rules().fixed(fixed.iter().copied()));
        rules().in_head(&headers, (!fixed.is_empty()).then_some(&fixed))
    }

    #[test]
    fn head_gives_listed_tags_and_counts_the_others() {
        let long = format!("team={}", "v".repeat(MAX_TAG_VALUE + 1));
        for (lines, fixed, expected, dropped) in [
            (&[][..], &[][..], "", 0),
            (&["team=search, feature=summary"], &[], r#"{"feature":"summary","team":"search"}"#, 0),
            (&[" TEAM = a b ,,"], &[], r#"{"team":"a b"}"#, 0),
            (&["team=a", "team=b"], &[], r#"{"team":"b"}"#, 0),
            (&["team=a=b"], &[], r#"{"team":"a=b"}"#, 0),
            (&["team=ä"], &[], r#"{"team":"ä"}"#, 0),
            (&["cost=7, team=a, team, =b, team="], &[], r#"{"team":"a"}"#, 4),
            (&[&*long], &[], "", 1),
            (&["team=a, feature=b"], &[("team", "own")], r#"{"feature":"b","team":"own"}"#, 0),
            (&[], &[("team", "own"), ("other", "x")], r#"{"team":"own"}"#, 0),
        ] {
            let found = in_head(lines, fixed);
            assert_eq!(shown(&found), (expected.to_owned(), dropped), "{lines:?} {fixed:?}");
        }
    }

    #[test]
    fn fixed_tags_alone_are_shared() {
        let fixed = Arc::new(rules().fixed([("team", "own")]));
        let found = rules().in_head(&Headers::default(), Some(&fixed));
        assert!(Arc::ptr_eq(&found.tags.unwrap(), &fixed));
    }

    #[test]
    fn metadata_gives_listed_tags_that_the_head_lacks() {
        for (line, key, value, expected, dropped) in [
            ("", "team", Some("a"), r#"{"team":"a"}"#, 0),
            ("team=b", "team", Some("a"), r#"{"team":"b"}"#, 0),
            ("feature=b", "team", Some("a, b"), r#"{"feature":"b","team":"a, b"}"#, 0),
            ("", "feature", Some("a"), "", 0),
            ("", "session", Some("a"), "", 0),
            ("", "team", Some("a\n"), r#"{"team":"a"}"#, 0),
            ("", "team", Some("a\nb"), "", 1),
            ("", "team", None, "", 1),
        ] {
            let mut found = FoundTags::default();
            rules().add_member(&mut found, key, value.map(Cow::Borrowed));
            let found = found.beneath(in_head(&[line], &[]).tags);
            assert_eq!(shown(&found), (expected.to_owned(), dropped), "{line} {key} {value:?}");
        }
        assert!(rules().reads_metadata());
    }

    #[test]
    fn last_of_two_equal_members_counts() {
        let mut found = FoundTags::default();
        for value in ["a", "b"] {
            rules().add_member(&mut found, "team", Some(value.into()));
        }
        assert_eq!(shown(&found), (r#"{"team":"b"}"#.to_owned(), 0));
    }

    #[test]
    fn no_listed_tag_means_no_rules() {
        assert_eq!(TagRules::new([]), None);
    }
}
