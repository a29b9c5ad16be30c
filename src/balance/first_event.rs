//! The gate before the first event of a stream: if its beginning is an error, another member can be
//! asked.
//!
//! Services respond with status 200, and report in the first event that they are overloaded.
//! `/v1/responses` sends `response.created` first and the error second, so an event that only
//! announces decides nothing. The caller holds the bytes, at most [`FIRST_EVENT_LIMIT`] of them,
//! and releases them unchanged with the event that decides.

use crate::codec::json::{Cursor, Text};
use crate::codec::sse::{Event, EventHandler};

use super::UpstreamError;

/// The largest number of bytes that are held before the first event that decides:
/// `response.created` repeats instructions and tools. Beyond it they are released.
pub const FIRST_EVENT_LIMIT: usize = 256 << 10;

/// The decision after the events of a stream so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FirstEvent {
    /// No decision: there is no event, or events only announce.
    #[default]
    Undecided,
    /// The response has begun: the bytes are released.
    Begun,
    /// The stream is an error.
    Failed(UpstreamError),
}

/// Types of events that only announce: OpenAI's responses, Anthropic's messages, and keep-alives.
const ANNOUNCING: [&str; 6] =
    ["response.created", "response.in_progress", "response.queued", "message_start", "ping", "keepalive"];
/// Types of keep-alives.
const KEEP_ALIVES: [&str; 2] = ["ping", "keepalive"];
/// Types of events that are errors.
const FAILED: [&str; 2] = ["error", "response.failed"];

impl FirstEvent {
    /// The decision after one event.
    pub fn of(event: &Event<'_>) -> Self {
        let is_named = |names: &[&str]| names.iter().any(|name| name.as_bytes() == event.name);
        if is_named(&FAILED) {
            return Self::Failed(UpstreamError::parse(event.data));
        }
        if Self::is_nothing(event) || is_named(&ANNOUNCING) {
            return Self::Undecided;
        }
        Self::of_data(event.data)
    }

    /// Returns true if the event alone is no response: `[DONE]`, a keep-alive, or no data.
    pub fn is_nothing(event: &Event<'_>) -> bool {
        let data = event.data.trim_ascii();
        let is_alive = |name: &[u8]| KEEP_ALIVES.iter().any(|word| word.as_bytes() == name);
        let says_alive = || {
            let mut says = false;
            for_each_member(data, |key, value| {
                says |= key == *"type"
                    && text(value).is_some_and(|word| KEEP_ALIVES.iter().any(|name| word == **name));
            });
            says
        };
        matches!(data, b"" | b"[DONE]") || is_alive(event.name) || says_alive()
    }

    pub fn is_decided(&self) -> bool {
        *self != Self::Undecided
    }

    fn of_data(data: &[u8]) -> Self {
        match Signs::read(data) {
            // A list or other text is relayed. Google lists errors too.
            None if data.trim_ascii_start().starts_with(b"[{") => Self::of_list(data),
            None => Self::Begun,
            Some(signs) if signs.is_failed || signs.is_complaint() => {
                Self::Failed(UpstreamError::parse(data))
            }
            Some(signs) if signs.is_announcing => Self::Undecided,
            Some(signs) if signs.has_usage => Self::Begun,
            Some(Signs { choices: Some(choices), .. }) if !has_output(choices) => Self::Undecided,
            Some(_) => Self::Begun,
        }
    }

    fn of_list(data: &[u8]) -> Self {
        let mut cursor = Cursor::new(data);
        let first = cursor.expect(b'[').and_then(|()| cursor.value());
        match first.map(|range| Self::of_data(&data[range])) {
            Ok(Self::Failed(error)) => Self::Failed(error),
            _ => Self::Begun,
        }
    }
}

/// Accepts events of a decoder until one decides. An event that is too large is not an error.
impl EventHandler for FirstEvent {
    fn event(&mut self, event: Event<'_>) {
        if !self.is_decided() {
            *self = Self::of(&event);
        }
    }

    /// Errors of llama.cpp.
    fn unknown_field(&mut self, name: &[u8], value: &[u8]) {
        if !self.is_decided() && name == b"error" {
            *self = Self::Failed(UpstreamError::parse(value));
        }
    }

    fn oversize(&mut self, _: &[u8]) {
        if !self.is_decided() {
            *self = Self::Begun;
        }
    }

    fn oversize_end(&mut self) {
        self.oversize(&[]);
    }
}

/// Members of responses.
const PARTS: [&str; 8] = ["candidates", "choices", "id", "model", "object", "response", "type", "usage"];

/// The members of an event's object that decide.
#[derive(Default)]
struct Signs<'a> {
    is_failed: bool,
    is_announcing: bool,
    /// The object has a member of a response.
    is_part: bool,
    /// The object describes a failure without an error: `detail`, `errors`.
    has_details: bool,
    has_message: bool,
    has_code: bool,
    has_usage: bool,
    choices: Option<&'a [u8]>,
}

impl<'a> Signs<'a> {
    /// `None`: the data is not an object.
    fn read(data: &'a [u8]) -> Option<Self> {
        let mut signs = Self::default();
        for_each_member(data, |key, value| {
            signs.is_part |= PARTS.iter().any(|part| key == **part);
            if key == *"type" {
                let word = text(value);
                signs.is_failed |= word.is_some_and(|word| FAILED.iter().any(|failed| word == **failed));
                signs.is_announcing = word.is_some_and(|word| ANNOUNCING.iter().any(|name| word == **name));
            } else if key == *"error" {
                signs.is_failed |= !is_nothing(value);
            } else if key == *"usage" {
                signs.has_usage = !is_nothing(value);
            } else if key == *"choices" {
                signs.choices = Some(value);
            } else if key == *"detail" || key == *"errors" {
                signs.has_details |= !is_nothing(value);
            } else if key == *"message" {
                signs.has_message |= value.starts_with(b"\"") && !is_nothing(value);
            } else if key == *"code" || key == *"status" {
                signs.has_code |= !is_nothing(value);
            }
        })?;
        Some(signs)
    }

    /// Returns true if the object is a failure in the form of other frameworks: `detail` (FastAPI),
    /// `errors`, or `message` with a `code` or `status`, and no member of a response.
    fn is_complaint(&self) -> bool {
        !self.is_part && (self.has_details || (self.has_message && self.has_code))
    }
}

/// Returns true if a choice has content, a tool call, reasoning or an end: more than a role and
/// empty texts.
fn has_output(choices: &[u8]) -> bool {
    let mut cursor = Cursor::new(choices);
    if !cursor.take(b'[') {
        return true;
    }
    let mut is_first = true;
    loop {
        if cursor.take(b']') {
            return false;
        }
        if !is_first && !cursor.take(b',') {
            return true;
        }
        is_first = false;
        match cursor.value() {
            Ok(range) if !has_choice_output(&choices[range.clone()]) => {}
            _ => return true,
        }
    }
}

fn has_choice_output(choice: &[u8]) -> bool {
    let mut has_output = false;
    let read = for_each_member(choice, |key, value| {
        has_output |= if key == *"delta" || key == *"message" {
            has_delta_output(value)
        } else if key == *"text" || key == *"finish_reason" {
            !is_nothing(value)
        } else {
            false
        };
    });
    read.is_none() || has_output
}

fn has_delta_output(delta: &[u8]) -> bool {
    let mut has_output = false;
    let read = for_each_member(delta, |key, value| has_output |= key != *"role" && !is_nothing(value));
    (read.is_none() && !is_nothing(delta)) || has_output
}

/// Returns true for `null` and empty values.
fn is_nothing(value: &[u8]) -> bool {
    matches!(value, b"null" | b"\"\"" | b"[]" | b"{}")
}

fn text(value: &[u8]) -> Option<Text<'_>> {
    Cursor::new(value).string().ok()
}

/// Calls `act` with each key and value of an object. `None`: it is not an object, or incomplete.
fn for_each_member<'a>(object: &'a [u8], mut act: impl FnMut(Text<'a>, &'a [u8])) -> Option<()> {
    let mut cursor = Cursor::new(object);
    cursor.expect(b'{').ok()?;
    let mut is_first = true;
    while let Some((key, value)) = cursor.member(is_first).ok()? {
        is_first = false;
        act(key, &object[value]);
    }
    Some(())
}

#[cfg(test)]
mod tests;
