//! Lists of models: those of several upstreams as one, in the client's form.
//!
//! | form | list | entry |
//! |---|---|---|
//! | OpenAI's | `{"object":"list","data":[...]}` | `{"id","object":"model","created","owned_by"}` |
//! | Anthropic's | `{"data":[...],"has_more","first_id","last_id"}` | `{"type":"model","id","display_name","created_at"}` |
//!
//! Some services send the array alone. An entry in the client's form keeps its bytes; under another
//! name only its id changes.

mod union;

use std::ops::Range;

use bytes::Bytes;

use crate::codec::json::{Malformed, StrictCursor, Text};

pub use union::{Described, ModelUnion};

/// The largest number of models in a list; a longer one counts as none.
pub const MAX_MODELS: usize = 20_000;

/// The form of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListForm {
    #[default]
    OpenAi,
    Anthropic,
}

/// An upstream's list.
#[derive(Debug)]
pub struct ModelList {
    body: Bytes,
    entries: Vec<Entry>,
    /// The indices of `entries` in the order of their ids. Of several entries of one id only the
    /// first is here.
    by_id: Box<[u32]>,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    id: Box<str>,
    /// The entry in the body.
    at: Range<usize>,
    /// The value of `id` in the body, with its quotes.
    id_at: Range<usize>,
    form: ListForm,
}

impl ModelList {
    /// `None`: the body is not a list of models in JSON, or one of more than [`MAX_MODELS`].
    pub fn parse(body: Bytes) -> Option<Self> {
        let entries = parse(&body).ok()??;
        let id = |&index: &u32| &*entries[index as usize].id;
        let mut by_id: Vec<_> = (0..u32::try_from(entries.len()).ok()?).collect();
        by_id.sort_by_key(id);
        by_id.dedup_by(|one, other| id(one) == id(other));
        let by_id = by_id.into();
        Some(Self { body, entries, by_id })
    }

    /// The ids in their order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| &*entry.id)
    }

    /// The bytes of memory that it takes.
    pub fn size(&self) -> usize {
        let ids = self.entries.iter().map(|entry| entry.id.len()).sum::<usize>();
        let entries = self.entries.capacity() * size_of::<Entry>() + size_of_val(&*self.by_id);
        self.body.len() + ids + entries
    }

    /// The description of a model.
    pub fn get(&self, id: &str) -> Option<Described<'_>> {
        let place = self.by_id.binary_search_by(|&index| (*self.entries[index as usize].id).cmp(id)).ok()?;
        let entry = &self.entries[self.by_id[place] as usize];
        let (json, start) = (&self.body[entry.at.clone()], entry.at.start);
        Some(Described { json, id: entry.id_at.start - start..entry.id_at.end - start, form: entry.form })
    }
}

fn parse(body: &[u8]) -> Result<Option<Vec<Entry>>, Malformed> {
    let mut cursor = StrictCursor::new(body);
    let mut entries = None;
    match cursor.peek() {
        b'[' => entries = Some(parse_entries(&mut cursor)?),
        b'{' => {
            cursor.open()?;
            let mut key = cursor.first_key()?;
            while let Some(name) = key {
                match cursor.peek() {
                    b'[' if name == b"data" => entries = Some(parse_entries(&mut cursor)?),
                    _ => cursor.skip()?,
                }
                key = cursor.next_key()?;
            }
        }
        _ => return Ok(None),
    }
    cursor.end()?;
    Ok(entries)
}

/// The entries that have an id.
fn parse_entries(cursor: &mut StrictCursor<'_>) -> Result<Vec<Entry>, Malformed> {
    let (mut entries, mut first) = (Vec::new(), true);
    cursor.open()?;
    while cursor.item(std::mem::take(&mut first))? {
        if cursor.peek() == b'{' {
            if entries.len() == MAX_MODELS {
                return Err(Malformed);
            }
            entries.extend(parse_entry(cursor)?);
        } else {
            cursor.skip()?;
        }
    }
    Ok(entries)
}

fn parse_entry(cursor: &mut StrictCursor<'_>) -> Result<Option<Entry>, Malformed> {
    let start = cursor.position();
    let (mut id, mut has_object, mut has_type) = (None, false, false);
    cursor.open()?;
    let mut key = cursor.first_key()?;
    while let Some(name) = key {
        cursor.peek();
        let from = cursor.position();
        let value = cursor.value()?;
        match name {
            b"id" => id = string(value).map(|text| (text, from..cursor.position())),
            b"object" => has_object = true,
            b"type" => has_type = value == b"\"model\"",
            _ => {}
        }
        key = cursor.next_key()?;
    }
    let at = start..cursor.position();
    let form = if has_type && !has_object { ListForm::Anthropic } else { ListForm::OpenAi };
    Ok(id.filter(|(id, _)| !id.is_empty()).map(|(id, id_at)| Entry { id, at, id_at, form }))
}

/// The text of a JSON string.
fn string(value: &[u8]) -> Option<Box<str>> {
    let [b'"', text @ .., b'"'] = value else { return None };
    Some(Text::of(text).decode().into())
}

#[cfg(test)]
mod tests;
