//! Walks through one JSON text and reads the wanted values.
//!
//! The text may come in any pieces and be of any size. Only the current value is buffered, and only
//! if it is wanted and lies in more than one piece.

use super::extracted::Extracted;
use super::json::{Grammar, Kind, Outline};
use super::output::{Output, Part};
use super::places::{Key, Place, Slot, Step};

/// The deepest wanted place: the document, `choices`, its element, `delta`, a list of its content,
/// that list's element, and the same once more inside it.
const DEPTHS: usize = 10;

const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

#[derive(Debug)]
pub(super) struct Scan {
    /// Bytes of a body's byte order mark that have come; all of them if there is none.
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
            extracted: Extracted::default(),
        };
        Scan { mark: MARK.len(), grammar: Grammar::new(), reader }
    }

    /// A scan of a body's text.
    pub(super) fn of_body() -> Scan {
        let mut scan = Scan::new();
        scan.reader.is_body = true;
        scan.mark = 0;
        scan
    }

    /// Keeps the id of the result, and whether it is made in the background.
    pub(super) fn keep_id(&mut self, keeps_id: bool) {
        self.reader.keeps_id = keeps_id;
    }

    /// Scans an event's complete text. `None` if it is not a JSON object or list.
    pub(super) fn whole(text: &[u8], output: Option<&mut Output>, keeps_id: bool) -> Option<Extracted> {
        let mut scan = Scan::new();
        scan.keep_id(keeps_id);
        scan.push(text, output);
        scan.into_whole()
    }

    /// Reads a piece. Output text is added to `output`.
    pub(super) fn push(&mut self, bytes: &[u8], output: Option<&mut Output>) {
        let bytes = if self.mark < MARK.len() { self.behind_mark(bytes) } else { bytes };
        let mut piece = Piece { bytes, from: 0, reader: &mut self.reader, output };
        self.grammar.push(bytes, &mut piece);
        piece.hold();
    }

    /// Skips a byte order mark, which some services send before their JSON (RFC 8259 section 8.1
    /// lets a reader ignore it).
    fn behind_mark<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let come = bytes.iter().zip(&MARK[self.mark..]).take_while(|(byte, mark)| byte == mark).count();
        let rest = &bytes[come..];
        self.mark += come;
        if self.mark < MARK.len() && !rest.is_empty() {
            // No mark, or an incomplete one, which is not JSON.
            let begun = &MARK[..self.mark];
            self.grammar
                .push(begun, &mut Piece { bytes: begun, from: 0, reader: &mut self.reader, output: None });
            self.mark = MARK.len();
        }
        rest
    }

    /// Returns true if the text is a complete JSON object or list.
    pub(super) fn complete(&self) -> bool {
        self.grammar.complete()
    }

    /// Returns true if the text is known not to be JSON.
    pub(super) fn refused(&self) -> bool {
        self.grammar.refused()
    }

    /// The extracted values, if the text is complete.
    pub(super) fn into_whole(self) -> Option<Extracted> {
        self.complete().then_some(self.reader.extracted)
    }

    /// The values extracted so far; `None` if the text is not JSON.
    pub(super) fn extracted(&mut self) -> Option<&mut Extracted> {
        (!self.grammar.refused()).then_some(&mut self.reader.extracted)
    }
}

/// The state that a scan keeps between pieces.
#[derive(Debug)]
struct Reader {
    /// Nesting depth of values, scalars included.
    depth: usize,
    /// The open containers, by depth.
    places: [Place; DEPTHS],
    /// The text is a body, not an event.
    is_body: bool,
    /// The result's id is wanted.
    keeps_id: bool,
    /// The last key, until its value begins.
    key: Key,
    reading: Reading,
    /// The beginning of the current key or value, from earlier pieces.
    held: Vec<u8>,
    /// The delta has had its reasoning; some services send it under two keys.
    has_reasoned: bool,
    extracted: Extracted,
}

/// The current key or value, if it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Nothing,
    Key,
    Value {
        slot: Slot,
        depth: usize,
    },
    /// Output text, which is passed on instead of buffered.
    Text {
        part: Part,
        depth: usize,
    },
}

/// One piece of the text, and the reader that walks through it.
struct Piece<'a> {
    bytes: &'a [u8],
    /// The offset in the piece at which the current key or value begins or continues.
    from: usize,
    reader: &'a mut Reader,
    output: Option<&'a mut Output>,
}

impl Piece<'_> {
    /// The current key or value ends before `at`.
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

    /// An output text begins behind the quote, or with the bracket, at `at`.
    #[inline]
    fn begin_text(&mut self, part: Part, at: usize, depth: usize) {
        let is_json = part == Part::Json;
        if !is_json && self.bytes[at] != b'"' {
            return;
        }
        self.from = if is_json { at } else { at + 1 };
        let reader = &mut *self.reader;
        if part == Part::Reasoning && std::mem::replace(&mut reader.has_reasoned, true) {
            // The first occurrence has set `content` already.
            return;
        }
        reader.extracted.text_begins(part, self.from);
        if let Some(output) = &mut self.output {
            output.begin(part, self.bytes.len() - self.from);
        }
        reader.reading = Reading::Text { part, depth };
    }

    /// Passes on the output text up to `end`.
    #[inline]
    fn put(&mut self, end: usize) {
        let text = self.bytes.get(self.from..end).unwrap_or_default();
        self.reader.extracted.content |= !text.is_empty();
        if let Some(output) = &mut self.output {
            output.extend(text);
        }
    }

    /// Buffers the unfinished key or value at the end of the piece.
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

/// Appends up to one byte beyond the limit, which marks the value as too long.
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
                reader.extracted.forget(place, key);
            }
            reader.extracted.content |= place.is_content();
            let step = if reader.is_body { place.step_in_body(key, kind) } else { place.step(key, kind) };
            match step {
                Step::Enter(place) => {
                    child = match place {
                        Place::Added if !reader.extracted.adds_item => Place::Done,
                        place => place,
                    };
                    if let Some(at) = child.item() {
                        reader.extracted.items.begin(at);
                    }
                    reader.has_reasoned &= !matches!(place, Place::Delta | Place::EventDelta);
                    if place == Place::Choice {
                        reader.extracted.choice_begins();
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
        // Also below `Nowhere`; otherwise the place of an earlier container would remain.
        if let Some(place) = self.reader.places.get_mut(depth + 1) {
            *place = child;
        }
    }

    #[inline]
    fn value_end(&mut self, at: usize) {
        self.reader.depth -= 1;
        match self.reader.reading {
            Reading::Value { slot, depth } if depth == self.reader.depth => {
                self.read(at, slot.limit(), |reader, value| reader.extracted.take(slot, value));
            }
            Reading::Text { part, depth } if depth == self.reader.depth => {
                // Without the closing quote.
                self.put(if part == Part::Json { at } else { at - 1 });
                self.reader.reading = Reading::Nothing;
            }
            _ => {}
        }
    }
}
