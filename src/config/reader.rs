//! A typed view of the merged tree. Reading goes on after a mistake, so that all of them are found: each read gives the
//! value or [`Noted`], and a struct is built when all its fields have been read.
//!
//! A key exists because somebody asks for it; what is there and was not asked for is unknown. So there is no list of
//! keys that could be forgotten.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use figment::value::{Dict, Value};

use super::key_path::KeyPath;
use super::layers::{Layer, Layers};
use super::mistakes::{Mistake, Mistakes};
use super::notes::{Noted, Notes, Read};

/// The key under which TOML dates come.
pub(super) const DATE: &str = "$__toml_private_datetime";

/// What stands for a name that the user chooses, in the form of a key.
const ANY_NAME: &str = "NAME";

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

/// A key that is there, and what it holds.
#[derive(Clone)]
pub(super) struct Entry<'a> {
    reader: &'a Reader<'a>,
    path: KeyPath,
    form: KeyPath,
    value: &'a Value,
}

impl<'a> Entry<'a> {
    /// Notes a mistake of this value. `reason` must not show what could be a secret.
    pub(super) fn mistake(&self, reason: impl Into<String>) -> Noted {
        self.reader.notes.mistake(self.reader.layers, &self.path, reason)
    }

    /// Notes what is allowed and probably not meant.
    pub(super) fn warning(&self, reason: &str) {
        self.reader.notes.warning(self.reader.layers, &self.path, reason);
    }

    /// The text, if it is one.
    pub(super) fn as_text(&self) -> Option<&'a str> {
        match self.value {
            Value::String(_, text) => Some(text),
            _ => None,
        }
    }

    /// Any text.
    pub(super) fn text(&self) -> Read<&'a str> {
        self.text_that_is("text in quotes")
    }

    /// Text that `parse` takes; it says what is wrong with others. `what` it is stands in for a value of another type.
    pub(super) fn parse<T>(&self, what: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Read<T> {
        parse(self.text_that_is(what)?).map_err(|reason| self.mistake(reason))
    }

    /// Text, or `None` where it is empty.
    pub(super) fn text_or_none(&self) -> Read<Option<String>> {
        Ok(Some(self.text()?).filter(|text| !text.is_empty()).map(str::to_owned))
    }

    fn text_that_is(&self, what: &str) -> Read<&'a str> {
        self.as_text().ok_or_else(|| self.mistake(format!("must be {what}, not {}", kind(self.value))))
    }

    /// A whole number from 0.
    pub(super) fn integer(&self) -> Read<usize> {
        let number = match self.value {
            Value::Num(_, number) => number.to_u128().or_else(|| number.to_i128()?.try_into().ok()),
            Value::String(_, text) if self.is_from_environment() => text.parse().ok(),
            other => {
                return Err(
                    self.mistake(format!("must be a whole number without quotes, not {}", kind(other)))
                );
            }
        };
        let number = number.and_then(|number| usize::try_from(number).ok());
        number.ok_or_else(|| self.mistake("must be a whole number, 0 or more"))
    }

    /// Yes or no.
    pub(super) fn boolean(&self) -> Read<bool> {
        match self.value {
            Value::Bool(_, value) => Ok(*value),
            Value::String(_, text) if self.is_from_environment() => {
                text.parse().map_err(|_| self.mistake("must be true or false"))
            }
            other => Err(self.mistake(format!("must be true or false without quotes, not {}", kind(other)))),
        }
    }

    /// A number as it would be written by hand: whole, or with its decimals, and never with an exponent. `what` it is stands in for
    /// a value of another type.
    pub(super) fn decimal(&self, what: &str) -> Read<String> {
        match self.value {
            Value::Num(_, number) => Ok(match (number.to_f64(), number.to_i128()) {
                (_, Some(whole)) => whole.to_string(),
                (Some(number), None) => number.to_string(),
                (None, None) => number.to_u128().unwrap_or(u128::MAX).to_string(),
            }),
            other => Err(self.mistake(format!("must be {what}, not {}", kind(other)))),
        }
    }

    /// A date, in quotes or without. `what` it is stands in for a value of another type.
    pub(super) fn date(&self, what: &str) -> Read<&'a str> {
        match self.value {
            Value::Dict(_, entries) if let Some(Value::String(_, date)) = entries.get(DATE) => Ok(date),
            _ => self.text_that_is(what),
        }
    }

    /// Whether it is a number, which some keys take beside text.
    pub(super) fn is_number(&self) -> bool {
        matches!(self.value, Value::Num(..))
    }

    /// Whether it is an array, where some keys take one value or several.
    pub(super) fn is_array(&self) -> bool {
        matches!(self.value, Value::Array(..))
    }

    /// A table whose keys are fixed.
    pub(super) fn table<T>(&self, read: impl FnOnce(&Table<'a>) -> Read<T>) -> Read<T> {
        let table = Table::new(self.reader, self.path.clone(), self.form.clone(), self.entries("a table")?);
        let value = read(&table);
        table.note_unknown();
        value
    }

    /// The entries of a table whose names the user chose, in the order of the file.
    pub(super) fn names(&self) -> Read<Vec<(String, Entry<'a>)>> {
        let entry = |(name, value): (&String, &'a Value)| {
            let (path, form) = (self.path.key(name), self.form.key(ANY_NAME));
            (name.clone(), Entry { reader: self.reader, path, form, value })
        };
        let mut entries: Vec<_> = self.entries("a table of names")?.iter().map(entry).collect();
        entries.sort_by_key(|(_, entry)| self.reader.layers.rank(&entry.path).1);
        Ok(entries)
    }

    /// The items of an array of tables.
    pub(super) fn items(&self) -> Read<Vec<Entry<'a>>> {
        let Value::Array(_, items) = self.value else {
            let reason = if self.is_from_environment() {
                "can only be written in a file".to_owned()
            } else {
                format!("must be [[{}]] tables, not {}", self.path, kind(self.value))
            };
            return Err(self.mistake(reason));
        };
        let item = |(index, value)| Entry {
            reader: self.reader,
            path: self.path.index(index),
            form: self.form.clone(),
            value,
        };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// An array of texts; a variable has them between commas.
    pub(super) fn texts(&self) -> Read<Vec<Text<'a>>> {
        let text = |text: &'a str| Text { entry: self.clone(), text };
        match self.value {
            Value::String(_, list) if self.is_from_environment() => {
                Ok(list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(text).collect())
            }
            Value::Array(_, items) => all(items.iter().enumerate().map(|(index, value)| {
                let entry = Entry { path: self.path.index(index), value, ..self.clone() };
                let text = entry.text()?;
                Ok(Text { entry, text })
            })),
            other => {
                let reason =
                    format!("must be an array of texts, such as [\"a\", \"b\"], not {}", kind(other));
                Err(self.mistake(reason))
            }
        }
    }

    /// The keys of a table that the last layer wrote which wrote any: where values of two layers would exclude each
    /// other, the later layer's stand.
    pub(super) fn last_layer(&self) -> Option<Vec<(&'a str, Entry<'a>)>> {
        let Value::Dict(_, entries) = self.value else { return None };
        let layer = |value: &Value| self.reader.layers.layer_of(value.tag());
        let last = entries.values().map(layer).max();
        let entry = |(key, value): (&'a String, &'a Value)| {
            let entry =
                Entry { reader: self.reader, path: self.path.key(key), form: self.form.key(key), value };
            (key.as_str(), entry)
        };
        Some(entries.iter().filter(|(_, value)| Some(layer(value)) == last).map(entry).collect())
    }

    /// Notes that this key exists.
    pub(super) fn known(&self) {
        self.reader.notes.known(self.form.clone());
    }

    /// Notes that there is no such key.
    pub(super) fn unknown(&self) {
        self.reader.notes.unknown(self.path.clone(), self.form.clone());
    }

    /// A variable of the process's environment, unless it is empty.
    pub(super) fn variable(&self, name: &str) -> Option<&'a str> {
        self.reader.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// What relative paths begin at.
    pub(super) fn folder(&self) -> &'a Path {
        self.reader.layers.folder()
    }

    /// How a message names it.
    pub(super) fn path(&self) -> &KeyPath {
        &self.path
    }

    /// Whether nobody but the compiled-in defaults said so.
    pub(super) fn is_default(&self) -> bool {
        self.reader.layers.layer(&self.path) == Layer::Defaults
    }

    /// Whether a variable said so: those are all text.
    pub(super) fn is_from_environment(&self) -> bool {
        self.reader.layers.layer_of(self.value.tag()) == Layer::Environment
    }

    fn entries(&self, what: &str) -> Read<&'a Dict> {
        match self.value {
            Value::Dict(_, entries) if !entries.contains_key(DATE) => Ok(entries),
            other => Err(self.mistake(format!("must be {what}, as in [{}], not {}", self.path, kind(other)))),
        }
    }
}

/// One text of an array.
pub(super) struct Text<'a> {
    entry: Entry<'a>,
    text: &'a str,
}

impl Text<'_> {
    /// What `parse` makes of it; it says what is wrong with others.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Read<T> {
        parse(self.text).map_err(|reason| self.entry.mistake(reason))
    }
}

/// All values, or the proof of a mistake; each is read first.
pub(super) fn all<T>(reads: impl IntoIterator<Item = Read<T>>) -> Read<Vec<T>> {
    let mut noted = None;
    let values =
        reads.into_iter().filter_map(|read| read.map_err(|mistake| noted = Some(mistake)).ok()).collect();
    noted.map_or(Ok(values), Err)
}

/// What a value is, for people.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(..) | Value::Char(..) => "text",
        Value::Bool(..) => "true or false",
        Value::Num(..) => "a number",
        Value::Empty(..) => "nothing",
        Value::Dict(_, entries) if entries.contains_key(DATE) => "a date without quotes",
        Value::Dict(..) => "a table",
        Value::Array(..) => "an array",
    }
}
