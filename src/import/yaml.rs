//! A YAML file as a tree whose values know their lines.

use saphyr::{LoadableYamlNode as _, MarkedYaml, Scalar, YamlData};

/// The deepest nesting. A configuration has seven levels.
const MAX_DEPTH: usize = 64;

/// A value with the line where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    /// The entries in the order of the file. No key occurs twice.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Parses the first document. An empty text is null.
    ///
    /// # Errors
    /// Fails with a message that has the line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let documents = MarkedYaml::load_from_str(text).map_err(|error| format!("is not YAML: {error}"))?;
        match documents.first() {
            Some(document) => node(document, 0),
            None => Ok(Self { line: 1, value: Value::Null }),
        }
    }

    /// The value of a key, if this is a map that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// The entries; none if this is no map.
    pub(super) fn entries(&self) -> &[(String, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items; none if this is no list.
    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text.trim()).filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    /// A number, also one in quotes.
    pub(super) fn number(&self) -> Option<f64> {
        match &self.value {
            Value::Number(number) => Some(*number),
            Value::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
        .filter(|number: &f64| number.is_finite())
    }

    /// A whole number that is not negative.
    pub(super) fn count(&self) -> Option<u64> {
        self.number()
            .filter(|number| *number >= 0.0 && number.fract() == 0.0 && *number < 1e15)
            .map(|n| n as u64)
    }

    pub(super) fn is_true(&self) -> bool {
        self.value == Value::Bool(true)
    }

    /// Returns true for a value that changes nothing: null, `false`, and empty lists, maps and texts.
    pub(super) fn is_off(&self) -> bool {
        match &self.value {
            Value::Null | Value::Bool(false) => true,
            Value::Text(text) => text.trim().is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
            Value::Bool(true) | Value::Number(_) => false,
        }
    }
}

fn node(yaml: &MarkedYaml<'_>, depth: usize) -> Result<Node, String> {
    let line = yaml.span.start.line();
    if depth > MAX_DEPTH {
        return Err(format!("is nested more than {MAX_DEPTH} levels deep in line {line}"));
    }
    let value = match &yaml.data {
        YamlData::Value(scalar) => value(scalar),
        YamlData::Sequence(items) => {
            Value::List(items.iter().map(|item| node(item, depth + 1)).collect::<Result<_, _>>()?)
        }
        YamlData::Mapping(entries) => {
            let entry = |(key, value): (&MarkedYaml<'_>, &MarkedYaml<'_>)| {
                let name = match &key.data {
                    YamlData::Value(scalar) => shown(scalar),
                    _ => return Err(format!("has a key that is no text in line {}", key.span.start.line())),
                };
                // A value of several lines begins below its key.
                let value = Node { line: key.span.start.line(), ..node(value, depth + 1)? };
                Ok((name, value))
            };
            Value::Map(merged(entries.iter().map(entry).collect::<Result<_, _>>()?))
        }
        YamlData::Tagged(_, inner) => node(inner, depth + 1)?.value,
        YamlData::Representation(text, ..) => Value::Text(text.to_string()),
        YamlData::Alias(_) | YamlData::BadValue => {
            return Err(format!("has a value that cannot be read in line {line}"));
        }
    };
    Ok(Node { line, value })
}

/// Puts the entries of maps under the key `<<` in its place, unless the map has them itself.
fn merged(entries: Vec<(String, Node)>) -> Vec<(String, Node)> {
    let (merges, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| key == "<<");
    for (_, merge) in merges {
        let maps = if let Value::List(maps) = merge.value { maps } else { vec![merge] };
        for (key, node) in maps.into_iter().flat_map(|map| map.entries().to_vec()) {
            if own.iter().all(|(known, _)| *known != key) {
                own.push((key, node));
            }
        }
    }
    own
}

fn value(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(value) => Value::Bool(*value),
        Scalar::Integer(value) => Value::Number(*value as f64),
        Scalar::FloatingPoint(value) => Value::Number(value.into_inner()),
        Scalar::String(text) => Value::Text(text.to_string()),
    }
}

fn shown(scalar: &Scalar<'_>) -> String {
    match scalar {
        Scalar::Null => "null".to_owned(),
        Scalar::Boolean(value) => value.to_string(),
        Scalar::Integer(value) => value.to_string(),
        Scalar::FloatingPoint(value) => value.into_inner().to_string(),
        Scalar::String(text) => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_types_and_lines() {
        let text = "# comment\na: 1\nb:\n  - x\n  - 2.5\nc: {d: \"7\", e: true, f: }\ng: 2024-10-21\n1: y\n";
        let root = Node::parse(text).unwrap();
        let names: Vec<_> = root.entries().iter().map(|(name, node)| (name.as_str(), node.line)).collect();
        assert_eq!(names, [("a", 2), ("b", 3), ("c", 6), ("g", 7), ("1", 8)]);
        let at = |key| root.get(key).unwrap();
        assert_eq!((at("a").count(), at("g").text()), (Some(1), Some("2024-10-21")));
        assert_eq!((at("b").items()[0].text(), at("b").items()[1].number()), (Some("x"), Some(2.5)));
        assert_eq!((at("b").items()[1].count(), at("c").get("d").unwrap().count()), (None, Some(7)));
        assert!(at("c").get("e").unwrap().is_true() && at("c").get("f").unwrap().is_off());
    }

    #[test]
    fn anchors_are_followed_and_merged() {
        let merged = Node::parse("a: &x {k: v, l: 1}\nb: {<<: *x, l: 2}\n").unwrap();
        let b = merged.get("b").unwrap();
        assert_eq!((b.get("k").unwrap().text(), b.get("l").unwrap().count()), (Some("v"), Some(2)));
        assert_eq!(b.entries().len(), 2);
        let root = Node::parse("a: &x {k: v}\nb: *x\n").unwrap();
        assert_eq!(root.get("b").unwrap().get("k").unwrap().text(), Some("v"));
        assert_eq!(Node::parse("").unwrap().value, Value::Null);
    }

    #[test]
    fn text_that_is_not_yaml_fails_with_its_line() {
        for text in ["a: [1", "a: b: c", "a: 1\na: 2\n", "a: 'x"] {
            let error = Node::parse(text).unwrap_err();
            assert!(error.starts_with("is not YAML: ") && error.contains("line"), "{text:?}: {error}");
        }
        assert!(Node::parse(&"[".repeat(100_000)).is_err());
        assert!(Node::parse("? [a]\n: b").unwrap_err().contains("line 1"));
    }
}
