//! Reads the fields of a JSON request body, and edits it without changing any other byte.
//!
//! One pass reads the top level of the object and skips prompts at the speed of a byte search. An
//! edit is a list of splices. The result is slices of the body around the new bytes, so that a long
//! prompt is not copied. Parsing and serializing the body would be slower, and would lose the order
//! and spelling of keys, large numbers and duplicates.

mod bounds;
mod conversation;
mod message;

use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;

use crate::codec::json::{Cursor, Error, Text};

pub use bounds::{asked_output, asked_tiers, output_bounds, session_output_bound};
pub use conversation::Conversation;
pub use message::SessionMessage;

/// The body is no JSON object, so that it can only be forwarded as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnObject;

impl From<Error> for NotAnObject {
    fn from(_: Error) -> Self {
        Self
    }
}

/// The fields of a request. The last of several equal keys counts, as in most JSON parsers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek<'a> {
    /// The model asked for. `None` also for the empty string and any other type.
    pub model: Option<Cow<'a, str>>,
    /// The bytes of the value of `model`, of any type.
    pub model_span: Option<Range<usize>>,
    /// There are several `model` keys. Some servers use the first, so that a request whose model
    /// decides anything should be refused.
    pub model_is_duplicate: bool,
    /// `stream` is `true`.
    pub stream: bool,
    /// `stream_format` is `sse`, by which `audio/speech` responds with events.
    pub has_stream_format: bool,
    /// The bytes of the value of `stream_options`, of any type.
    pub stream_options: Option<Range<usize>>,
    /// `stream_options.include_usage`, if it is a boolean.
    pub include_usage: Option<bool>,
    /// There are several `stream` or `stream_options` keys, of which servers may use any.
    pub streaming_is_ambiguous: bool,
    /// There is a key `data_sources`: Azure's "on your data".
    pub has_data_sources: bool,
    /// The end user that the application names: `safety_identifier`, otherwise `user`. Not empty.
    pub user: Option<Cow<'a, str>>,
    /// `background` is neither `false` nor `null`: the upstream may work on after its response.
    pub background: bool,
    /// There is a key `previous_response_id`.
    has_previous_response: bool,
    /// There is a key that [`output_bounds`] reads.
    pub bounds_output: bool,
    /// The fields that distinguish conversations.
    pub conversation: Conversation,
    /// The bytes of the value of `metadata`, of any type.
    metadata: Option<Range<usize>>,
    /// The position after the opening brace.
    open: usize,
    /// The object has no members.
    is_empty: bool,
}

/// A byte order mark, which some senders put before UTF-8 and parsers ignore (RFC 8259 section
/// 8.1).
const BOM: &[u8] = b"\xef\xbb\xbf";

pub fn without_bom(body: &Bytes) -> Bytes {
    if body.starts_with(BOM) { body.slice(BOM.len()..) } else { body.clone() }
}

/// Returns true if a parser that guesses encodings would read the body as an object in UTF-16 or
/// UTF-32: it begins with their byte order mark, or with a brace or whitespace next to a zero byte.
pub fn is_utf16_or_32(body: &[u8]) -> bool {
    matches!(
        body,
        [0xfe, 0xff, ..]
            | [0xff, 0xfe, ..]
            | [0, 0, 0xfe, 0xff, ..]
            | [0, b'{' | b' ' | b'\t' | b'\n' | b'\r', ..]
            | [b'{' | b' ' | b'\t' | b'\n' | b'\r', 0, ..]
            | [0, 0, 0, b'{' | b' ' | b'\t' | b'\n' | b'\r', ..]
    )
}

/// Reads the top level of a JSON object, after an optional byte order mark. Allocates only for
/// values with escapes.
///
/// Accepts every valid JSON object, and some invalid ones ([`crate::codec::json`] lists them),
/// which the upstream refuses.
///
/// # Errors
///
/// Fails if the body is not a JSON object, or if more bytes follow it.
pub fn peek(body: &[u8]) -> Result<Peek<'_>, NotAnObject> {
    look(body, Place::Top)
}

/// Like [`peek`], with the model of the object `session`.
///
/// # Errors
///
/// Fails if the body is not a JSON object, or if more bytes follow it.
pub fn peek_session(body: &[u8]) -> Result<Peek<'_>, NotAnObject> {
    look(body, Place::Session)
}

/// The place of the model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    Session,
}

fn look(body: &[u8], place: Place) -> Result<Peek<'_>, NotAnObject> {
    let mut cursor = Cursor::new(body);
    if body.starts_with(BOM) {
        cursor = cursor.skipping(BOM.len());
    }
    cursor.expect(b'{')?;
    let mut found = Peek { open: cursor.position(), is_empty: true, ..Peek::default() };
    let (mut user, mut safety_identifier) = (None, None);
    let mut has_stream = false;

    while let Some((key, value)) = cursor.member(found.is_empty)? {
        found.is_empty = false;
        match (place, &*key.plain()) {
            (Place::Session, b"session") => {
                found.model_is_duplicate |= found.model_span.is_some();
                found.look_in_session(body, value);
            }
            (Place::Top, b"model") => {
                found.model_is_duplicate = found.model_span.is_some();
                found.model_span = Some(value);
            }
            (_, b"stream") => {
                found.stream = body[value] == *b"true";
                found.streaming_is_ambiguous |= std::mem::replace(&mut has_stream, true);
            }
            (_, b"stream_format") => found.has_stream_format = body[value] == *b"\"sse\"",
            (_, b"stream_options") => {
                found.streaming_is_ambiguous |= found.stream_options.replace(value).is_some();
            }
            (_, b"data_sources") => found.has_data_sources = true,
            (_, b"user") => user = Some(value),
            (_, b"safety_identifier") => safety_identifier = Some(value),
            (_, b"background") => found.background |= !matches!(&body[value], b"false" | b"null"),
            (_, b"metadata") => found.metadata = Some(value),
            (_, b"previous_response_id") => found.has_previous_response = true,
            (_, key) if bounds::is_bound(key) => found.bounds_output = true,
            (_, key) => found.conversation.note(key, &value),
        }
    }
    if cursor.peek().is_some() {
        return Err(NotAnObject);
    }

    let name = |span: Option<Range<usize>>| span.and_then(|span| name(&body[span]));
    found.model = name(found.model_span.clone());
    found.user = name(safety_identifier).or_else(|| name(user));
    found.include_usage = found.stream_options.clone().and_then(|span| include_usage(&body[span]));
    Ok(found)
}

impl Peek<'_> {
    /// Returns true if the response is to be an event stream.
    pub fn asks_for_stream(&self) -> bool {
        self.stream || self.has_stream_format
    }

    /// Returns true if `body`, which was read, names input that is stored at the service.
    pub fn names_stored_input(&self, body: &[u8]) -> bool {
        self.has_previous_response || !self.conversation.conversation(body).is_empty()
    }

    /// Reads the model of a session, as far as the object is complete.
    fn look_in_session(&mut self, body: &[u8], session: Range<usize>) {
        let mut cursor = Cursor::new(&body[session.clone()]);
        let mut first = true;
        self.model_span = None;
        if cursor.expect(b'{').is_err() {
            return;
        }
        while let Ok(Some((key, value))) = cursor.member(first) {
            first = false;
            if key == *"model" {
                let span = session.start + value.start..session.start + value.end;
                self.model_is_duplicate |= self.model_span.replace(span).is_some();
            }
        }
    }
}

/// The value, if it is a string that is not empty.
fn name(value: &[u8]) -> Option<Cow<'_, str>> {
    match value {
        [b'"', inside @ .., b'"'] => Some(Text::of(inside).decode()).filter(|name| !name.is_empty()),
        _ => None,
    }
}

/// `metadata.user_id`, Anthropic's name for the end user, if it is not empty. `peek` must be of the
/// same body.
pub fn metadata_user<'a>(body: &'a [u8], peek: &Peek<'_>) -> Option<Cow<'a, str>> {
    let metadata = &body[peek.metadata.clone()?];
    let mut cursor = Cursor::new(metadata);
    cursor.expect(b'{').ok()?;
    let (mut first, mut found) = (true, None);
    while let Some((key, value)) = cursor.member(first).ok()? {
        first = false;
        if key == *"user_id" {
            found = Some(value);
        }
    }
    name(&metadata[found?])
}

/// Calls `take` with the members of `metadata` up to a mistake, each with its value if that is a text
/// that is not empty. `peek` must be of the same body.
pub fn metadata_members(body: &[u8], peek: &Peek<'_>, mut take: impl FnMut(&str, Option<Cow<'_, str>>)) {
    let Some(metadata) = peek.metadata.clone().map(|span| &body[span]) else { return };
    let mut cursor = Cursor::new(metadata);
    if cursor.expect(b'{').is_err() {
        return;
    }
    let mut first = true;
    while let Ok(Some((key, value))) = cursor.member(first) {
        first = false;
        if let Ok(key) = str::from_utf8(&key.plain()) {
            take(key, name(&metadata[value]));
        }
    }
}

/// `include_usage` of an object that is complete.
fn include_usage(options: &[u8]) -> Option<bool> {
    let mut cursor = Cursor::new(options);
    cursor.expect(b'{').ok()?;
    let (mut first, mut found) = (true, None);
    while let Some((key, value)) = cursor.member(first).ok()? {
        first = false;
        if key == *"include_usage" {
            found = match &options[value] {
                b"true" => Some(true),
                b"false" => Some(false),
                _ => None,
            };
        }
    }
    found
}

/// Replaces a range of a body. Valid only for the body it was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    range: Range<usize>,
    with: Bytes,
}

impl Splice {
    pub fn replace(range: Range<usize>, with: &str) -> Self {
        Self { range, with: Bytes::copy_from_slice(with.as_bytes()) }
    }
}

/// The largest number of edits of one body: its model and its `stream_options`.
const MAX_EDITS: usize = 2;

/// A body in consecutive pieces. Clones share the memory.
#[derive(Clone, Debug)]
pub struct Edited(Pieces);

#[derive(Clone, Debug)]
enum Pieces {
    /// Without an edit.
    Whole(Bytes),
    /// The slices around the edits, and their new bytes. Some are empty.
    Edited(Rc<[Bytes; 2 * MAX_EDITS + 1]>),
}

impl Default for Edited {
    fn default() -> Self {
        Bytes::new().into()
    }
}

impl From<Bytes> for Edited {
    fn from(body: Bytes) -> Self {
        Self(Pieces::Whole(body))
    }
}

impl Edited {
    /// Applies splices, which must not overlap. Insertions at one position keep the order given.
    pub fn new<const N: usize>(body: &Bytes, splices: [Option<Splice>; N]) -> Self {
        const { assert!(N <= MAX_EDITS) };
        if splices.iter().all(Option::is_none) {
            return body.clone().into();
        }
        let mut splices = splices;
        splices.sort_by_key(|splice| splice.as_ref().map(|splice| splice.range.start));
        let mut pieces = [const { Bytes::new() }; 2 * MAX_EDITS + 1];
        let (mut from, mut count) = (0, 0);
        for Splice { range, with } in splices.into_iter().flatten() {
            pieces[count] = body.slice(from..range.start);
            pieces[count + 1] = with;
            (from, count) = (range.end, count + 2);
        }
        pieces[count] = body.slice(from..);
        Self(Pieces::Edited(Rc::new(pieces)))
    }

    /// The total length in bytes.
    pub fn len(&self) -> usize {
        self.pieces().iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.pieces().iter().all(Bytes::is_empty)
    }

    /// The pieces, some of which may be empty. All but the new bytes share the body's memory.
    pub fn pieces(&self) -> &[Bytes] {
        match &self.0 {
            Pieces::Whole(body) => std::slice::from_ref(body),
            Pieces::Edited(pieces) => &**pieces,
        }
    }
}

/// The edit that sets `model`. `peek` must be of the same body.
///
/// Replaces a string or `null` (the last of several), and inserts a missing `model` before the
/// first member. A `model` of another type stays, for the upstream to refuse.
pub fn set_model(body: &[u8], peek: &Peek<'_>, model: &str) -> Option<Splice> {
    let mut with = serde_json::to_vec(model).expect("a string has a JSON form");
    let range = match peek.model_span.clone() {
        Some(range) => Some(range).filter(|range| matches!(&body[range.clone()], b"null" | [b'"', ..]))?,
        None => {
            with.splice(..0, *b"\"model\":");
            if !peek.is_empty {
                with.push(b',');
            }
            peek.open..peek.open
        }
    };
    Some(Splice { range, with: with.into() })
}

/// The edit that sets `stream_options.include_usage` of a streamed request to true. `peek` must be
/// of the same body.
///
/// Other options stay. `None` if the request asks for usage itself, or if its meaning is not clear:
/// it is not streamed, a key occurs twice, `stream_options` is neither an object nor `null`, or
/// `include_usage` is neither a boolean nor `null`.
pub fn ask_for_usage(body: &[u8], peek: &Peek<'_>) -> Option<Splice> {
    if !peek.stream || peek.streaming_is_ambiguous {
        return None;
    }
    let (range, with): (Range<usize>, &[u8]) = match peek.stream_options.clone() {
        None => (peek.open..peek.open, br#""stream_options":{"include_usage":true},"#),
        Some(range) if &body[range.clone()] == b"null" => (range, br#"{"include_usage":true}"#),
        Some(range) => {
            let (within, with) = ask_in_options(&body[range.clone()])?;
            (range.start + within.start..range.start + within.end, with)
        }
    };
    Some(Splice { range, with: Bytes::copy_from_slice(with) })
}

/// The edit inside `stream_options`.
fn ask_in_options(options: &[u8]) -> Option<(Range<usize>, &'static [u8])> {
    let mut cursor = Cursor::new(options);
    cursor.expect(b'{').ok()?;
    let open = cursor.position();
    let (mut is_empty, mut said) = (true, None);
    while let Some((key, value)) = cursor.member(is_empty).ok()? {
        is_empty = false;
        if key == *"include_usage" && said.replace(value).is_some() {
            return None;
        }
    }
    match said {
        None if is_empty => Some((open..open, br#""include_usage":true"#)),
        None => Some((open..open, br#""include_usage":true,"#)),
        Some(value) if matches!(&options[value.clone()], b"false" | b"null") => Some((value, b"true")),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
