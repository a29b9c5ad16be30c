//! The order in which keys stand in a file. The tree of values is sorted by name and has forgotten it, and people read
//! their file, and so the list of its mistakes, from top to bottom.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::key_path::KeyPath;

/// Each path of a file and its place in it. What belongs to a table stands with it, wherever it was written.
#[derive(Debug, Default)]
pub(super) struct Outline(BTreeMap<KeyPath, usize>);

impl Outline {
    pub(super) fn new(shape: &Shape) -> Self {
        let mut outline = Self::default();
        outline.add(&KeyPath::root(), shape);
        outline
    }

    fn add(&mut self, path: &KeyPath, shape: &Shape) {
        self.0.insert(path.clone(), self.0.len());
        match shape {
            Shape::Value => {}
            Shape::Table(entries) => entries.iter().for_each(|(key, shape)| self.add(&path.key(key), shape)),
            Shape::Array(items) => {
                items.iter().enumerate().for_each(|(index, shape)| self.add(&path.index(index), shape));
            }
        }
    }

    /// Whether the file has it.
    pub(super) fn contains(&self, path: &KeyPath) -> bool {
        self.0.contains_key(path)
    }

    /// Where it stands, or failing that what it would be in. What would be at the root comes last.
    pub(super) fn position(&self, path: &KeyPath) -> usize {
        path.outwards().find_map(|path| self.0.get(&path).copied()).unwrap_or(usize::MAX)
    }
}

/// A document's keys in their order, without its values.
pub(super) enum Shape {
    Value,
    Table(Vec<(String, Shape)>),
    Array(Vec<Shape>),
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Value)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Value)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Value)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        let mut shapes = Vec::new();
        while let Some(shape) = items.next_element()? {
            shapes.push(shape);
        }
        Ok(Shape::Array(shapes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shape, A::Error> {
        let mut shapes = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            // Dates come as a table of one key, which is not the user's.
            if key == super::reader::DATE {
                entries.next_value::<IgnoredAny>()?;
            } else {
                shapes.push((key, entries.next_value()?));
            }
        }
        Ok(Shape::Table(shapes))
    }
}

#[cfg(test)]
mod tests {
    use figment::providers::{Format, Toml};

    use super::*;

    fn outline(text: &str) -> Outline {
        Outline::new(&Toml::from_str(text).unwrap())
    }

    fn in_order(outline: &Outline) -> Vec<String> {
        let mut paths: Vec<_> = outline.0.iter().collect();
        paths.sort_by_key(|(_, position)| **position);
        paths.iter().skip(1).map(|(path, _)| path.to_string()).collect()
    }

    #[test]
    fn keys_stand_in_the_order_of_the_file() {
        let outline =
            outline("z = 1\n[m]\ny = { b = 1, a = [1, 2.5] }\nx = true\n[a]\n[[r]]\nq = 2024-10-21\n[[r]]\n");
        let expected = [
            "z", "m", "m.y", "m.y.b", "m.y.a", "m.y.a[0]", "m.y.a[1]", "m.x", "a", "r", "r[0]", "r[0].q",
            "r[1]",
        ];
        assert_eq!(in_order(&outline), expected);
    }

    #[test]
    fn a_table_that_is_taken_up_again_stands_where_it_began() {
        let outline = outline("[u.a]\nx = 1\n[s]\n[u.b]\n[u.a.t]\n");
        assert_eq!(in_order(&outline), ["u", "u.a", "u.a.x", "u.a.t", "u.b", "s"]);
    }

    #[test]
    fn what_is_missing_stands_with_what_it_would_be_in() {
        let outline = outline("[a]\nx = 1\n[b]\ny = 1\n");
        let root = KeyPath::root();
        assert_eq!(outline.position(&root.key("a").key("gone").key("too")), outline.position(&root.key("a")));
        assert!(outline.position(&root.key("gone")) > outline.position(&root.key("b").key("y")));
        assert!(!outline.contains(&root.key("gone")) && outline.contains(&root.key("b")));
    }
}
