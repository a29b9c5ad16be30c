//! Walks through one JSON text and stops where something is wanted.
//!
//! The text may come in any pieces and be of any size: only the value being read is held, and only when
//! it is wanted and lies in more than one piece.

use super::found::Found;
use super::json::{Grammar, Kind, Outline};
use super::places::{Key, Place, Slot, Step};

/// Wanted places are at most this deep: `choices`, its element, `delta`, and the document around them.
const DEPTHS: usize = 5;

/// A scan of one text.
#[derive(Debug)]
pub(super) struct Scan {
    grammar: Grammar,
    reader: Reader,
}

impl Scan {
    pub(super) fn new() -> Scan {
        let reader = Reader {
            depth: 0,
            places: [Place::Document, Place::Nowhere, Place::Nowhere, Place::Nowhere, Place::Nowhere],
            key: Key::Other,
            reading: Reading::Nothing,
            held: Vec::new(),
            found: Found::default(),
        };
        Scan { grammar: Grammar::new(), reader }
    }

    /// A scan of a text that is all here. `None` when it is no JSON object or list.
    pub(super) fn whole(text: &[u8]) -> Option<Found> {
        let mut scan = Scan::new();
        scan.push(text);
        scan.into_whole()
    }

    /// Reads on.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let mut piece = Piece { bytes, from: 0, reader: &mut self.reader };
        self.grammar.push(bytes, &mut piece);
        piece.hold();
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
    pub(super) fn into_found(self) -> Option<Found> {
        (!self.grammar.refused()).then_some(self.reader.found)
    }
}

/// What a scan remembers from piece to piece.
#[derive(Debug)]
struct Reader {
    /// Values within values, scalars included.
    depth: usize,
    /// What the open containers are to us, by depth.
    places: [Place; DEPTHS],
    /// The last key, until its value begins.
    key: Key,
    reading: Reading,
    /// What the pieces before this one had of the text being read.
    held: Vec<u8>,
    found: Found,
}

/// What is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Nothing,
    Key,
    Value { slot: Slot, depth: usize },
}

/// A piece of the text, and the reader that walks through it.
struct Piece<'a> {
    bytes: &'a [u8],
    /// Where in the piece the text being read begins or goes on.
    from: usize,
    reader: &'a mut Reader,
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

    /// The piece ends; what is being read goes on in the next one.
    fn hold(self) {
        let limit = match self.reader.reading {
            Reading::Nothing => return,
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
        if place != Place::Nowhere {
            let key = std::mem::take(&mut reader.key);
            reader.found.forget(place, key);
            match place.step(key, kind) {
                Step::Enter(place) => {
                    child = place;
                    reader.found.choice |= place == Place::Choice;
                }
                Step::Want(slot) => {
                    reader.reading = Reading::Value { slot, depth };
                    self.from = at;
                }
                Step::Pass => {}
            }
        }
        // Also below nowhere, lest an earlier container's place be taken for this one's.
        if let Some(place) = reader.places.get_mut(depth + 1) {
            *place = child;
        }
    }

    #[inline]
    fn value_end(&mut self, at: usize) {
        self.reader.depth -= 1;
        if let Reading::Value { slot, depth } = self.reader.reading
            && depth == self.reader.depth
        {
            self.read(at, slot.limit(), |reader, value| reader.found.take(slot, value));
        }
    }
}
