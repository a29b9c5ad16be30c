//! The output text of a response, kept until usage is reported, so that its tokens can be estimated
//! otherwise.
//!
//! The text is kept as written, with escapes: an event costs a copy of a few bytes, and the text is
//! decoded only if it is needed.

use std::sync::Arc;

use crate::support::memory::{Memory, MemoryPart};

/// The largest amount of text kept of one response, some 60,000 tokens. Only the length of the rest
/// is known.
pub const OUTPUT_LIMIT: usize = 256 << 10;

/// The first allocation.
const FIRST: usize = 128;

/// The largest number of bytes allocated in advance for the next text.
const EXPECTED: usize = 1024;

/// The part of estimates in the memory budget of the process. Clones share it.
#[derive(Clone, Debug)]
pub struct Room(Arc<Estimates>);

#[derive(Debug)]
struct Estimates {
    memory: Memory,
    /// The largest number of bytes of all estimates.
    most: usize,
}

impl Room {
    /// At most `most` bytes.
    pub fn new(most: usize) -> Self {
        Self::within(Memory::default(), most)
    }

    /// At most `most` bytes, and an eighth of `memory`.
    pub fn within(memory: Memory, most: usize) -> Self {
        Self(Arc::new(Estimates { most: memory.at_most(most, 8), memory }))
    }

    /// An empty hold.
    pub fn hold(&self) -> Hold {
        Hold { room: self.clone(), bytes: 0 }
    }

    /// The memory budget of the process.
    pub fn memory(&self) -> &Memory {
        &self.0.memory
    }
}

/// A part of the budget, returned on drop.
#[derive(Debug)]
pub struct Hold {
    room: Room,
    bytes: usize,
}

impl Hold {
    /// Grows to `bytes` in all. Returns false and changes nothing if the budget is exhausted.
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let Estimates { memory, most } = &*self.room.0;
        let taken = more == 0 || memory.try_add(MemoryPart::Estimates, more, *most);
        self.bytes += if taken { more } else { 0 };
        taken
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.room.memory().subtract(MemoryPart::Estimates, self.bytes);
    }
}

/// The kind of an output text. Consecutive pieces of one kind are one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text or a refusal.
    Text,
    Reasoning,
    /// The name of a called tool. Each is a text of its own.
    Name,
    /// Its arguments, as the inside of a JSON string.
    Arguments,
    /// Its arguments, as JSON.
    Json,
}

/// The byte before each text, by [`Part`]. UTF-8 contains none of them.
const MARKS: [u8; 5] = [0xf8, 0xf9, 0xfa, 0xfb, 0xfc];

impl Part {
    fn mark(self) -> u8 {
        MARKS[self as usize]
    }

    fn of(mark: u8) -> Option<Self> {
        let parts = [Self::Text, Self::Reasoning, Self::Name, Self::Arguments, Self::Json];
        parts.into_iter().find(|part| part.mark() == mark)
    }
}

/// The output texts of a response so far.
#[derive(Debug)]
pub struct Output {
    raw: Vec<u8>,
    /// The last text's part.
    part: Option<Part>,
    /// Bytes beyond the limit.
    beyond: u64,
    hold: Hold,
}

impl PartialEq for Output {
    fn eq(&self, other: &Self) -> bool {
        (&self.raw, self.beyond) == (&other.raw, other.beyond)
    }
}

impl Output {
    pub fn new(room: &Room) -> Self {
        Self { raw: Vec::new(), part: None, beyond: 0, hold: room.hold() }
    }

    /// Returns true if no text has begun, not even an empty one.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty() && self.beyond == 0
    }

    /// Returns true if a text is not empty. Text beyond the limit counts.
    pub fn has_text(&self) -> bool {
        self.beyond > 0 || self.raw.iter().any(|byte| Part::of(*byte).is_none())
    }

    /// The ratio of all text to the kept text: 1 if all is kept, 2 if half of it is.
    pub fn scale(&self) -> Option<f64> {
        let kept = self.raw.len() as f64;
        (self.beyond == 0 || !self.raw.is_empty())
            .then(|| if self.beyond == 0 { 1.0 } else { (kept + self.beyond as f64) / kept })
    }

    /// The texts in order, as written: the inside of a JSON string, or JSON.
    pub fn texts(&self) -> impl Iterator<Item = (Part, &[u8])> {
        let mut rest = &self.raw[..];
        std::iter::from_fn(move || {
            let part = Part::of(*rest.first()?)?;
            let end = rest[1..].iter().position(|&b| Part::of(b).is_some()).map_or(rest.len(), |at| at + 1);
            let text = &rest[1..end];
            rest = &rest[end..];
            Some((part, text))
        })
    }

    /// The end of the texts so far.
    pub(super) fn end(&self) -> End {
        End { length: self.raw.len(), part: self.part, beyond: self.beyond }
    }

    /// Removes the texts behind `end`.
    pub(super) fn return_to(&mut self, end: End) {
        self.raw.truncate(end.length);
        (self.part, self.beyond) = (end.part, end.beyond);
    }

    /// Begins or continues a text of this part. `expected`: its length at most, as far as known.
    #[inline]
    pub(super) fn begin(&mut self, part: Part, expected: usize) {
        if self.part != Some(part) || part == Part::Name {
            self.part = Some(part);
            let mark = [part.mark()];
            if self.raw.len() == self.raw.capacity() {
                return self.grow(&mark, expected.min(EXPECTED));
            }
            self.raw.extend_from_slice(&mark);
        }
    }

    #[inline]
    pub(super) fn extend(&mut self, raw: &[u8]) {
        if self.raw.capacity() - self.raw.len() < raw.len() {
            return self.grow(raw, 0);
        }
        self.raw.extend_from_slice(raw);
    }

    /// Appends beyond the capacity, and reserves `expected` bytes more.
    #[cold]
    fn grow(&mut self, raw: &[u8], expected: usize) {
        let length = self.raw.len();
        let wanted = (length + raw.len() + expected).max(length + length / 2).clamp(FIRST, OUTPUT_LIMIT);
        // Text after a gap would not continue the text before it.
        if self.beyond == 0 && wanted > self.raw.capacity() && self.hold.grow_to(wanted) {
            self.raw.reserve_exact(wanted - length);
        }
        let room =
            if self.beyond == 0 { self.raw.capacity().min(OUTPUT_LIMIT).saturating_sub(length) } else { 0 };
        let (kept, beyond) = raw.split_at(raw.len().min(room));
        self.raw.extend_from_slice(kept);
        self.beyond += beyond.len() as u64;
    }
}

/// An end of output texts.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    length: usize,
    part: Option<Part>,
    beyond: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(output: &mut Output, part: Part, text: &[u8]) {
        output.begin(part, 0);
        output.extend(text);
    }

    #[test]
    fn output_joins_consecutive_pieces_of_one_part() {
        let mut output = Output::new(&Room::new(1 << 20));
        assert!(output.is_empty());
        for (part, text) in [
            (Part::Reasoning, "hm"),
            (Part::Text, "Hel"),
            (Part::Text, "lo"),
            (Part::Name, "f"),
            (Part::Name, "g"),
            (Part::Arguments, "{}"),
        ] {
            push(&mut output, part, text.as_bytes());
        }
        let texts: Vec<_> =
            output.texts().map(|(part, text)| (part, std::str::from_utf8(text).unwrap())).collect();
        let expected = [
            (Part::Reasoning, "hm"),
            (Part::Text, "Hello"),
            (Part::Name, "f"),
            (Part::Name, "g"),
            (Part::Arguments, "{}"),
        ];
        assert_eq!(texts, expected);
        assert_eq!(output.scale(), Some(1.0));
    }

    #[test]
    fn output_beyond_its_limit_keeps_only_the_length() {
        let mut output = Output::new(&Room::new(1 << 20));
        for _ in 0..2 * OUTPUT_LIMIT / 64 {
            push(&mut output, Part::Text, &[b'a'; 64]);
        }
        assert!(output.raw.capacity() <= OUTPUT_LIMIT);
        let scale = output.scale().unwrap();
        assert!((scale - 2.0).abs() < 0.001, "{scale}");
    }

    #[test]
    fn output_without_room_keeps_nothing_and_returns_its_hold() {
        let room = Room::new(FIRST + 10);
        let mut first = Output::new(&room);
        push(&mut first, Part::Text, b"first");
        let mut second = Output::new(&room);
        push(&mut second, Part::Text, b"second");
        assert_eq!((first.scale(), second.scale()), (Some(1.0), None));
        assert!(!second.is_empty());
        drop(first);
        let mut third = Output::new(&room);
        push(&mut third, Part::Text, b"third");
        assert_eq!(third.scale(), Some(1.0));
        drop((second, third));
        assert_eq!(room.memory().used(), 0);
    }
}
