//! Walks through one JSON text and reads its ids.

use super::keys::Key;
use super::{ESCAPE, MAX_ID, Sink, StoredId, is_id};
use crate::codec::json;
use crate::llm::usage::json::{Grammar, Kind, Outline, string};

/// Bytes of a value that are read: each character may be an escape, and there are two quotes.
const VALUE_LIMIT: usize = ESCAPE * MAX_ID + 2;

/// The number of containers around an id at most.
const DEPTHS: usize = 16;

/// Types of a request's items that refer to stored state by their `id`. Items of other types carry
/// their content.
const REFERENCES: [&str; 4] = ["item_reference", "reasoning", "image_generation_call", "compaction"];

/// The origin of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

/// The state that the walk keeps between pieces.
#[derive(Debug)]
pub(super) struct Reader {
    side: Side,
    /// Nesting depth of values, scalars included.
    depth: usize,
    /// The keys of the open containers, by depth. An element of a list has the key of the list.
    keys: [Key; DEPTHS],
    /// The last key, until its value begins. `None`: the value is an element of a list.
    key: Option<Key>,
    /// The depth of a container whose inside is passed over.
    passed: Option<usize>,
    /// The depth of the outermost container that is not the response's own.
    foreign: Option<usize>,
    reading: Reading,
    /// The beginning of the current key or value, from earlier pieces.
    held: Vec<u8>,
    /// The request's item under way, and the depth of its container.
    item: Option<(usize, Item)>,
}

/// The current key or value, if it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Nothing,
    Key,
    Value(Key),
}

/// An item of a request.
#[derive(Debug, Default)]
struct Item {
    id: Option<Box<str>>,
    /// Its type is one of [`REFERENCES`], or it has several ids.
    is_reference: bool,
    /// The item has a type or a role, so that its `id` alone is no reference.
    is_typed: bool,
}

impl Reader {
    pub(super) fn new(side: Side) -> Self {
        Self {
            side,
            depth: 0,
            keys: [Key::Other; DEPTHS],
            key: None,
            passed: None,
            foreign: None,
            reading: Reading::Nothing,
            held: Vec::new(),
            item: None,
        }
    }

    /// Reads the next piece of the text.
    pub(super) fn push(&mut self, grammar: &mut Grammar, bytes: &[u8], sink: Sink<'_>) {
        let mut piece = Piece { bytes, from: 0, reader: self, sink };
        grammar.push(bytes, &mut piece);
        piece.hold();
    }

    /// The key of the container around the current value.
    fn around(&self) -> Key {
        self.depth.checked_sub(1).and_then(|depth| self.keys.get(depth)).copied().unwrap_or_default()
    }

    /// Returns true if a scalar under this key is read.
    fn wants(&self, key: Key) -> bool {
        match key {
            Key::Refers | Key::Encrypted | Key::Object => true,
            Key::Id => {
                let is_named = matches!(self.around(), Key::Object | Key::Holder);
                self.side == Side::Response || is_named || self.is_in_item()
            }
            Key::Type | Key::Role => self.is_in_item(),
            Key::Holder | Key::Own | Key::Items | Key::Foreign | Key::Other => false,
        }
    }

    /// Returns true if the current value is a member of an item.
    fn is_in_item(&self) -> bool {
        self.item.as_ref().is_some_and(|(depth, _)| depth + 1 == self.depth)
    }

    /// Takes a wanted value, which may be cut off.
    fn take(&mut self, key: Key, value: &[u8], sink: Sink<'_>) {
        let is_in_item = self.is_in_item();
        if let (true, Some((_, item))) = (is_in_item, &mut self.item) {
            match key {
                Key::Type => {
                    item.is_typed = true;
                    item.is_reference |= string(value).is_some_and(|value| REFERENCES.contains(&&*value));
                    return;
                }
                Key::Role => {
                    item.is_typed = true;
                    return;
                }
                Key::Id => {
                    let Some(id) = id(key, value) else { return };
                    if let Some(other) = item.id.replace(id.into()) {
                        item.is_reference = true;
                        sink(StoredId { id: &other, is_own: false });
                    }
                    return;
                }
                _ => {}
            }
        }
        let is_own =
            self.side == Side::Response && self.foreign.is_none() && matches!(key, Key::Id | Key::Encrypted);
        if let Some(id) = id(key, value) {
            sink(StoredId { id: &id, is_own });
        }
    }
}

/// The id that a value is.
fn id(key: Key, value: &[u8]) -> Option<String> {
    if key != Key::Encrypted && value.len() > VALUE_LIMIT {
        return None;
    }
    let mut id = string(value)?;
    if key == Key::Encrypted {
        id.truncate(id.floor_char_boundary(MAX_ID));
    }
    is_id(&id).then_some(id)
}

/// One piece of the text.
struct Piece<'a> {
    bytes: &'a [u8],
    /// The offset in the piece at which the current key or value begins or continues.
    from: usize,
    reader: &'a mut Reader,
    sink: Sink<'a>,
}

impl Piece<'_> {
    /// Buffers the unfinished key or value at the end of the piece.
    fn hold(self) {
        let limit = match self.reader.reading {
            Reading::Nothing => return,
            Reading::Key => Key::LIMIT,
            Reading::Value(_) => VALUE_LIMIT,
        };
        extend(&mut self.reader.held, &self.bytes[self.from..], limit);
    }

    /// Ends the current key or value before `at`, and passes it to `take`.
    fn read<T>(
        &mut self,
        at: usize,
        limit: usize,
        take: impl FnOnce(&mut Reader, &[u8], Sink<'_>) -> T,
    ) -> T {
        self.reader.reading = Reading::Nothing;
        let mut held = std::mem::take(&mut self.reader.held);
        let here = &self.bytes[self.from..at];
        if held.is_empty() {
            return take(self.reader, &here[..here.len().min(limit + 1)], self.sink);
        }
        extend(&mut held, here, limit);
        take(self.reader, &held, self.sink)
    }
}

/// Appends up to one byte beyond the limit, which marks the value as too long.
fn extend(held: &mut Vec<u8>, bytes: &[u8], limit: usize) {
    let room = (limit + 1).saturating_sub(held.len());
    held.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

impl Outline for Piece<'_> {
    fn key(&mut self, at: usize) {
        if self.reader.passed.is_none() {
            self.reader.reading = Reading::Key;
            self.from = at;
        }
    }

    fn key_end(&mut self, at: usize) {
        if self.reader.reading == Reading::Key {
            let key = self.read(at, Key::LIMIT, |_, text, _| Key::from_text(&json::Text::of(text).plain()));
            self.reader.key = Some(key);
        }
    }

    fn value(&mut self, at: usize, kind: Kind) {
        let reader = &mut *self.reader;
        let depth = reader.depth;
        let named = reader.key.take();
        let key = named.unwrap_or_else(|| reader.around());
        let is_wanted = kind == Kind::Scalar && reader.passed.is_none() && self.bytes[at] == b'"';
        if is_wanted && reader.wants(key) {
            reader.reading = Reading::Value(key);
            self.from = at;
        }
        reader.depth += 1;
        if kind == Kind::Scalar || reader.passed.is_some() {
            return;
        }
        let is_input = key == Key::Items && kind == Kind::Object;
        if depth >= DEPTHS || key == Key::Foreign || (is_input && named.is_some()) {
            reader.passed = Some(depth);
            return;
        }
        reader.keys[depth] = key;
        if depth > 0 && key != Key::Own {
            reader.foreign.get_or_insert(depth);
        }
        if is_input && reader.side == Side::Request && reader.item.is_none() {
            reader.item = Some((depth, Item::default()));
        }
    }

    fn value_end(&mut self, at: usize) {
        self.reader.depth -= 1;
        let depth = self.reader.depth;
        if let Reading::Value(key) = self.reader.reading {
            // A wanted value is a scalar.
            return self.read(at, VALUE_LIMIT, |reader, value, sink| reader.take(key, value, sink));
        }
        let reader = &mut *self.reader;
        reader.passed.take_if(|passed| *passed == depth);
        reader.foreign.take_if(|foreign| *foreign == depth);
        if let Some((_, item)) = reader.item.take_if(|(begun, _)| *begun == depth)
            && let Some(id) = item.id.filter(|_| item.is_reference || !item.is_typed)
        {
            (self.sink)(StoredId { id: &id, is_own: false });
        }
    }
}
