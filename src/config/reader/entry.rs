//! A key that is there, read as what it should hold.

use std::path::Path;

use figment::value::{Dict, Value};

use super::{DATE, Reader, Table};
use crate::config::key_path::KeyPath;
use crate::config::layers::Layer;
use crate::config::notes::{Noted, Read};

/// What stands for a name that the user chooses, in the form of a key.
const ANY_NAME: &str = "NAME";

/// A key that is there, and what it holds.
#[derive(Clone)]
pub(in crate::config) struct Entry<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) path: KeyPath,
    pub(super) form: KeyPath,
    pub(super) value: &'a Value,
}

impl<'a> Entry<'a> {
    /// Notes a mistake of this value. `reason` must not show what could be a secret.
    pub(in crate::config) fn mistake(&self, reason: impl Into<String>) -> Noted {
        self.reader.notes.mistake(self.reader.layers, &self.path, reason)
    }

    /// Notes what is allowed and probably not meant.
    pub(in crate::config) fn warning(&self, reason: &str) {
        self.reader.notes.warning(self.reader.layers, &self.path, reason);
    }

    /// The text, if it is one.
    pub(in crate::config) fn as_text(&self) -> Option<&'a str> {
        match self.value {
            Value::String(_, text) => Some(text),
            _ => None,
        }
    }

    /// Any text.
    pub(in crate::config) fn text(&self) -> Read<&'a str> {
        self.text_that_is("text in quotes")
    }

    /// Text that `parse` takes; it says what is wrong with others. `what` it is stands in for a
    /// value of another type.
    pub(in crate::config) fn parse<T>(
        &self,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Read<T> {
        parse(self.text_that_is(what)?).map_err(|reason| self.mistake(reason))
    }

    /// Text, or `None` where it is empty.
    pub(in crate::config) fn text_or_none(&self) -> Read<Option<String>> {
        Ok(Some(self.text()?).filter(|text| !text.is_empty()).map(str::to_owned))
    }

    fn text_that_is(&self, what: &str) -> Read<&'a str> {
        self.as_text().ok_or_else(|| self.mistake(format!("must be {what}, not {}", kind(self.value))))
    }

    /// A whole number from 0.
    pub(in crate::config) fn integer(&self) -> Read<usize> {
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
    pub(in crate::config) fn boolean(&self) -> Read<bool> {
        match self.value {
            Value::Bool(_, value) => Ok(*value),
            Value::String(_, text) if self.is_from_environment() => {
                text.parse().map_err(|_| self.mistake("must be true or false"))
            }
            other => Err(self.mistake(format!("must be true or false without quotes, not {}", kind(other)))),
        }
    }

    /// A number as it would be written by hand: whole, or with its decimals, and never with an
    /// exponent. `what` it is stands in for a value of another type.
    pub(in crate::config) fn decimal(&self, what: &str) -> Read<String> {
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
    pub(in crate::config) fn date(&self, what: &str) -> Read<&'a str> {
        match self.value {
            Value::Dict(_, entries) if let Some(Value::String(_, date)) = entries.get(DATE) => Ok(date),
            _ => self.text_that_is(what),
        }
    }

    /// Whether it is a number, which some keys take beside text.
    pub(in crate::config) fn is_number(&self) -> bool {
        matches!(self.value, Value::Num(..))
    }

    /// Whether it is an array, where some keys take one value or several.
    pub(in crate::config) fn is_array(&self) -> bool {
        matches!(self.value, Value::Array(..))
    }

    /// A table whose keys are fixed.
    pub(in crate::config) fn table<T>(&self, read: impl FnOnce(&Table<'a>) -> Read<T>) -> Read<T> {
        let table = Table::new(self.reader, self.path.clone(), self.form.clone(), self.entries("a table")?);
        let value = read(&table);
        table.note_unknown();
        value
    }

    /// The entries of a table whose names the user chose, in the order of the file.
    pub(in crate::config) fn names(&self) -> Read<Vec<(String, Entry<'a>)>> {
        let entry = |(name, value): (&String, &'a Value)| {
            let (path, form) = (self.path.key(name), self.form.key(ANY_NAME));
            (name.clone(), Entry { reader: self.reader, path, form, value })
        };
        let mut entries: Vec<_> = self.entries("a table of names")?.iter().map(entry).collect();
        entries.sort_by_key(|(_, entry)| self.reader.layers.rank(&entry.path).1);
        Ok(entries)
    }

    /// The items of an array of tables.
    pub(in crate::config) fn items(&self) -> Read<Vec<Entry<'a>>> {
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
    pub(in crate::config) fn texts(&self) -> Read<Vec<Text<'a>>> {
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

    /// The keys of a table that the last layer wrote which wrote any: where values of two layers
    /// would exclude each other, the later layer's stand.
    pub(in crate::config) fn last_layer(&self) -> Option<Vec<(&'a str, Entry<'a>)>> {
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
    pub(in crate::config) fn known(&self) {
        self.reader.notes.known(self.form.clone());
    }

    /// Notes that there is no such key.
    pub(in crate::config) fn unknown(&self) {
        self.reader.notes.unknown(self.path.clone(), self.form.clone());
    }

    /// A variable of the process's environment, unless it is empty.
    pub(in crate::config) fn variable(&self, name: &str) -> Option<&'a str> {
        self.reader.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// What relative paths begin at.
    pub(in crate::config) fn folder(&self) -> &'a Path {
        self.reader.layers.folder()
    }

    /// How a message names it.
    pub(in crate::config) fn path(&self) -> &KeyPath {
        &self.path
    }

    /// Whether nobody but the compiled-in defaults said so.
    pub(in crate::config) fn is_default(&self) -> bool {
        self.reader.layers.layer(&self.path) == Layer::Defaults
    }

    /// Whether a variable said so: those are all text.
    pub(in crate::config) fn is_from_environment(&self) -> bool {
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
pub(in crate::config) struct Text<'a> {
    entry: Entry<'a>,
    text: &'a str,
}

impl Text<'_> {
    /// What `parse` makes of it; it says what is wrong with others.
    pub(in crate::config) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Read<T> {
        parse(self.text).map_err(|reason| self.entry.mistake(reason))
    }
}

/// All values, or the proof of a mistake; each is read first.
pub(in crate::config) fn all<T>(reads: impl IntoIterator<Item = Read<T>>) -> Read<Vec<T>> {
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
