//! A typed view of the merged tree. Reading continues after a mistake, so that all of them are
//! found: each read gives the value or [`Noted`], and a struct is built after all its fields were
//! read.
//!
//! A key exists because a section requests it, with its [`Kind`]. A key of the file that no section
//! requested is unknown, and the requested keys are the description of the configuration. So no
//! second list of keys can disagree with the reader.

mod entry;

use std::cell::RefCell;
use std::collections::BTreeMap;

use figment::value::{Dict, Value};

use super::files::Files;
use super::key_path::KeyPath;
use super::kind::{Kind, Presence, Shape};
use super::layers::Layers;
use super::mistakes::{Mistake, Mistakes};
use super::notes::{Asked, Noted, Notes, Read};
pub(super) use entry::{Entry, all};

/// The key of the dictionary in which figment holds a TOML date.
pub(super) const DATE: &str = "$__toml_private_datetime";

/// Replaces a name that the user chooses, in the form of a key.
pub(super) const ANY_NAME: &str = "NAME";

/// Reads one merged tree.
pub(super) struct Reader<'a> {
    layers: &'a Layers,
    env: &'a BTreeMap<String, String>,
    notes: Notes,
}

impl<'a> Reader<'a> {
    /// `env` holds the variables that secrets name.
    pub(super) fn new(layers: &'a Layers, env: &'a BTreeMap<String, String>) -> Self {
        Self::after(Files::default(), layers, env)
    }

    /// Like [`Reader::new`]; adds to `files`.
    pub(super) fn after(files: Files, layers: &'a Layers, env: &'a BTreeMap<String, String>) -> Self {
        Self { layers, env, notes: Notes::after(files) }
    }

    /// Reads the root table.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Table<'_>) -> Read<T>) -> Read<T> {
        let root = KeyPath::root();
        Entry { reader: self, path: root.clone(), form: root, value: self.layers.root() }.table(read)
    }

    /// Reads a part of the root table; its other keys are neither read nor unknown.
    pub(super) fn read_part<T>(&self, read: impl FnOnce(&Table<'_>) -> Read<T>) -> Read<T> {
        let root = KeyPath::root();
        match self.layers.root() {
            Value::Dict(_, entries) => read(&Table::new(self, root.clone(), root, entries)),
            _ => self.read(read),
        }
    }

    /// The value and the warnings, or all mistakes. `variables` are the mistakes in the names of
    /// variables.
    pub(super) fn finish<T>(
        self,
        value: Read<T>,
        variables: Vec<Mistake>,
    ) -> Result<(T, Vec<String>), Mistakes> {
        self.notes.finish(self.layers, value, variables)
    }

    /// Every key that a section requested, by its form.
    pub(super) fn asked(&self) -> Asked {
        self.notes.asked()
    }

    /// The keys of secrets from the environment, with the variables' names.
    pub(super) fn variables(&self) -> Vec<(KeyPath, String)> {
        self.notes.variables()
    }

    /// The files of secrets that were read so far.
    pub(super) fn files(&self) -> Files {
        self.notes.files()
    }
}

/// A table whose keys are fixed.
pub(super) struct Table<'a> {
    reader: &'a Reader<'a>,
    path: KeyPath,
    form: KeyPath,
    entries: &'a Dict,
    asked: RefCell<Vec<&'static str>>,
}

/// The value of a missing section.
static EMPTY: Dict = Dict::new();

impl<'a> Table<'a> {
    /// The value of the key, if it exists.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        kind: Kind<impl FnOnce(&Entry<'_>) -> Read<T>>,
    ) -> Read<Option<T>> {
        let presence = kind.default.map_or(Presence::Optional, Presence::Default);
        self.ask(key, kind.shape, presence).map(|entry| (kind.read)(&entry)).transpose()
    }

    /// The value of the key, or the kind's default.
    pub(super) fn or_default<T>(
        &self,
        key: &'static str,
        kind: Kind<impl FnOnce(&Entry<'_>) -> Read<T>>,
    ) -> Read<T> {
        let default = kind.default.expect("the kind has a default");
        match self.ask(key, kind.shape, Presence::Default(default.clone())) {
            Some(entry) => (kind.read)(&entry),
            None => (kind.read)(&Entry {
                reader: self.reader,
                path: self.path.key(key),
                form: self.form.key(key),
                value: &default,
            }),
        }
    }

    /// The value of a required key. `missing` is the message if it does not exist.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        missing: &str,
        kind: Kind<impl FnOnce(&Entry<'_>) -> Read<T>>,
    ) -> Read<T> {
        match self.ask(key, kind.shape, Presence::Required) {
            Some(entry) => (kind.read)(&entry),
            None => Err(self.mistake(key, format!("is missing: {missing}"))),
        }
    }

    /// The value of a key that `config/default.toml` sets.
    pub(super) fn defaulted<T>(
        &self,
        key: &'static str,
        kind: Kind<impl FnOnce(&Entry<'_>) -> Read<T>>,
    ) -> Read<T> {
        match self.ask(key, kind.shape, Presence::Compiled) {
            Some(entry) => (kind.read)(&entry),
            None => Err(self.mistake(key, "is missing from the compiled-in defaults")),
        }
    }

    /// The key with its value, if it exists, for keys with rules of their own.
    pub(super) fn entry(&self, key: &'static str, shape: Shape) -> Option<Entry<'a>> {
        self.ask(key, shape, Presence::Optional)
    }

    /// The table under the key. Empty if it does not exist.
    pub(super) fn section<T>(&self, key: &'static str, read: impl FnOnce(&Table<'_>) -> Read<T>) -> Read<T> {
        match self.entry(key, Shape::Table) {
            Some(entry) => entry.table(read),
            None => read(&Table::new(self.reader, self.path.key(key), self.form.key(key), &EMPTY)),
        }
    }

    /// The table under the key, if it exists.
    pub(super) fn table<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Table<'_>) -> Read<T>,
    ) -> Read<Option<T>> {
        self.entry(key, Shape::Table).map(|entry| entry.table(read)).transpose()
    }

    /// The `[[key]]` tables.
    pub(super) fn tables(&self, key: &'static str) -> Read<Vec<Entry<'a>>> {
        self.entry(key, Shape::Tables).map_or(Ok(Vec::new()), |entry| entry.items())
    }

    /// The entries under the key, whose names the user chose, in the order of the file. `names` is
    /// a pattern for the names.
    pub(super) fn names(
        &self,
        key: &'static str,
        names: Option<String>,
        shape: Shape,
    ) -> Read<Vec<(String, Entry<'a>)>> {
        let entry = self.entry(key, Shape::Names(names));
        self.reader.notes.ask(self.form.key(key).key(ANY_NAME), shape, Presence::Optional);
        entry.map_or(Ok(Vec::new()), |entry| entry.names())
    }

    /// A value inside this table that was requested before, for rules that read it again.
    pub(super) fn at(&self, keys: &[&str]) -> Option<Entry<'a>> {
        let path = keys.iter().fold(self.path.clone(), |path, key| path.key(key));
        let value = self.reader.layers.value(&path)?;
        Some(Entry { reader: self.reader, form: path.clone(), path, value })
    }

    /// The keys of the table under the key, in any order.
    pub(super) fn keys(&self, key: &str) -> Vec<String> {
        match self.entries.get(key) {
            Some(Value::Dict(_, entries)) => entries.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// Reports a mistake of the key, which may be missing.
    pub(super) fn mistake(&self, key: &'static str, reason: impl Into<String>) -> Noted {
        self.reader.notes.mistake(self.reader.layers, &self.path.key(key), reason)
    }

    /// Reports a value that is allowed but probably a mistake.
    pub(super) fn warning(&self, key: &'static str, reason: &str) {
        self.reader.notes.warning(self.reader.layers, &self.path.key(key), reason);
    }

    /// The process's environment, for variables that are not keys.
    pub(super) fn environment(&self) -> &'a BTreeMap<String, String> {
        self.reader.env
    }

    /// Reports a mistake of a variable that is not a key.
    pub(super) fn variable_mistake(&self, variable: &str, reason: String) -> Noted {
        self.reader.notes.variable_mistake(variable, reason)
    }

    /// Returns true if there is a file, in which keys can be missing.
    pub(super) fn has_file(&self) -> bool {
        self.reader.layers.has_file()
    }

    fn new(reader: &'a Reader<'a>, path: KeyPath, form: KeyPath, entries: &'a Dict) -> Self {
        Self { reader, path, form, entries, asked: RefCell::default() }
    }

    fn ask(&self, key: &'static str, shape: Shape, presence: Presence) -> Option<Entry<'a>> {
        self.asked.borrow_mut().push(key);
        let form = self.form.key(key);
        self.reader.notes.ask(form.clone(), shape, presence);
        let value = self.entries.get(key)?;
        Some(Entry { reader: self.reader, path: self.path.key(key), form, value })
    }

    fn note_unknown(&self) {
        let asked = self.asked.borrow();
        for key in self.entries.keys().filter(|key| !asked.contains(&key.as_str())) {
            self.reader.notes.unknown(self.path.key(key), self.form.key(key));
        }
    }
}
