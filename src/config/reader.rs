//! A typed view of the merged tree. Reading goes on after a mistake, so that all of them are found:
//! each read gives the value or [`Noted`], and a struct is built when all its fields have been
//! read.
//!
//! A key exists because somebody asks for it; what is there and was not asked for is unknown. So
//! there is no list of keys that could be forgotten.

mod entry;

use std::cell::RefCell;
use std::collections::BTreeMap;

use figment::value::{Dict, Value};

use super::key_path::KeyPath;
use super::layers::Layers;
use super::mistakes::{Mistake, Mistakes};
use super::notes::{Noted, Notes, Read};
pub(super) use entry::{Entry, all};

/// The key under which TOML dates come.
pub(super) const DATE: &str = "$__toml_private_datetime";

/// Reads one merged tree.
pub(super) struct Reader<'a> {
    layers: &'a Layers,
    env: &'a BTreeMap<String, String>,
    notes: Notes,
}

impl<'a> Reader<'a> {
    /// `env` is where secrets may be.
    pub(super) fn new(layers: &'a Layers, env: &'a BTreeMap<String, String>) -> Self {
        Self { layers, env, notes: Notes::default() }
    }

    /// Reads the root table.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Table<'_>) -> Read<T>) -> Read<T> {
        let root = KeyPath::root();
        Entry { reader: self, path: root.clone(), form: root, value: self.layers.root() }.table(read)
    }

    /// Reads a part of the root table; what else is in it is none of this reader's business.
    pub(super) fn glance<T>(&self, read: impl FnOnce(&Table<'_>) -> Read<T>) -> Read<T> {
        let root = KeyPath::root();
        match self.layers.root() {
            Value::Dict(_, entries) => read(&Table::new(self, root.clone(), root, entries)),
            _ => self.read(read),
        }
    }

    /// The value and the warnings, or every mistake, those of variables' names among them.
    pub(super) fn finish<T>(
        self,
        value: Read<T>,
        variables: Vec<Mistake>,
    ) -> Result<(T, Vec<String>), Mistakes> {
        self.notes.finish(self.layers, value, variables)
    }

    #[cfg(test)]
    pub(super) fn notes(&self) -> &Notes {
        &self.notes
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

/// What every section is that nobody wrote.
static EMPTY: Dict = Dict::new();

impl<'a> Table<'a> {
    /// What the key holds, if it is there.
    pub(super) fn get(&self, key: &'static str) -> Option<Entry<'a>> {
        self.asked.borrow_mut().push(key);
        let form = self.form.key(key);
        self.reader.notes.known(form.clone());
        let value = self.entries.get(key)?;
        Some(Entry { reader: self.reader, path: self.path.key(key), form, value })
    }

    /// The key's value, if it is there.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Entry<'a>) -> Read<T>,
    ) -> Read<Option<T>> {
        self.get(key).map(|entry| read(&entry)).transpose()
    }

    /// The key's value; `missing` says what to write where there is none.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        missing: &str,
        read: impl FnOnce(&Entry<'a>) -> Read<T>,
    ) -> Read<T> {
        match self.get(key) {
            Some(entry) => read(&entry),
            None => Err(self.mistake(key, format!("is missing: {missing}"))),
        }
    }

    /// The value of a key that the compiled-in defaults have.
    pub(super) fn defaulted<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Entry<'a>) -> Read<T>,
    ) -> Read<T> {
        self.required(key, "the compiled-in defaults lack it", read)
    }

    /// The table under the key; an empty one where there is none.
    pub(super) fn section<T>(&self, key: &'static str, read: impl FnOnce(&Table<'a>) -> Read<T>) -> Read<T> {
        match self.get(key) {
            Some(entry) => entry.table(read),
            None => read(&Table::new(self.reader, self.path.key(key), self.form.key(key), &EMPTY)),
        }
    }

    /// The entries under the key, whose names the user chose; none where there is no such table.
    pub(super) fn names(&self, key: &'static str) -> Read<Vec<(String, Entry<'a>)>> {
        self.get(key).map_or(Ok(Vec::new()), |entry| entry.names())
    }

    /// What stands somewhere inside, for rules that look at it again: it was asked for already.
    pub(super) fn at(&self, keys: &[&str]) -> Option<Entry<'a>> {
        let path = keys.iter().fold(self.path.clone(), |path, key| path.key(key));
        let value = self.reader.layers.value(&path)?;
        Some(Entry { reader: self.reader, form: path.clone(), path, value })
    }

    /// Notes a mistake of the key, also of one that is missing.
    pub(super) fn mistake(&self, key: &'static str, reason: impl Into<String>) -> Noted {
        self.reader.notes.mistake(self.reader.layers, &self.path.key(key), reason)
    }

    /// Notes what is allowed and probably not meant.
    pub(super) fn warning(&self, key: &'static str, reason: &str) {
        self.reader.notes.warning(self.reader.layers, &self.path.key(key), reason);
    }

    /// The process's environment, where some things that are no keys are said.
    pub(super) fn environment(&self) -> &'a BTreeMap<String, String> {
        self.reader.env
    }

    /// Notes a mistake of a variable that is no key.
    pub(super) fn variable_mistake(&self, variable: &str, reason: String) -> Noted {
        self.reader.notes.variable_mistake(variable, reason)
    }

    /// Whether there is a file, in which keys can be missing.
    pub(super) fn has_file(&self) -> bool {
        self.reader.layers.has_file()
    }

    fn new(reader: &'a Reader<'a>, path: KeyPath, form: KeyPath, entries: &'a Dict) -> Self {
        Self { reader, path, form, entries, asked: RefCell::default() }
    }

    fn note_unknown(&self) {
        let asked = self.asked.borrow();
        for key in self.entries.keys().filter(|key| !asked.contains(&key.as_str())) {
            self.reader.notes.unknown(self.path.key(key), self.form.key(key));
        }
    }
}
