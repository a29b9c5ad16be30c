//! Walks through one JSON text and reads the wanted values.
//!
//! The text may come in any pieces and be of any size. Only the current value is buffered, and only
//! if it is wanted and lies in more than one piece. A text that comes in one piece is read by
//! [`whole`], at less cost.

use super::extracted::Extracted;
use super::json::{Grammar, Kind, Outline};
use super::output::{Output, Part};
use super::places::{Key, Place, Step};
use super::slots::Slot;
use super::walk::{DEPTHS, Walk};
use super::whole;

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
            key: Key::Other,
            reading: Reading::Nothing,
            held: Vec::new(),
            walk: Walk::default(),
        };
        Scan { mark: MARK.len(), grammar: Grammar::new(), reader }
    }

    /// A scan of a body's text.
    pub(super) fn of_body() -> Scan {
        let mut scan = Scan::new();
        scan.reader.walk.is_body = true;
        scan.mark = 0;
        scan
    }

    /// Keeps the id of the result, and whether it is made in the background.
    pub(super) fn keep_id(&mut self, keeps_id: bool) {
        self.reader.walk.keeps_id = keeps_id;
    }

    /// Scans an event's complete text. `None` if it is not a JSON object or list.
    pub(super) fn whole(text: &[u8], mut output: Option<&mut Output>, keeps_id: bool) -> Option<Extracted> {
        let mut walk = Walk::of_event(keeps_id);
        if whole::read(text, &mut walk, output.as_deref_mut()) {
            return Some(walk.extracted);
        }
        let mut scan = Scan::new();
        scan.keep_id(keeps_id);
        scan.push_piece(text, output);
        scan.into_whole()
    }

    /// Reads a piece. Output text is added to `output`.
    pub(super) fn push(&mut self, bytes: &[u8], mut output: Option<&mut Output>) {
        let bytes = if self.mark < MARK.len() { self.behind_mark(bytes) } else { bytes };
        if self.grammar.is_at_start() && self.reader.walk.read(bytes, output.as_deref_mut()) {
            self.grammar = Grammar::at_end();
            self.reader.places[1] = Place::Top;
            return;
        }
        self.push_piece(bytes, output);
    }

    /// Reads a piece, which may be the whole text, without a byte order mark.
    pub(super) fn push_piece(&mut self, bytes: &[u8], output: Option<&mut Output>) {
        let mut piece = Piece { bytes, from: 0, reader: &mut self.reader, output };
        self.grammar.push(bytes, &mut piece);
        piece.hold();
    }

    /// Skips a byte order mark, which some services send before their JSON (RFC 8259 section 8.1
    /// lets a reader ignore it).
    fn behind_mark<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        if self.mark == 0 && bytes.first().is_some_and(|first| *first != MARK[0]) {
            self.mark = MARK.len();
            return bytes;
        }
        let come = bytes.iter().zip(&MARK[self.mark..]).take_while(|(byte, mark)| byte == mark).count();
        let rest = &bytes[come..];
        self.mark += come;
        if self.mark < MARK.len() && !rest.is_empty() {
            // An incomplete mark is not JSON.
            self.push_piece(&MARK[..self.mark], None);
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

    /// Returns true if the text begins as a JSON object.
    pub(super) fn begins(&self) -> bool {
        self.reader.places[1] == Place::Top
    }

    /// Returns true if the text, complete or not, has usage.
    pub(super) fn has_counts(&self) -> bool {
        self.reader.walk.extracted.has_counts()
    }

    /// The extracted values, if the text is complete.
    pub(super) fn into_whole(self) -> Option<Extracted> {
        self.complete().then_some(self.reader.walk.extracted)
    }

    /// The values extracted so far; `None` if the text is not JSON.
    pub(super) fn extracted(&mut self) -> Option<&mut Extracted> {
        (!self.grammar.refused()).then_some(&mut self.reader.walk.extracted)
    }
}

/// The state that a scan keeps between pieces.
#[derive(Debug)]
struct Reader {
    /// Nesting depth of values, scalars included.
    depth: usize,
    /// The open containers, by depth.
    places: [Place; DEPTHS],
    /// The last key, until its value begins.
    key: Key,
    reading: Reading,
    /// The beginning of the current key or value, from earlier pieces.
    held: Vec<u8>,
    walk: Walk,
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

    /// An output text begins with the byte at `at`.
    #[inline]
    fn begin_text(&mut self, part: Part, at: usize, depth: usize) {
        let Some(from) = self.reader.walk.begin_text(part, self.bytes[at], at) else { return };
        self.from = from;
        if let Some(output) = &mut self.output {
            output.begin(part, self.bytes.len() - self.from);
        }
        self.reader.reading = Reading::Text { part, depth };
    }

    /// Passes on the output text up to `end`.
    #[inline]
    fn put(&mut self, end: usize) {
        let text = self.bytes.get(self.from..end).unwrap_or_default();
        self.reader.walk.extracted.content |= !text.is_empty();
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
        match reader.walk.begin(place, key, kind) {
            Step::Enter(place) => child = place,
            Step::Text(part) => self.begin_text(part, at, depth),
            Step::Want(slot) => {
                reader.reading = Reading::Value { slot, depth };
                self.from = at;
            }
            Step::Pass => {}
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
                self.read(at, slot.limit(), |reader, value| reader.walk.extracted.take(slot, value));
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

/// All that is made of one text, to compare its readers.
#[cfg(any(test, feature = "fuzzing"))]
#[derive(Debug, PartialEq)]
pub(crate) struct Scanned {
    is_complete: bool,
    is_refused: bool,
    extracted: Extracted,
    output: Output,
}

#[cfg(any(test, feature = "fuzzing"))]
impl Scanned {
    /// `by_piece`: the text is read as a piece of a longer one.
    pub(crate) fn of(text: &[u8], is_body: bool, keeps_id: bool, by_piece: bool) -> Self {
        let mut scan = if is_body { Scan::of_body() } else { Scan::new() };
        scan.keep_id(keeps_id);
        let mut output = Output::new(&super::Room::new(1 << 20));
        if by_piece {
            let text = if is_body { scan.behind_mark(text) } else { text };
            scan.push_piece(text, Some(&mut output));
        } else {
            scan.push(text, Some(&mut output));
        }
        scan.push(b" ", Some(&mut output));
        if is_body && scan.has_counts() {
            // Such a body's text is not kept.
            output = Output::new(&super::Room::new(0));
        }
        let (is_complete, is_refused) = (scan.complete(), scan.refused());
        Self { is_complete, is_refused, extracted: scan.reader.walk.extracted, output }
    }

    /// The result of [`Scan::whole`] for a complete text.
    pub(crate) fn of_event(text: &[u8], keeps_id: bool) -> Option<Self> {
        let mut output = Output::new(&super::Room::new(1 << 20));
        let extracted = Scan::whole(text, Some(&mut output), keeps_id)?;
        Some(Self { is_complete: true, is_refused: false, extracted, output })
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }
}
