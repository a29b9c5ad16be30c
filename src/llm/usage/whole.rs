//! Reads one JSON text that lies whole in one buffer: the same as a [`Scan`](super::scan::Scan),
//! without its state between bytes.
//!
//! Complete objects and lists are read. Any other text, malformed or cut off, is left to the scan.
//! `fuzzing::whole` compares both.

use super::Output;
use super::json::Kind;
use super::output::Part;
use super::places::{Key, Place, Step};
use super::report::Report;
use super::slots::{Slot, UsageAt};
use super::walk::{DEPTHS, Walk};
use crate::codec::json::{Malformed, StrictCursor};

/// Reads a text, without a byte order mark. Returns false, with nothing read and nothing added to
/// `output`, if it is not a complete object or list.
pub(super) fn read(text: &[u8], walk: &mut Walk, mut output: Option<&mut Output>) -> bool {
    // The last byte shows most incomplete texts.
    let is_closed = matches!(text.trim_ascii_end().last(), Some(b'}' | b']'));
    if !is_closed {
        return false;
    }
    let end = output.as_deref().map(Output::end);
    let mut whole = Whole { cursor: StrictCursor::new(text), walk, output: output.as_deref_mut() };
    let is_whole = whole.document().is_ok();
    if !is_whole {
        walk.restart();
        if let (Some(output), Some(end)) = (output, end) {
            output.return_to(end);
        }
    }
    is_whole
}

struct Whole<'a> {
    cursor: StrictCursor<'a>,
    walk: &'a mut Walk,
    output: Option<&'a mut Output>,
}

impl Whole<'_> {
    fn document(&mut self) -> Result<(), Malformed> {
        if !matches!(self.cursor.peek(), b'{' | b'[') {
            return Err(Malformed);
        }
        self.value(Place::Document, Key::Other, 0)?;
        self.cursor.end()
    }

    /// Reads the next value. `depth`: the number of containers around it. Inlined into the loops
    /// over members and items, because most values are short.
    #[inline(always)]
    fn value(&mut self, place: Place, key: Key, depth: usize) -> Result<(), Malformed> {
        let byte = self.cursor.peek();
        let kind = match byte {
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            _ => Kind::Scalar,
        };
        match self.walk.begin(place, key, kind) {
            Step::Enter(place) if depth + 1 < DEPTHS && kind == Kind::Object => self.object(place, depth + 1),
            Step::Enter(place) if depth + 1 < DEPTHS => self.list(place, depth + 1),
            Step::Want(Slot::Usage(at)) => self.usage(at),
            Step::Want(slot) => {
                let value = self.cursor.value_from(byte)?;
                self.walk.extracted.take(slot, &value[..value.len().min(slot.limit() + 1)]);
                Ok(())
            }
            Step::Text(part) => self.text(part, byte),
            Step::Enter(_) | Step::Pass => self.cursor.skip_from(byte),
        }
    }

    /// Reads an object that leads to wanted values.
    fn object(&mut self, place: Place, depth: usize) -> Result<(), Malformed> {
        self.cursor.open()?;
        let looks_at_all = place.looks_at_all();
        let mut next = self.cursor.first_key()?;
        while let Some(key) = next {
            match Key::from_text(key) {
                Key::Other if !looks_at_all => self.cursor.skip()?,
                key => self.value(place, key, depth)?,
            }
            next = self.cursor.next_key()?;
        }
        Ok(())
    }

    /// Reads a list that leads to wanted values.
    fn list(&mut self, place: Place, depth: usize) -> Result<(), Malformed> {
        self.cursor.open()?;
        let mut first = true;
        while self.cursor.item(std::mem::take(&mut first))? {
            self.value(place, Key::Other, depth)?;
        }
        Ok(())
    }

    fn usage(&mut self, at: UsageAt) -> Result<(), Malformed> {
        let from = self.cursor.position();
        let report = Report::next(&mut self.cursor)?;
        self.walk.extracted.take_usage(at, self.cursor.since(from), report);
        Ok(())
    }

    /// Reads an output text that begins with `byte`.
    fn text(&mut self, part: Part, byte: u8) -> Result<(), Malformed> {
        let from = self.walk.begin_text(part, byte, self.cursor.position());
        self.cursor.skip_from(byte)?;
        let Some(from) = from else { return Ok(()) };
        let text = self.cursor.since(from);
        // Without the closing quote.
        let text = if part == Part::Json { text } else { &text[..text.len() - 1] };
        self.walk.extracted.content |= !text.is_empty();
        if let Some(output) = &mut self.output {
            output.begin(part, text.len());
            output.extend(text);
        }
        Ok(())
    }
}
