//! The order and the lines of the keys of a file, which the tree of values, sorted by name, lacks.
//! Mistakes are listed in the order of the file.

use std::collections::BTreeMap;

use toml_edit::{ImDocument, Item, TableLike, TomlError, Value};

use super::key_path::KeyPath;

/// The place of each path in a file. The keys of a table follow it, wherever they are written.
#[derive(Debug, Default)]
pub(super) struct Outline(BTreeMap<KeyPath, Place>);

#[derive(Clone, Copy, Debug)]
struct Place {
    /// The number of the path among all paths of the file.
    position: usize,
    /// The line number, from 1.
    line: usize,
}

impl Outline {
    /// # Errors
    /// Fails if the text is not TOML.
    pub(super) fn of(text: &str) -> Result<Self, TomlError> {
        let document = ImDocument::parse(text)?;
        let mut walk = Walk { outline: Self::default(), lines: Lines::of(text) };
        walk.add(&KeyPath::root(), 1, document.as_item());
        Ok(walk.outline)
    }

    pub(super) fn contains(&self, path: &KeyPath) -> bool {
        self.0.contains_key(path)
    }

    /// The position of the path, or of the nearest enclosing table in the file; the last one for
    /// the root.
    pub(super) fn position(&self, path: &KeyPath) -> usize {
        self.nearest(path).map_or(usize::MAX, |place| place.position)
    }

    /// The line of the path, or of the nearest enclosing table in the file. `None` for the root.
    pub(super) fn line(&self, path: &KeyPath) -> Option<usize> {
        self.nearest(path).map(|place| place.line)
    }

    fn nearest(&self, path: &KeyPath) -> Option<Place> {
        path.outwards().find_map(|path| self.0.get(&path).copied())
    }
}

struct Walk {
    outline: Outline,
    lines: Lines,
}

impl Walk {
    fn add(&mut self, path: &KeyPath, line: usize, item: &Item) {
        match item {
            Item::Value(value) => self.add_value(path, line, value),
            Item::Table(table) => self.add_table(path, line, table),
            Item::ArrayOfTables(tables) => {
                self.note(path, line);
                for (index, table) in tables.iter().enumerate() {
                    self.add_table(&path.index(index), self.lines.at(table.span(), line), table);
                }
            }
            Item::None => {}
        }
    }

    fn add_value(&mut self, path: &KeyPath, line: usize, value: &Value) {
        match value {
            Value::InlineTable(table) => self.add_table(path, line, table),
            Value::Array(values) => {
                self.note(path, line);
                for (index, value) in values.iter().enumerate() {
                    self.add_value(&path.index(index), self.lines.at(value.span(), line), value);
                }
            }
            _ => self.note(path, line),
        }
    }

    fn add_table(&mut self, path: &KeyPath, line: usize, table: &dyn TableLike) {
        self.note(path, line);
        for (key, item) in table.iter() {
            let span = table.key(key).and_then(toml_edit::Key::span);
            self.add(&path.key(key), self.lines.at(span, line), item);
        }
    }

    fn note(&mut self, path: &KeyPath, line: usize) {
        let position = self.outline.0.len();
        self.outline.0.insert(path.clone(), Place { position, line });
    }
}

/// The offsets of the lines of a text.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self([0].into_iter().chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// The line in which the span begins; `around` without a span.
    fn at(&self, span: Option<std::ops::Range<usize>>, around: usize) -> usize {
        span.map_or(around, |span| self.0.partition_point(|begin| *begin <= span.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(text: &str) -> Outline {
        Outline::of(text).unwrap()
    }

    fn in_order(outline: &Outline) -> Vec<String> {
        let mut paths: Vec<_> = outline.0.iter().collect();
        paths.sort_by_key(|(_, place)| place.position);
        paths.iter().skip(1).map(|(path, _)| path.to_string()).collect()
    }

    #[test]
    fn outline_keeps_the_order_of_the_file() {
        let outline =
            outline("z = 1\n[m]\ny = { b = 1, a = [1, 2.5] }\nx = true\n[a]\n[[r]]\nq = 2024-10-21\n[[r]]\n");
        let expected = [
            "z", "m", "m.y", "m.y.b", "m.y.a", "m.y.a[0]", "m.y.a[1]", "m.x", "a", "r", "r[0]", "r[0].q",
            "r[1]",
        ];
        assert_eq!(in_order(&outline), expected);
    }

    #[test]
    fn table_in_two_parts_has_the_position_of_the_first() {
        let outline = outline("[u.a]\nx = 1\n[s]\n[u.b]\n[u.a.t]\n");
        assert_eq!(in_order(&outline), ["u", "u.a", "u.a.x", "u.a.t", "u.b", "s"]);
    }

    #[test]
    fn missing_key_has_the_position_of_its_table() {
        let outline = outline("[a]\nx = 1\n[b]\ny = 1\n");
        let root = KeyPath::root();
        assert_eq!(outline.position(&root.key("a").key("gone").key("too")), outline.position(&root.key("a")));
        assert!(outline.position(&root.key("gone")) > outline.position(&root.key("b").key("y")));
        assert!(!outline.contains(&root.key("gone")) && outline.contains(&root.key("b")));
    }

    #[test]
    fn outline_has_the_line_of_each_key() {
        let outline = outline(
            "# first\nz = 1\n[m]\ny = { b = 1, a = [1,\n 2] }\n\n[u.a]\nk.l = 1\n[[r]]\nq = 2024-10-21\n[[r]]\n[u.a.t]\nx = \"\"\"\n\n\"\"\"\ny = 1\n",
        );
        let root = KeyPath::root();
        let (m, a, r) = (root.key("m"), root.key("u").key("a"), root.key("r"));
        for (path, line) in [
            (root.key("z"), 2),
            (m.clone(), 3),
            (m.key("y").key("b"), 4),
            (m.key("y").key("a").index(1), 5),
            (a.clone(), 7),
            (a.key("k").key("l"), 8),
            (r.index(0), 9),
            (r.index(0).key("q"), 10),
            (r.index(1), 11),
            (r.index(1).key("gone"), 11),
            (a.key("t"), 12),
            (a.key("t").key("y"), 16),
            (a.key("gone"), 7),
        ] {
            assert_eq!(outline.line(&path), Some(line), "{path}");
        }
        assert_eq!(outline.line(&root.key("gone")), None);
    }
}
