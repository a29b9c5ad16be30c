//! The ids of stored state: those that responses bring, and those that requests name.
//!
//! Services keep responses, their items, conversations, files, batches, vector stores, containers
//! and more by account, and name them by ids that only that account can read. Ids are known by
//! their keys ([`keys`]) and not by their form, since not all services use prefixes. Content that
//! the service has encrypted for itself (`encrypted_content`) counts as an id: some clients send an
//! item back without its `id`.
//!
//! Objects whose keys clients or models choose are left out (`metadata`, schemas).
//!
//! Keys and types are compared by their values, escapes decoded. Of equal keys each counts, since
//! services use any one of them.

mod keys;
mod reader;

use super::json::Grammar;
use crate::codec::sse::{Event, EventDecoder, EventHandler};
use reader::{Reader, Side};

/// The shortest id that is read without a prefix, in bytes. Shorter ones, such as numbers, are not
/// unique across accounts.
const MIN_ID: usize = 8;

/// The prefixes of ids of objects that have paths of their own, which are read at any length.
const PREFIXES: [&str; 17] = [
    "asst_",
    "batch_",
    "chatcmpl-",
    "cntr_",
    "conv_",
    "eval_",
    "file-",
    "file_",
    "ft-",
    "ftjob-",
    "msgbatch_",
    "resp_",
    "run_",
    "thread_",
    "upload_",
    "video_",
    "vs_",
];

/// The longest id that is read, in bytes. Of encrypted content only this beginning counts, which
/// contains its random part.
const MAX_ID: usize = 256;

/// The longest escape of a character of a key or an id, in bytes: `\u0061`.
const ESCAPE: usize = 6;

/// An id in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredId<'a> {
    pub id: &'a str,
    /// The id names the response's object, or an item of its output. Any other id names an object
    /// of a list, or one that the response refers to. False in requests.
    pub is_own: bool,
}

/// Returns true if a text of this form can be an id of stored state.
pub fn is_id(id: &str) -> bool {
    id.len() <= MAX_ID
        && (id.len() >= MIN_ID
            || PREFIXES.iter().any(|prefix| id.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty())))
}

/// Receives ids.
type Sink<'a> = &'a mut dyn FnMut(StoredId<'_>);

/// Reads the ids of one response in pieces of any size. The first byte tells whether it is an event
/// stream; anything else than JSON has no ids.
///
/// ```
/// use streamgauge::llm::usage::IdReader;
///
/// let mut ids = Vec::new();
/// let mut reader = IdReader::default();
/// for piece in [r#"{"id":"resp_01"#, r#"23","metadata":{"id":"resp_9999"}}"#] {
///     reader.push(piece.as_bytes(), &mut |found| ids.push(found.id.to_owned()));
/// }
/// assert_eq!(ids, ["resp_0123"]);
/// ```
#[derive(Debug, Default)]
pub struct IdReader(Content);

/// The form of a response, as far as it is known.
#[derive(Debug, Default)]
enum Content {
    #[default]
    Unknown,
    Json(Box<Text>),
    Events(Box<Events>),
}

/// One JSON text.
#[derive(Debug)]
struct Text {
    grammar: Grammar,
    reader: Reader,
}

#[derive(Debug, Default)]
struct Events {
    decoder: EventDecoder,
    /// The text of an event that is too large to be held.
    oversize: Option<Box<Text>>,
}

impl Text {
    fn new(side: Side) -> Self {
        Self { grammar: Grammar::new(), reader: Reader::new(side) }
    }

    fn push(&mut self, bytes: &[u8], sink: Sink<'_>) {
        self.reader.push(&mut self.grammar, bytes, sink);
    }
}

impl IdReader {
    pub fn push(&mut self, bytes: &[u8], found: &mut dyn FnMut(StoredId<'_>)) {
        let mut bytes = bytes;
        if let Content::Unknown = self.0 {
            let Some(begin) = bytes.iter().position(|byte| !is_blank(*byte)) else { return };
            self.0 = match bytes[begin] {
                b'{' | b'[' => Content::Json(Box::new(Text::new(Side::Response))),
                _ => Content::Events(Box::default()),
            };
            bytes = &bytes[begin..];
        }
        match &mut self.0 {
            Content::Unknown => {}
            Content::Json(text) => text.push(bytes, found),
            Content::Events(events) => {
                let Events { decoder, oversize } = &mut **events;
                decoder.push(bytes, &mut EventIds { oversize, found });
            }
        }
    }

    /// Ends the text, for example a message of a WebSocket: another text follows.
    pub fn end_text(&mut self) {
        self.0 = Content::Unknown;
    }
}

/// Reads the ids of stored state that a request's body names.
///
/// # Errors
/// Fails if the body begins as JSON and is not JSON: the rest may name ids for a lenient service.
pub fn named_ids(body: &[u8], mut found: impl FnMut(&str)) -> Result<(), NotJson> {
    let mut reader = NamedIdReader::default();
    reader.push(body, &mut found);
    if reader.is_refused() { Err(NotJson) } else { Ok(()) }
}

/// The text begins as JSON and is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

/// Reads the ids that a request names in pieces of any size.
#[derive(Debug, Default)]
pub struct NamedIdReader(Named);

#[derive(Debug, Default)]
enum Named {
    #[default]
    Unknown,
    Json(Text),
    /// A text that no parser of JSON takes for an object or a list.
    Other,
}

impl NamedIdReader {
    pub fn push(&mut self, bytes: &[u8], found: &mut dyn FnMut(&str)) {
        let mut bytes = bytes;
        if let Named::Unknown = self.0 {
            let Some(begin) = bytes.iter().position(|byte| !is_blank(*byte)) else { return };
            self.0 = match bytes[begin] {
                b'{' | b'[' => Named::Json(Text::new(Side::Request)),
                _ => Named::Other,
            };
            bytes = &bytes[begin..];
        }
        if let Named::Json(text) = &mut self.0 {
            text.push(bytes, &mut |named| found(named.id));
        }
    }

    /// Returns true if the text begins as JSON and is not JSON.
    pub fn is_refused(&self) -> bool {
        matches!(&self.0, Named::Json(text) if text.grammar.refused())
    }
}

/// Returns true for bytes that a parser may skip before a text: whitespace, a byte order mark, and
/// the zeros of UTF-16 and UTF-32, whose next byte is not JSON here.
fn is_blank(byte: u8) -> bool {
    !byte.is_ascii_graphic()
}

struct EventIds<'a> {
    oversize: &'a mut Option<Box<Text>>,
    found: Sink<'a>,
}

impl EventHandler for EventIds<'_> {
    fn event(&mut self, event: Event<'_>) {
        if !is_delta(&event) {
            Text::new(Side::Response).push(event.data, self.found);
        }
    }

    fn oversize(&mut self, piece: &[u8]) {
        let text = self.oversize.get_or_insert_with(|| Box::new(Text::new(Side::Response)));
        text.push(piece, self.found);
    }

    fn oversize_end(&mut self) {
        *self.oversize = None;
    }
}

/// Returns true if the event is a piece of content, whose ids an earlier event had.
fn is_delta(event: &Event<'_>) -> bool {
    /// The bytes in which the type lies, if it is the first member.
    const TYPE_ROOM: usize = 80;
    let begin = &event.data[..event.data.len().min(TYPE_ROOM)];
    event.name.ends_with(b"delta") || memchr::memmem::find(begin, b".delta\"").is_some()
}

#[cfg(test)]
mod tests;
