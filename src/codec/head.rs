//! The head of an HTTP message: its bytes as they came, and a table of the places of its fields.
//!
//! The case, the order and the spelling of names pass unchanged, and repeated names keep their
//! places. A name that this proxy uses is recognized once, as a [`KnownName`], so that one test of
//! a bit shows whether a head has such a field. Fields are forwarded as slices of the received
//! bytes, adjacent ones in one piece.
//!
//! `http::HeaderMap` changes names to lower case and groups the values of one name. It is used only
//! with h2, for trailers, and by code outside of a request's path.

mod index;
mod known;
mod map;
mod request;
mod response;
mod spare;

use std::fmt;
use std::ops::Range;

use index::Index;
pub use known::{KnownName, NameSet};
pub(super) use request::PlainTarget;
pub use request::RequestHead;
pub use response::ResponseHead;
use spare::Buffer;

/// The fields of a head, in their order. An empty one has no buffer; on drop, its buffer is kept
/// for the next head of its thread.
#[derive(Default)]
pub struct Headers(Option<Box<Buffer>>);

/// One field.
#[derive(Clone, Copy)]
pub struct HeaderField<'a> {
    bytes: &'a [u8],
    place: &'a Place,
}

/// The place of a field in the bytes of its head.
#[derive(Clone, Copy)]
struct Place {
    start: u32,
    value: u32,
    end: u32,
    name_length: u16,
    known: Option<KnownName>,
    flags: u8,
}

/// The line is `name: value` and CRLF, without other whitespace, so that it can be forwarded
/// unchanged.
const PLAIN: u8 = 1;

/// The value is kept out of HTTP/2's compression tables (RFC 7541 section 7.1.3).
const SENSITIVE: u8 = 2;

/// The room for lines that are added to a received head, such as the id of a record.
const ADDED: usize = 128;

const COLON: &[u8] = b": ";

const LINE_END: &[u8] = b"\r\n";

impl Place {
    fn name(&self) -> Range<usize> {
        let start = self.start as usize;
        start..start + usize::from(self.name_length)
    }

    fn value(&self) -> Range<usize> {
        self.value as usize..self.end as usize
    }

    fn line(&self) -> Range<usize> {
        self.start as usize..self.end as usize + LINE_END.len()
    }

    fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl Headers {
    /// Starts the table of a received head. [`Headers::copy_received`] must follow.
    pub(super) fn receive(&mut self) -> FieldTable<'_> {
        FieldTable(self.buffer_mut())
    }

    /// Copies the received head, with its start line and without the empty line.
    pub(super) fn copy_received(&mut self, head: &[u8]) {
        let buffer = self.buffer_mut();
        debug_assert!(buffer.bytes.is_empty(), "the places are those in the head");
        buffer.bytes.reserve(head.len() + ADDED);
        buffer.bytes.extend_from_slice(head);
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.buffer().fields.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The known names of the fields.
    pub fn names(&self) -> NameSet {
        self.buffer().index.names()
    }

    pub fn has(&self, name: KnownName) -> bool {
        self.names().has(name)
    }

    /// The value of the first field of this name.
    pub fn get(&self, name: KnownName) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// The values of the fields of this name, in their order.
    pub fn values(&self, name: KnownName) -> impl Iterator<Item = &[u8]> {
        let buffer = self.buffer();
        let first = buffer.index.first(name).unwrap_or(buffer.fields.len());
        let named = buffer.fields[first..].iter().filter(move |place| place.known == Some(name));
        named.map(|place| &buffer.bytes[place.value()])
    }

    /// The value of the first field of this name, which need not be a known one.
    pub fn get_named(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.iter().filter(|field| usize::from(field.place.name_length) == name.len());
        fields.find(|field| field.is_named(name)).map(HeaderField::value)
    }

    pub fn iter(&self) -> impl Iterator<Item = HeaderField<'_>> {
        let buffer = self.buffer();
        buffer.fields.iter().map(|place| HeaderField { bytes: &buffer.bytes, place })
    }

    /// Adds a field behind the others. `name` and `value` are valid.
    pub fn append(&mut self, name: &[u8], value: &[u8]) {
        self.append_with(name, value, 0);
    }

    /// Adds a field of streamgauge's own, whose name is known for its prefix only.
    #[inline]
    pub fn append_own(&mut self, name: &str, value: &[u8]) {
        debug_assert_eq!(KnownName::of(name.as_bytes()), Some(KnownName::AnyOwn));
        self.append_as(name.as_bytes(), Some(KnownName::AnyOwn), value, 0);
    }

    /// Adds the fields of `others`, which were all added, behind the others.
    pub fn append_all(&mut self, others: &Self) {
        let (buffer, others) = (self.buffer_mut(), others.buffer());
        let shift = buffer.bytes.len() as u32;
        buffer.bytes.extend_from_slice(&others.bytes);
        for place in &others.fields {
            place.known.into_iter().for_each(|known| buffer.index.note(known, buffer.fields.len()));
            let Place { start, value, end, .. } = *place;
            let moved = Place { start: start + shift, value: value + shift, end: end + shift, ..*place };
            buffer.fields.push(moved);
        }
    }

    fn append_with(&mut self, name: &[u8], value: &[u8], flags: u8) {
        self.append_as(name, KnownName::of(name), value, flags);
    }

    #[inline]
    fn append_as(&mut self, name: &[u8], known: Option<KnownName>, value: &[u8], flags: u8) {
        let buffer = self.buffer_mut();
        let place = buffer.write_line(name, known, value, flags);
        place.known.into_iter().for_each(|known| buffer.index.note(known, buffer.fields.len()));
        buffer.fields.push(place);
    }

    /// Replaces the fields of this name by one with this value: in the place of the first, or
    /// behind all others.
    pub fn set(&mut self, name: KnownName, value: &[u8]) {
        let is_new = !self.has(name);
        let buffer = self.buffer_mut();
        let place = buffer.write_line(name.as_str().as_bytes(), Some(name), value, 0);
        if is_new {
            buffer.index.note(name, buffer.fields.len());
            return buffer.fields.push(place);
        }
        let mut new = Some(place);
        buffer.fields.retain_mut(|place| {
            if place.known != Some(name) {
                return true;
            }
            let Some(new) = new.take() else { return false };
            *place = new;
            true
        });
        buffer.index = Index::of(&buffer.fields);
    }

    /// Replaces the values of this name for which `new` returns another.
    pub fn replace(&mut self, name: KnownName, new: impl Fn(&[u8]) -> Option<Vec<u8>>) {
        if !self.has(name) {
            return;
        }
        let buffer = self.buffer_mut();
        for at in 0..buffer.fields.len() {
            let place = buffer.fields[at];
            if place.known == Some(name)
                && let Some(value) = new(&buffer.bytes[place.value()])
            {
                buffer.fields[at] =
                    buffer.write_line(name.as_str().as_bytes(), Some(name), &value, place.flags);
            }
        }
    }

    /// Removes the fields of this name.
    pub fn remove(&mut self, name: KnownName) {
        if self.has(name) {
            let buffer = self.buffer_mut();
            buffer.fields.retain(|place| place.known != Some(name));
            buffer.index = Index::of(&buffer.fields);
        }
    }

    /// Keeps the fields for which `keeps` returns true.
    pub fn retain(&mut self, mut keeps: impl FnMut(HeaderField<'_>) -> bool) {
        let Some(buffer) = self.0.as_deref_mut() else { return };
        let Buffer { bytes, fields, index } = buffer;
        fields.retain(|place| keeps(HeaderField { bytes, place }));
        *index = Index::of(fields);
    }

    /// Appends the fields that pass to `out`, as lines of HTTP/1.1. Lines that need no change and
    /// follow each other are copied in one piece.
    pub fn write(&self, out: &mut Vec<u8>, mut passes: impl FnMut(HeaderField<'_>) -> bool) {
        let buffer = self.buffer();
        let mut run = 0..0;
        let bytes = &buffer.bytes[..];
        for place in buffer.fields.iter().filter(|&place| passes(HeaderField { bytes, place })) {
            let line = place.line();
            if !place.is(PLAIN) {
                out.extend_from_slice(&buffer.bytes[std::mem::take(&mut run)]);
                write_line(out, &buffer.bytes[place.name()], &buffer.bytes[place.value()]);
            } else if line.start == run.end {
                run.end = line.end;
            } else {
                out.extend_from_slice(&buffer.bytes[std::mem::replace(&mut run, line)]);
            }
        }
        out.extend_from_slice(&buffer.bytes[run]);
    }

    fn buffer(&self) -> &Buffer {
        self.0.as_deref().unwrap_or(Buffer::EMPTY)
    }

    fn buffer_mut(&mut self) -> &mut Buffer {
        self.0.get_or_insert_with(spare::take)
    }
}

/// The table of a head that is being read.
pub(super) struct FieldTable<'a>(&'a mut Buffer);

impl FieldTable<'_> {
    /// Adds a field at its place in the received head, whose lines end with CRLF.
    #[inline]
    pub(super) fn add(
        &mut self,
        head: &[u8],
        name: Range<usize>,
        known: Option<KnownName>,
        value: Range<usize>,
    ) {
        let is_plain = value.start == name.end + COLON.len() && head[value.end] == b'\r';
        if let Some(known) = known {
            self.0.index.note(known, self.0.fields.len());
        }
        self.0.fields.push(Place {
            start: name.start as u32,
            value: value.start as u32,
            end: value.end as u32,
            name_length: name.len() as u16,
            known,
            flags: if is_plain { PLAIN } else { 0 },
        });
    }
}

impl Buffer {
    /// Writes a line behind the others, which no field points to yet.
    #[inline]
    fn write_line(&mut self, name: &[u8], known: Option<KnownName>, value: &[u8], flags: u8) -> Place {
        let start = self.bytes.len();
        let value_start = start + name.len() + COLON.len();
        write_line(&mut self.bytes, name, value);
        Place {
            start: start as u32,
            value: value_start as u32,
            end: (value_start + value.len()) as u32,
            name_length: name.len() as u16,
            known,
            flags: flags | PLAIN,
        }
    }
}

#[inline]
fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    // One after the other, since copies of a known length need no call.
    out.extend_from_slice(name);
    out.extend_from_slice(COLON);
    out.extend_from_slice(value);
    out.extend_from_slice(LINE_END);
}

impl<'a> HeaderField<'a> {
    /// The name as it came.
    pub fn name(self) -> &'a [u8] {
        &self.bytes[self.place.name()]
    }

    pub fn known(self) -> Option<KnownName> {
        self.place.known
    }

    /// The value without the whitespace around it.
    pub fn value(self) -> &'a [u8] {
        &self.bytes[self.place.value()]
    }

    /// Returns true if the name, in any case, is this one.
    pub fn is_named(self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name.as_bytes())
    }

    /// Returns true if the name is known and in the set.
    pub fn is_one_of(self, names: NameSet) -> bool {
        self.place.known.is_some_and(|known| names.has(known))
    }
}

impl PartialEq for HeaderField<'_> {
    fn eq(&self, other: &Self) -> bool {
        let parts = |field: &Self| (field.name(), field.value(), field.place.is(SENSITIVE));
        parts(self) == parts(other)
    }
}

/// A value as text. `None` if it has bytes other than visible ASCII, space and tab.
pub fn visible(value: &[u8]) -> Option<&str> {
    // Without an early end, the bytes are compared many at a time.
    let is_visible = value.iter().fold(true, |is, byte| is & matches!(byte, b'\t' | b' '..=b'~'));
    str::from_utf8(value).ok().filter(|_| is_visible)
}

impl Clone for Headers {
    fn clone(&self) -> Self {
        let Some(buffer) = &self.0 else { return Self::default() };
        let mut copy = spare::take();
        copy.bytes.extend_from_slice(&buffer.bytes);
        copy.fields.extend_from_slice(&buffer.fields);
        copy.index = buffer.index;
        Self(Some(copy))
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        if let Some(buffer) = self.0.take() {
            spare::give_back(buffer);
        }
    }
}

impl PartialEq for Headers {
    /// Compares the fields, their order and their spelling.
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl fmt::Debug for Headers {
    /// Writes names only, since values may be keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|field| String::from_utf8_lossy(field.name()))).finish()
    }
}

#[cfg(test)]
mod tests;
