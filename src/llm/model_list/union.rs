//! The union of several lists.

use std::collections::HashSet;
use std::io::Write as _;
use std::ops::Range;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::ListForm;

/// A model as an upstream describes it.
#[derive(Clone, Debug)]
pub struct Described<'a> {
    pub(super) json: &'a [u8],
    /// The value of `id` in `json`, with its quotes.
    pub(super) id: Range<usize>,
    pub(super) form: ListForm,
}

/// A list in the making. Of several entries of one name the first counts.
#[derive(Debug)]
pub struct ModelUnion {
    form: ListForm,
    /// The list as far as it is known.
    json: Vec<u8>,
    names: HashSet<Box<str>>,
    /// The bytes of all names.
    name_bytes: usize,
    first: Option<Box<str>>,
    last: Option<Box<str>>,
}

impl ModelUnion {
    pub fn new(form: ListForm) -> Self {
        let begin = match form {
            ListForm::OpenAi => "{\"object\":\"list\",\"data\":[",
            ListForm::Anthropic => "{\"data\":[",
        };
        let (json, names) = (begin.into(), HashSet::new());
        Self { form, json, names, name_bytes: 0, first: None, last: None }
    }

    /// Adds a model under this name. Without a description it gets the fields that the form
    /// requires. `owner` is the name of its upstream.
    pub fn add(&mut self, name: &str, described: Option<Described<'_>>, owner: &str) {
        if !self.names.insert(name.into()) {
            return;
        }
        if self.names.len() > 1 {
            self.json.push(b',');
        }
        self.name_bytes += name.len();
        match described {
            Some(Described { json, id, form }) if form == self.form => {
                self.json.extend_from_slice(&json[..id.start]);
                self.json.extend_from_slice(quoted(name).as_bytes());
                self.json.extend_from_slice(&json[id.end..]);
            }
            other => {
                let fields = other.and_then(|other| serde_json::from_slice(other.json).ok());
                let entry = entry(self.form, name, &fields.unwrap_or_default(), owner);
                self.json.extend_from_slice(entry.to_string().as_bytes());
            }
        }
        self.first.get_or_insert_with(|| name.into());
        self.last = Some(name.into());
    }

    /// The bytes of memory that it takes so far.
    pub fn size(&self) -> usize {
        self.json.capacity() + self.name_bytes + self.names.capacity() * size_of::<Box<str>>()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The whole list.
    pub fn into_json(self) -> Vec<u8> {
        let mut json = self.json;
        let id = |name: Option<Box<str>>| name.map_or("null".to_owned(), |name| quoted(&name));
        let _ = match self.form {
            ListForm::OpenAi => write!(json, "]}}"),
            ListForm::Anthropic => {
                let (first, last) = (id(self.first), id(self.last));
                write!(json, "],\"has_more\":false,\"first_id\":{first},\"last_id\":{last}}}")
            }
        };
        json
    }
}

fn quoted(name: &str) -> String {
    Value::from(name).to_string()
}

/// An entry in a form that its upstream did not use.
fn entry(form: ListForm, name: &str, fields: &Value, owner: &str) -> Value {
    let created_at = fields["created_at"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    let created = fields["created"].as_i64().and_then(|seconds| Timestamp::from_second(seconds).ok());
    // Anthropic's API uses the epoch for times that are unknown.
    let time = created.or(created_at).unwrap_or(Timestamp::UNIX_EPOCH);
    match form {
        ListForm::OpenAi => {
            json!({ "id": name, "object": "model", "created": time.as_second(), "owned_by": owner })
        }
        ListForm::Anthropic => {
            let shown = ["display_name", "name"].iter().find_map(|key| fields[*key].as_str());
            let shown = shown.unwrap_or(name);
            json!({ "type": "model", "id": name, "display_name": shown, "created_at": time.to_string() })
        }
    }
}
