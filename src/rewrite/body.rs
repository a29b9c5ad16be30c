//! A look into a request body, and an edit of it that leaves every other byte as it is.
//!
//! Only the top level of the object is looked at, in one pass that steps over prompts at the speed of a byte
//! search. An edit is a list of splices; the result is pieces of the body around the new bytes, so that
//! nothing of a long prompt is copied. Parsing and writing the body again would be slower, and would lose
//! what a parser does not keep: the order and spelling of keys, large numbers, duplicates.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use crate::json::{Cursor, Error, Text};

/// The body is no JSON object: nothing is known of it, and it can only be passed on as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnObject;

impl From<Error> for NotAnObject {
    fn from(_: Error) -> Self {
        Self
    }
}

/// What the proxy wants to know of a request. Of a key that stands there several times the last one counts,
/// as JSON parsers have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek<'a> {
    /// The model asked for. `None` also for `null` and the empty string, which name none, and for what is no
    /// string.
    pub model: Option<Cow<'a, str>>,
    /// Where the value of `model` is, whatever it is.
    pub model_span: Option<Range<usize>>,
    /// `model` is there more than once. A reader that takes the first one would disagree with this one, so a
    /// request whose model decides anything should be refused.
    pub model_is_duplicate: bool,
    /// `stream` is `true`.
    pub stream: bool,
    /// Where the value of `stream_options` is, whatever it is.
    pub stream_options: Option<Range<usize>>,
    /// `stream_options.include_usage`, if it is a boolean.
    pub include_usage: Option<bool>,
    /// The end user that the application names: `safety_identifier`, else `user`. The empty string names
    /// none.
    pub user: Option<Cow<'a, str>>,
    /// Behind the opening brace.
    open: usize,
    /// There is no member.
    is_empty: bool,
}

/// Looks at the top level of a JSON object. Allocates only where a value that is asked for has escapes.
///
/// Every valid JSON object is taken. Some invalid ones are too ([`crate::json`] says which); the upstream
/// refuses those.
///
/// # Errors
///
/// The body is no JSON object, or something follows it.
pub fn peek(body: &[u8]) -> Result<Peek<'_>, NotAnObject> {
    let mut cursor = Cursor::new(body);
    cursor.expect(b'{')?;
    let mut found = Peek { open: cursor.position(), is_empty: true, ..Peek::default() };
    let (mut user, mut safety_identifier) = (None, None);

    while let Some((key, value)) = cursor.member(found.is_empty)? {
        found.is_empty = false;
        if key == *"model" {
            found.model_is_duplicate = found.model_span.is_some();
            found.model_span = Some(value);
        } else if key == *"stream" {
            found.stream = body[value] == *b"true";
        } else if key == *"stream_options" {
            found.stream_options = Some(value);
        } else if key == *"user" {
            user = Some(value);
        } else if key == *"safety_identifier" {
            safety_identifier = Some(value);
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

/// The value if it is a string with something in it.
fn name(value: &[u8]) -> Option<Cow<'_, str>> {
    Cursor::new(value).string().ok().as_ref().map(Text::decode).filter(|name| !name.is_empty())
}

/// `include_usage` of an object. An object that breaks off says nothing.
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

/// These bytes of the body give way to those.
struct Splice {
    range: Range<usize>,
    with: Bytes,
}

/// A body after its edits, in pieces that follow each other.
#[derive(Clone, Debug)]
pub struct Edited {
    pieces: Vec<Bytes>,
}

impl Edited {
    /// The body with the splices made. They are in the order of their ranges, which do not overlap.
    fn new(body: &Bytes, splices: impl IntoIterator<Item = Splice>) -> Self {
        let mut pieces = Vec::with_capacity(3);
        let mut from = 0;
        for Splice { range, with } in splices {
            pieces.push(body.slice(from..range.start));
            pieces.push(with);
            from = range.end;
        }
        pieces.push(body.slice(from..));
        pieces.retain(|piece| !piece.is_empty());
        Self { pieces }
    }

    /// The length of all pieces, for `Content-Length`.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Whether nothing is left, as of an empty body.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The pieces, none of them empty. All but the new bytes share the body's memory.
    pub fn into_pieces(self) -> Vec<Bytes> {
        self.pieces
    }
}

/// The body asking for `model`. `peek` is what [`peek`] says of the same body.
///
/// A string or `null` gives way to the new name (the last one, if there are several); where there is no
/// `model`, one is put in front of the first member. A `model` that is neither is left for the upstream to
/// refuse.
pub fn set_model(body: &Bytes, peek: &Peek<'_>, model: &str) -> Edited {
    let mut with = serde_json::to_vec(model).expect("a string has a JSON form");
    let splice = match peek.model_span.clone() {
        Some(range) => Some(range).filter(|range| matches!(&body[range.clone()], b"null" | [b'"', ..])),
        None => {
            with.splice(..0, *b"\"model\":");
            if !peek.is_empty {
                with.push(b',');
            }
            Some(peek.open..peek.open)
        }
    };
    Edited::new(body, splice.map(|range| Splice { range, with: with.into() }))
}

#[cfg(test)]
mod tests;
