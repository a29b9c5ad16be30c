//! An existing key, read as a value of some kind.

use std::io;
use std::path::Path;

use figment::value::{Dict, Value};

use super::{ANY_NAME, DATE, Reader, Table};
use crate::config::files::SecretText;
use crate::config::key_path::KeyPath;
use crate::config::layers::Layer;
use crate::config::mistakes::Mistake;
use crate::config::notes::{Noted, Read};
use crate::config::settings::StoredKey;
use crate::llm::price::Price;

/// A key and its value.
#[derive(Clone)]
pub(in crate::config) struct Entry<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) path: KeyPath,
    pub(super) form: KeyPath,
    pub(super) value: &'a Value,
}

impl<'a> Entry<'a> {
    /// Reports a mistake of this value. `reason` must not contain a possible secret.
    pub(in crate::config) fn mistake(&self, reason: impl Into<String>) -> Noted {
        self.reader.notes.mistake(self.reader.layers, &self.path, reason)
    }

    /// Reports a value that is allowed but probably a mistake.
    pub(in crate::config) fn warning(&self, reason: &str) {
        self.reader.notes.warning(self.reader.layers, &self.path, reason);
    }

    /// The text, if the value is one.
    pub(in crate::config) fn as_text(&self) -> Option<&'a str> {
        match self.value {
            Value::String(_, text) => Some(text),
            _ => None,
        }
    }

    /// A text. `what` goes into the message about a value of another type.
    pub(in crate::config) fn text(&self, what: &str) -> Read<&'a str> {
        self.as_text().ok_or_else(|| self.not(what))
    }

    /// A whole number from 0.
    pub(in crate::config) fn integer(&self) -> Read<usize> {
        let number = match self.value {
            Value::Num(_, number) => number.to_u128().or_else(|| number.to_i128()?.try_into().ok()),
            Value::String(_, text) if self.is_from_environment() => text.parse().ok(),
            _ => return Err(self.not("a whole number without quotes")),
        };
        let number = number.and_then(|number| usize::try_from(number).ok());
        number.ok_or_else(|| self.mistake("must be a whole number, 0 or more"))
    }

    pub(in crate::config) fn boolean(&self) -> Read<bool> {
        match self.value {
            Value::Bool(_, value) => Ok(*value),
            Value::String(_, text) if self.is_from_environment() => {
                text.parse().map_err(|_| self.mistake("must be true or false"))
            }
            _ => Err(self.not("true or false without quotes")),
        }
    }

    /// A number in decimal notation without an exponent.
    pub(in crate::config) fn decimal(&self, what: &str) -> Read<String> {
        match self.value {
            Value::Num(_, number) => Ok(match (number.to_f64(), number.to_i128()) {
                (_, Some(whole)) => whole.to_string(),
                (Some(number), None) => number.to_string(),
                (None, None) => number.to_u128().unwrap_or(u128::MAX).to_string(),
            }),
            Value::String(_, text) if self.is_from_environment() => Ok(text.clone()),
            _ => Err(self.not(what)),
        }
    }

    /// A date, with or without quotes.
    pub(in crate::config) fn date(&self, what: &str) -> Read<&'a str> {
        match self.value {
            Value::Dict(_, entries) if let Some(Value::String(_, date)) = entries.get(DATE) => Ok(date),
            _ => self.text(what),
        }
    }

    pub(in crate::config) fn is_number(&self) -> bool {
        matches!(self.value, Value::Num(..))
    }

    pub(in crate::config) fn is_array(&self) -> bool {
        matches!(self.value, Value::Array(..))
    }

    pub(in crate::config) fn is_table(&self) -> bool {
        matches!(self.value, Value::Dict(_, entries) if !entries.contains_key(DATE))
    }

    /// A table whose keys are fixed.
    pub(in crate::config) fn table<T>(&self, read: impl FnOnce(&Table<'_>) -> Read<T>) -> Read<T> {
        let table = Table::new(self.reader, self.path.clone(), self.form.clone(), self.entries("a table")?);
        let value = read(&table);
        table.note_unknown();
        value
    }

    /// The entries of a table whose names the user chose, in the order of the file.
    pub(super) fn names(&self) -> Read<Vec<(String, Entry<'a>)>> {
        let mut entries = self.inner(self.entries("a table of names")?, |_| ANY_NAME);
        entries.sort_by_key(|(_, entry)| self.reader.layers.rank(&entry.path).1);
        Ok(entries)
    }

    /// The items of an array of tables.
    pub(in crate::config) fn items(&self) -> Read<Vec<Entry<'a>>> {
        self.array(&format!("[[{}]] tables", self.path))
    }

    /// The items of an array. `what` it should be goes into the message about another value.
    pub(in crate::config) fn array(&self, what: &str) -> Read<Vec<Entry<'a>>> {
        match self.value {
            Value::Array(_, items) => Ok(self.indexed(items).collect()),
            _ if self.is_from_environment() => Err(self.mistake("can only be written in a file")),
            _ => Err(self.not(what)),
        }
    }

    /// The items of an array of texts, each read by `read`. A variable separates them by commas.
    pub(in crate::config) fn list<T>(&self, read: impl Fn(&Entry<'_>) -> Read<T>) -> Read<Vec<T>> {
        match self.value {
            Value::Array(_, items) => all(self.indexed(items).map(|item| read(&item))),
            Value::String(_, list) if self.is_from_environment() => {
                let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
                all(items.map(|item| read(&Entry { value: &Value::from(item), ..self.clone() })))
            }
            _ => Err(self.not("an array of texts, such as [\"a\", \"b\"]")),
        }
    }

    fn indexed(&self, items: &'a [Value]) -> impl Iterator<Item = Entry<'a>> {
        let item = |(index, value)| Entry { path: self.path.index(index), value, ..self.clone() };
        items.iter().enumerate().map(item)
    }

    /// The one of `forms` that a table of alternatives has, such as `env` or `file`. The keys of
    /// the last layer that wrote any replace those of earlier layers. Other keys are unknown. Fails
    /// with the present forms if there is not exactly one, and with `None` if the value is not a
    /// table.
    pub(in crate::config) fn one_of(
        &self,
        forms: &[&'static str],
    ) -> Result<(&'static str, Entry<'a>), Option<Vec<&'static str>>> {
        let Value::Dict(_, entries) = self.value else { return Err(None) };
        let layer = |value: &Value| self.reader.layers.layer_of(value.tag());
        let last = entries.values().map(layer).max();
        let mut found = Vec::new();
        for (key, entry) in self.inner(entries, |key| key) {
            if Some(layer(entry.value)) != last {
                continue;
            }
            match forms.iter().find(|form| **form == key) {
                Some(form) => found.push((*form, entry)),
                None => self.reader.notes.unknown(entry.path, entry.form),
            }
        }
        if found.len() == 1 {
            Ok(found.remove(0))
        } else {
            Err(Some(found.iter().map(|one| one.0).collect()))
        }
    }

    /// A variable of the process's environment, unless it is empty.
    pub(in crate::config) fn variable(&self, name: &str) -> Option<&'a str> {
        self.reader.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Records that the value of this table comes from a variable of the environment.
    pub(in crate::config) fn comes_from(&self, variable: &str) {
        self.reader.notes.variable(self.path.clone(), variable);
    }

    /// The text of a secret's file, which becomes a part of the configuration's files.
    pub(in crate::config) fn secret_file(&self, path: &Path) -> io::Result<String> {
        let SecretText { text, is_pipe } = self.reader.notes.read_secret(path)?;
        if is_pipe {
            self.warning("is a pipe, which can be read once only: a reload keeps the secret of the start");
        }
        Ok(text)
    }

    /// The keys in a file, which becomes a part of the configuration's files.
    pub(in crate::config) fn stored_keys(&self, path: &Path) -> Read<Vec<StoredKey>> {
        self.reader.notes.load_keys(path).map_err(|mistakes| {
            let noted = mistakes.0.into_iter().map(|mistake| self.mistake_in_file(mistake));
            noted.reduce(|_, last| last).expect("there is a mistake at least")
        })
    }

    /// The prices in a file, which becomes a part of the configuration's files.
    pub(in crate::config) fn stored_prices(&self, path: &Path, upstreams: &[String]) -> Read<Vec<Price>> {
        let (prices, warnings) = self.reader.notes.load_prices(path, upstreams).map_err(|mistakes| {
            let noted = mistakes.0.into_iter().map(|mistake| self.mistake_in_file(mistake));
            noted.reduce(|_, last| last).expect("there is a mistake at least")
        })?;
        warnings.into_iter().for_each(|warning| self.warning_in_file(warning));
        Ok(prices)
    }

    /// Reports a mistake in the file that this key names.
    pub(in crate::config) fn mistake_in_file(&self, mistake: Mistake) -> Noted {
        self.reader.notes.mistake_in_file(self.reader.layers, &self.path, mistake)
    }

    /// Warns about the file that this key names.
    pub(in crate::config) fn warning_in_file(&self, warning: String) {
        self.reader.notes.warning_in_file(self.reader.layers, &self.path, warning);
    }

    /// The value's place in messages.
    pub(in crate::config) fn place(&self) -> String {
        self.reader.layers.place(&self.path)
    }

    /// The directory to which relative paths refer.
    pub(in crate::config) fn folder(&self) -> &'a Path {
        self.reader.layers.folder()
    }

    pub(in crate::config) fn path(&self) -> &KeyPath {
        &self.path
    }

    /// Returns true if the value comes from the compiled-in defaults.
    pub(in crate::config) fn is_default(&self) -> bool {
        self.reader.layers.layer(&self.path) == Layer::Defaults
    }

    /// Returns true if the value comes from a variable, so that it is a text.
    pub(in crate::config) fn is_from_environment(&self) -> bool {
        self.reader.layers.layer_of(self.value.tag()) == Layer::Environment
    }

    fn inner<'k>(&self, entries: &'a Dict, form: impl Fn(&'a str) -> &'k str) -> Vec<(String, Entry<'a>)>
    where
        'a: 'k,
    {
        let entry = |(key, value): (&'a String, &'a Value)| {
            let (path, form) = (self.path.key(key), self.form.key(form(key)));
            (key.clone(), Entry { reader: self.reader, path, form, value })
        };
        entries.iter().map(entry).collect()
    }

    fn entries(&self, what: &str) -> Read<&'a Dict> {
        match self.value {
            Value::Dict(_, entries) if !entries.contains_key(DATE) => Ok(entries),
            _ => Err(self.not(&format!("{what}, as in [{}]", self.path))),
        }
    }

    /// Reports that the value has another type than `what`.
    pub(in crate::config) fn not(&self, what: &str) -> Noted {
        let found = match self.value {
            Value::String(..) | Value::Char(..) => "text",
            Value::Bool(..) => "true or false",
            Value::Num(..) => "a number",
            Value::Empty(..) => "nothing",
            Value::Dict(_, entries) if entries.contains_key(DATE) => "a date without quotes",
            Value::Dict(..) => "a table",
            Value::Array(..) => "an array",
        };
        self.mistake(format!("must be {what}, not {found}"))
    }
}

/// All values, or the proof of a mistake. Every item is read first.
pub(in crate::config) fn all<T>(reads: impl IntoIterator<Item = Read<T>>) -> Read<Vec<T>> {
    let mut noted = None;
    let values =
        reads.into_iter().filter_map(|read| read.map_err(|mistake| noted = Some(mistake)).ok()).collect();
    noted.map_or(Ok(values), Err)
}
