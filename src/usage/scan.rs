//! Walks through one JSON text and stops where something is wanted.
//!
//! The text may come in any pieces and be of any size: only the value being read is held, and only
//! when it is wanted and lies in more than one piece.

use super::found::Found;
use super::json::{Grammar, Kind, Outline};
use super::output::{Output, Part};
use super::places::{Key, Place, Slot, Step};

/// Wanted places are at most this deep: `choices`, its element, `delta`, a list of its content,
/// that one's element, and the same once more inside it, with the document around them.
const DEPTHS: usize = 10;

/// The byte order mark in UTF-8.
const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// A scan of one text.
#[derive(Debug)]
pub(super) struct Scan {
    /// How much of a body's byte order mark has come; all of it also where there is none.
    mark: usize,
    grammar: Grammar,
    reader: Reader,
}

impl Scan {
    /// A scan of an event's text.
    pub(super) fn new() -> Scan {
        let mut places = [Place::Nowhere; DEPTHS];
        places[0] = Place::Document;
        let reader = Reader {
            depth: 0,
            places,
            is_body: false,
            keeps_id: false,
            key: Key::Other,
            reading: Reading::Nothing,
            held: Vec::new(),
            has_reasoned: false,
            found: Found::default(),
        };
        Scan { mark: MARK.len(), grammar: Grammar::new(), reader }
    }

    /// A scan of a whole answer's text.
    pub(super) fn of_body() -> Scan {
        let mut scan = Scan::new();
        scan.reader.is_body = true;
        scan.mark = 0;
        scan
    }

    /// Keeps the id of the result that the text is about, and whether that is made in the
    /// background.
    pub(super) fn keep_id(&mut self, keeps_id: bool) {
        self.reader.keeps_id = keeps_id;
    }

    /// A scan of an event's text that is all here. `None` when it is no JSON object or list.
    pub(super) fn whole(text: &[u8], output: Option<&mut Output>, keeps_id: bool) -> Option<Found> {
        let mut scan = Scan::new();
        scan.keep_id(keeps_id);
        scan.push(text, output);
        scan.into_whole()
    }

    /// Reads on. The text of output is added to `output`.
    pub(super) fn push(&mut self, bytes: &[u8], output: Option<&mut Output>) {
        let bytes = if self.mark < MARK.len() { self.behind_mark(bytes) } else { bytes };
        let mut piece = Piece { bytes, from: 0, reader: &mut self.reader, output };
        self.grammar.push(bytes, &mut piece);
        piece.hold();
    }

    /// What follows the byte order mark, which some services put before their JSON (RFC 8259
    /// section 8.1 lets a reader ignore it).
    fn behind_mark<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let come = bytes.iter().zip(&MARK[self.mark..]).take_while(|(byte, mark)| byte == mark).count();
        let rest = &bytes[come..];
        self.mark += come;
        if self.mark < MARK.len() && !rest.is_empty() {
            // None, or the beginning of one, which is no JSON.
            let begun = &MARK[..self.mark];
            self.grammar
                .push(begun, &mut Piece { bytes: begun, from: 0, reader: &mut self.reader, output: None });
            self.mark = MARK.len();
        }
        rest
    }

    /// The text has ended as a whole.
    pub(super) fn complete(&self) -> bool {
        self.grammar.complete()
    }

    /// The text is not JSON, whatever follows.
    pub(super) fn refused(&self) -> bool {
        self.grammar.refused()
    }

    /// What was found, when the text has ended as a whole.
    pub(super) fn into_whole(self) -> Option<Found> {
        self.complete().then_some(self.reader.found)
    }

    /// What was found so far; nothing when the text turned out not to be JSON.
    pub(super) fn found(&mut self) -> Option<&mut Found> {
        (!self.grammar.refused()).then_some(&mut self.reader.found)
    }
}

/// What a scan remembers from piece to piece.
#[derive(Debug)]
struct Reader {
    /// Values within values, scalars included.
    depth: usize,
    /// What the open containers are to us, by depth.
    places: [Place; DEPTHS],
    /// The text is a whole answer, and not an event.
    is_body: bool,
    /// The id of a stored result is wanted.
    keeps_id: bool,
    /// The last key, until its value begins.
    key: Key,
    reading: Reading,
    /// What the pieces before this one had of the text being read.
    held: Vec<u8>,
    /// The delta has had its reasoning; some services write it under two keys.
    has_reasoned: bool,
    found: Found,
}

/// What is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Nothing,
    Key,
    Value {
        slot: Slot,
        depth: usize,
    },
    /// Output, which is not held but passed on.
    Text {
        part: Part,
        depth: usize,
    },
}

/// A piece of the text, and the reader that walks through it.
struct Piece<'a> {
    bytes: &'a [u8],
    /// Where in the piece the text being read begins or goes on.
    from: usize,
    reader: &'a mut Reader,
    output: Option<&'a mut Output>,
}

impl Piece<'_> {
    /// The text being read ends before `at`.
    fn read<T>(&mut self, at: usize, limit: usize, take: impl FnOnce(&mut Reader, &[u8]) -> T) -> T {
        let here = &self.bytes[self.from..at];
        self.reader.reading = Reading::Nothing;
        if self.reader.held.is_empty() {
            return take(self.reader, &here[..here.len().min(limit + 1)]);
        }
        let mut held = std::mem::take(&mut self.reader.held);
        extend(&mut held, here, limit);
        take(self.reader, &held)
    }

    /// A text of output begins behind the quote or with the bracket at `at`.
    #[inline]
    fn begin_text(&mut self, part: Part, at: usize, depth: usize) {
        let is_json = part == Part::Json;
        if !is_json && self.bytes[at] != b'"' {
            return;
        }
        self.from = if is_json { at } else { at + 1 };
        let reader = &mut *self.reader;
        if part == Part::Reasoning && std::mem::replace(&mut reader.has_reasoned, true) {
            // Its presence is known from the first.
            return;
        }
        reader.found.text_begins(part, self.from);
        if let Some(output) = &mut self.output {
            output.begin(part, self.bytes.len() - self.from);
        }
        reader.reading = Reading::Text { part, depth };
    }

    /// The output up to `end` has passed.
    #[inline]
    fn put(&mut self, end: usize) {
        let text = self.bytes.get(self.from..end).unwrap_or_default();
        self.reader.found.content |= !text.is_empty();
        if let Some(output) = &mut self.output {
            output.extend(text);
        }
    }

    /// The piece ends; what is being read goes on in the next one.
    fn hold(mut self) {
        let limit = match self.reader.reading {
            Reading::Nothing => return,
            Reading::Text { .. } => return self.put(self.bytes.len()),
            Reading::Key => Key::LIMIT,
            Reading::Value { slot, .. } => slot.limit(),
        };
        extend(&mut self.reader.held, &self.bytes[self.from..], limit);
    }
}

/// Adds up to one byte more than the limit, which is how too long a text is known.
fn extend(held: &mut Vec<u8>, bytes: &[u8], limit: usize) {
    let room = (limit + 1).saturating_sub(held.len());
    held.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

impl Outline for Piece<'_> {
    #[inline]
    fn key(&mut self, at: usize) {
        let place = self.reader.places.get(self.reader.depth).copied().unwrap_or(Place::Nowhere);
        if place != Place::Nowhere {
            self.reader.reading = Reading::Key;
            self.from = at;
        }
    }

    #[inline]
    fn key_end(&mut self, at: usize) {
        if self.reader.reading == Reading::Key {
            self.reader.key = self.read(at, Key::LIMIT, |_, text| Key::from_text(text));
        }
    }

    #[inline]
    fn value(&mut self, at: usize, kind: Kind) {
        let reader = &mut *self.reader;
        let depth = reader.depth;
        reader.depth += 1;
        let Some(&place) = reader.places.get(depth) else { return };
        let mut child = Place::Nowhere;
        let key = std::mem::take(&mut reader.key);
        if key != Key::Other || place.looks_at_all() {
            if key.is_forgotten() {
                reader.found.forget(place, key);
            }
            reader.found.content |= place.is_content();
            let step = if reader.is_body { place.step_in_body(key, kind) } else { place.step(key, kind) };
            match step {
                Step::Enter(place) => {
                    child = match place {
                        Place::Added if !reader.found.adds_item => Place::Done,
                        place => place,
                    };
                    if let Some(at) = child.item() {
                        reader.found.items.begin(at);
                    }
                    reader.has_reasoned &= !matches!(place, Place::Delta | Place::EventDelta);
                    if place == Place::Choice {
                        reader.found.choice_begins();
                    }
                }
                Step::Text(part) => self.begin_text(part, at, depth),
                Step::Want(Slot::Id(_) | Slot::Background(_)) if !reader.keeps_id => {}
                Step::Want(slot) => {
                    reader.reading = Reading::Value { slot, depth };
                    self.from = at;
                }
                Step::Pass => {}
            }
        }
        // Also below nowhere, lest an earlier container's place be taken for this one's.
        if let Some(place) = self.reader.places.get_mut(depth + 1) {
            *place = child;
        }
    }

    #[inline]
    fn value_end(&mut self, at: usize) {
        self.reader.depth -= 1;
        match self.reader.reading {
            Reading::Value { slot, depth } if depth == self.reader.depth => {
                self.read(at, slot.limit(), |reader, value| reader.found.take(slot, value));
            }
            Reading::Text { part, depth } if depth == self.reader.depth => {
                // Without the quote that ends it.
                self.put(if part == Part::Json { at } else { at - 1 });
                self.reader.reading = Reading::Nothing;
            }
            _ => {}
        }
    }
}
