//! `[tags]`: the tags of requests; and the fixed tags of clients and keys.

use super::kind::{Kind, Shape, list, parsed};
use super::notes::Read;
use super::reader::{Entry, Table, all};
use crate::gate::TagRule;
use crate::support::tags::{MAX_TAG_NAME, MAX_TAG_VALUE, MAX_TAGS, TagName, tag_value};

/// The pattern of names.
const NAME_PATTERN: &str = "^[a-z0-9_-]{1,32}$";

/// `[tags]`, in the order of `names`.
pub(super) fn tags(table: &Table<'_>) -> Read<Vec<TagRule>> {
    let none = Vec::<&str>::new;
    let names = table.or_default("names", list(name()).then(check_names).default(none()));
    let metadata = table.or_default("metadata", list(name()).default(none()));
    let metrics = table.or_default("metrics", list(name()).default(none()));
    let (names, metadata, metrics) = (names?, metadata?, metrics?);
    for (key, chosen) in [("metadata", &metadata), ("metrics", &metrics)] {
        if let Some(name) = chosen.iter().find(|name| !names.contains(name)) {
            return Err(table.mistake(key, format!("{name:?} is not one of tags.names: add it there")));
        }
    }
    let rule = |name| TagRule {
        name,
        is_in_metadata: metadata.contains(&name),
        is_in_metrics: metrics.contains(&name),
    };
    Ok(names.into_iter().map(rule).collect())
}

fn name() -> Kind<impl Fn(&Entry<'_>) -> Read<TagName>> {
    parsed("name of a tag", Some(NAME_PATTERN), "text in quotes, such as \"team\"", |text| {
        TagName::parse(text).ok_or_else(|| {
            format!(
                "{text:?} is not the name of a tag: write 1 to {MAX_TAG_NAME} lower-case letters, digits, - and _"
            )
        })
    })
}

fn check_names(entry: &Entry<'_>, names: Vec<TagName>) -> Read<Vec<TagName>> {
    if names.len() > MAX_TAGS {
        return Err(
            entry.mistake(format!("has {} names: a request has at most {MAX_TAGS} tags", names.len()))
        );
    }
    match names.iter().enumerate().find(|(place, name)| names[..*place].contains(name)) {
        Some((_, name)) => Err(entry.mistake(format!("has {name:?} twice"))),
        None => Ok(names),
    }
}

/// The fixed tags under `tags` of a client or a key. `rules`: `None` if `[tags]` has a mistake.
pub(super) fn fixed(table: &Table<'_>, rules: Option<&[TagRule]>) -> Read<Vec<(String, String)>> {
    let tags = table.names("tags", Some(NAME_PATTERN.to_owned()), Shape::Text("value of a tag", None))?;
    all(tags.into_iter().map(|(name, entry)| {
        let value = entry.text("text in quotes, such as \"search\"")?;
        let is_listed = |rules: &[TagRule]| rules.iter().any(|rule| rule.name.as_str() == name);
        if !rules.is_none_or(is_listed) {
            return Err(entry.mistake(format!("is not listed: add {name:?} to names in [tags]")));
        }
        match tag_value(value) {
            Some(value) => Ok((name, value.to_owned())),
            None => Err(entry.mistake(format!(
                "is not the value of a tag: write 1 to {MAX_TAG_VALUE} bytes without control characters"
            ))),
        }
    }))
}
