//! The configuration's description of itself: every key with its shape, its default, and the
//! comment above it in `config/default.toml`.
//!
//! The keys are those that the reader requests when it reads the reference, which is
//! `config/default.toml` with its commented keys set. The schema and the documentation are
//! generated from the description.

use std::collections::BTreeMap;
use std::mem;

use super::file::File;
use super::key_path::KeyPath;
use super::kind::{Presence, Shape};
use super::layers::Layers;
use super::notes::Asked;
use super::reader::{ANY_NAME, Reader};
use super::{DEFAULTS, Overrides, effective, read};

pub(super) struct Description {
    /// Every key, in the order of `config/default.toml`.
    pub(super) keys: Vec<Key>,
    /// The comment at the top of the file.
    pub(super) introduction: String,
}

/// A key of the configuration.
pub(super) struct Key {
    /// The path, in which `NAME` replaces a name that the user chooses.
    pub(super) form: KeyPath,
    pub(super) shape: Shape,
    pub(super) is_required: bool,
    pub(super) default: Option<serde_json::Value>,
    /// The comment directly above the key, in Markdown.
    pub(super) comment: String,
    /// The commented line, if the key is not set.
    pub(super) example: Option<String>,
}

impl Description {
    pub(super) fn new() -> Self {
        let file =
            File::parse(None, &reference()).unwrap_or_else(|error| panic!("config/default.toml: {error}"));
        let env = BTreeMap::new();
        let (layers, _) = Layers::merge(Some(file), &env, &Overrides::default());
        let (defaults, _) = Layers::merge(None, &env, &Overrides::default());
        let reader = Reader::new(&layers, &env);
        // The reference's secrets are missing, which does not change the keys.
        drop(reader.read(|root| Ok(read(root))));
        let asked = reader.asked();
        let (introduction, comments) = comments(&asked);
        let keys = asked.into_iter().map(|(form, (shape, presence))| {
            let comment = comments.iter().position(|comment| comment.form == form);
            let Comment { text, example, .. } = comment.map(|at| comments[at].clone()).unwrap_or_default();
            let is_required = matches!(presence, Presence::Required);
            let default = match presence {
                Presence::Default(value) => Some(effective::json(&value)),
                Presence::Compiled => defaults.value(&form).map(effective::json),
                Presence::Required | Presence::Optional => None,
            };
            (comment.unwrap_or(usize::MAX), Key { form, shape, is_required, default, comment: text, example })
        });
        let mut keys: Vec<_> = keys.collect();
        keys.sort_by_key(|(place, _)| *place);
        let mut keys: Vec<_> = keys.into_iter().map(|(_, key)| key).collect();
        describe_inline(&mut keys);
        Self { keys, introduction }
    }

    /// The keys of a table.
    pub(super) fn inside(&self, table: &KeyPath) -> impl Iterator<Item = &Key> {
        let table = table.clone();
        self.keys.iter().filter(move |key| key.form.parent() == table)
    }

    /// The key of another table with the same keys, if only that one has a comment.
    pub(super) fn original(&self, key: &Key) -> Option<&Key> {
        let siblings = |key: &Key| {
            let mut names: Vec<_> =
                self.inside(&key.form.parent()).filter_map(|key| key.form.last()).collect();
            names.sort_unstable();
            names
        };
        let is_same = |other: &&Key| other.form.last() == key.form.last() && siblings(other) == siblings(key);
        let mut commented = self.keys.iter().filter(|other| !other.comment.is_empty());
        if key.comment.is_empty() { commented.find(is_same) } else { None }
    }
}

/// Takes the comments of keys in inline tables from the comment of their list, which has an item
/// for each: ``- `key`: text``.
fn describe_inline(keys: &mut [Key]) {
    let lists = keys.iter().filter(|key| key.shape.has_inline_tables());
    let lists: Vec<_> = lists.map(|key| (key.form.clone(), key.comment.clone())).collect();
    for key in keys.iter_mut().filter(|key| key.comment.is_empty()) {
        let list = lists.iter().find(|(form, _)| *form == key.form.parent());
        let (Some((_, comment)), Some(name)) = (list, key.form.last()) else { continue };
        let item = format!("- `{name}`: ");
        let text = comment.lines().skip_while(|line| !line.starts_with(&item));
        let lines = text.enumerate().take_while(|(at, line)| *at == 0 || line.starts_with("  "));
        let lines = lines.map(|(_, line)| line.strip_prefix(&item).unwrap_or(line).trim());
        key.comment = lines.collect::<Vec<_>>().join(" ");
    }
}

/// `config/default.toml` with its commented keys set.
pub(super) fn reference() -> String {
    DEFAULTS.lines().map(uncommented).collect::<Vec<_>>().join("\n")
}

/// The key or table behind `#`, else the line. Comments are `# ` and text, or `#` alone.
fn uncommented(line: &str) -> &str {
    match line.strip_prefix('#') {
        Some(key) if !key.is_empty() && !key.starts_with(' ') => key,
        _ => line,
    }
}

/// The text about a key in the reference.
#[derive(Clone, Default)]
struct Comment {
    form: KeyPath,
    text: String,
    example: Option<String>,
}

/// The comment at the top, and those of keys in their order. Comments of one form are joined.
fn comments(asked: &Asked) -> (String, Vec<Comment>) {
    let mut introduction = None;
    let mut found: Vec<Comment> = Vec::new();
    let mut table = KeyPath::root();
    let mut above: Vec<&str> = Vec::new();
    for line in DEFAULTS.lines() {
        if line == "#" || line.starts_with("# ") {
            above.push(line.get(2..).unwrap_or_default());
            continue;
        }
        let text = mem::take(&mut above).join("\n");
        let key = uncommented(line);
        let form = if key.starts_with('[') {
            let names = key.trim_matches(['[', ']']).split('.');
            table = names.fold(KeyPath::root(), |table, name| form(asked, &table, name));
            Some(table.clone())
        } else {
            let name = key.split_once(" = ").map(|(name, _)| name.trim_matches('"'));
            name.filter(|name| !name.starts_with(' ')).map(|name| form(asked, &table, name))
        };
        let Some(form) = form else {
            introduction.get_or_insert(text);
            continue;
        };
        let example = (key != line && !key.starts_with('[')).then(|| key.to_owned());
        match found.iter_mut().find(|known| known.form == form) {
            Some(known) if known.text.is_empty() => known.text = text,
            Some(known) if !text.is_empty() => known.text += &format!("\n\n{text}"),
            Some(_) => {}
            None => found.push(Comment { form, text, example }),
        }
    }
    (introduction.unwrap_or_default(), found)
}

/// The form of a key in a table.
fn form(asked: &Asked, table: &KeyPath, key: &str) -> KeyPath {
    let (form, named) = (table.key(key), table.key(ANY_NAME));
    if asked.contains_key(&named) && !asked.contains_key(&form) { named } else { form }
}
